//! The table of warnings and errors, the page about it, and the places in the program that tell them.

use dunnat::messages::{self, ALL, KEY};

use super::*;

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// The sections of the page that are about messages: from the first group to the links.
#[test]
fn the_page_is_the_table() {
    let path = Path::new(SRC).join("manual/messages.md");
    let is = fs::read_to_string(&path).unwrap();
    let tables = messages::page();
    let (before, _) = is.split_once(tables.lines().next().unwrap()).unwrap();
    let (_, after) = is.split_once("\nSee also ").unwrap();
    let should = format!("{before}{}\nSee also {after}", tables.trim_end_matches('\n').to_owned() + "\n");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &should).unwrap();
    }
    assert!(is == should, "the page is not the table: BLESS=1 cargo nextest run --locked --test manual");
}

/// A place in the program that tells a message: its name, and the text with `…` in place of values.
fn told() -> Vec<(PathBuf, String, String)> {
    let mut told = Vec::new();
    let mut folders = vec![PathBuf::from(SRC)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("src/messages.rs") {
                let text = fs::read_to_string(&path).unwrap();
                for call in text.split("messages::message!(").skip(1) {
                    let name =
                        call.trim_start().split(|char: char| !(char.is_ascii_uppercase() || char == '_'));
                    let literal = literal(call);
                    told.push((path.clone(), name.clone().next().unwrap().to_owned(), literal));
                }
            }
        }
    }
    told
}

/// The first literal of a call, with values left out.
fn literal(call: &str) -> String {
    let (mut text, mut depth, mut chars) = (String::new(), 0, call.split_once('"').unwrap().1.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next().unwrap() {
                '\n' => {
                    let rest = chars.as_str().trim_start();
                    chars = rest.chars();
                }
                other => text.push(other),
            },
            '"' => break,
            '{' => {
                depth += 1;
                text.push('…');
            }
            '}' => depth -= 1,
            other if depth == 0 => text.push(other),
            _ => {}
        }
    }
    text
}

#[test]
fn every_message_is_told_somewhere_and_begins_as_the_table_says() {
    let told = told();
    assert!(told.len() >= ALL.len(), "does this test look at the right places?");
    for (path, name, _) in &told {
        assert!(ALL.iter().any(|(known, _)| known == name), "{}: {name}", path.display());
    }
    for (name, message) in ALL {
        let texts: Vec<&str> = told.iter().filter(|it| it.1 == *name).map(|it| &*it.2).collect();
        assert!(!texts.is_empty(), "{name}: nobody tells it");
        // Where all of the text comes from elsewhere, there is nothing to compare.
        let fits = |text: &&str| {
            text.starts_with(message.says)
                || text.ends_with(message.says.trim_start_matches('…'))
                || text.split('…').all(|part| part.len() < 20)
        };
        assert!(texts.iter().any(fits), "{name}: {:?}; told: {texts:?}", message.says);
    }
}

#[test]
fn what_is_said_of_an_id_can_be_looked_up() {
    let pages: String = Page::ALL.iter().map(|page| page.text).collect();
    for (_, message) in ALL {
        for id in message.advice.split(|char: char| !char.is_ascii_alphanumeric()) {
            let digits = id.strip_prefix('D').filter(|rest| rest.len() == 3 && rest.parse::<u16>().is_ok());
            assert!(digits.is_none() || ALL.iter().any(|(_, other)| other.id == id), "{}: {id}", message.id);
        }
    }
    assert!(pages.contains("DUNNAT_MESSAGE") && KEY == "id");
}
