//! The program as somebody meets it at a prompt; no rights needed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod hostile;
mod lasting;
mod packed;
mod packets;
mod policy_crate;
mod traces;
mod usage;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/example.toml");

fn dunnat(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dunnat")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The exit status and standard error of a command that must fail and print no data.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = dunnat(arguments);
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert!(!output.status.success(), "{arguments:?}");
    (output.status.code().unwrap(), text(&output.stderr).to_owned())
}

/// What a verb prints where nothing goes wrong, and nothing is said.
fn printed(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_dunnat")).args(arguments).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    text(&output.stdout).to_owned()
}

fn rules_file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/rules/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn a_right_cluster_file_is_summed_up() {
    let output = dunnat(&["check", "--config", EXAMPLE, "--node", "node2"]);
    assert!(output.status.success());
    assert!(
        text(&output.stdout)
            .contains("node      node2  tag 0x2  mac 0e:00:00:00:00:00/24  public 192.168.122.12\n")
    );
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_rules_that_are_printed_are_those_in_the_repository() {
    let rules = |more: &[&str]| {
        let output = dunnat(&[&["rules", "--config", EXAMPLE, "--node", "node1"], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    assert_eq!(rules(&["--kernel"]), rules_file("node1-kernel.nft"));
    assert_eq!(rules(&["--workers", "2", "--force-fallback", "queue"]), rules_file("node1-xt.sh"));
}

/// Whoever reads what a verb prints closes the pipe at once.
fn reader_may_leave(arguments: &[&str]) {
    assert!(!dunnat(arguments).stdout.is_empty(), "a verb that prints nothing proves nothing");
    // The pipe has no reader before the program begins to write: every write to it is EPIPE.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_dunnat"))
        .args(arguments)
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    reader_may_leave(&["rules", "--config", EXAMPLE, "--node", "node1", "--kernel"]);
}

/// Whatever this machine is like: the facts have their names, and words and exit status say the same.
#[test]
fn doctor_tells_by_table_json_and_exit_status() {
    for arguments in [&["doctor"][..], &["doctor", "--config", EXAMPLE, "--node", "node1"]] {
        let output = dunnat(&[arguments, &["--json"]].concat());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let works = json["works"].as_bool().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(!works)), "{}", text(&output.stderr));
        let facts = json["facts"].as_array().unwrap();
        let names: Vec<&str> = facts.iter().map(|fact| fact["name"].as_str().unwrap()).collect();
        for name in
            ["cap-net-admin", "nft", "nft-queue", "xt-nfqueue", "queue-gso", "ctnetlink", "br-netfilter"]
        {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert_eq!(names.contains(&"guest-bridge"), arguments.len() > 1);
        for fact in facts {
            let state = fact["state"].as_str().unwrap();
            assert!(["yes", "no", "unknown"].contains(&state), "{fact}");
            // "Could not tell" comes with its reason.
            assert_eq!(fact["why"].is_string(), state == "unknown", "{fact}");
        }

        let output = dunnat(arguments);
        let table = text(&output.stdout);
        assert!(table.starts_with("privileges and tools\n") && table.contains("\nkernel\n"), "{table}");
        assert_eq!(table.contains("a node would work here"), works, "{table}");
        for fact in facts {
            assert!(table.contains(fact["claim"].as_str().unwrap()), "{fact}\n{table}");
        }
    }
}

/// A trace of one connection, as JSON.
fn saved() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
    file.write_all(include_bytes!("../saved/one_connection.jsonl")).unwrap();
    file
}

/// A file is wrong without a node, too.
#[test]
fn a_reload_reads_the_file_before_it_asks_a_node() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere.sock");
    let reload =
        |words: &[&str]| refused(&[&["reload", "--socket", nowhere.to_str().unwrap()], words].concat());
    let wrong = directory.path().join("wrong.toml");
    let example = std::fs::read_to_string(EXAMPLE).unwrap();
    std::fs::write(&wrong, example.replace("tag    = 2", "tag    = 1")).unwrap();
    let (code, said) = reload(&[wrong.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(said.contains("wrong.toml:") && said.contains(" is already used by "), "{said}");
    for words in [&[EXAMPLE][..], &[EXAMPLE, "--dry-run"], &[]] {
        let (code, said) = reload(words);
        assert_eq!(code, 1, "{words:?}: {said}");
        assert!(said.contains("that node does not run here"), "{said}");
    }
    let (code, said) = reload(&["--dry-run", EXAMPLE]);
    assert_eq!(code, 2);
    assert!(said.contains("give the cluster file before it"), "{said}");
    assert_eq!(reload(&[EXAMPLE, "--workers", "0"]).0, 2);
}
