//! The program and files that others have written.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use super::build::Order::Little;
use super::build::{Pcap, Pcapng, ethernet, option, request};
use super::cases::{self, Case, End};
use super::read;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/example.toml");
const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/saved/one_connection.jsonl");

/// Runs the program where it gets so much memory, in KiB, and no more.
fn within(memory: u32, arguments: &[&str], input: &[u8]) -> Output {
    let limited = format!("ulimit -v {memory}; exec \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_dunnat")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn dunnat(arguments: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let output = within(256 << 10, arguments, input);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn replay(file: &[u8]) -> (Option<i32>, String, String) {
    dunnat(&["replay", "-", "-c", EXAMPLE, "--format", "json"], file)
}

/// The numbers in what is said, before that.
fn numbers(said: &str, before: &str) -> u64 {
    let number = |line: &str| line.split_once(before)?.0.rsplit(' ').next()?.parse::<u64>().ok();
    said.lines().filter_map(number).sum()
}

#[test]
fn every_packet_is_decided_about_or_told_of_and_the_exit_status_says_what_was_damaged() {
    for Case { name, file, packets, end } in cases::all() {
        let (status, decisions, said) = replay(&file);
        let (expected, words) = match end {
            End::Whole => (0, ""),
            End::Cut(words) => (0, words),
            End::Damaged(words) | End::Refused(words) => (1, words),
        };
        assert_eq!(status, Some(expected), "{name}: {said}");
        assert!(said.contains(words), "{name}: {said}");
        assert!(said.lines().all(|line| line.len() < 420), "{name}: {said}");
        // dnat and save decide about each request; in this cluster are no public addresses of IPv6.
        let passed = if said.contains("destination is no public address") { 0 } else { packets };
        if !file.windows(4).any(|window| window == [0xfd, 0, 1, 0x22]) {
            assert_eq!(decisions.lines().count() as u64, 2 * passed, "{name}: {said}");
        }
        if decisions.is_empty() {
            assert!(!said.is_empty(), "{name}: nothing was decided, and nobody says why");
        }
        let left_out: u64 = said
            .lines()
            .filter_map(|line| line.split_once("skipped ")?.1.split(' ').next()?.parse::<u64>().ok())
            .sum();
        let (_, outcome) = read(&file);
        if left_out > 0 && outcome.is_ok() {
            let all = numbers(&said, " packets reached a node");
            let passed = numbers(&said, " of ");
            assert_eq!(left_out + passed, all, "{name}: {said}");
        }
    }
}

/// A name from outside reaches a terminal escaped, whatever is in it.
#[test]
fn an_interface_that_nobody_knows_is_told_and_never_raw() {
    let frame = ethernet(&[8, 0], &request());
    for (name, shown) in
        [(&b"caf\xe9"[..], "caf\\xe9"), (b"\x1b]0;x\x07", "\\u{1b}]0;x\\u{7}"), (b"eth7", "eth7")]
    {
        let options = option(Little, 2, name);
        let (status, decisions, said) = replay(&Pcapng::new(Little).interface(1, 0, &options).three(&frame));
        assert_eq!((status, decisions.lines().count()), (Some(0), 6));
        assert!(said.contains(&format!("-: interface {shown} is not in the cluster file")), "{said}");
        let (_, _, said) = replay(&Pcapng::new(Little).interface(105, 0, &options).three(&frame));
        assert!(said.contains(&format!("link type 105 (802.11), of interface {shown};")), "{said}");
    }
    let xenbr0 = option(Little, 2, b"xenbr0");
    let known = Pcapng::new(Little).interface(1, 0, &xenbr0).three(&frame);
    assert_eq!(replay(&known).2, "");
}

#[test]
fn a_capture_is_known_however_its_bytes_come() {
    let file = Pcap::usual(1).three(&ethernet(&[8, 0], &request()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_dunnat"))
        .args(["replay", "-", "-c", EXAMPLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for piece in file.chunks(1) {
        stdin.write_all(piece).unwrap();
        stdin.flush().unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 6);
}

/// Where a file says nothing, that is said, and why.
#[test]
fn an_empty_replay_says_why() {
    let frame = ethernet(&[8, 0], &request());
    let other = ethernet(&[8, 6], &[0; 28]);
    for (file, why) in [
        (Vec::new(), "-: the trace has no events"),
        (b"\n\n".to_vec(), "-: the trace has no events"),
        (Pcap::usual(1).bytes, "-: no decision was made: it has no packets"),
        (Pcap::usual(1).packet(&other).bytes, "-: no decision was made: none of 1 packet reached a node"),
        (Pcap::usual(1).three(&other), "-: skipped 3 packets: not IP"),
        (Pcap::usual(1).bytes[..23].to_vec(), "23 of its 24 bytes are present; it has no packet"),
        (Pcapng::new(Little).interface(1, 0, &[]).bytes, "-: no decision was made: it has no packets"),
    ] {
        let (status, _, said) = replay(&file);
        assert!(status == Some(0) && said.contains(why), "{why}: {said}");
    }
    let (_, decisions, said) = dunnat(
        &["replay", "-", "-n", "node1", "in", "nowhere0", "out", "nowhere1", "-c", EXAMPLE],
        &Pcap::usual(1).three(&frame),
    );
    assert_eq!(decisions, "");
    assert!(
        said.contains("3 of 3 packets reached a node, but no stage handles packets of their interfaces"),
        "{said}"
    );
}

/// Such a length is no packet's: what was captured counts, and what is written of it is read again.
#[test]
fn a_length_that_no_packet_has_is_not_believed() {
    let frame = ethernet(&[8, 0], &request());
    let file = Pcap::usual(1).with((frame.len() as u32, u32::MAX), &frame).bytes;
    let (status, json, said) = replay(&file);
    assert_eq!((status, &*said), (Some(0), ""));
    assert!(json.lines().all(|line| line.contains("\"len\":44,")), "{json}");
    let (status, _, said) = replay(json.as_bytes());
    assert_eq!((status, &*said), (Some(0), "repeated 2 decisions: none would change\n"));

    let trace = std::fs::read_to_string(TRACE).unwrap();
    let first = trace.lines().next().unwrap();
    let (before, rest) = first.split_once("\"len\":").unwrap();
    let (_, after) = rest.split_once(',').unwrap();
    for len in ["4294967295", "524281", "1000000"] {
        let event = format!("{trace}{before}\"len\":{len},{after}\n");
        for arguments in [
            &["trace", "--read", "-"][..],
            &["replay", "-", "-c", EXAMPLE],
            &["explain", "--read", "-", "-c", EXAMPLE],
            &["path", "-"],
        ] {
            let (status, _, said) = dunnat(arguments, event.as_bytes());
            let expected = format!(
                "-:10: this is no event of a trace as `dunnat trace --format json` writes it: len is {len}"
            );
            assert!(status == Some(1) && said.contains(&expected), "{arguments:?}: {said}");
        }
    }
    let longest = format!("{before}\"len\":524280,{after}\n");
    for arguments in [&["trace", "--read", "-"][..], &["replay", "-", "-c", EXAMPLE]] {
        assert_eq!(dunnat(arguments, longest.as_bytes()).0, Some(0));
    }
}

#[test]
fn a_line_that_no_event_has_is_refused_and_not_collected() {
    for arguments in [&["trace", "--read", "/dev/zero"][..], &["path", "/dev/zero"]] {
        let (status, _, said) = dunnat(arguments, &[]);
        assert!(status == Some(1) && said.contains("/dev/zero:1: this is no event of a trace"), "{said}");
    }
    let mut long = std::fs::read(TRACE).unwrap();
    long.extend(b"{\"v\":1,\"node\":\"");
    long.resize(long.len() + (8 << 20), b'x');
    for (arguments, lines) in [(&["trace", "--read", "-"][..], 10), (&["replay", "-", "-c", EXAMPLE], 0)] {
        let (status, printed, said) = dunnat(arguments, &long);
        assert!(
            status == Some(1) && said.contains("-:10: this is no event of a trace: its line has"),
            "{said}"
        );
        assert_eq!(printed.lines().count(), lines, "what came before is there: {printed}");
    }
    // The longest packet of a capture makes a line that is read again.
    let mut packet = request();
    packet.resize(262_144, 0);
    packet[2..4].copy_from_slice(&65_535_u16.to_be_bytes());
    let (_, json, _) = replay(&Pcap::usual(101).packet(&packet).bytes);
    let (status, again, _) = dunnat(&["trace", "--read", "-", "--format", "json"], json.as_bytes());
    assert_eq!((status, again.lines().count()), (Some(0), 2));
    // A line that is not whole because it is no event at all.
    let (status, _, said) = dunnat(&["trace", "--read", "-"], b"hello");
    assert!(status == Some(1) && said.contains("-:1: this is no event"), "{said}");
}

#[test]
fn what_is_no_trace_is_named_with_what_helps() {
    let capture = Pcap::usual(1).three(&ethernet(&[8, 0], &request()));
    for arguments in [&["trace", "--read", "-"][..], &["path", "-"]] {
        let (status, _, said) = dunnat(arguments, &capture);
        assert!(
            status == Some(1) && said.contains("- is a capture, but this needs a trace in JSON"),
            "{said}"
        );
        let (status, _, said) = dunnat(arguments, &[0x1f, 0x8b, 8, 0]);
        assert!(status == Some(1) && said.contains("put zcat FILE | before the command"), "{said}");
    }
    // What is advised works.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pcap");
    std::fs::write(&path, &capture).unwrap();
    assert!(Command::new("gzip").arg(&path).status().unwrap().success());
    let path = format!("{}.gz", path.display());
    let (_, _, said) = dunnat(&["replay", &path, "-c", EXAMPLE], &[]);
    let unpack = said.split_once("put ").unwrap().1.split_once(" |").unwrap().0;
    let unpacked = Command::new("sh").args(["-c", unpack]).output().unwrap().stdout;
    assert_eq!(replay(&unpacked).1.lines().count(), 6);
}
