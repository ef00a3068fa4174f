//! Code in the documents: it is run, or read by what reads such code.

use std::net::SocketAddrV4;

use dunnat::engine::Reason;
use dunnat::trace::Filter;
use etherparse::{IpNumber, Ipv4Header, TcpHeader};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

/// A frame that a node has captured: its interface and source, and the packet in it.
type Frame = (&'static str, [u8; 6], &'static Segment);

/// A segment of TCP: from, to, the numbers (IP id, sequence, acknowledgement), the flags.
type Segment = (&'static str, &'static str, (u16, u32, u32), &'static str);

const CLIENT: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 2, 1];

const NODE2: [u8; 6] = [0x0e, 0, 0, 0, 1, 0];

/// Two connections of one client to the guest 10.5.5.201, which lives on node1: the one through node1 is local, the other,
/// through node2, foreign.
const LOCAL: [Segment; 3] = [
    ("192.168.122.1:40000", "192.168.122.11:80", (101, 1000, 0), "S"),
    ("10.5.5.201:80", "192.168.122.1:40000", (0, 5000, 1001), "S."),
    ("192.168.122.1:40000", "192.168.122.11:80", (102, 1001, 5001), "."),
];

const FOREIGN: [Segment; 5] = [
    ("192.168.122.1:40001", "192.168.122.12:80", (201, 2000, 0), "S"),
    ("192.168.122.1:40001", "10.5.5.201:80", (201, 2000, 0), "S"),
    ("10.5.5.201:80", "192.168.122.1:40001", (0, 6000, 2001), "S."),
    ("192.168.122.1:40001", "192.168.122.12:80", (202, 2001, 6001), "."),
    ("192.168.122.1:40001", "10.5.5.201:80", (202, 2001, 6001), "."),
];

const AT_NODE1: [Frame; 6] = [
    ("xenbr0", CLIENT, &LOCAL[0]),
    ("vif1", GUEST, &LOCAL[1]),
    ("xenbr0", CLIENT, &LOCAL[2]),
    ("eth1.100", NODE2, &FOREIGN[1]),
    ("vif1", GUEST, &FOREIGN[2]),
    ("eth1.100", NODE2, &FOREIGN[4]),
];

const AT_NODE2: [Frame; 2] = [("xenbr0", CLIENT, &FOREIGN[0]), ("xenbr0", CLIENT, &FOREIGN[3])];

/// The packet, with right checksums.
fn packet((from, to, (id, sequence, acknowledgement), flags): Segment) -> Vec<u8> {
    let [from, to]: [SocketAddrV4; 2] = [from, to].map(|end| end.parse().unwrap());
    let mut tcp = TcpHeader::new(from.port(), to.port(), sequence, 64_240);
    (tcp.syn, tcp.ack) = (flags.contains('S'), flags.contains('.'));
    tcp.acknowledgment_number = acknowledgement;
    let mut ip =
        Ipv4Header::new(tcp.header_len_u16(), 64, IpNumber::TCP, from.ip().octets(), to.ip().octets())
            .unwrap();
    (ip.identification, ip.dont_fragment) = (id, true);
    tcp.checksum = tcp.calc_checksum_ipv4(&ip, &[]).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    [&ip.to_bytes()[..], &tcp.to_bytes()].concat()
}

/// A capture of all interfaces of a node (pcapng), a packet in a millisecond.
fn capture(frames: &[Frame]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padded = [body, &vec![0; body.len().next_multiple_of(4) - body.len()]].concat();
        let len = (12 + padded.len() as u32).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &padded, &len].concat()
    };
    let mut file =
        block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    for (number, (interface, source, segment)) in (0_u32..).zip(frames) {
        let mut name = [&[2, 0], &(interface.len() as u16).to_le_bytes()[..], interface.as_bytes()].concat();
        name.resize(name.len().next_multiple_of(4), 0);
        file.extend(block(1, &[&[1, 0, 0, 0, 0, 0, 4, 0], &name[..], &[0; 4]].concat()));
        let mut frame = [&[0xff; 6], &source[..], &[8, 0], &packet(**segment)].concat();
        frame.resize(frame.len().max(60), 0);
        // 2026-03-02T09:14:22Z
        let time = 1_772_442_862_000_000 + 1000 * u64::from(number);
        let len = frame.len() as u32;
        let numbers = [number, (time >> 32) as u32, time as u32, len, len];
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        file.extend(block(6, &[numbers, frame].concat()));
    }
    file
}

/// The directory in which examples are run: the cluster files and the policy of `rules/`, and of each node a capture, and the trace of it.
pub(super) fn workplace() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::copy(Path::new(ROOT).join("rules/example.toml"), at("cluster.toml")).unwrap();
    fs::copy(Path::new(ROOT).join("rules/dual.toml"), at("dual.toml")).unwrap();
    fs::copy(Path::new(ROOT).join("rules/policy.py"), at("policy.py")).unwrap();
    fs::copy(Path::new(ROOT).join("rules/by-hand.nft"), at("by-hand.nft")).unwrap();
    fs::write(at("carried.jsonl"), include_str!("../saved/carried.jsonl")).unwrap();
    for (node, frames) in [("node1", &AT_NODE1[..]), ("node2", &AT_NODE2)] {
        fs::write(at(&format!("{node}.pcapng")), capture(frames)).unwrap();
        let said = run(
            directory.path(),
            &format!(
                "dunnat replay {node}.pcapng -c cluster.toml -n {node} --guest-on 10.5.5.201=node1 -w {node}.jsonl"
            ),
        );
        assert!(fs::metadata(at(&format!("{node}.jsonl"))).is_ok_and(|file| file.len() > 0), "{said}");
    }
    directory
}

