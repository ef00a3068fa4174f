//! Events as JSON, which the schema describes, and as packets, which others read.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::engine::Reason;
use crate::net::{CtState, Dscp, Hook, Mac, Mark, Proto, Stage, Tuple, Verdict};
use crate::packet::{Fragment, Icmp, LONGEST, Malformed, Tcp, TcpFlags};
use crate::trace::judge::Judge;
use crate::trace::{Bytes, Event, Hex, Marks, Name, SCHEMA, Source, Text, Version, samples};

#[test]
fn json_is_stable() {
    let text = String::from_utf8(rendered(Format::Json, &samples::events())).unwrap();
    insta::assert_snapshot!(text);
}

/// The lists of names in the schema are those of the program.
#[test]
fn the_schema_knows_every_name_and_every_field() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let listed = |field: &str| -> BTreeSet<String> {
        let field = &schema["properties"][field];
        let names = field.get("enum").unwrap_or(&field["anyOf"][0]["enum"]).as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed("reason"), Reason::ALL.map(|reason| reason.to_string()).into());
    assert_eq!(listed("stage"), Stage::ALL.map(|stage| stage.to_string()).into());
    let fields = schema["properties"].as_object().unwrap();
    assert!(fields.values().all(|field| field["description"].is_string()));
    assert_eq!(schema["properties"]["v"]["const"], crate::trace::VERSION);
}

/// Traces that were written before names changed.
#[test]
fn version_1_is_read_and_written_as_version_2() {
    let [old, new] = [
        include_str!("../../../../tests/saved/version-1.jsonl"),
        include_str!("../../../../tests/saved/one_connection.jsonl"),
    ];
    let mut judge = Judge::new(SCHEMA);
    assert_eq!(old.lines().count(), new.lines().count());
    for (old, new) in old.lines().zip(new.lines()) {
        assert!(old.starts_with("{\"v\":1,") && new.starts_with("{\"v\":2,"), "{old}");
        let [event, same] = [old, new].map(|line| Event::read(line.as_bytes()).unwrap());
        assert_eq!(event, same);
        assert_eq!(serde_json::to_string(&event).unwrap(), new);
        assert_eq!(judge.fault(&serde_json::to_value(&event).unwrap()), None);
    }
    assert!(old.contains("\"about\"") && old.contains("called-node") && old.contains("error-about-call"));
}

#[test]
fn other_fields_are_passed_over_and_other_versions_refused_in_words() {
    let mut judge = Judge::new(SCHEMA);
    let event = serde_json::to_value(&samples::events()[3]).unwrap();
    let mut read = |event: &serde_json::Value| {
        (Event::read(event.to_string().as_bytes()).map_err(|e| e.to_string()), judge.fault(event).is_none())
    };
    let mut with = |key: &str, value: serde_json::Value| {
        let mut event = event.clone();
        event[key] = value;
        read(&event)
    };
    let (error, valid) = with("v", 3.into());
    assert!(
        error.unwrap_err().contains("an event of version 3; this dunnat reads versions 1 to 2") && !valid
    );
    let (same, valid) = with("reason", "because".into());
    assert!(same.is_ok_and(|event| event.reason.name() == "because") && valid, "of another policy");
    let (error, valid) = with("reason", "Because\u{1b}[2J".into());
    assert!(error.unwrap_err().contains("a reason is one of service") && !valid);
    let (same, valid) = with("lost", 7.into());
    assert!(same.is_ok() && valid);
    // At every place where there are fields.
    fn extended(value: &mut serde_json::Value) {
        if let serde_json::Value::Object(fields) = value {
            fields.values_mut().for_each(extended);
            fields.insert("colour".to_owned(), serde_json::json!({ "red": [1, null] }));
        }
    }
    for event in samples::events() {
        let mut json = serde_json::to_value(&event).unwrap();
        extended(&mut json);
        assert_eq!(read(&json), (Ok(event), true));
    }
    let later = r#"{"v":3,"decision":{"node":"node1"}}"#;
    assert!(Event::read(later.as_bytes()).unwrap_err().to_string().contains("version 3"));
}

