//! `explain` and `replay`: packets that are typed, of a trace, of a capture.

use super::*;

#[test]
fn a_reply_that_shows_an_inside_address_is_dropped() {
    let output = dunnat(&["explain", "--config", EXAMPLE, "tcp 192.168.122.1:40000 > 10.5.5.201:80"]);
    let told = text(&output.stdout);
    assert!(told.ends_with("The client hears nothing.\n"), "{told}");
    assert!(told.contains("The reply is dropped: 10.5.5.201 is an inside address"), "{told}");
}

#[test]
fn a_packet_is_explained_at_a_node_and_through_the_cluster() {
    let request = "tcp 192.168.122.1:40000 > 192.168.122.12:80";
    let node = printed(&["explain", "-c", EXAMPLE, "-n", "node2", request, "in", "xenbr0", "-v"]);
    insta::assert_snapshot!("explain at node2", node);
    let way = printed(&["explain", "-c", EXAMPLE, request]);
    insta::assert_snapshot!("explain through the cluster", way);
    let local = printed(&["explain", "-c", EXAMPLE, "--guest-on", "node2", request]);
    assert!(local.starts_with("node2, the entry node and the home node: "), "{local}");

    let json = printed(&["explain", "-c", EXAMPLE, "--json", request]);
    let story: serde_json::Value = serde_json::from_str(&json).unwrap();
    let stages = story["nodes"][0]["stages"].as_array().unwrap();
    assert_eq!(stages[0]["event"]["reason"], "service");
    let why = stages[0]["why"].as_array().unwrap();
    let told: Vec<_> =
        why.iter().map(|asked| (&asked["subject"], &asked["operator"], &asked["holds"])).collect();
    assert_eq!(told[0], (&"ip daddr".into(), &"is".into(), &true.into()));
    assert_eq!(told[1..], [(&"tcp dport".into(), &"is one of".into(), &true.into())]);
    assert_eq!((&why[1]["row"], &why[1]["rows"][0]["name"]), (&"web".into(), &"service web".into()));
    assert!(stages[1]["not_asked"].is_string());
}

/// A program that decides, beside the example: it is written to a directory.
fn program(text: &str) -> (tempfile::TempDir, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (directory, path.to_str().unwrap().to_owned())
}

#[test]
fn a_program_in_another_language_explains_and_replays() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/policy.py");
    assert!(std::fs::read_to_string(example).unwrap().lines().count() <= 40);
    let request = "tcp 192.168.122.1:40000 > 192.168.122.11:80";
    let way = printed(&["explain", "-c", EXAMPLE, "--guest-on", "node1", "--policy", example, request]);
    insta::assert_snapshot!("explain by a program", way);
    let file = saved();
    let path = file.path().to_str().unwrap();
    let changes = printed(&["replay", path, "-c", EXAMPLE, "--policy", example]);
    assert!(changes.contains("service => to-guest"), "{changes}");
    let schema: serde_json::Value = serde_json::from_str(&printed(&["explain", "--policy-schema"])).unwrap();
    assert_eq!(schema["$id"], "urn:dunnat:policy:1");
}

/// Whatever it says: nothing reaches a terminal raw, and the verb goes on.
#[test]
fn a_program_that_is_no_policy_is_refused_and_one_that_talks_nonsense_costs_the_packet() {
    let request = "tcp 192.168.122.1:40000 > 192.168.122.11:80";
    let by = |path: &str| dunnat(&["explain", "-c", EXAMPLE, "-n", "node1", "--policy", path, request]);
    let (_directory, path) = program("#!/bin/sh\necho hello\n");
    let output = by(&path);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).contains("the first line (hello) of the policy"), "{output:?}");
    assert!(text(&by("./no/such").stderr).contains("cannot run the policy ./no/such"));

    let hello = r#"{"protocol":1,"name":"odd","reasons":[{"name":"odd","about":"it is odd"}]}"#;
    let (_directory, path) = program(&format!(
        "#!/bin/sh\necho '{hello}'\nprintf 'said \\033[31m\\n' >&2\nread facts\nprintf '\\033[31m\\n'\n"
    ));
    let output = by(&path);
    assert!(output.status.success());
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert!(told.contains("drop policy-nonsense") && told.contains("its line is no decision"), "{told}");
    assert!(
        said.contains("policy: said \\u{1b}[31m") && said.contains("policy odd: its line is no decision"),
        "{said}"
    );
    assert!(!told.contains('\u{1b}') && !said.contains('\u{1b}'), "{told}{said}");
}

/// What decides is named; whatever it is, the way through the node is the same.
#[test]
fn another_policy_explains_and_replays() {
    let request = "tcp 192.168.122.1:40000 > 192.168.122.12:80";
    let observed = ["explain", "-c", EXAMPLE, "--policy", "observe", request];
    let told = printed(&observed);
    assert!(told.contains("=>   mark 0x0 accept observed\n") && !told.contains("nft "), "{told}");
    assert!(told.ends_with("The packet stays on node2.\n"), "{told}");
    let usual = printed(&["explain", "-c", EXAMPLE, "--policy", "cluster", request]);
    assert_eq!(usual, printed(&["explain", "-c", EXAMPLE, request]));
    let reply = "tcp 10.5.5.201:80 > 192.168.122.1:40000 ct mark 2";
    let told = printed(&["explain", "-c", EXAMPLE, "-n", "node1", "--policy", "observe", reply]);
    assert!(told.contains("ct mark 0x2 accept observed\n"), "{told}");

    let file = saved();
    let path = file.path().to_str().unwrap();
    let changes = printed(&["replay", path, "-c", EXAMPLE, "--policy", "observe"]);
    assert!(changes.contains("repeated 9 decisions: 9 would change:\n"), "{changes}");
    assert!(changes.contains("spoof entry-node => observed; node, saddr\n"), "{changes}");
    let story = printed(&["explain", "-c", EXAMPLE, "--policy", "observe", "--read", path, "--count", "1"]);
    assert!(story.contains("accept observed"), "{story}");

    let (status, refused) = refused(&["explain", "-c", EXAMPLE, "--policy", "nat", request]);
    assert_eq!(status, 2);
    assert!(refused.contains("a policy is one of cluster, observe"), "{refused}");
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
    // A pcap file of raw IP: a request and a reply.
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
