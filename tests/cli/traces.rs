//! `trace` and `path`: saved traces, and the socket of a node.

use std::process::Child;
use std::time::{Duration, Instant};

use dunnat::sql::Dialect;

use super::*;

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

/// Rules stand between the decisions of a trace: who wants decisions passes over them.
#[test]
fn rules_in_a_trace_are_shown_and_hinder_nobody() {
    let rule = r#"{"v":2,"kernel":{"time":"2026-03-02T09:14:22Z","id":7,"hook":"forward","family":"inet","table":"fw","chain":"web","handle":4,"rule":"counter drop","verdict":"drop","in":"xenbr0","packet":{"proto":"tcp","src":"192.168.122.1","dst":"10.5.5.201","sport":40000,"dport":80},"flags":["syn"],"mark":"0x2"}}"#;
    let without = std::fs::read_to_string(saved().path()).unwrap();
    let later = r#"{"v":2,"kernel":{"new":7}}"#;
    let with: String = without.lines().map(|line| format!("{rule}\n{line}\n{later}\n")).collect();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (without, with, alone) = (write("without", &without), write("with", &with), write("alone", rule));
    let said = |arguments: &[&str]| {
        let output = dunnat(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    for verb in [
        // These drops explain no finding of this trace.
        &["path"][..],
        &["replay", "-c", EXAMPLE],
        &["trace", "--count", "9", "--read"],
    ] {
        assert_eq!(said(&[verb, &[&with]].concat()).0, said(&[verb, &[&without]].concat()).0, "{verb:?}");
    }
    let shown = said(&["trace", "--read", &alone, "port 80 and dst host 10.5.5.201"]).0;
    assert!(shown.contains("drop by rule 4 of chain web, table inet fw: counter drop"), "{shown}");
    assert_eq!(said(&["trace", "--read", &alone, "port 81"]), (String::new(), String::new()));
    assert_eq!(said(&["trace", "--read", &alone, "--format", "json"]).0.trim_end(), rule);
    let decisions = std::fs::read_to_string(&without).unwrap().lines().count();
    let shown = said(&["trace", "--read", &with]).0;
    assert_eq!(shown.lines().filter(|line| line.contains("counter drop")).count(), decisions);
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
    // Without the node that is in conflict with the others, and without ICMP errors; and with a reply to this very SYN.
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
    // What the kernel said of a rule is joined with it, from any file; it tells the node by itself, or by what is beside it.
    let rule = |node: &str| {
        format!(
            r#"{{"v":2,"kernel":{{{node}"time":"2026-03-02T09:14:22Z","id":7,"hook":"forward","family":"inet","table":"fw","chain":"web","handle":4,"rule":"counter drop","verdict":"drop","packet":{{"proto":"tcp","src":"192.168.122.1","dst":"10.5.5.201","sport":40000,"dport":80}},"flags":["syn"]}}}}"#
        )
    };
    let by_rule = |node: &str, beside: &str| {
        let mut kernel = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
        write!(kernel, "{}\n{beside}", rule(node)).unwrap();
        dunnat(&["path", &path(&two), &path(&kernel), "--faults", "--format", "json"])
    };
    let node2 = std::fs::read_to_string(two.path()).unwrap();
    for (node, beside, expected) in [(r#""node":"node1","#, "", "node1"), ("", &node2, "node2")] {
        let output = by_rule(node, beside);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let json: serde_json::Value = serde_json::from_str(text(&output.stdout)).unwrap();
        assert_eq!(
            (&json["finding"], &json["cause"], &json["rule"]["node"]),
            (&"no-reply".into(), &"rule-drop".into(), &expected.into()),
            "{json:#}"
        );
    }
    let output = by_rule("", "");
    assert!(text(&output.stderr).contains("1 rule left out: there is no decision to tell the node"));
    assert!(!text(&output.stdout).contains("rule-drop"));
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
    let output = dunnat(&["trace", "--kernel", "--schema"]);
    assert_eq!(text(&output.stdout), dunnat::trace::RULE_SCHEMA);
    let output = dunnat(&["path", "--schema"]);
    assert_eq!(text(&output.stdout), dunnat::conversations::SCHEMA);
}

#[test]
fn sql_is_printed_whole_or_not_at_all() {
    for (engine, dialect) in [("duckdb", Dialect::DuckDb), ("clickhouse", Dialect::ClickHouse)] {
        let sql = printed(&["path", "--sql", engine]);
        assert_eq!(sql, dialect.sql());
        assert!(sql.ends_with(";\n") && sql.contains(" conversations"), "{sql}");
    }
    // Where the traces are is said in one place.
    assert_eq!(printed(&["path", "--sql", "duckdb"]).matches("'*.jsonl'").count(), 1);
    for arguments in [
        &["path", "--sql", "duckdb", "x.jsonl"][..],
        &["path", "--sql", "duckdb", "--live"],
        &["path", "--sql", "sqlite"],
    ] {
        assert_eq!(refused(arguments).0, 2, "{arguments:?}");
    }
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

/// An empty or misspelt filter of the log hides no warning.
#[test]
fn what_is_amiss_is_told_unless_somebody_wants_less() {
    let mut half = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
    let whole = include_bytes!("../saved/one_connection.jsonl");
    half.write_all(&whole[..whole.len() - 20]).unwrap();
    let read = ["trace", "--read", half.path().to_str().unwrap()];
    for (filter, expected) in [
        ("", &["D602"][..]),
        ("warn", &["D602"]),
        ("warning", &["D119 RUST_LOG: 'warning' is not understood", "D602"]),
        ("dunnat=warning", &["D119", "D602"]),
        ("error", &[]),
    ] {
        let mut trace = Command::new(env!("CARGO_BIN_EXE_dunnat"));
        let output = trace.args(read).env("RUST_LOG", filter).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.lines().count(), expected.len(), "{filter}: {said}");
        assert!(expected.iter().all(|it| said.contains(it)), "{filter}: {said}");
    }
}

/// A program that asks many places finds a line for each, also for one that says nothing.
#[test]
fn a_place_that_is_missing_has_its_line() {
    let on = ["status", "--on", "cmd:/nowhere/dunnat,cmd:echo", "--json"];
    let output = dunnat(&on);
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), lines.len()), (Some(1), 2), "{said}");
    for (line, (place, why)) in
        lines.iter().zip([("cmd:/nowhere/dunnat", "cannot be started"), ("cmd:echo", "no status")])
    {
        assert_eq!(line["place"], place);
        assert!(line["missing"].as_str().unwrap().contains(why), "{line}");
        assert!(said.lines().any(|line| line.contains(place) && line.contains(why)), "{said}");
    }
    let output = dunnat(&on[..3]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
}

/// A node that is not of ours: what it says first is all that is heard.
#[test]
fn what_speaks_another_protocol_is_refused_in_words() {
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

fn interrupt(child: &Child) {
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
}

/// Who looks on does not wait for more to come, and Ctrl-C loses nothing of what has come.
#[test]
fn of_a_pipe_that_goes_on_all_is_shown_that_has_come() {
    let trace = include_bytes!("../saved/one_connection.jsonl").to_vec();
    // A pcap file of raw IP: a SYN.
    let capture = [
        &0xa1b2_c3d4_u32.to_le_bytes()[..],
        &[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 101, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 40, 0, 0, 0],
        b"\x45\x00\x00\x28\x00\xc9\x40\x00\x40\x06\xef\x8f\xc0\xa8\x7a\x01\xc0\xa8\x7a\x0c",
        b"\x9c\x41\x00\x50\x00\x00\x07\xd0\x00\x00\x00\x00\x50\x02\xfa\xf0\xc6\x18\x00\x00",
    ]
    .concat();
    let directory = tempfile::tempdir().unwrap();
    let [file, out] = ["file", "out"].map(|name| directory.path().join(name));
    for (words, input, known) in [
        (vec!["trace", "--read"], &trace, vec![]),
        (vec!["trace", "--format", "json", "--read"], &trace, vec![]),
        (vec!["replay", "-c", EXAMPLE, "-f", "json"], &trace, vec![]),
        (vec!["replay", "-c", EXAMPLE, "-f", "json", "-n", "node2"], &capture, vec!["in", "xenbr0"]),
    ] {
        std::fs::write(&file, input).unwrap();
        let of = |name| [&words[..], &[name], &known[..]].concat();
        let whole = dunnat(&of(file.to_str().unwrap())).stdout;
        assert!(!whole.is_empty(), "{words:?}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_dunnat"))
            .args(of("-"))
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&out).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(input).unwrap();
        let begun = Instant::now();
        while std::fs::read(&out).unwrap() != whole && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
        interrupt(&child);
        assert!(child.wait().unwrap().success(), "{words:?}");
        assert!(std::fs::read(&out).unwrap() == whole, "{words:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{words:?}: only at the end");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_dunnat"))
        .args(["path", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // So much has no room in the pipe: it is being read.
    pipe.write_all(&trace.repeat(100)).unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && text(&output.stdout).contains("192.168.122.1:40000"), "{output:?}");
    drop(pipe);
}

#[test]
fn nodes_that_decided_by_different_cluster_files_are_told() {
    let good = include_str!("../saved/one_connection.jsonl");
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

/// A program that keeps schemas by their names must not take one version for another.
#[test]
fn a_schema_is_named_by_the_version_that_it_describes() {
    for verb in ["trace", "path", "flows"] {
        let schema: serde_json::Value = serde_json::from_str(&printed(&[verb, "--schema"])).unwrap();
        let version = schema["properties"]["v"]["const"].as_u64().unwrap();
        let (id, title) = (schema["$id"].as_str().unwrap(), schema["title"].as_str().unwrap());
        assert!(id.ends_with(&format!(":{version}")), "{verb}: {id} has version {version}");
        assert!(title.ends_with(&format!("version {version}")), "{verb}: {title}: version {version}");
    }
}
