use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::protocol::FactsLine;
use super::*;
use crate::cluster::{Cluster, NodeId};
use crate::engine::{Conditions, Decision, Facts, Interface, Interfaces, Meta, Reason, Time, Value, Whole};
use crate::net::{CtMark, Mac, Mark, Stage, Tuple, Verdict};
use crate::packet::{Fragment, Headers, Layers, Rewrite, Side, View};
use crate::policy::Supervised;
use crate::simulate::made;
use crate::trace::judge::Judge;

const HELLO: &str = r#"{"protocol": 1, "name": "test", "reasons": [
    {"name": "test-fine", "verdict": "accept", "about": "it is fine"},
    {"name": "test-no", "verdict": "drop", "about": "it is not"},
    {"name": "test-either", "about": "it may be fine"}]}"#;

fn hello() -> Hello {
    Hello::read(HELLO.as_bytes()).unwrap()
}

/// What follows is done by the destination port.
const BY_PORT: &str = r#"
def fine(facts, **more):
    return {"seq": facts["seq"], "verdict": "accept", "reason": "test-fine", **more}

for line in sys.stdin:
    facts = json.loads(line)
    port = facts["packet"]["dport"]
    if port == 80: say(fine(facts))
    if port == 81: say({"seq": facts["seq"], "verdict": "drop", "reason": "test-no"})
    if port == 82: print("debugging", flush=True); say(fine(facts))
    if port == 83: time.sleep(60)
    if port == 84: sys.exit("I have had enough \x1b[31m")
    if port == 85: print("x" * 10000, flush=True)
    if port == 86: say({"seq": facts["seq"], "verdict": "accept", "reason": "saved"})
    if port == 87: say({"seq": facts["seq"], "verdict": "drop", "reason": "test-fine"})
    if port == 88: say({"seq": facts["seq"] + 1, "verdict": "accept", "reason": "test-fine"})
    if port == 89: say({"seq": 1, "verdict": "drop", "reason": "test-no"}); say(fine(facts))
    if port == 90: say(fine(facts)); say({"seq": facts["seq"], "verdict": "drop", "reason": "test-no"})
    if port == 91: say(fine(facts, rewrite={"side": "destination", "to": "fd00::1"}))
    if port == 92:
        while True: print("y", flush=True)
    if port == 93:
        while True: say({"seq": 1, "verdict": "drop", "reason": "test-no"})
    if port == 94: say(fine(facts, rewrite={"side": "destination", "to": "10.5.5.201", "port": 8080}, mark="0x2"))
    if port == 95: os.close(1); time.sleep(60)
"#;

/// A program in Python, which says that first.
fn program(hello: &str, then: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.py");
    let hello = hello.replace('\n', " ");
    let text = format!(
        "#!/usr/bin/env python3\nimport json, os, sys, time\ndef say(line):\n    print(json.dumps(line), flush=True)\n\
         print({hello:?}, flush=True)\n{then}"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, path)
}

fn cluster() -> Cluster {
    Cluster::parse(include_str!("../../rules/example.toml"), Path::new("example.toml")).unwrap()
}

fn bytes(port: u16) -> Vec<u8> {
    let tuple: Tuple = format!("tcp 192.168.122.1:40000 > 192.168.122.11:{port}").parse().unwrap();
    made(tuple, &Headers::default(), Fragment::None, 0).unwrap()
}

fn supervised(process: &Process) -> Supervised {
    Supervised::new(Arc::new(process.of_node(&cluster(), NodeId(0))), &cluster(), NodeId(0), 1)
}

/// What is decided about a packet to that port, and the word that it is told with.
fn asked(policy: &Supervised, port: u16) -> (Decision, &'static str) {
    let bytes = bytes(port);
    let view = View::parse(&bytes, bytes.len()).unwrap();
    let mut conditions = Conditions::new();
    let decision =
        policy.decide_before(Stage::Dnat, Ok(&view), &Meta::default(), Time::default, &mut conditions);
    let Value::Word(word) = conditions.last().unwrap().value else { panic!("{conditions:?}") };
    (decision, word)
}

