//! What somebody meets who writes a policy has an example that runs (`cargo test --doc`).

use std::fs;
use std::path::{Path, PathBuf};

use super::SRC;

/// Where all that is public is met by them, and files elsewhere of which that is so.
const MET: [&str; 14] = [
    "engine",
    "policy",
    "process",
    "net",
    "queue/memory.rs",
    "packet/headers.rs",
    "packet/icmp_error.rs",
    "packet/rewrite.rs",
    "packet/tcp_flags.rs",
    "packet/transport.rs",
    "packet/view.rs",
    "simulate/made.rs",
    "simulate/mod.rs",
    "replay/run.rs",
];

/// What goes without: errors, which come up in examples of what fails, and a count.
fn goes_without(name: &str) -> bool {
    name.ends_with("Error") || ["WrongWord", "LeftOut"].contains(&name)
}

/// The kinds of items; constants and names of types are explained by what has them.
const KINDS: [&str; 4] = ["pub struct ", "pub enum ", "pub trait ", "pub fn "];

fn files(at: &Path, found: &mut Vec<PathBuf>) {
    if at.is_file() {
        found.push(at.to_owned());
        return;
    }
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let is_source = path.is_dir() || path.extension().is_some_and(|extension| extension == "rs");
        if is_source && !path.to_str().unwrap().contains("tests") {
            files(&path, found);
        }
    }
}

/// The items at the top of a file that have no example: kind and name.
fn without_example(text: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let mut has_example = false;
    for line in text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")) {
        if line.starts_with("///") {
            has_example |= line.trim_end() == "/// ```";
            continue;
        }
        if let Some(rest) = KINDS.iter().find_map(|kind| line.strip_prefix(kind)) {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !has_example && !goes_without(&name) {
                missing.push(name);
            }
        }
        // Attributes stand between, and may take several lines.
        has_example &= line.starts_with("#[") || line.starts_with("    ") || line.starts_with(")]");
    }
    missing
}

#[test]
fn whatever_is_met_by_who_writes_a_policy_has_an_example() {
    let mut all = Vec::new();
    for place in MET {
        files(&Path::new(SRC).join(place), &mut all);
    }
    let missing: Vec<String> = all
        .iter()
        .flat_map(|file| {
            let without = without_example(&fs::read_to_string(file).unwrap());
            without.into_iter().map(|name| format!("{}: {name}", file.strip_prefix(SRC).unwrap().display()))
        })
        .collect();
    assert!(missing.is_empty(), "without an example that runs:\n{}", missing.join("\n"));
    assert!(all.len() > 40, "{} files are read", all.len());
}

#[test]
fn an_example_belongs_to_its_item_alone() {
    let text = "/// One.\n///\n/// ```\n/// assert!(true);\n/// ```\n#[derive(Clone)]\npub struct One {\n}\n\n/// Two.\npub fn two() {}\n\npub enum ThisError {}\n";
    assert_eq!(without_example(text), ["two"]);
}
