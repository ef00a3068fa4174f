//! What the README and the manual say to type is what the program takes. `tests/manual` runs what can be run anywhere; the
//! rest, which needs root or a lab, is parsed here: with the feature `lab`, as they are for the whole program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, CommandFactory as _};
use dunnat::manual::{Block, Page, blocks, rows};
use dunnat::simulate::{Context, PacketSpec};
use dunnat::trace::Filter;

use super::{Cli, help};

const README: &str = include_str!("../../README.md");

/// Every document: its name, and its text.
fn documents() -> impl Iterator<Item = (&'static str, &'static str)> {
    [("README.md", README)].into_iter().chain(Page::ALL.map(|page| (page.name, page.text)))
}

/// A line of a shell, as words; operators stand alone. A comment ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for char in line.chars() {
        match (quote, char) {
            (Some(open), _) if char == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(char),
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (None, '|' | ';' | '&' | '<' | '>') => {
                words.extend(word.take());
                words.push(char.to_string());
            }
            (None, _) => word.get_or_insert_default().push(char),
        }
    }
    assert_eq!(quote, None, "a quote is open: {line}");
    words.extend(word);
    words
}

/// The commands of a line that run dunnat.
fn commands_of(line: &str) -> Vec<Vec<String>> {
    let words = words(line);
    let commands = words.split(|word| ["|", ";", "&", "<", ">"].contains(&word.as_str()));
    let of_dunnat = |command: &[String]| {
        let rest = command.iter().skip_while(|word| *word == "sudo" || word.contains('='));
        let mut command: Vec<String> = rest.cloned().collect();
        match command.first().map(String::as_str) {
            Some("dunnat") => vec![command],
            Some("scripts/lab") => {
                command.splice(..1, ["dunnat".to_owned(), "lab".to_owned()]);
                vec![command]
            }
            // It hands a line to a shell.
            Some("scripts/vm") => command.last().map(|line| commands_of(line)).unwrap_or_default(),
            _ => Vec::new(),
        }
    };
    commands.flat_map(of_dunnat).collect()
}

/// What somebody types in a recorded session, behind `node1# ` or `ws$ `. What stands behind `$ ` alone is run elsewhere.
fn typed(line: &str) -> Option<&str> {
    let (prompt, typed) = line.split_once(' ')?;
    let machine = prompt.strip_suffix(['$', '#'])?;
    let is_name = !machine.is_empty() && machine.chars().all(|char| char.is_ascii_alphanumeric());
    is_name.then_some(typed)
}

fn matches(words: &[String]) -> Result<Option<ArgMatches>, clap::Error> {
    match Cli::command().try_get_matches_from(words) {
        Err(error) if [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind()) => Ok(None),
        other => other.map(Some),
    }
}