fn quick(is_waited_for: bool) -> Limits {
    Limits {
        hello: Duration::from_secs(20),
        answer: Duration::from_secs(2),
        pause: Duration::from_millis(20),
        is_waited_for,
    }
}

#[test]
fn whatever_a_program_does_costs_its_packet_and_no_other() {
    let (_directory, path) = program(HELLO, BY_PORT);
    let policy = supervised(&Process::start(&path, quick(true)).unwrap());
    assert_eq!(policy.name(), "test");
    let fine = Decision::leave(hello().reasons[0]);
    let dropped = |reason| Decision::drop(reason);
    let nonsense = dropped(Reason::PolicyNonsense);
    let gone = "the program that is the policy has ended, and is not there again yet";
    let rewrite = Rewrite::outer(Side::Destination, "10.5.5.201".parse().unwrap()).with_port(Some(8080));
    for (port, decision, word) in [
        (81, dropped(hello().reasons[1]), "it is not"),
        (82, nonsense, "its line is no decision"),
        (83, dropped(Reason::PolicySilent), "the policy did not answer in time"),
        (84, dropped(Reason::PolicyGone), gone),
        (85, nonsense, "its line is too long"),
        (86, nonsense, "its decision has a reason that its hello has not"),
        (87, nonsense, "its hello has another verdict for this reason"),
        (88, nonsense, "its decision is about a packet that it was not asked about"),
        (89, fine, "it is fine"),
        (90, fine, "it is fine"),
        (91, nonsense, "the new address is of another family than the packet"),
        (93, dropped(Reason::PolicySilent), "the policy did not answer in time"),
        (94, Decision { rewrite: Some(rewrite), mark: Some(Mark(2)), ..fine }, "it is fine"),
        // Its standard input is the same socket, and still there.
        (95, dropped(Reason::PolicySilent), "the policy did not answer in time"),
    ] {
        let began = Instant::now();
        assert_eq!(asked(&policy, port), (decision, word), "port {port}");
        assert!(began.elapsed() < Duration::from_secs(30), "port {port}");
        assert_eq!(asked(&policy, 80), (fine, "it is fine"), "after port {port}");
    }
}

