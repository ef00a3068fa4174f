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
    for verb in ["", "run", "step", "trace", "explain", "replay", "path", "rules", "check", "doctor"] {
        let arguments: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
        let output = dunnat(&arguments);
        assert!(output.status.success());
        insta::assert_snapshot!(format!("help {verb}").trim(), text(&output.stdout));
    }
}

/// The help names the words that the parser knows.
#[test]
fn the_words_of_a_filter_are_all_in_the_help() {
    let (status, message) = refused(&["trace", "--read", "/dev/null", "frobnicate"]);
    assert_eq!(status, 2);
    let words = message.rsplit_once("expected one of: ").unwrap().1.replace(['(', '\n'], "");
    let help = dunnat(&["trace", "--help"]);
    let help = text(&help.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let listed = help.split_once("Its words: ").unwrap().1.split_once("parentheses.").unwrap().0;
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        assert!(listed.contains(word), "{word} is not in: {listed}");
    }
}

#[test]
fn an_answer_that_shows_an_inside_address_does_not_leave() {
    let output = dunnat(&["explain", "--config", EXAMPLE, "tcp 192.168.122.1:40000 > 10.5.5.201:80"]);
    let told = text(&output.stdout);
    assert!(told.ends_with("The client hears nothing.\n"), "{told}");
    assert!(told.contains("The answer does not leave: 10.5.5.201 is an inside address"), "{told}");
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

/// What somebody else has written may be shown, and a terminal must not obey it.
#[test]
fn nothing_from_outside_reaches_a_terminal_raw() {
    // A colour, a title, C1, a right-to-left override, a line of its own, a directive of Mermaid.
    let evil = "\\u001b[31m\\u001b]0;t\\u0007\u{9b}2J\u{202e}\\ndunnat: all is well%%{init: {}}%%";
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.jsonl");
    let good = include_str!("saved/one_connection.jsonl");
    let named = |field: &str| {
        good.replace(&format!("\"{field}\":\"node2\""), &format!("\"{field}\":\"node2{evil}\""))
    };
    let bad_word = good.replacen("\"prerouting\"", &format!("\"{evil}\""), 1);
    let odd_file = directory.path().join("x\u{1b}[31m\nfile\u{202e}.toml");
    for trace_text in
        [named("node"), named("entry"), good.replace("\"xenbr0\"", &format!("\"x{evil}\"")), bad_word]
    {
        assert_ne!(trace_text, good);
        std::fs::write(&trace, trace_text).unwrap();
        let [trace, odd] = [&trace, &odd_file].map(|path| path.to_str().unwrap());
        for words in [
            &["trace", "--read", trace][..],
            &["trace", "--read", trace, "--verbose"],
            &["trace", "--read", trace, "--format", "json"],
            &["trace", "--read", trace, "service", "\u{1b}[31m"],
            &["path", trace],
            &["path", trace, "--format", "json"],
            &["path", trace, "--format", "mermaid", "--conversation", "1"],
            &["path", trace, "--format", "svg", "--conversation", "1"],
            &["replay", trace, "--config", EXAMPLE],
            &["replay", trace, "--config", EXAMPLE, "--format", "json"],
            &["explain", "--read", trace, "--config", EXAMPLE],
            &["check", "--config", odd],
            &["trace", "--read", odd],
            &["trace", "--node", "\u{1b}[31m\u{202e}"],
            &["trace", "--no-such\u{1b}[31m"],
            &["explain", "--config", EXAMPLE, "--node", "node1", "tcp\u{1b}[31m\n"],
        ] {
            let output = dunnat(words);
            assert!(!words.contains(&"mermaid") || !text(&output.stdout).contains("%%{init"), "{output:?}");
            for written in [text(&output.stdout), text(&output.stderr)] {
                let odd = written
                    .chars()
                    .find(|c| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c));
                assert_eq!(odd, None, "{words:?}: {written:?}");
                assert!(
                    !written.lines().any(|line| line == "dunnat: all is well%%{init: {}}%%"),
                    "{words:?}"
                );
            }
        }
    }
}