fn events() -> impl Strategy<Value = Event> {
    let name = || prop::option::of("[a-z][a-z0-9.]{0,8}".prop_map(Name::from));
    let addresses = || {
        prop_oneof![
            any::<[[u8; 4]; 2]>().prop_map(|both| both.map(std::net::IpAddr::from)),
            any::<[[u8; 16]; 2]>().prop_map(|both| both.map(std::net::IpAddr::from))
        ]
    };
    let tuple =
        move || {
            (any::<u8>(), addresses(), any::<Option<(u16, u16)>>())
                .prop_map(|(proto, [src, dst], ports)| Tuple { proto: Proto(proto), src, dst, ports })
        };
    let marks = move || {
        (any::<Option<u32>>(), any::<Option<u32>>(), name()).prop_map(|(before, after, node)| Marks {
            before: before.map(Mark),
            after: after.map(Mark),
            node,
        })
    };
    let hex = || prop::collection::vec(any::<u8>(), 0..130).prop_map(Hex);
    let numbers = any::<(u32, Option<u32>, u32, u32, u16, u32, u32, bool, Option<u16>)>();
    let names = (name(), name(), name(), name(), name(), name(), name());
    let mac = prop::option::of((any::<[u8; 6]>(), name()));
    let tuples = (prop::option::of(tuple()), prop::option::of(tuple()));
    let headers = (
        prop::option::of(any::<(u8, u32, u32)>()),
        prop::option::of((any::<(u8, u8)>(), prop::option::of(tuple()))),
        prop::option::of(prop_oneof![Just(Fragment::First), Just(Fragment::Later)]),
        prop::option::of(prop_oneof![Just(Malformed::NotIp), Just(Malformed::Extension)]),
    );
    let all_marks = (marks(), prop::option::of(marks()), any::<u32>());
    let decision = (
        prop::sample::select(&Stage::ALL[..]),
        prop::sample::select(&Reason::ALL[..]),
        any::<bool>(),
        prop::option::of(prop::sample::select(vec![CtState::New, CtState::Related])),
        prop::option::of((hex(), prop::option::of(hex()))),
    );
    (numbers, names, mac, tuples, headers, all_marks, decision).prop_map(
        |(numbers, names, mac, (before, after), (tcp, icmp, fragment, malformed), marks, decision)| {
            let (seq, waited, deciding, lost, queue, packet_id, len, gso, ip_id) = numbers;
            let (node, in_if, out_if, phys_in, phys_out, service, entry) = names;
            let (stage, reason, accept, ct_state, bytes) = decision;
            Event {
                left_out: 0,
                community_id: super::super::super::FlowIds::default(),
                v: Version,
                seq: u64::from(seq) + 1,
                run: (lost % 2 == 0).then(|| "5b1f".into()),
                config: (lost % 3 == 0).then(|| "0123456789abcdef".into()),
                generation: (lost % 5 == 0).then(|| u64::from(lost) + 1),
                lost: lost.into(),
                time: Timestamp::from_nanosecond(i128::from(seq) * 1_000_003).unwrap(),
                waited_ns: waited.map(u64::from),
                deciding_ns: deciding.into(),
                node: node.unwrap_or_else(|| "node1".into()),
                stage,
                hook: if accept { Hook::Prerouting } else { Hook::Postrouting },
                queue,
                packet_id,
                in_if,
                out_if,
                phys_in,
                phys_out,
                mac: mac.map(|(mac, node)| Source { address: Mac(mac), node }),
                before,
                after,
                malformed,
                len: len % (LONGEST as u32 + 1),
                gso,
                fragment,
                dscp: fragment.map(|_| Dscp::of_traffic_class(8)),
                ip_id,
                tcp: tcp.map(|(flags, seq, ack)| Tcp { flags: TcpFlags(flags), seq, ack }),
                icmp: icmp.map(|((kind, code), inner)| Icmp {
                    kind,
                    code,
                    inner,
                    inner_after: inner.filter(|_| code % 2 == 0),
                    mtu: (code == 4).then_some(u32::from(kind) + 1280),
                }),
                mark: marks.0,
                ct_mark: marks.1,
                mask: Mark(marks.2),
                ct_state,
                service,
                entry,
                reason,
                verdict: if accept { Verdict::Accept } else { Verdict::Drop },
                bytes: bytes.map(|(before, after)| Bytes { before, after }),
            }
        },
    )
}

proptest! {
    #[test]
    fn every_event_is_valid_by_the_schema_and_reads_back_as_it_was(event in events()) {
        static JUDGE: LazyLock<Mutex<Judge>> = LazyLock::new(|| Mutex::new(Judge::closed(SCHEMA)));
        let line = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Event>(&line).unwrap(), &event);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fault = JUDGE.lock().unwrap_or_else(PoisonError::into_inner).fault(&value);
        prop_assert_eq!(fault, None, "{}", line);
        // No rendering panics on it, and text keeps its lines.
        let mut out = String::new();
        Text::new(TimeZone::UTC, true, true).event(&event, &mut out);
        prop_assert_eq!(out.lines().count(), if event.lost > 0 { 3 } else { 2 });
    }
}

