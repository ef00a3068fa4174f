//! The table of what was said: a part for each test, and all of them together.

use std::fs;
use std::path::PathBuf;

use super::session::Said;
use super::{Case, Path};

/// So much of a line is quoted.
const QUOTE: usize = 220;

const PARTS: [&str; 4] = ["of_lab", "hosts", "guests", "rulesets"];

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/diagnosis"))
}

fn quoted(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    match text.char_indices().nth(QUOTE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A row: the fault, what each said, the seconds of all three, and how many commands they were.
pub(super) fn row(case: &Case, said: &Said) -> String {
    let kernel = if case.with_kernel { " and trace --kernel on each node, then" } else { "," };
    let commands = format!("doctor and rehearse on {}{kernel} path --faults", case.node);
    let blind = if matches!(case.path, Path::Blind) { " (in no trace)" } else { "" };
    format!(
        "| {} | {} | {} | {}{blind} | {:.1} | {commands} |\n",
        case.name,
        quoted(&said.of_doctor(case)),
        quoted(&said.of_rehearse()),
        quoted(&said.of_path()),
        said.seconds
    )
}

/// Writes a part, and the whole anew.
pub(super) fn write(part: &str, rows: &[String]) {
    fs::create_dir_all(folder()).unwrap();
    fs::write(folder().join(part), rows.concat()).unwrap();
    let mut all =
        "| fault | doctor | rehearse | path | seconds | commands |\n|---|---|---|---|---|---|\n".to_owned();
    for part in PARTS {
        all += &fs::read_to_string(folder().join(part)).unwrap_or_default();
    }
    fs::write(folder().with_extension("md"), all).unwrap();
}
