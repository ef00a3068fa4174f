//! What a package has beside the program: man pages, and completions, as other programs read them.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{dunnat, text};

fn pages(into: &Path) {
    let made = dunnat(&["pages", "--into", into.to_str().unwrap()]);
    assert!(made.status.success(), "{}", text(&made.stderr));
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

#[test]
fn mandoc_has_nothing_to_say_of_a_man_page() {
    let directory = tempfile::tempdir().unwrap();
    pages(directory.path());
    let files = files_below(&directory.path().join("man"));
    assert!(files.len() > 30, "{files:?}");
    let lint = |files: &[PathBuf]| {
        let said = Command::new("mandoc").args(["-T", "lint", "-W", "all"]).args(files).output().unwrap();
        text(&said.stdout).to_owned() + text(&said.stderr)
    };
    assert_eq!(lint(&files), "");
    // It would say something.
    let wrong = directory.path().join("wrong.1");
    fs::write(&wrong, ".SH NAME\n.PP\n").unwrap();
    assert_ne!(lint(&[wrong]), "");
}

#[test]
fn the_same_day_makes_the_same_pages() {
    let [one, other] = [1, 2].map(|_| {
        let directory = tempfile::tempdir().unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_dunnat"))
            .args(["pages", "--into", directory.path().to_str().unwrap()])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .status();
        assert!(made.unwrap().success());
        directory
    });
    let contents = |directory: &tempfile::TempDir| -> Vec<String> {
        files_below(directory.path()).iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    };
    assert_eq!(contents(&one), contents(&other));
    assert!(contents(&one).iter().any(|page| page.contains("2023-11-14")));
}

/// Completions that look for nodes in a directory of the test, where two run, and two things that are no nodes are.
fn completions(shell: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let sockets = directory.path().join("sockets");
    fs::create_dir(&sockets).unwrap();
    for name in ["north.sock", "node2.sock", "$(reboot).sock"] {
        drop(UnixListener::bind(sockets.join(name)).unwrap());
    }
    fs::write(sockets.join("none.sock"), "").unwrap();
    let made = dunnat(&["completions", shell]);
    assert!(made.status.success());
    let script = text(&made.stdout).replace("/run/dunnat", sockets.to_str().unwrap());
    let file = directory.path().join(if shell == "zsh" { "_dunnat" } else { "completions" });
    fs::write(&file, script).unwrap();
    (directory, file)
}

fn ran(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut lines: Vec<String> = text(&output.stdout).lines().map(|line| line.trim().to_owned()).collect();
    lines.retain(|line| !line.is_empty());
    lines.sort();
    lines
}

#[test]
fn bash_completes_verbs_options_and_nodes() {
    let (_directory, file) = completions("bash");
    // As bash does: it finds the function, and calls it with the words of the line.
    let script = r#"
        . "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        function=$(complete -p dunnat | sed 's/.* -F \([^ ]*\).*/\1/')
        "$function" dunnat "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let offered = |words: &[&str]| {
        ran(Command::new("bash").args(["--norc", "-c", script, "bash"]).arg(&file).arg("dunnat").args(words))
    };
    assert_eq!(offered(&["rel"]), ["reload"]);
    assert!(
        !offered(&[""]).iter().any(|verb| ["pages", "relay"].contains(&&**verb)),
        "what is hidden is not offered"
    );
    assert_eq!(offered(&["reload", "--dr"]), ["--dry-run"]);
    assert_eq!(offered(&["status", "--node", ""]), ["node2", "north"]);
    assert_eq!(offered(&["status", "-n", "nor"]), ["north"]);
    assert_eq!(offered(&["status", "--node", "=", "nor"]), ["north"]);
    assert_eq!(offered(&["status", "--node", "="]), ["node2", "north"]);
    assert!(offered(&["top", "n"]).contains(&"node2".to_owned()));
}

#[test]
fn fish_completes_verbs_options_and_nodes() {
    let (directory, file) = completions("fish");
    let offered = |line: &str| {
        let script = format!("source {}; complete -C '{line}'", file.display());
        let fish =
            ran(Command::new("fish").args(["--no-config", "-c", &script]).env("HOME", directory.path()));
        fish.iter().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(offered("dunnat relo"), ["reload"]);
    assert_eq!(offered("dunnat reload --dr"), ["--dry-run"]);
    assert_eq!(offered("dunnat status --node "), ["node2", "north"]);
    assert_eq!(offered("dunnat status -n nor"), ["north"]);
    assert!(offered("dunnat top n").contains(&"node2".to_owned()));
}

#[test]
fn zsh_completes_verbs_options_and_nodes() {
    let (directory, _file) = completions("zsh");
    // A zsh at a terminal of its own: it shows what it would complete as a list, one after the other.
    let script = r#"
        zmodload zsh/zpty
        zpty -b zsh zsh -f -i
        zpty -w zsh "PROMPT='' PS2='' TERM=dumb; unsetopt zle_bracketed_paste; fpath=($1 \$fpath)"
        zpty -w zsh 'autoload -Uz compinit && compinit -D -u; stty -echo cols 300'
        zpty -w zsh "zstyle ':completion:*' list-grouped no; zstyle ':completion:*' verbose no"
        zpty -w zsh "zle -C offer complete-word offer; offer() {
            compadd() { local -a given; builtin compadd -O given \"\$@\"; print -r -l -- OFFER:\${^given}; builtin compadd \"\$@\"; }
            _main_complete; print END-OF-OFFERS; exit; }"
        zpty -w zsh "bindkey '^I' offer; print -n BEG; print IN"
        zpty -r zsh out '*BEGIN*'
        zpty -w -n zsh "$2"$'\t'
        zpty -r zsh out '*END-OF-OFFERS*'
        print -r -- "$out"
    "#;
    let offered = |line: &str| {
        let mut zsh = Command::new("timeout");
        zsh.args(["20", "zsh", "-fc", script, "zsh"])
            .arg(directory.path())
            .arg(line)
            .env("HOME", directory.path());
        let mut offers: Vec<String> = ran(&mut zsh)
            .iter()
            .filter_map(|line| line.split_once("OFFER:").map(|(_, offer)| offer.trim().to_owned()))
            .filter(|offer| !offer.is_empty())
            .collect();
        offers.dedup();
        offers
    };
    assert_eq!(offered("dunnat relo"), ["reload"]);
    assert_eq!(offered("dunnat reload --dr"), ["--dry-run"]);
    assert_eq!(offered("dunnat status --node "), ["node2", "north"]);
    assert_eq!(offered("dunnat status -n nor"), ["north"]);
    assert!(offered("dunnat top n").contains(&"node2".to_owned()));
}