/// It may say lines faster than anybody reads, and reads nothing itself.
#[test]
fn a_flood_is_no_decision_and_blocks_nobody() {
    let (_directory, path) = program(HELLO, BY_PORT);
    let policy = supervised(&Process::start(&path, quick(false)).unwrap());
    let began = Instant::now();
    let mut reasons = Vec::new();
    for port in std::iter::once(92).chain(std::iter::repeat_n(80, 20_000)) {
        reasons.push(asked(&policy, port).0.reason);
        // Its socket is full of questions now, and it is ended and comes back.
        if reasons.last() == Some(&hello().reasons[0]) {
            break;
        }
    }
    assert_eq!(reasons[0], Reason::PolicyNonsense);
    assert!(reasons.contains(&Reason::PolicySilent), "{} answers", reasons.len());
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn while_it_is_away_packets_are_dropped_at_once_and_then_it_is_there_again() {
    let (_directory, path) = program(HELLO, BY_PORT);
    let policy = supervised(&Process::start(&path, quick(false)).unwrap());
    assert_eq!(asked(&policy, 84).0.reason, Reason::PolicyGone);
    let began = Instant::now();
    assert_eq!(asked(&policy, 80).0.reason, Reason::PolicyGone);
    assert!(began.elapsed() < Duration::from_millis(500), "nobody waits for it");
    let until = began + Duration::from_secs(30);
    while asked(&policy, 80).0.reason == Reason::PolicyGone {
        assert!(Instant::now() < until, "it does not come back");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(asked(&policy, 80), (Decision::leave(hello().reasons[0]), "it is fine"));
}

/// Both have the same name, but a trace would mix up their reasons.
#[test]
fn one_that_comes_back_as_another_is_not_asked() {
    let other = HELLO.replace("test-no", "test-never").replace('\n', " ");
    let (directory, path) = program(HELLO, BY_PORT);
    let process = Process::start(&path, quick(true)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let (was, is) = (format!("{:?}", HELLO.replace('\n', " ")), format!("{other:?}"));
    fs::write(directory.path().join("new"), text.replace(&was, &is)).unwrap();
    fs::set_permissions(directory.path().join("new"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(directory.path().join("new"), &path).unwrap();
    let policy = supervised(&process);
    assert_eq!(asked(&policy, 80).0.reason.name(), "test-fine");
    assert_eq!([84, 80, 80].map(|port| asked(&policy, port).0.reason), [Reason::PolicyGone; 3]);
}

/// Its variables are its memory: all nodes and workers meet there.
#[test]
fn all_policies_of_a_program_ask_one_process() {
    let (_directory, path) = program(
        HELLO,
        "seen = 0\nfor line in sys.stdin:\n    facts = json.loads(line); seen += 1\n    \
         say({'seq': facts['seq'], 'verdict': 'drop' if seen % 2 else 'accept', 'reason': 'test-either'})\n",
    );
    let process = Process::start(&path, quick(false)).unwrap();
    let policies = [supervised(&process), supervised(&process)];
    let verdicts: Vec<Verdict> = std::thread::scope(|scope| {
        let workers = policies
            .each_ref()
            .map(|policy| scope.spawn(|| (0..50).map(|_| asked(policy, 80).0.verdict).collect::<Vec<_>>()));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Accept).count(), 50);
}

#[test]
fn it_may_finish_its_work_when_its_input_ends_and_is_killed_if_it_stays() {
    let (directory, path) =
        program(HELLO, "for line in sys.stdin: pass\nopen(sys.argv[0] + '.done', 'w').close()\n");
    drop(Process::start(&path, quick(false)).unwrap());
    assert!(directory.path().join("policy.py.done").exists());
    let (_directory, path) = program(HELLO, "time.sleep(60)\n");
    let began = Instant::now();
    drop(Process::start(&path, quick(false)).unwrap());
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_is_no_policy_is_refused_when_it_starts() {
    let start = |path: &Path| {
        let limits = Limits { hello: Duration::from_millis(400), ..quick(false) };
        Process::start(path, limits).unwrap_err().to_string()
    };
    let directory = tempfile::tempdir().unwrap();
    let script = |text: &str, mode| {
        let path = directory.path().join("script");
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        start(&path)
    };
    for (said, expected) in [
        (start(&directory.path().join("none")), "No such file or directory"),
        (script("#!/bin/sh\n", 0o644), "if it is a script: chmod +x"),
        (start(directory.path()), "; it is a directory"),
        (
            script("#!/usr/bin/no-such-python\n", 0o755),
            "its first line (#!) names a program that does not exist",
        ),
        (script("echo hello\n", 0o755), "a script begins with a line such as #!"),
        (script("#!/bin/sh\nexit 3\n", 0o755), "ended before it wrote its first line (hello)"),
        (script("#!/bin/sh\nexec sleep 60\n", 0o755), "has not written its first line (hello) within 0.4 s"),
        (script("#!/bin/sh\necho hello\nexec cat\n", 0o755), "is wrong: expected value at line 1 column 1"),
        (
            script("#!/bin/sh\nhead -c 70000 /dev/zero | tr '\\0' x; echo; exec cat\n", 0o755),
            "more than 65536 bytes",
        ),
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_hello_says_name_and_reasons_and_nothing_else() {
    let hello = hello();
    assert_eq!((&*hello.name, hello.reasons.len()), ("test", 3));
    let told: Vec<_> = hello.reasons.iter().map(|reason| (reason.name(), reason.about())).collect();
    assert_eq!(told[1], ("test-no", "it is not"));
    let many = |count: usize| {
        let reasons: Vec<String> =
            (0..count).map(|number| format!(r#"{{"name":"test-{number}","about":"x"}}"#)).collect();
        format!(r#"{{"protocol":1,"name":"many","reasons":[{}]}}"#, reasons.join(","))
    };
    assert_eq!(Hello::read(many(64).as_bytes()).unwrap().reasons.len(), 64);
    assert_eq!(hello.bytes, 0);
    let wants = HELLO.replacen("\"protocol\": 1", "\"protocol\": 1, \"bytes\": 2048", 1);
    assert_eq!(Hello::read(wants.as_bytes()).unwrap().bytes, 2048);
    let with = |from: &str, to: &str| {
        let text = HELLO.replacen(from, to, 1);
        assert_ne!(text, HELLO);
        text
    };
    for (line, expected) in [
        (String::new(), "EOF while parsing"),
        (
            with("\"protocol\": 1", "\"protocol\": 1, \"bytes\": 2049"),
            "it wants 2049 bytes of each packet; 2048 is the most",
        ),
        (with("\"protocol\": 1", "\"protocol\": 1, \"bytes\": -1"), "invalid value: integer `-1`"),
        ("[]".to_owned(), "--policy-schema describes it"),
        (with("1", "2"), "it speaks protocol 2, and this dunnat speaks protocol 1"),
        (with("\"test\"", "\"cluster\""), "none of: cluster"),
        (with("\"test\"", "\"\""), "a word of at most 40 bytes"),
        (with("\"test\"", "\"a\\u001b[31m\""), "a word of at most 40 bytes"),
        (with("\"name\": \"test\",", ""), "missing field `name`"),
        (with("protocol", "version"), "unknown field `version`"),
        (with("test-no", "test-fine"), "it has the reason test-fine twice"),
        (with("test-no", "saved"), "dunnat itself has a reason with the name saved"),
        (with("test-no", "Test No"), "a reason is a word of small letters"),
        (with("it is not", ""), "has to be a line of 1 to 200 bytes"),
        (with("it is not", "two\\nlines"), "has to be a line of 1 to 200 bytes"),
        (with("it is not", &"x".repeat(201)), "has to be a line of 1 to 200 bytes"),
        (with("\"drop\"", "\"maybe\""), "unknown variant `maybe`"),
        (many(0), "it has 0 reasons"),
        (many(65), "it has 65 reasons"),
    ] {
        let said = Hello::read(line.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
fn a_decision_is_read_as_it_is_written() {
    let read = |rest: &str| Answer::read(format!("{{\"seq\": 7, {rest}}}").as_bytes(), &hello());
    let decision = |rest: &str| {
        read(&format!("\"verdict\": \"accept\", \"reason\": \"test-fine\"{rest}")).unwrap().decision
    };
    let fine = Decision::leave(hello().reasons[0]);
    assert_eq!(read(r#""verdict": "accept", "reason": "test-fine""#), Ok(Answer { seq: 7, decision: fine }));
    let to = Rewrite::outer(Side::Source, "fd00::1".parse().unwrap());
    for (rest, expected) in [
        (r#", "rewrite": null, "mark": null, "ct_mark": null"#, fine),
        (r#", "rewrite": {"side": "source", "to": "fd00::1"}"#, Decision { rewrite: Some(to), ..fine }),
        (
            r#", "rewrite": {"side": "source", "to": "fd00::1", "port": 9, "layers": "both"}"#,
            Decision { rewrite: Some(Rewrite { port: Some(9), layers: Layers::Both, ..to }), ..fine },
        ),
        (
            r#", "mark": "0xab02", "ct_mark": "2""#,
            Decision { mark: Some(Mark(0xab02)), ct_mark: Some(Mark(2)), ..fine },
        ),
    ] {
        assert_eq!(decision(rest), expected, "{rest}");
    }
    let dropped = read(
        r#""verdict": "drop", "reason": "test-no", "rewrite": {"side": "source", "to": "10.0.0.1"}, "mark": "1""#,
    );
    assert_eq!(dropped.unwrap().decision, Decision::drop(hello().reasons[1]), "nothing else is carried out");
    for wrong in [
        r#""verdict": "maybe", "reason": "test-fine""#,
        r#""verdict": "accept", "reason": "test-fine", "rewirte": null"#,
        r#""verdict": "accept", "reason": "test-fine", "mark": 2"#,
        r#""verdict": "accept", "reason": "test-fine", "mark": "-1""#,
        r#""verdict": "accept", "reason": "test-fine", "rewrite": {"side": "source", "to": "guest"}"#,
        r#""verdict": "accept", "reason": "test-fine", "rewrite": {"side": "source", "to": "10.0.0.1", "port": 65536}"#,
        r#""verdict": "accept", "verdict": "accept", "reason": "test-fine""#,
    ] {
        assert!(matches!(read(wrong), Err(Nonsense::Form(_))), "{wrong}");
    }
}

/// What the schema says of a line.
fn judge(of: &str) -> Judge {
    let mut schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let definition = schema["$defs"][of].clone();
    schema.as_object_mut().unwrap().remove("oneOf");
    for (key, value) in definition.as_object().unwrap() {
        schema[key] = value.clone();
    }
    Judge::closed(&schema.to_string())
}

#[test]
fn the_schema_is_of_the_lines_that_are_read() {
    let fault = |of: &str, line: &str| judge(of).fault(&serde_json::from_str(line).unwrap());
    assert_eq!(fault("hello", HELLO), None);
    let wants =
        |bytes: &str| HELLO.replacen("\"protocol\": 1", &format!("\"protocol\": 1, \"bytes\": {bytes}"), 1);
    assert_eq!(fault("hello", &wants("2048")), None);
    assert!(fault("hello", &wants("2049")).is_some());
    assert!(fault("hello", &HELLO.replace("test-no", "Test")).is_some());
    let line = r#"{"seq": 1, "verdict": "accept", "reason": "test-fine", "mark": "0x2", "ct_mark": null,
        "rewrite": {"side": "source", "to": "10.0.0.1", "port": 9, "layers": "inner"}}"#;
    assert_eq!(fault("decision", line), None);
    assert!(fault("decision", &line.replace("\"mark\": \"0x2\"", "\"mark\": 2")).is_some());
}

/// A packet that passes every kind of interface, one of them with a name that is meant ill.
struct Everywhere;

impl Interfaces for Everywhere {
    fn name(&self, which: Interface) -> Option<String> {
        let name = match which {
            Interface::In => "guestbr0",
            Interface::Out => "xenbr0",
            Interface::PortIn => "eth1.100\u{1b}[31m",
            Interface::PortOut => "vif1.0",
        };
        Some(name.to_owned())
    }
}

/// What a program is told of a packet as a whole decides: the same in a simulated node, and in a worker of a node.
#[test]
fn a_program_is_told_bytes_and_interfaces() {
    let hello = HELLO.replacen("\"protocol\": 1", "\"protocol\": 1, \"bytes\": 44", 1);
    let (_directory, path) = program(
        &hello,
        r#"
for line in sys.stdin:
    facts = json.loads(line)
    bytes_ = bytes.fromhex(facts["bytes"])
    is_it = facts.get("in") in ("lo", "xenbr0") and "out" not in facts and len(bytes_) == 44 and bytes_.endswith(b"GET ")
    say({"seq": facts["seq"], "verdict": "accept" if is_it else "drop", "reason": "test-either"})
"#,
    );
    let cluster = cluster();
    let process = Process::start(&path, quick(false)).unwrap();
    let of_node = || Arc::new(process.of_node(&cluster, NodeId(0)));
    let packet = |payload: &[u8]| {
        let mut bytes = Vec::new();
        let to =
            etherparse::PacketBuilder::ipv4([192, 168, 122, 1], [192, 168, 122, 11], 64).tcp(40000, 80, 1, 2);
        to.write(&mut bytes, payload).unwrap();
        bytes
    };
    let mut node = crate::simulate::SimulatedNode::with_policy(&cluster, NodeId(0), of_node());
    let mut after = |payload| node.pass(crate::simulate::Arrival::of(packet(payload))).after;
    assert_eq!((after(b"GET /"), after(b"PUT /")), (Some(packet(b"GET /")), None));

    let wishes = crate::ruleset::Wishes { workers: 1, ..crate::ruleset::Wishes::default() };
    let plan = crate::ruleset::Plan::new(wishes, &crate::kernel::Capabilities::all()).unwrap();
    let policy = Arc::new(Supervised::new(of_node(), &cluster, NodeId(0), 1));
    let mut worker = crate::daemon::Worker::new(policy, &plan, Vec::new(), None);
    // The loopback interface has this index in every network namespace.
    let waiting = [(b"GET /", Some(1)), (b"PUT /", Some(1)), (b"GET /", None)].map(|(payload, in_if)| {
        let envelope = crate::net::Envelope { queue: 100, in_if, ..Default::default() };
        crate::queue::Waiting { envelope, bytes: packet(payload) }
    });
    let mut queue = crate::queue::Memory::new(waiting);
    worker.turn(&mut queue).unwrap();
    let went_on: Vec<bool> = queue.served.iter().map(Option::is_some).collect();
    assert_eq!(went_on, [true, false, false]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn facts_are_as_the_schema_says(seed in prop::collection::vec(any::<(u8, u8, u32, u32, bool)>(), 60)) {
        let mut judge = judge("facts");
        let nodes = ["node1".to_owned(), "node2".to_owned()];
        for (kind, last, mark, ct_mark, is) in seed {
            let proto = [6, 17, 1, 47, 132][usize::from(kind % 5)];
            let ports = [6, 17, 132].contains(&proto).then_some((u16::from(last), u16::from(kind)));
            let tuple = Tuple { proto: crate::net::Proto(proto), src: [10, 5, 5, last].into(), dst: [192, 168, 122, kind].into(), ports };
            let icmp = (proto == 1).then_some(crate::packet::Icmp { kind: 3, code: 0, inner: Some(tuple.reversed()), inner_after: None, mtu: None });
            let mut bytes = made(tuple, &Headers { icmp, ..Headers::default() }, Fragment::None, 0).unwrap();
            if kind > 200 {
                bytes.truncate(usize::from(last % 30));
            }
            let view = View::parse(&bytes, bytes.len());
            let meta = Meta {
                from_pipe: is,
                pipe_of: is.then_some(NodeId(1)),
                src_mac: is.then_some(Mac([last; 6])),
                mark: Mark(mark),
                ct_mark: if kind % 7 == 0 { CtMark::Another } else { CtMark::Is(Mark(ct_mark)) },
            };
            let now = Time(Duration::from_millis(mark.into()));
            let stage = Stage::ALL[usize::from(kind % 4)];
            let facts = Facts { stage, packet: view.as_ref().map_err(|malformed| *malformed), meta: &meta, now };
            let whole = Whole { bytes: &bytes, interfaces: &Everywhere };
            let wanted = usize::from(last);
            let line = FactsLine::new(&facts, (&whole, wanted), (1, "node1"), &nodes, Mark::ALL);
            let line = serde_json::to_value(line).unwrap();
            prop_assert_eq!(judge.fault(&line), None, "{}", line);
            let told = line.get("bytes").map(|bytes| bytes.as_str().unwrap().len() / 2);
            prop_assert_eq!(told, (wanted > 0).then_some(wanted.min(bytes.len())));
            prop_assert_eq!(line["phys_in"].as_str(), Some("eth1.100\u{1b}[31m"));
            prop_assert_eq!(line.get("packet").is_some(), view.is_ok());
        }
    }

    #[test]
    fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (Hello::read(&bytes), Answer::read(&bytes, &hello()));
    }
}
