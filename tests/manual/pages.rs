//! The documents themselves: their length, their list, their links; and `dunnat help`, which prints them.

use std::collections::BTreeMap;

use super::*;

#[test]
fn the_readme_is_short() {
    let len = fs::metadata(Path::new(ROOT).join("README.md")).unwrap().len();
    assert!(len <= 10_000, "README.md has {len} bytes: what is long belongs into the manual");
}

#[test]
fn every_page_is_listed() {
    let files: BTreeSet<String> = fs::read_dir(Path::new(ROOT).join("src/manual"))
        .unwrap()
        .filter_map(|file| {
            file.unwrap().file_name().into_string().unwrap().strip_suffix(".md").map(str::to_owned)
        })
        .collect();
    let listed = Page::ALL.iter().map(|page| page.name).chain(["README"]);
    assert_eq!(files, listed.map(str::to_owned).collect());
    let list = fs::read_to_string(Path::new(ROOT).join("src/manual/README.md")).unwrap();
    let help = run(Path::new(ROOT), "dunnat help");
    assert_eq!(help, run(Path::new(ROOT), "dunnat --help"));
    let pages = &help[help.find("Pages of the manual").unwrap()..];
    for page in Page::ALL {
        assert!(list.contains(&format!("[{0}]({0}.md)", page.name)), "src/manual/README.md: {}", page.name);
        let line = pages.lines().find(|line| line.trim_start().starts_with(&format!("{} ", page.name)));
        assert!(line.is_some_and(|line| line.ends_with(page.about())), "{}: {help}", page.name);
        assert_eq!(
            run(Path::new(ROOT), &format!("dunnat help {}", page.name)),
            page.plain(),
            "{}",
            page.name
        );
    }
}

#[test]
fn links_lead_somewhere_and_there_is_no_html() {
    for (path, text) in documents() {
        let here = path.parent().unwrap();
        let defined: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect();
        for target in defined
            .values()
            .copied()
            .chain(text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()))
        {
            let file = target.split('#').next().unwrap();
            let is_elsewhere = target.starts_with("https://") || file.is_empty();
            assert!(is_elsewhere || here.join(file).exists(), "{}: {target}", path.display());
        }
        let used = |name: &str| {
            text.lines().any(|line| line.contains(&format!("[{name}]")) && !line.starts_with('['))
        };
        for (name, target) in &defined {
            assert!(used(name), "{}: nobody follows [{name}]: {target}", path.display());
        }
        for block in blocks(&text) {
            let prose = match block {
                Block::Paragraph(text) | Block::Item { text, .. } => text,
                Block::Table(rows) => rows.concat().join(" "),
                Block::Heading { text, .. } => text.to_owned(),
                Block::Code(_) => continue,
            };
            let bare: Vec<&str> = prose.split('`').step_by(2).collect();
            for word in bare.join(" ").split_whitespace() {
                assert!(
                    !word.starts_with('<') || word.starts_with("<http"),
                    "{}: HTML: {word}",
                    path.display()
                );
                let name = word.trim_matches(|c: char| ".,;:()".contains(c));
                let link = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
                assert!(link.is_none_or(|name| defined.contains_key(name)), "{}: {word}", path.display());
            }
        }
    }
}

#[test]
fn help_says_which_pages_there_are_and_takes_any_reader() {
    let status = |line: &str| run(Path::new(ROOT), &format!("{line}; echo status $?"));
    let said = status("dunnat help no-such-page");
    assert!(
        said.starts_with("dunnat: help: there is no verb and no page 'no-such-page'. The pages are: "),
        "{said}"
    );
    assert!(said.ends_with("status 2\n"), "{said}");
    assert!(Page::ALL.iter().all(|page| said.contains(page.name)), "{said}");
    assert!(status("dunnat help services conflicts").contains("no page 'services conflicts'"));
    for verb in ["run", "trace", "lab up"] {
        let by_option = run(Path::new(ROOT), &format!("dunnat {verb} --help"));
        assert_eq!(run(Path::new(ROOT), &format!("dunnat help {verb}")), by_option);
    }
    for words in ["help", "help cluster", "help run"] {
        assert_eq!(status(&format!("dunnat {words} >/dev/full")).lines().last(), Some("status 1"), "{words}");
        // Its reader has seen enough, or has seen nothing.
        let piped = status(&format!("{{ dunnat {words}; echo $? >&2; }} | true"));
        assert_eq!(piped, "0\nstatus 0\n", "{words}");
    }
}