/// The lines of a session as they should be: each command, and what it prints now. None if it was recorded elsewhere.
fn session(code: &Code<'_>) -> Option<Vec<String>> {
    if !code.lines.first()?.starts_with("$ ") {
        return None;
    }
    let directory = workplace();
    let commands = code.lines.iter().filter(|line| line.starts_with("$ "));
    let mut lines = Vec::new();
    for command in commands {
        lines.push((*command).to_owned());
        lines.extend(run(directory.path(), &command[2..]).lines().map(str::to_owned));
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    Some(lines)
}

#[test]
fn examples_print_what_is_written() {
    let bless = std::env::var_os("BLESS").is_some();
    let (mut sessions, mut wrong) = (0, String::new());
    for (path, text) in documents() {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // From the end, so that the places of the others stay.
        for block in blocks(&text).iter().rev() {
            let Block::Code(code) = block else { continue };
            let Some(now) = Some(code).filter(|code| code.class == "console").and_then(session) else {
                continue;
            };
            sessions += 1;
            if now != code.lines {
                let (was, is) = (code.lines.join("\n"), now.join("\n"));
                wrong += &format!("\n{}:{}: it says\n{was}\nand is\n{is}\n", path.display(), code.line);
                lines.splice(code.line - 1..code.line - 1 + code.lines.len(), now);
            }
        }
        if bless {
            fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
    }
    assert!(sessions > 20, "{sessions}");
    assert!(
        bless || wrong.is_empty(),
        "{wrong}\nif that is right: BLESS=1 cargo nextest run --locked --test manual"
    );
}

/// What was recorded cannot be run again here; that its reasons have these names can be seen.
#[test]
fn recorded_sessions_have_reasons_that_there_are() {
    let mut count = 0;
    for (path, text) in documents() {
        for block in blocks(&text) {
            let Block::Code(code) = block else { continue };
            // A program has reasons of its own.
            if code.lines.first().is_some_and(|line| line.contains("--policy ./")) {
                continue;
            }
            for line in code.lines {
                let words: Vec<&str> = line.split_whitespace().collect();
                for pair in words.windows(2).filter(|pair| ["accept", "drop"].contains(&pair[0])) {
                    // Rules of nft have these words, too; and a rule has no reason.
                    if !line.contains(" mark 0x") || line.contains("nft") || line.contains(", table ") {
                        continue;
                    }
                    assert!(pair[1].parse::<Reason>().is_ok(), "{}: {line}", path.display());
                    count += 1;
                }
            }
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn every_block_has_a_class_that_is_tested() {
    for (path, text) in documents() {
        for block in blocks(&text) {
            let Block::Code(code) = block else { continue };
            let place = format!("{}:{}", path.display(), code.line);
            match code.class {
                "console" => {
                    let first = code.lines[0].split(' ').next().unwrap();
                    assert!(first.ends_with(['$', '#']), "{place}: a session begins with a prompt");
                }
                // Nothing that could be tested hides there.
                "text" => {
                    let drawn = code.lines.iter().any(|line| line.contains(['│', '─', '▼']));
                    assert!(drawn, "{place}: this is no drawing");
                }
                "sh" | "toml" | "json" | "filter" => {}
                other => panic!("{place}: a class that no test knows: '{other}'"),
            }
            assert!(!code.lines.is_empty(), "{place}");
        }
    }
}

/// One table of a cluster file into another: keys replace keys, and of lists of tables those of the same name.
fn put(part: toml::Table, whole: &mut toml::Table) {
    for (key, value) in part {
        match (value, whole.get_mut(&key)) {
            (toml::Value::Table(part), Some(toml::Value::Table(whole))) => put(part, whole),
            (toml::Value::Array(parts), Some(toml::Value::Array(all))) if parts[0].is_table() => {
                for part in parts {
                    let name = part.get("name").cloned();
                    match all.iter_mut().find(|one| one.get("name") == name.as_ref()) {
                        Some(one) => put(part.as_table().unwrap().clone(), one.as_table_mut().unwrap()),
                        None => all.push(part),
                    }
                }
            }
            (value, _) => _ = whole.insert(key, value),
        }
    }
}

#[test]
fn parts_of_cluster_files_are_right() {
    let directory = workplace();
    each("toml", |code| {
        let text = code.lines.join("\n");
        let part: toml::Table = toml::from_str(&text).map_err(|error| error.to_string())?;
        let is_whole = ["guests", "public", "node"].iter().all(|key| part.contains_key(*key));
        let file = directory.path().join("part.toml");
        if is_whole {
            fs::write(&file, &text).unwrap();
        } else {
            let base = if code.lines[0] == "# in dual.toml" { "dual.toml" } else { "cluster.toml" };
            let base = fs::read_to_string(directory.path().join(base)).unwrap();
            let mut whole: toml::Table = toml::from_str(&base).unwrap();
            put(part, &mut whole);
            fs::write(&file, toml::to_string(&whole).unwrap()).unwrap();
        }
        let said = run(directory.path(), "dunnat check -c part.toml || echo refused");
        if said.ends_with("refused\n") { Err(said) } else { Ok(()) }
    });
}

#[test]
fn lines_of_json_are_json() {
    each("json", |code| {
        code.lines.iter().try_for_each(|line| {
            serde_json::from_str::<Value>(line).map(drop).map_err(|error| format!("{error}: {line}"))
        })
    });
}

#[test]
fn filters_are_filters() {
    each("filter", |code| {
        code.lines.iter().try_for_each(|line| {
            let filter = line.split(" # ").next().unwrap_or_default();
            filter.trim().parse::<Filter>().map(drop).map_err(|error| error.to_string())
        })
    });
}