/// Refuses what the program would refuse.
fn accept(command: &[String]) -> Result<(), String> {
    let as_os: Vec<_> = command.iter().skip(1).map(Into::into).collect();
    if let Some(page) = help::page_asked_for(&as_os) {
        return page.map(drop).map_err(|failure| failure.message());
    }
    let Some(matches) = matches(command).map_err(|error| error.to_string())? else { return Ok(()) };
    let Some((verb, of_verb)) = matches.subcommand() else { return Ok(()) };
    let many = |id: &str| {
        let all = of_verb.try_get_many::<String>(id).ok().flatten();
        all.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")
    };
    let wrong = |error: &dyn std::fmt::Display| Err(error.to_string());
    match verb {
        "trace" | "step" | "path" if !many("filter").is_empty() => {
            many("filter").parse::<Filter>().map(drop).or_else(|error| wrong(&error))
        }
        "explain" if !of_verb.contains_id("read") => {
            many("packet").parse::<PacketSpec>().map(drop).or_else(|error| wrong(&error))
        }
        "replay" => many("known").parse::<Context>().map(drop).or_else(|error| wrong(&error)),
        "lab" => match of_verb.subcommand() {
            Some((verb @ ("trace" | "step" | "doctor" | "explain" | "path"), passed)) => {
                // What the lab adds itself.
                let added: &[&str] = match verb {
                    "trace" => &[],
                    "path" => &["x.jsonl"],
                    "explain" => &["--config", "x"],
                    _ => &["--config", "x", "--node", "x"],
                };
                let options = passed.get_many::<String>("options").into_iter().flatten().cloned();
                let added = ["dunnat", verb].into_iter().chain(added.iter().copied()).map(str::to_owned);
                accept(&added.chain(options).collect::<Vec<_>>())
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

#[test]
fn every_command_of_a_document_is_accepted() {
    let mut count = 0;
    for (name, text) in documents() {
        for block in blocks(text) {
            let Block::Code(code) = block else { continue };
            let lines = code.lines.iter().zip(code.line..).filter_map(|(line, number)| match code.class {
                "sh" => Some((*line, number)),
                "console" => typed(line).map(|typed| (typed, number)),
                _ => None,
            });
            for (line, number) in lines {
                for command in commands_of(line) {
                    let outcome = accept(&command);
                    assert_eq!(outcome, Ok(()), "{name}, line {number}: {line}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn what_would_be_refused_is_found() {
    let refused = |line: &str| commands_of(line).iter().any(|command| accept(command).is_err());
    for line in [
        "sudo dunnat run --confg x",
        "dunnat help no-such-page",
        "dunnat trace stage spoff",
        "ls | dunnat path --filter 'port x' y.jsonl",
        "dunnat explain -c x 'tcp 1.2.3.4 > 5.6.7.8'",
        "DUNNAT_LAB=x dunnat lab trace node1 stage spoff",
        "scripts/lab up --nodes 10",
        "scripts/vm 'ls && scripts/lab up --nodes 10'",
    ] {
        assert!(refused(line), "{line}");
    }
    for line in
        ["dunnat help run; dunnat help guard # dunnat help nowhere", "dunnat trace -n x 'tcp'", "ls --confg"]
    {
        assert!(!refused(line), "{line}");
    }
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set())
}

#[test]
fn every_option_that_is_named_exists() {
    fn longs(command: &Command, all: &mut BTreeSet<String>) {
        all.extend(command.get_arguments().filter_map(|option| option.get_long()).map(str::to_owned));
        command.get_subcommands().for_each(|verb| longs(verb, all));
    }
    let mut known = BTreeSet::from(["help", "version"].map(str::to_owned));
    longs(&Cli::command(), &mut known);
    for (name, text) in documents() {
        for block in blocks(text) {
            let prose = match block {
                Block::Paragraph(text) | Block::Item { text, .. } => text,
                Block::Table(rows) => rows.concat().join(" "),
                Block::Heading { .. } | Block::Code(_) => continue,
            };
            // What stands between backticks, if it begins with an option; scripts have options of their own.
            for code in prose.split('`').skip(1).step_by(2) {
                let Some(option) = code.split(['=', ' ']).next().and_then(|word| word.strip_prefix("--"))
                else {
                    continue;
                };
                assert!(known.contains(option), "{name}: there is no --{option}");
            }
        }
    }
}

#[test]
fn the_readme_has_a_line_for_every_verb() {
    for verb in verbs(&Cli::command()) {
        let line = format!("| `{}` |", verb.get_name());
        assert!(README.contains(&line), "the README has no line that begins with {line}");
    }
}

#[test]
fn a_page_and_a_verb_have_different_names() {
    for page in Page::ALL {
        assert!(page.name != "help" && Cli::command().find_subcommand(page.name).is_none(), "{}", page.name);
    }
}

#[test]
fn every_exit_status_is_in_the_manual() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
    let mut made = BTreeSet::from(["0", "1"].map(str::to_owned));
    for file in [&folder, &folder.join("lab")].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let file = file.unwrap().path();
        // This one has the word that is looked for.
        if file.is_dir() || file.ends_with("manual.rs") {
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        let numbers = source.split("ExitCode::from(").skip(1).filter_map(|rest| rest.split(')').next());
        made.extend(numbers.filter(|number| number.parse::<u8>().is_ok()).map(str::to_owned));
    }
    let written = rows(Page::named("exit").unwrap().text, "exit status");
    assert_eq!(written.into_iter().map(|row| row[0].clone()).collect::<BTreeSet<_>>(), made);
}