/// Nobody hears it, and the exit status says so.
#[test]
fn what_cannot_be_said_or_written_is_status_1_and_no_panic() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = |words: &[&str], out: Stdio, error: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dunnat"));
        command.args(words).stdin(Stdio::null()).stdout(out).stderr(error).status().unwrap().code()
    };
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/saved/one_connection.jsonl");
    for words in [
        &["check", "--config", "/nowhere"][..],
        &["rules", "--config", "/nowhere", "--node", "node1"],
        &["run", "--config", "/nowhere", "--node", "node1"],
        &["step", "--config", "/nowhere", "--node", "node1"],
        &["doctor", "--config", "/nowhere", "--node", "node1"],
        &["down", "--config", "/nowhere", "--node", "node1"],
        &["explain", "--config", "/nowhere", "--node", "node1", "tcp"],
        &["replay", "--config", "/nowhere", "x"],
        &["trace", "--read", "/nowhere"],
        &["path", "/nowhere"],
        &["no-such-verb"],
        &[],
        &["lab", "accept", "--name", "there-is-none"],
    ] {
        assert_eq!(status(words, Stdio::null(), full().into()), Some(1), "{words:?}");
        // Its reader has gone.
        let (gone, pipe) = std::io::pipe().unwrap();
        drop(gone);
        assert_eq!(status(words, Stdio::null(), pipe.into()), Some(1), "{words:?}");
    }
    for words in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["check", "--config", EXAMPLE],
        &["rules", "--config", EXAMPLE, "--node", "node1"],
        &["explain", "--config", EXAMPLE, "--node", "node1", "tcp 192.168.122.1:40000 > 192.168.122.11:80"],
        &["trace", "--schema"],
        &["trace", "--read", trace],
        &["trace", "--read", trace, "--format", "json"],
        &["path", trace],
        &["replay", trace, "--config", EXAMPLE],
    ] {
        assert_eq!(status(words, full().into(), Stdio::null()), Some(1), "{words:?}");
    }
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
        assert!(
            message.starts_with(&format!("{path}:30:10: tag 0x1 is already used by \"node1\"\n")),
            "{message}"
        );
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
            "above 65535, the maximum",
        ),
        (vec!["check", "--config", "/nowhere.toml"], "cannot read the cluster file /nowhere.toml"),
        ([&run[..], &["--workers", "0"]].concat(), "1..=1024"),
        ([&run[..], &["--queue-base", "65535"]].concat(), "above 65535, the maximum"),
        ([&run[..], &["--force-fallback", "gso"]].concat(), "possible values: queue"),
        (
            vec!["trace", "stage", "spoff"],
            "  stage spoff\n        ^^^^^ a stage is one of dnat, tag, save, spoof",
        ),
        (vec!["explain", "--config", EXAMPLE], "PACKET"),
        (
            vec!["explain", "--config", EXAMPLE, "--node", "node9", "icmp 1.2.3.4 > 5.6.7.8"],
            "it has node1, node2",
        ),
        (
            vec!["explain", "--config", EXAMPLE, "tcp 192.168.122.1:40000 > 192.168.122.12"],
            "> 192.168.122.12\n                            ^^^^^^^^^^^^^^ tcp has ports: expected address and port",
        ),
        (
            vec!["explain", "--config", EXAMPLE, "tcp 1.2.3.4:1 > 5.6.7.8:80"],
            "no node would see tcp 1.2.3.4:1",
        ),
        (
            vec![
                "explain",
                "--config",
                EXAMPLE,
                "--node",
                "node1",
                "--guest-on",
                "node1",
                "icmp 1.2.3.4 > 5.6.7.8",
            ],
            "cannot be used with",
        ),
        (vec!["replay", "x"], "--config <FILE>"),
        (vec!["step", "--config", EXAMPLE], "--node <NAME>"),
        (vec!["step", "--config", EXAMPLE, "--node", "node9"], "it has node1, node2"),
        (
            vec!["step", "--config", EXAMPLE, "--node", "node1", "--workers", "2"],
            "unexpected argument '--workers'",
        ),
        (
            vec!["step", "--config", EXAMPLE, "--node", "node1", "tcp flags sin"],
            "  tcp flags sin\n            ^^^",
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
        ([&run[..], &["--shadow", "--no-rules"]].concat(), "'--shadow' cannot be used with '--no-rules'"),
        (
            [&run[..], &["--shadow", "--rewrite", "kernel"]].concat(),
            "'--shadow' cannot be used with '--rewrite",
        ),
        ([&run[..], &["--shadow", "--backend", "nfq"]].concat(), "'--shadow' cannot be used with '--backend"),
        ([&run[..], &["--shadow", "--full"]].concat(), "'--shadow' cannot be used with '--full'"),
        (
            [&run[..], &["--shadow", "--trace", "-"]].concat(),
            "--shadow writes its report to standard output: give --trace a file",
        ),
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
    file.write_all(include_bytes!("saved/one_connection.jsonl")).unwrap();
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
    insta::assert_snapshot!("a saved trace as text", text(&all));
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

/// The zones are in the program: not every host has them.
#[test]
fn times_are_of_the_zone_that_is_asked_for() {
    let trace = saved();
    for (zone, time) in [
        ("Asia/Tokyo", "1970-01-01T18:14:22.104233+09:00 node2 dnat"),
        ("America/New_York", "1970-01-01T04:14:22.104233-05:00 node2 dnat"),
        ("UTC", "1970-01-01T09:14:22.104233+00:00 node2 dnat"),
        ("<+10>-10", "1970-01-01T19:14:22.104233+10:00 node2 dnat"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dunnat"));
        let output = command.args(["trace", "--read"]).arg(trace.path()).env("TZ", zone).output().unwrap();
        assert!(text(&output.stdout).starts_with(time), "{zone}: {}", text(&output.stdout));
    }
}

#[test]
fn what_is_no_trace_is_refused_with_its_place() {
    let mut file = saved();
    writeln!(file, "{{\"v\":1}}").unwrap();
    let path = file.path().to_str().unwrap();
    let output = dunnat(&["trace", "--read", path]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout).lines().count(), 10, "what came before is there");
    let message = text(&output.stderr);
    assert!(
        message.contains(&format!("{path}:10: this is no event")) && message.contains("missing field"),
        "{message}"
    );
    // The last line of a trace that is being written.
    let mut file = saved();
    write!(file, "{{\"v\":1,\"seq\"").unwrap();
    let output = dunnat(&["trace", "--read", file.path().to_str().unwrap()]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains(":10: the last line is incomplete"), "{}", text(&output.stderr));
}

/// Both nodes in one file, or each in its own: it is the same conversation, in every format.
#[test]
fn traces_are_joined_and_shown_in_every_format() {
    // Without the node that is in conflict with the others, and without ICMP errors; and with an answer to this very SYN.
    let all = std::fs::read_to_string(saved().path()).unwrap().replace("\"ack\":2000", "\"ack\":1001");
    let right = all.lines().filter(|line| !line.contains("mark-conflict"));
    let lines = right.clone().filter(|line| !line.contains("\"icmp\":"));
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
        ladder.contains(
            "\nforeign and right: node2 is the entry node; node1 sent the reply from 192.168.122.12"
        ),
        "{ladder}"
    );
    assert_eq!(join(&[&path(&one), &path(&two)]), ladder);
    assert_eq!(join(&[&path(&file)]), ladder);
    assert_eq!(join(&[&path(&file), "--filter", "service web", "--conversation", "1"]), ladder);
    assert!(join(&[&path(&file), "--faults"]).starts_with("0 of 1 conversation\n"));
    assert!(join(&[&path(&file), "--filter", "host 1.2.3.4"]).starts_with("0 of 1 conversation\n"));

    // An error that came is a fault of its own, whatever else is right.
    let mut errors = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
    right.for_each(|line| writeln!(errors, "{line}").unwrap());
    let output = dunnat(&["path", &path(&errors), "--faults", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_str(text(&output.stdout)).unwrap();
    assert_eq!((&json["finding"], &json["cause"]), (&"rejected".into(), &"port-unreachable".into()));
    assert!(json["also"][0].as_str().unwrap().contains("fragmentation needed"), "{json}");

    // Without the events of the home node it is not seen to be right.
    let output = dunnat(&["path", &path(&two), "--faults", "--guest-on", "10.5.5.201=node1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "dunnat: 1 of 1 conversations is not right\n");
    let said = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("tag did not follow on node1, the home node, of which there is no trace"),
        "{said}"
    );
    assert!(said.contains("1. not-traced: node1 saw the packet"), "{said}");
    assert!(dunnat(&["path", &path(&two)]).status.success());
    for odd in ["10.5.5.201", "guest1=node1", "10.5.5.201="] {
        let (status, message) = refused(&["path", &path(&two), "--guest-on", odd]);
        assert_eq!((status, message.contains("as in 10.5.5.201=node1")), (2, true), "{message}");
    }

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
    assert_eq!(text(&output.stdout), dunnat::conversations::SCHEMA);
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
    let (status, message) = refused(&["trace", "--socket", "/etc/passwd"]);
    assert_eq!(status, 1);
    assert!(message.contains("/etc/passwd is no socket"), "{message}");
}

/// A node that is not of ours: what it says first is all that is heard.
#[test]
fn what_answers_in_another_way_is_refused_in_words() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node1.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    for (answer, said) in [
        (
            "{\"hello\":{\"v\":2,\"node\":\"node1\",\"dunnat\":\"0.9.0\"}}\n",
            "the node speaks version 2 of the control protocol",
        ),
        ("{\"error\":\"64 clients are attached already\"}\n", "dunnat: 64 clients are attached already"),
        ("{\"error\":\"\\u001b]0;title\\u0007\"}\n", "dunnat: \\u{1b}]0;title\\u{7}"),
        ("SSH-2.0-OpenSSH_9.9\r\n", "the socket did not send a message of dunnat: "),
    ] {
        let answering = std::thread::scope(|scope| {
            scope.spawn(|| listener.accept().unwrap().0.write_all(answer.as_bytes()).unwrap());
            refused(&["trace", "--socket", path.to_str().unwrap()])
        });
        assert_eq!(answering.0, 1);
        assert!(answering.1.contains(said), "{}", answering.1);
    }
}

#[test]
fn a_reader_of_a_trace_that_has_seen_enough_is_no_error() {
    let file = saved();
    reader_may_leave(&["trace", "--read", file.path().to_str().unwrap()]);
}

/// What a verb prints where nothing goes wrong, and nothing is said.
fn printed(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_dunnat")).args(arguments).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    text(&output.stdout).to_owned()
}

#[test]
fn a_packet_is_explained_at_a_node_and_through_the_cluster() {
    let call = "tcp 192.168.122.1:40000 > 192.168.122.12:80";
    let node = printed(&["explain", "-c", EXAMPLE, "-n", "node2", call, "in", "xenbr0", "-v"]);
    insta::assert_snapshot!("explain at node2", node);
    let way = printed(&["explain", "-c", EXAMPLE, call]);
    insta::assert_snapshot!("explain through the cluster", way);
    let local = printed(&["explain", "-c", EXAMPLE, "--guest-on", "node2", call]);
    assert!(local.starts_with("node2, the entry node and the home node: "), "{local}");

    let json = printed(&["explain", "-c", EXAMPLE, "--json", call]);
    let story: serde_json::Value = serde_json::from_str(&json).unwrap();
    let stages = story["nodes"][0]["stages"].as_array().unwrap();
    assert_eq!(stages[0]["event"]["reason"], "service");
    assert_eq!(stages[0]["why"]["rules"][0]["name"], "service web");
    assert!(stages[1]["not_asked"].is_string());
}

/// The same engine: what was recorded is decided again, and not otherwise.
#[test]
fn a_saved_trace_is_explained_and_replayed() {
    let file = saved();
    let path = file.path().to_str().unwrap();
    let all = printed(&["explain", "-c", EXAMPLE, "--read", path, "--json"]);
    let recorded = std::fs::read_to_string(path).unwrap();
    assert_eq!(all.lines().count(), recorded.lines().count());
    for (told, recorded) in all.lines().zip(recorded.lines()) {
        let told: serde_json::Value = serde_json::from_str(told).unwrap();
        let recorded: serde_json::Value = serde_json::from_str(recorded).unwrap();
        assert_eq!(told["nodes"][0]["stages"][0]["event"], recorded);
    }
    let one = printed(&["explain", "-c", EXAMPLE, "--read", path, "reason mark-conflict"]);
    assert!(one.contains("the flow keeps it"), "{one}");
    let two =
        printed(&["explain", "-c", EXAMPLE, "--read", path, "--node", "node2", "--count", "2", "--json"]);
    assert_eq!(two.lines().count(), 2);

    let same = printed(&["replay", path, "-c", EXAMPLE]);
    assert_eq!(same, "repeated 9 decisions: none would change\n");
    let mut other = tempfile::NamedTempFile::new().unwrap();
    let edited = std::fs::read_to_string(EXAMPLE).unwrap().replace("port  = 80", "port  = 8080");
    other.write_all(edited.as_bytes()).unwrap();
    let config = other.path().to_str().unwrap();
    let changes = printed(&["replay", path, "-c", config]);
    insta::assert_snapshot!("replay of a trace", changes);
    assert_eq!(
        printed(&["replay", path, "-c", config, "-n", "node1"]),
        "repeated 5 decisions: none would change\n"
    );
    let output = dunnat(&["replay", path, "-c", config, "--format", "json"]);
    assert_eq!(text(&output.stdout).lines().count(), 9);
    assert!(text(&output.stderr).contains("3 would change"), "{}", text(&output.stderr));
}

#[test]
fn a_capture_is_explained_and_replayed() {
    // A pcap file of raw IP: a call and an answer.
    let mut file = tempfile::NamedTempFile::with_suffix(".pcap").unwrap();
    let mut bytes =
        vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 101];
    for line in std::fs::read_to_string(saved().path()).unwrap().lines().take(4).step_by(3) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let hex = event["bytes"]["before"].as_str().unwrap().as_bytes();
        let digit = |digit: u8| (digit as char).to_digit(16).unwrap() as u8;
        let packet: Vec<u8> = hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        let len = (packet.len() as u32).to_be_bytes();
        bytes.extend([&[0, 0, 0, 60, 0, 0, 0, 5][..], &len, &len, &packet].concat());
    }
    file.write_all(&bytes).unwrap();
    let capture = file.path().to_str().unwrap();
    let output = dunnat(&["replay", capture, "-c", EXAMPLE, "--format", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("skipped 1 packet: destination is no public address"),
        "{}",
        text(&output.stderr)
    );
    let reasons: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        reasons.iter().map(|event| event["reason"].as_str().unwrap()).collect::<Vec<_>>(),
        ["service", "saved"]
    );

    let written = tempfile::NamedTempFile::with_suffix(".pcapng").unwrap();
    let again =
        printed(&["replay", capture, "-c", EXAMPLE, "-n", "node2", "-w", written.path().to_str().unwrap()]);
    assert_eq!(again, "");
    assert!(std::fs::read(written.path()).unwrap().starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]));
    insta::assert_snapshot!(
        "replay of a capture",
        printed(&["replay", capture, "-c", EXAMPLE, "-n", "node2"])
    );
    let story = printed(&[
        "explain", "-c", EXAMPLE, "-n", "node2", "--read", capture, "--count", "1", "in", "xenbr0",
    ]);
    assert!(story.contains("=>   daddr -> 10.5.5.201"), "{story}");

    // What was written has every packet twice, and no marks.
    let (status, message) = refused(&["replay", written.path().to_str().unwrap(), "-c", EXAMPLE]);
    assert_eq!(status, 1);
    assert!(message.contains("from a trace in JSON"), "{message}");
}

