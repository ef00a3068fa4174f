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

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dunnat::conversations::{Cause, Finding};
use dunnat::engine::Reason;
use dunnat::kernel::tool::Tool;
use dunnat::manual::{Block, Code, Page, blocks, rows};
use dunnat::simulate::PacketSpec;
use dunnat::trace::Filter;
use etherparse::{IpNumber, Ipv4Header, TcpHeader};
use serde_json::Value;
use tempfile::TempDir;

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

/// The rows of the tables of a page whose first head is that.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let rows = rows(Page::named(page).unwrap().text, head);
    assert!(!rows.is_empty(), "{page} has no table of: {head}");
    rows
}

/// The first cells of those rows: no two are alike.
fn tabulated(page: &str, head: &str) -> BTreeSet<String> {
    let rows = table(page, head);
    let names: BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(names.len(), rows.len(), "{page}: one {head} has two lines");
    names
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

// --- the examples ---

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

/// The directory in which examples are run: the cluster files of `rules/`, and of each node a capture, and the trace of it.
fn workplace() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::copy(Path::new(ROOT).join("rules/example.toml"), at("cluster.toml")).unwrap();
    fs::copy(Path::new(ROOT).join("rules/dual.toml"), at("dual.toml")).unwrap();
    for (node, frames) in [("node1", &AT_NODE1[..]), ("node2", &AT_NODE2)] {
        fs::write(at(&format!("{node}.pcapng")), capture(frames)).unwrap();
        let said = run(
            directory.path(),
            &format!("dunnat replay {node}.pcapng -c cluster.toml -n {node} -w {node}.jsonl"),
        );
        assert!(fs::metadata(at(&format!("{node}.jsonl"))).is_ok_and(|file| file.len() > 0), "{said}");
    }
    directory
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
            for line in code.lines {
                let words: Vec<&str> = line.split_whitespace().collect();
                for pair in words.windows(2).filter(|pair| ["accept", "drop"].contains(&pair[0])) {
                    // Rules of nft have these words, too.
                    if !line.contains(" mark 0x") || line.contains("nft") {
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

// --- the documents themselves ---

#[test]
fn the_readme_is_short() {
    let len = fs::metadata(Path::new(ROOT).join("README.md")).unwrap().len();
    assert!(len <= 10_000, "README.md has {len} bytes: what is long belongs into the manual");
}

#[test]
fn every_page_is_listed() {
    let files: BTreeSet<String> = fs::read_dir(Path::new(ROOT).join("src/manual"))
        .unwrap()
        .filter_map(|file| {
            file.unwrap().file_name().into_string().unwrap().strip_suffix(".md").map(str::to_owned)
        })
        .collect();
    assert_eq!(files, set(Page::ALL.map(|page| page.name)));
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let help = run(Path::new(ROOT), "dunnat help");
    assert_eq!(help, run(Path::new(ROOT), "dunnat --help"));
    let pages = &help[help.find("Pages of the manual").unwrap()..];
    for page in Page::ALL {
        assert!(readme.contains(&format!("[{0}](src/manual/{0}.md)", page.name)), "README: {}", page.name);
        let line = pages.lines().find(|line| line.trim_start().starts_with(&format!("{} ", page.name)));
        assert!(line.is_some_and(|line| line.ends_with(page.about())), "{}: {help}", page.name);
        assert_eq!(
            run(Path::new(ROOT), &format!("dunnat help {}", page.name)),
            page.plain(),
            "{}",
            page.name
        );
    }
}

#[test]
fn links_lead_somewhere_and_there_is_no_html() {
    for (path, text) in documents() {
        let here = path.parent().unwrap();
        let defined: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect();
        for target in defined
            .values()
            .copied()
            .chain(text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()))
        {
            let file = target.split('#').next().unwrap();
            let is_elsewhere = target.starts_with("https://") || file.is_empty();
            assert!(is_elsewhere || here.join(file).exists(), "{}: {target}", path.display());
        }
        let used = |name: &str| {
            text.lines().any(|line| line.contains(&format!("[{name}]")) && !line.starts_with('['))
        };
        for (name, target) in &defined {
            assert!(used(name), "{}: nobody follows [{name}]: {target}", path.display());
        }
        for block in blocks(&text) {
            let prose = match block {
                Block::Paragraph(text) | Block::Item { text, .. } => text,
                Block::Table(rows) => rows.concat().join(" "),
                Block::Heading { text, .. } => text.to_owned(),
                Block::Code(_) => continue,
            };
            let bare: Vec<&str> = prose.split('`').step_by(2).collect();
            for word in bare.join(" ").split_whitespace() {
                assert!(
                    !word.starts_with('<') || word.starts_with("<http"),
                    "{}: HTML: {word}",
                    path.display()
                );
                let name = word.trim_matches(|c: char| ".,;:()".contains(c));
                let link = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
                assert!(link.is_none_or(|name| defined.contains_key(name)), "{}: {word}", path.display());
            }
        }
    }
}

#[test]
fn help_says_which_pages_there_are_and_takes_any_reader() {
    let status = |line: &str| run(Path::new(ROOT), &format!("{line}; echo status $?"));
    let said = status("dunnat help no-such-page");
    assert!(
        said.starts_with("dunnat: help: there is no verb and no page 'no-such-page'. The pages are: "),
        "{said}"
    );
    assert!(said.ends_with("status 2\n"), "{said}");
    assert!(Page::ALL.iter().all(|page| said.contains(page.name)), "{said}");
    assert!(status("dunnat help services conflicts").contains("no page 'services conflicts'"));
    for verb in ["run", "trace", "lab up"] {
        let by_option = run(Path::new(ROOT), &format!("dunnat {verb} --help"));
        assert_eq!(run(Path::new(ROOT), &format!("dunnat help {verb}")), by_option);
    }
    for words in ["help", "help cluster", "help run"] {
        assert_eq!(status(&format!("dunnat {words} >/dev/full")).lines().last(), Some("status 1"), "{words}");
        // Its reader has seen enough, or has seen nothing.
        let piped = status(&format!("{{ dunnat {words}; echo $? >&2; }} | true"));
        assert_eq!(piped, "0\nstatus 0\n", "{words}");
    }
}

// --- tables, and what they are of ---

#[test]
fn every_reason_is_in_the_manual() {
    assert_eq!(tabulated("reasons", "reason"), set(Reason::ALL.map(Reason::name)));
}

#[test]
fn every_finding_and_cause_is_in_the_manual() {
    assert_eq!(tabulated("findings", "finding"), set(Finding::ALL.map(Finding::name)));
    assert_eq!(tabulated("findings", "cause"), set(Cause::ALL.map(Cause::name)));
    for row in table("findings", "finding") {
        let finding = Finding::ALL.into_iter().find(|finding| finding.name() == row[0]).unwrap();
        assert_eq!(row[1] == "yes", finding.is_right(), "{finding}");
    }
    let facts = tabulated("facts", "fact");
    for row in table("findings", "cause") {
        let cause = Cause::ALL.into_iter().find(|cause| cause.name() == row[0]).unwrap();
        let clue = cause.clue();
        let ways = clue.fact.into_iter().chain(clue.command);
        assert!(ways.clone().all(|way| row[2].contains(way)), "{cause}: {ways:?} is not in: {}", row[2]);
        assert!(ways.count() > 0 || row[2].is_empty(), "{cause}: {}", row[2]);
        // What is to be looked up is there.
        assert!(clue.fact.is_none_or(|fact| facts.contains(fact)), "{cause}");
    }
}

/// The fields of a schema.
fn fields(schema: &str) -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn every_field_of_json_is_in_the_manual() {
    assert_eq!(tabulated("traces", "field"), fields(dunnat::trace::SCHEMA));
    assert_eq!(tabulated("findings", "field"), fields(dunnat::conversations::SCHEMA));
}

/// What stands behind "expected one of: " in a message.
fn expected(said: &str) -> BTreeSet<String> {
    let words = said.split_once("expected one of: ").unwrap().1.replace(['(', ')', '\n', '`'], "");
    words.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_word_of_a_filter_and_of_a_packet_is_in_the_manual() {
    let known = expected(&"frobnicate".parse::<Filter>().unwrap_err().to_string());
    let of_tests: Vec<String> = table("filters", "words").into_iter().map(|row| row[0].clone()).collect();
    for tests in &of_tests {
        for filter in tests.split(", ") {
            assert!(filter.parse::<Filter>().is_ok(), "{filter}");
        }
    }
    let written = of_tests.join(" ");
    let written: BTreeSet<&str> = written.split([' ', ',']).collect();
    for word in known.iter().flat_map(|word| word.split(' ')).filter(|word| *word != "not") {
        assert!(written.contains(word), "'{word}' is not in the table of the page filters");
    }

    let start = "tcp 192.168.122.1:40000 > 192.168.122.12:80";
    let known = expected(&format!("{start} frobnicate").parse::<PacketSpec>().unwrap_err().to_string());
    let words: Vec<String> = table("packets", "words").into_iter().map(|row| row[0].clone()).collect();
    for word in &known {
        assert!(words.iter().any(|words| words.starts_with(&format!("{word} "))), "{word}");
    }
    for words in &words {
        assert!(format!("{start} {words}").parse::<PacketSpec>().is_ok(), "{words}");
    }
}

#[test]
fn every_key_of_a_cluster_file_is_in_the_manual() {
    let directory = workplace();
    let example = fs::read_to_string(directory.path().join("cluster.toml")).unwrap();
    let mut known = BTreeSet::new();
    for table in ["[guests]", "[public]", "[[service]]", "[[node]]", "[marks]"] {
        let odd = example.replacen(table, &format!("{table}\nfrobnicate = 1"), 1);
        fs::write(directory.path().join("odd.toml"), odd).unwrap();
        let said = run(directory.path(), "dunnat check -c odd.toml");
        let keys = said.split_once("expected ").unwrap().1.lines().next().unwrap().to_owned();
        known.extend(keys.split('`').skip(1).step_by(2).map(|key| format!("{table} {key}")));
    }
    let written: BTreeSet<String> =
        table("cluster", "table").into_iter().map(|row| format!("{} {}", row[0], row[1])).collect();
    assert_eq!(written, known);
}

#[test]
fn what_a_node_needs_is_in_the_readme_and_the_manual() {
    let node = Page::named("node").unwrap().text;
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    for tool in [Tool::Nft, Tool::Ip, Tool::Ethtool] {
        let package = tool.package();
        assert!(node.contains(&format!("`{tool}`, Debian package `{package}`")), "{package}");
        assert!(
            readme.lines().any(|line| line.starts_with("sudo apt install") && line.contains(package)),
            "{package}"
        );
    }
}

#[cfg(feature = "lab")]
#[test]
fn every_fault_of_a_lab_is_in_the_manual() {
    let faults = dunnat::lab::faults::Fault::ALL;
    assert_eq!(tabulated("labs", "fault"), set(faults.map(|(_, name, _)| name)));
}