/// What was carried is a line of its own in each format; a capture has it as statistics, and shows the same packets as without.
#[test]
fn what_was_carried_stands_between_the_decisions() {
    let made = |format| {
        let mut rendering = Rendering::new(format, &plain().dated()).unwrap();
        let (mut out, mut alone) = (Vec::new(), Vec::new());
        rendering.begin(&mut out);
        for event in samples::events() {
            rendering.event(&event, &mut out).unwrap();
        }
        for carried in samples::carried() {
            rendering.carried(&carried, &mut alone).unwrap();
        }
        (out, alone)
    };
    insta::assert_snapshot!(String::from_utf8(made(Format::Text).1).unwrap());
    assert_eq!(String::from_utf8(made(Format::Json).1).unwrap().lines().count(), 3);
    let (packets, statistics) = made(Format::Pcapng);
    let shown = [&packets[..], &[&packets[..], &statistics[..]].concat()].map(|bytes| {
        let mut file = tempfile::NamedTempFile::with_suffix(".pcapng").unwrap();
        file.write_all(bytes).unwrap();
        tshark(file.path(), &["-n", "-T", "fields", "-e", "frame.number", "-e", "frame.comment"])
    });
    assert_eq!(shown[0], shown[1]);
    assert!(
        String::from_utf8_lossy(&statistics)
            .contains("carried: 99 packets, 5544 bytes of tcp 192.168.122.1:40000")
    );
}

#[test]
fn wireshark_and_tcpdump_read_the_packets_with_their_decisions() {
    let mut file = tempfile::NamedTempFile::with_suffix(".pcapng").unwrap();
    file.write_all(&rendered(Format::Pcapng, &samples::events())).unwrap();
    let fields = [
        "frame.interface_name",
        "frame.packet_id",
        "frame.time_epoch",
        "eth.src",
        "ip.src",
        "ip.dst",
        "frame.comment",
    ];
    let mut arguments = vec!["-n", "-T", "fields", "-E", "separator=|"];
    arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
    insta::assert_snapshot!(tshark(file.path(), &arguments));
    let good = tshark(
        file.path(),
        &[
            "-n",
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "tcp.check_checksum:TRUE",
            "-Y",
            "ip.len < 100 && (ip.checksum.status==\"Bad\" || tcp.checksum.status==\"Bad\")",
        ],
    );
    assert_eq!(good, "", "the checksums after rewriting are right");
    let tcpdump = std::process::Command::new("tcpdump").arg("-nqr").arg(file.path()).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&tcpdump.stdout), String::from_utf8_lossy(&tcpdump.stderr));
    assert!(tcpdump.status.success(), "{errors}");
    assert_eq!(out.lines().filter(|line| !line.starts_with('\t')).count(), 17, "{out}{errors}");
}

/// Whoever wrote a trace: one name in it does not keep the rest from being packets.
#[test]
fn names_that_are_too_long_for_an_option_are_cut() {
    let long = |letter: &str| Name::from(letter.repeat(70_000));
    let mut events = samples::events();
    events.truncate(4);
    events[1].node = long("n");
    // Of two bytes, and so that the limit is within one of them.
    events[2].node = long("\u{e4}");
    events[2].service = Some(long("s"));
    events[3].entry = Some(long("e"));
    let mut rendering = Rendering::new(Format::Pcapng, &plain()).unwrap();
    let mut carried = samples::carried().remove(0);
    carried.node = long("c");
    let mut out = Vec::new();
    rendering.begin(&mut out);
    for event in &events {
        rendering.event(event, &mut out).unwrap();
    }
    rendering.carried(&carried, &mut out).unwrap();
    let mut file = tempfile::NamedTempFile::with_suffix(".pcapng").unwrap();
    file.write_all(&out).unwrap();
    let names = tshark(file.path(), &["-n", "-T", "fields", "-e", "frame.interface_name"]);
    let accepted = events.iter().filter(|event| event.verdict == Verdict::Accept).count();
    assert_eq!(names.lines().count(), events.len() + accepted);
    assert!(names.lines().any(|name| name == "n".repeat(65_535)));
    assert!(names.lines().any(|name| name == "\u{e4}".repeat(32_767)));
}

#[test]
fn events_without_bytes_are_no_packets() {
    let mut event = samples::events().remove(0);
    event.bytes = None;
    let mut rendering = Rendering::new(Format::Pcapng, &plain()).unwrap();
    let error = rendering.event(&event, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("--bytes"));
}