#[test]
fn what_is_neither_capture_nor_trace_is_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"hello").unwrap();
    let path = file.path().to_str().unwrap();
    for arguments in [&["replay", path, "-c", EXAMPLE][..], &["explain", "-c", EXAMPLE, "--read", path]] {
        let (status, message) = refused(arguments);
        assert_eq!(status, 1);
        assert!(
            message.contains("is neither a capture (pcap, pcapng) nor a trace (lines of JSON)"),
            "{message}"
        );
    }
    let trace = saved();
    let (status, message) =
        refused(&["replay", trace.path().to_str().unwrap(), "in", "xenbr0", "-c", EXAMPLE]);
    assert_eq!(status, 2, "{message}");
}

#[test]
fn nodes_that_decided_by_different_cluster_files_are_told() {
    let good = include_str!("saved/one_connection.jsonl");
    let told = |other: &str| {
        let line = |line: &str| {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            let is_first = event["node"] == "node1";
            event["config"] = if is_first { "0123456789abcdef" } else { other }.into();
            format!("{event}\n")
        };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(good.lines().map(line).collect::<String>().as_bytes()).unwrap();
        let output = dunnat(&["path", file.path().to_str().unwrap()]);
        assert!(output.status.success());
        text(&output.stderr).to_owned()
    };
    assert_eq!(told("0123456789abcdef"), "");
    let message = told("00000000ffffffff");
    assert!(message.contains("node1 used 0123456789abcdef, node2 used 00000000ffffffff"), "{message}");
}

