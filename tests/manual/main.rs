//! The README and the manual (`src/manual`): their examples are run, their tables are compared with the code.
//!
//! Each block of code has a class that says what is done with it:
//!
//! | class | what it is, and what is done with it |
//! |---|---|
//! | `console`, prompt `$ ` | commands and what they print; they are run here, and print that |
//! | `console`, another prompt | recorded on a machine of a lab, as `node1# `; its commands are parsed, by a test in `src/cli` |
//! | `sh` | commands; parsed by the same test |
//! | `toml` | a cluster file, or a part of one, which is put into `rules/example.toml` (`# in dual.toml`: into that) |
//! | `json` | lines that are JSON |
//! | `filter` | lines that are filters |
//! | `text` | a drawing |
//!
//! Where what is printed has changed, and rightly, this writes it into the documents:
//!
//! ```sh
//! BLESS=1 cargo nextest run --locked --test manual
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod examples;
mod messages;
mod pages;
mod tables;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dunnat::manual::{Block, Code, Page, blocks};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DUNNAT: &str = env!("CARGO_BIN_EXE_dunnat");

/// Of every document its path, and its text.
fn documents() -> Vec<(PathBuf, String)> {
    let pages = Page::ALL.map(|page| format!("src/manual/{}.md", page.name));
    let paths = ["README.md".to_owned()].into_iter().chain(pages).map(|name| Path::new(ROOT).join(name));
    paths.map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

/// Does that with all code of a class, and says where it went wrong.
fn each(class: &str, check: impl Fn(&Code<'_>) -> Result<(), String>) {
    let mut count = 0;
    for (path, text) in documents() {
        for block in blocks(&text) {
            let Block::Code(code) = block else { continue };
            if code.class == class {
                count += 1;
                let outcome = check(&code);
                assert!(outcome.is_ok(), "{}:{}: {}", path.display(), code.line, outcome.unwrap_err());
            }
        }
    }
    assert!(count > 0, "there is no {class} any more: does this test look at the right places?");
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// What a line of a shell prints, on standard output and standard error. Times of a log are all the same.
fn run(directory: &Path, line: &str) -> String {
    let programs = Path::new(DUNNAT).parent().unwrap().display().to_string();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{line}")])
        .current_dir(directory)
        .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()))
        .envs([("TZ", "UTC"), ("LC_ALL", "C")])
        .env_remove("RUST_LOG")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let untimed = |line: &str| match line.split_once("Z ") {
        Some((time, rest)) if time.starts_with("[2") => format!("[2026-03-02T09:14:22Z {rest}\n"),
        _ => format!("{}\n", line.trim_end()),
    };
    String::from_utf8(output.stdout).unwrap().lines().map(untimed).collect()
}
