//! The program as somebody meets it at a prompt; no rights needed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/example.toml");

fn dunnat(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dunnat")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The exit status and standard error of a call that must fail and print no data.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = dunnat(arguments);
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert!(!output.status.success(), "{arguments:?}");
    (output.status.code().unwrap(), text(&output.stderr).to_owned())
}

fn rules_file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/rules/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn help_tells_what_there_is() {
    for verb in ["", "run", "trace", "path", "rules", "check", "doctor"] {
        let arguments: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
        let output = dunnat(&arguments);
        assert!(output.status.success());
        insta::assert_snapshot!(format!("help {verb}").trim(), text(&output.stdout));
    }
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
fn a_wrong_cluster_file_is_status_2_with_its_place_for_every_verb() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let wrong = std::fs::read_to_string(EXAMPLE).unwrap().replace("tag    = 2", "tag    = 1");
    file.write_all(wrong.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    for verb in ["check", "rules", "run", "doctor"] {
        let (status, message) = refused(&[verb, "--config", path, "--node", "node1"]);
        assert_eq!(status, 2);
        assert!(message.starts_with(&format!("{path}:30:10: tag 0x1 is taken by \"node1\"\n")), "{message}");
    }
}

#[test]
fn what_is_typed_wrong_is_status_2_with_what_would_be_right() {
    let run = ["run", "--config", EXAMPLE, "--node", "node1"];
    for (arguments, expected) in [
        (vec![], "Usage:"),
        (vec!["rnu"], "unrecognized subcommand 'rnu'"),
        (vec!["run", "--config", EXAMPLE], "--node <NAME>"),
        (vec!["run", "--config", EXAMPLE, "--node", "node9"], "it has node1, node2"),
        (vec!["doctor", "--config", EXAMPLE], "--node <NAME>"),
        (vec!["doctor", "--node", "node1"], "--config <FILE>"),
        (vec!["doctor", "--config", EXAMPLE, "--node", "node9"], "it has node1, node2"),
        (
            vec!["doctor", "--config", EXAMPLE, "--node", "node1", "--queue-base", "65535"],
            "65535, the last queue",
        ),
        (vec!["check", "--config", "/nowhere.toml"], "cannot read the cluster file /nowhere.toml"),
        ([&run[..], &["--workers", "0"]].concat(), "1..=1024"),
        ([&run[..], &["--queue-base", "65535"]].concat(), "65535, the last queue"),
        ([&run[..], &["--force-fallback", "gso"]].concat(), "possible values: queue"),
        (
            vec!["trace", "stage", "spoff"],
            "  stage spoff\n        ^^^^^ a stage is one of dnat, tag, save, spoof",
        ),
        (vec!["trace", "--sample", "10"], "a sample is written as in 1/100"),
        (vec!["trace", "--rotate", "1M"], "--write <FILE>"),
        (vec!["trace", "--write", "x", "--rotate", "1T"], "a size is a number of bytes"),
        (vec!["trace", "--read", "x", "--node", "node1"], "cannot be used with"),
        (vec!["path"], "<FILE>..."),
        (
            vec!["path", "x", "--filter", "stage spoff"],
            "  stage spoff\n        ^^^^^ a stage is one of dnat, tag, save, spoof",
        ),
        ([&run[..], &["--trace-format", "json"]].concat(), "--trace <FILE>"),
        (
            vec!["rules", "--config", EXAMPLE, "--node", "node1", "--kernel", "--workers", "2"],
            "cannot be used with",
        ),
    ] {
        let (status, message) = refused(&arguments);
        assert_eq!(status, 2, "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn the_rules_that_are_printed_are_those_in_the_repository() {
    let rules = |more: &[&str]| {
        let output = dunnat(&[&["rules", "--config", EXAMPLE, "--node", "node1"], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    assert_eq!(rules(&["--kernel"]), rules_file("node1-kernel.nft"));
    assert_eq!(rules(&["--workers", "2", "--force-fallback", "queue"]), rules_file("node1-iptables.sh"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dunnat"))
        .args(["rules", "--config", EXAMPLE, "--node", "node1", "--kernel"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
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
    let snapshot =
        include_str!("../src/trace/write/snapshots/dunnat__trace__write__tests__json_is_stable.snap");
    for line in snapshot.lines().filter(|line| line.starts_with('{')) {
        writeln!(file, "{line}").unwrap();
    }
    file
}

#[test]
fn a_saved_trace_is_filtered_and_written_in_every_format() {
    let file = saved();
    let path = file.path().to_str().unwrap();
    let read = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_dunnat"))
            .args([&["trace", "--read", path], arguments].concat())
            .env("TZ", "UTC")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
        output.stdout
    };
    let all = read(&[]);
    let lines =
        include_str!("../src/trace/snapshots/dunnat__trace__text__tests__lines_are_a_pleasure_to_read.snap");
    assert!(lines.ends_with(text(&all)), "{}", text(&all));
    assert_eq!(read(&["--format", "json"]), std::fs::read(path).unwrap());
    let spoof = read(&["stage spoof and host 192.168.122.1", "and", "not", "node", "node2"]);
    assert_eq!(text(&spoof).lines().count(), 2, "one, and that some were lost later");
    assert_eq!(text(&read(&["--count", "2", "-v"])).lines().count(), 4);
    assert_eq!(text(&read(&["--flows", "1"])).lines().count(), 6, "five events, and what was lost");
    assert!(read(&["--format", "pcapng"]).starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]));
    let packets = tempfile::NamedTempFile::with_suffix(".pcapng").unwrap();
    read(&["--write", packets.path().to_str().unwrap(), "rewritten"]);
    assert!(std::fs::read(packets.path()).unwrap().starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]), "by its name");
}

#[test]
fn what_is_no_trace_is_refused_with_its_place() {
    let mut file = saved();
    writeln!(file, "{{\"v\":1}}").unwrap();
    let path = file.path().to_str().unwrap();
    let output = dunnat(&["trace", "--read", path]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout).lines().count(), 9, "what came before is there");
    let message = text(&output.stderr);
    assert!(
        message.contains(&format!("{path}:9: this is no event")) && message.contains("missing field"),
        "{message}"
    );
    // The last line of a trace that is being written.
    let mut file = saved();
    write!(file, "{{\"v\":1,\"seq\"").unwrap();
    let output = dunnat(&["trace", "--read", file.path().to_str().unwrap()]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains(":9: the last line is not whole"), "{}", text(&output.stderr));
}

/// Both nodes in one file, or each in its own: it is the same conversation, in every format.
#[test]
fn traces_are_joined_and_shown_in_every_format() {
    // Without the node that is in conflict with the others; and with an answer to this very SYN.
    let all = std::fs::read_to_string(saved().path()).unwrap().replace("\"ack\":2000", "\"ack\":1001");
    let lines = all.lines().filter(|line| !line.contains("mark-conflict"));
    let mut file = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
    lines.clone().for_each(|line| writeln!(file, "{line}").unwrap());
    let part = |node: &str| {
        let mut part = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
        let wanted = format!("\"node\":\"{node}\",\"stage\"");
        lines
            .clone()
            .filter(|line| line.contains(&wanted))
            .for_each(|line| writeln!(part, "{line}").unwrap());
        part
    };
    let (one, two) = (part("node1"), part("node2"));
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
    let join = |arguments: &[&str]| {
        let output = dunnat(&[&["path"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout).to_owned()
    };
    let ladder = join(&[&path(&two), &path(&one)]);
    assert!(
        ladder.contains("\nforeign and right: node2 was called as 192.168.122.12, and node1 answered so"),
        "{ladder}"
    );
    assert_eq!(join(&[&path(&one), &path(&two)]), ladder);
    assert_eq!(join(&[&path(&file)]), ladder);
    assert_eq!(join(&[&path(&file), "--filter", "service web", "--conversation", "1"]), ladder);
    assert!(join(&[&path(&file), "--faults"]).starts_with("0 of 1 conversation\n"));
    assert!(join(&[&path(&file), "--filter", "host 1.2.3.4"]).starts_with("0 of 1 conversation\n"));

    let json: serde_json::Value = serde_json::from_str(&join(&[&path(&file), "--format", "json"])).unwrap();
    assert_eq!((&json["finding"], &json["right"]), (&"foreign".into(), &true.into()));
    assert_eq!(json["way"], serde_json::json!(["node2", "node1"]));
    assert!(join(&[&path(&file), "--format", "mermaid"]).starts_with("sequenceDiagram\n"));
    let picture = tempfile::NamedTempFile::with_suffix(".svg").unwrap();
    assert_eq!(join(&[&path(&file), "--write", &path(&picture)]), "");
    assert!(std::fs::read_to_string(picture.path()).unwrap().starts_with("<svg "), "by its name");

    let (status, message) = refused(&["path", &path(&file), "--conversation", "7"]);
    assert_eq!(
        (status, message.contains("no conversation 7") && message.contains("the last is 1")),
        (2, true)
    );
    let (status, message) = refused(&["path", &path(&file), "--filter", "host 1.2.3.4", "--format", "svg"]);
    assert_eq!((status, message.contains("there are 0")), (2, true), "{message}");
    let (status, message) = refused(&["path", "/nowhere.jsonl"]);
    assert_eq!((status, message.contains("cannot read /nowhere.jsonl")), (1, true));
    let (status, message) = refused(&["path", EXAMPLE]);
    assert_eq!((status, message.contains("example.toml:1: this is no event")), (1, true), "{message}");
}

#[test]
fn the_schemas_are_printed() {
    let output = dunnat(&["trace", "--schema"]);
    assert_eq!(text(&output.stdout), dunnat::trace::SCHEMA);
    let output = dunnat(&["path", "--schema"]);
    assert_eq!(text(&output.stdout), dunnat::path::SCHEMA);
}

#[test]
fn nodes_that_are_not_there_are_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node1.sock");
    let (status, message) = refused(&["trace", "--socket", path.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(message.contains("start it with dunnat run"), "{message}");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (_, message) = refused(&["trace", "--socket", path.to_str().unwrap()]);
    assert!(message.contains("the dunnat that made it is gone"), "{message}");
}

#[test]
fn a_reader_of_a_trace_that_has_seen_enough_is_no_error() {
    let file = saved();
    let mut child = Command::new(env!("CARGO_BIN_EXE_dunnat"))
        .args(["trace", "--read", file.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}
