use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    rfc: Vec<Rfc>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rfc {
    number: u16,
    title: String,
    note: Option<String>,
    clause: Vec<Clause>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clause {
    id: String,
    level: String,
    asks: String,
    answer: Answer,
    #[serde(default)]
    tests: Vec<String>,
    because: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Answer {
    #[serde(rename = "tested")]
    Tested,
    #[serde(rename = "kernel")]
    Kernel,
    #[serde(rename = "not applicable")]
    NotApplicable,
    #[serde(rename = "not done")]
    NotDone,
}

fn table() -> Table {
    toml::from_str(include_str!("clauses.toml")).unwrap()
}

fn page(table: &Table) -> String {
    let count =
        |wanted| table.rfc.iter().flat_map(|rfc| &rfc.clause).filter(|one| one.answer == wanted).count();
    let mut out = format!(
        "What the RFCs about NAT ask for, and what answers it.\n\n\
         dnat and spoof keep nothing of a flow: what they do follows from the cluster file and the ct mark. So much that NATs \
         are asked about their mappings has no meaning here. Flows that guests begin are the kernel's: SNAT and conntrack.\n\n\
         {} requirements are answered by tests, {} by the kernel, {} are not applicable, and {} are not done: each says \
         why. They are given in our own words; the RFC has the exact ones.\n",
        count(Answer::Tested),
        count(Answer::Kernel),
        count(Answer::NotApplicable),
        count(Answer::NotDone)
    );
    for rfc in &table.rfc {
        let Rfc { number, title, note, clause } = rfc;
        let note = note.as_ref().map_or(String::new(), |note| format!("{note}\n\n"));
        let _ = write!(
            out,
            "\n# RFC {number}: {title}\n\n<https://www.rfc-editor.org/rfc/rfc{number}>\n\n{note}\
             | | level | asks | answer |\n|---|---|---|---|\n"
        );
        for Clause { id, level, asks, answer, tests, because } in clause {
            let answer = match answer {
                Answer::Tested => None,
                Answer::Kernel => Some("**The kernel.**".to_owned()),
                Answer::NotApplicable => Some("**Not applicable.**".to_owned()),
                Answer::NotDone => Some("**Not done.**".to_owned()),
            };
            let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
            let tests = (!tests.is_empty()).then(|| tests.join(", "));
            let answer: Vec<String> = [answer, because.clone(), tests].into_iter().flatten().collect();
            let _ = writeln!(out, "| {id} | {level} | {asks} | {} |", answer.join(" "));
        }
    }
    out
}

/// `clauses.md` is rewritten by running this test with BLESS=1.
#[test]
fn the_page_is_made_of_the_table() {
    let rendered = page(&table());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rfc/clauses.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == rendered,
        "src/rfc/clauses.md is stale; run BLESS=1 cargo test --lib rfc and look at the diff"
    );
}

/// What each RFC has: requirements up to a number, with their letters, or sections.
#[test]
fn every_requirement_is_there_once() {
    let numbered = [(4787, 14), (5382, 10), (5508, 11)];
    let sections = [
        (3022, "2.1 2.2 3.1 3.2 3.3 4.1 4.2 4.3 4.4 4.5 4.6 5.1 5.2 5.3 5.4 6.1 6.2 6.3"),
        (7857, "2 2.1 2.2 3 4 5 6 7 7.1 8 9 10 11 12"),
    ];
    let table = table();
    let of = |number| -> Vec<&str> {
        let mut found = table.rfc.iter().filter(|rfc| rfc.number == number);
        let (Some(rfc), None) = (found.next(), found.next()) else {
            panic!("RFC {number} has to be there once")
        };
        rfc.clause.iter().map(|clause| &*clause.id).collect()
    };
    assert_eq!(table.rfc.len(), numbered.len() + sections.len());
    for (rfc, ids) in sections {
        assert_eq!(of(rfc).join(" "), ids, "RFC {rfc}");
    }
    for (rfc, last) in numbered {
        let ids = of(rfc);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "RFC {rfc}: one is there twice");
        let mut numbers: Vec<u32> = ids
            .iter()
            .map(|id| {
                id.trim_start_matches("REQ-")
                    .trim_end_matches(|c: char| c.is_ascii_lowercase())
                    .parse()
                    .unwrap()
            })
            .collect();
        numbers.dedup();
        assert_eq!(numbers, (1..=last).collect::<Vec<u32>>(), "RFC {rfc}");
    }
}

#[test]
fn every_answer_has_its_tests_or_its_reason_and_the_tests_exist() {
    for rfc in table().rfc {
        for Clause { id, level, answer, tests, because, .. } in rfc.clause {
            let levels = ["-", "MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "RECOMMENDED", "MAY"];
            assert!(levels.contains(&&*level), "RFC {} {id}: {level}", rfc.number);
            assert!(
                if answer == Answer::Tested { !tests.is_empty() } else { because.is_some() },
                "RFC {} {id} says neither by which tests nor why",
                rfc.number
            );
            for test in tests {
                let (file, name) = test.split_once("::").unwrap();
                let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
                    .unwrap_or_else(|error| panic!("RFC {} {id}: {file}: {error}", rfc.number));
                // A test, or what the acceptance of the lab does and judges.
                let is_it = |line: &str| {
                    let line = line.trim_start();
                    let named = |before: &str| line.strip_prefix(before)?.strip_prefix(name);
                    named("fn ").is_some_and(|rest| rest.starts_with('('))
                        || named("impl Probe for ").is_some_and(|rest| rest.starts_with([' ', '<']))
                };
                assert!(text.lines().any(is_it), "RFC {} {id}: there is no test {test}", rfc.number);
            }
        }
    }
}