/// A file may claim any number.
#[test]
fn numbers_that_are_too_large_are_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.jsonl");
    let good = include_str!("saved/one_connection.jsonl");
    for number in [u64::MAX, 1 << 63] {
        for field in ["\"lost\"", "\"waited_ns\"", "\"deciding_ns\"", "\"seq\""] {
            let lines = good.lines().map(|line| {
                let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
                event[field.trim_matches('"')] = number.into();
                format!("{event}\n")
            });
            std::fs::write(&path, lines.collect::<String>().repeat(2)).unwrap();
            let path = path.to_str().unwrap();
            for words in [
                &["trace", "--read", path, "-v"][..],
                &["trace", "--read", path, "stage spoof"],
                &["trace", "--read", path, "--format", "pcapng"],
                &["path", path],
                &["replay", path, "--config", EXAMPLE],
                &["explain", "--read", path, "--config", EXAMPLE],
            ] {
                let output = dunnat(words);
                assert_eq!(
                    output.status.code(),
                    Some(0),
                    "{field} {number} {words:?}: {}",
                    text(&output.stderr)
                );
            }
        }
    }
}

/// A file is never emptied before what replaces it is certain.
#[test]
fn what_is_written_takes_the_place_of_nothing_that_is_read_or_not_ours() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let trace = include_bytes!("saved/one_connection.jsonl");
    let [read, link, other] = ["read.jsonl", "link.jsonl", "other.jsonl"].map(at);
    std::fs::write(&read, trace).unwrap();
    std::fs::write(&other, "kept").unwrap();
    std::os::unix::fs::symlink(&read, &link).unwrap();
    for (words, says) in [
        (vec!["trace", "--read", &read, "--write", &read], "it is being read"),
        (vec!["replay", &read, "--config", EXAMPLE, "--write", &read], "it is being read"),
        (vec!["path", &read, "--write", &read], "it is being read"),
        (vec!["trace", "--read", &link, "--write", &read], "it is being read"),
        (vec!["trace", "--read", &read, "--write", &link], "it is a symbolic link"),
        (vec!["trace", "--read", "/nowhere", "--write", &other], "No such file"),
        (vec!["replay", EXAMPLE, "--config", EXAMPLE, "--write", &other], "neither a capture"),
        (vec!["path", EXAMPLE, "--write", &other], "no event"),
        (vec!["trace", "--socket", "/nowhere", "--write", &other], "there is no /nowhere"),
    ] {
        let (status, message) = refused(&words);
        assert_eq!(status, 1, "{words:?}");
        assert!(message.contains(says), "{words:?}: {message}");
        assert_eq!(std::fs::read(&read).unwrap(), trace);
        assert_eq!(std::fs::read(&other).unwrap(), b"kept");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3, "{words:?}");
    }
    let output = dunnat(&["trace", "--read", &read, "--format", "json", "--write", &other]);
    assert!(output.status.success());
    assert_eq!(std::fs::read(&other).unwrap(), trace);
}
