//! Which commit the program is made of, for `dunnat --version`.
//!
//! A package made by `cargo package` says it in a file. In a checkout git says it, for a release build only: a debug build would be made
//! anew after each commit. Anywhere else nobody knows, and nothing is said. Who builds can say it: `DUNNAT_COMMIT`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DUNNAT_COMMIT");
    let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let said = env::var("DUNNAT_COMMIT").ok().or_else(|| packed(Path::new(&folder)));
    let commit = said.or_else(|| if is_release { of_checkout(&folder) } else { None });
    let known = commit.filter(|commit| {
        !commit.is_empty() && commit.chars().all(|char| char.is_ascii_alphanumeric() || "-+.".contains(char))
    });
    let shown = known.map_or_else(String::new, |commit| format!(" ({commit})"));
    println!("cargo::rustc-env=DUNNAT_SHOWN_COMMIT={shown}");
}

/// By the file that `cargo package` writes.
fn packed(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = text.split_once("\"sha1\": \"")?;
    let (sha1, _) = rest.split_once('"')?;
    let dirty = if text.contains("\"dirty\": true") { "-dirty" } else { "" };
    Some(format!("{}{dirty}", sha1.get(..12)?))
}

/// By git, if this is a checkout of its own. What is not committed makes it another program than the commit's.
fn of_checkout(folder: &str) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        let text = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
        Some(text.trim().to_owned())
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if fs::canonicalize(top).ok()? != fs::canonicalize(folder).ok()? {
        return None;
    }
    // The commit changes with one of these, and whether all is committed with the others.
    for name in ["HEAD", "packed-refs", &git(&["rev-parse", "--symbolic-full-name", "HEAD"])?] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(folder).join(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let sources = ["src", "Cargo.toml", "Cargo.lock", "build.rs"];
    for source in sources {
        println!("cargo::rerun-if-changed={source}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &sources[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}
