use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::cluster::Cluster;
use crate::net::Mark;
use crate::netlink::conntrack::{Counts, Entry};
use crate::trace::Filter;

const EXAMPLE: &str = include_str!("../../rules/example.toml");

fn names() -> Names {
    let cluster = Cluster::parse(EXAMPLE, Path::new("c")).unwrap();
    let node = cluster.find("node1").unwrap();
    Names::new(Arc::new(cluster), Some(node))
}

fn entry(request: &str, mark: u32) -> Entry {
    let request: crate::net::Tuple = request.parse().unwrap();
    Entry {
        id: Some(7),
        zone: None,
        request,
        reply: request.reversed(),
        icmp_id: None,
        mark: Mark(mark),
        status: 0xe,
        state: Some("established"),
        expires: Some(Duration::from_secs(300)),
        requests: Some(Counts { packets: 5, bytes: 420 }),
        replies: Some(Counts { packets: 4, bytes: 3100 }),
        began: Some(Duration::from_secs(1000)),
    }
}

fn flow(entry: &Entry) -> Flow {
    names().flow(entry, None, Timestamp::from_second(1012).unwrap())
}

pub(crate) fn of(request: &str, mark: u32) -> Flow {
    flow(&entry(request, mark))
}

const FOREIGN: &str = "tcp 192.168.122.1:40001 > 10.5.5.201:80";

#[test]
fn a_flow_has_the_names_of_the_cluster() {
    let foreign = of(FOREIGN, 2);
    assert_eq!(foreign.original, "tcp 192.168.122.1:40001 > 192.168.122.12:80".parse().ok());
    insta::assert_snapshot!(line(&foreign), @"tcp 192.168.122.1:40001 > 192.168.122.12:80  guest 10.5.5.201:80  service web  entry node2 tag 0x2  established  5 packets 420 bytes > 4 packets 3100 bytes <  age 12 s  expires 300 s");
    let by_guest = flow(&Entry {
        reply: "tcp 9.9.9.9:443 > 192.168.122.11:5000".parse().unwrap(),
        requests: None,
        status: 8,
        ..entry("tcp 10.5.5.201:5000 > 9.9.9.9:443", 0)
    });
    insta::assert_snapshot!(line(&by_guest), @"tcp 10.5.5.201:5000 > 9.9.9.9:443  begun by the guest, replies tcp 9.9.9.9:443 > 192.168.122.11:5000  established  no reply  age 12 s  expires 300 s");
    assert_eq!((by_guest.way, by_guest.finding), (Way::FromGuest, None));
    assert_eq!(of("tcp 9.9.9.9:1 > 8.8.8.8:2", 0).way, Way::Other);
    assert_eq!(of("tcp 9.9.9.9:1 > 192.168.122.11:22", 0).way, Way::ToNode);
    assert_eq!(of("tcp 10.5.5.202:1 > 10.5.5.201:80", 0).way, Way::Inside);
}

#[test]
fn what_is_odd_is_found_and_nothing_else() {
    let finding = |request: &str, mark| of(request, mark).finding;
    assert_eq!(finding(FOREIGN, 2), None);
    assert_eq!(finding(FOREIGN, 77), Some(Finding::UnknownTag));
    assert_eq!(finding(FOREIGN, 0), Some(Finding::Untagged));
    assert_eq!(finding("tcp 192.168.122.1:1 > 10.5.5.201:9999", 0), None, "no service");
    assert_eq!(finding("tcp 192.168.122.12:1 > 10.5.5.201:80", 0), None, "a node itself");
    assert_eq!(finding("tcp 10.5.5.254:1 > 10.5.5.201:80", 0), None, "the gateway");
    assert_eq!(finding("tcp 192.168.122.1:1 > 192.168.122.11:80", 2), Some(Finding::OtherTag));
    assert_eq!(finding("tcp 192.168.122.1:1 > 192.168.122.12:80", 2), None);
    let masked =
        flow(&Entry { reply: "tcp 10.5.5.201:80 > 10.5.5.254:40001".parse().unwrap(), ..entry(FOREIGN, 2) });
    assert_eq!(masked.finding, Some(Finding::OtherNat));
}

/// The tag is those bits of the mark that are the cluster's.
#[test]
fn bits_of_others_are_not_looked_at() {
    let text = EXAMPLE.replacen("mask = \"0xffffffff\"", "mask = \"0xff\"", 1);
    let cluster = Cluster::parse(&text, Path::new("c")).unwrap();
    let names = Names::new(Arc::new(cluster), None);
    let flow = names.flow(&entry(FOREIGN, 0x5502), None, Timestamp::UNIX_EPOCH);
    assert_eq!((flow.entry.as_deref(), flow.finding), (Some("node2"), None));
    assert_eq!((flow.ct_mark, flow.tag, flow.age_s), (Mark(0x5502), Mark(2), None));
}

#[test]
fn flows_are_chosen_by_the_language_of_trace() {
    let flow = of(FOREIGN, 2);
    let takes = |filter: &str| Wanted::new(filter.parse::<Filter>().unwrap()).unwrap().takes(&flow);
    for filter in [
        "host 192.168.122.12 and host 10.5.5.201",
        "entry node2 and node node1",
        "service web",
        "dst port 80 and tcp",
        "ct mark 0x2/0xf",
        "net 192.168.122.0/24 and not udp",
        "rewritten",
    ] {
        assert!(takes(filter), "{filter}");
    }
    for filter in ["entry node1", "src port 80", "udp", "ct mark 0x3", "not rewritten", "src host 10.5.5.201"]
    {
        assert!(!takes(filter), "{filter}");
    }
    for (filter, word) in
        [("stage dnat", "stage"), ("not (udp or mark 0x2)", "mark"), ("tcp flags syn", "tcp flags")]
    {
        let refused = Wanted::new(filter.parse::<Filter>().unwrap()).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("a flow has no {word}")), "{refused}");
    }
}

#[test]
fn the_schema_has_every_field() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let known: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let all = names().flow(
        &Entry {
            zone: Some(3),
            icmp_id: Some(4),
            status: 1 << 14,
            reply: "tcp 10.5.5.201:80 > 10.5.5.254:40001".parse().unwrap(),
            ..entry(FOREIGN, 2)
        },
        Some(Happened::New),
        Timestamp::from_second(1012).unwrap(),
    );
    let all = serde_json::to_value(&all).unwrap();
    assert_eq!(all.as_object().unwrap().keys().collect::<BTreeSet<_>>(), known);
    let required = schema["required"].as_array().unwrap();
    let least = serde_json::to_value(of("tcp 9.9.9.9:1 > 8.8.8.8:2", 0)).unwrap();
    for field in required {
        assert!(least.get(field.as_str().unwrap()).is_some(), "{field}");
    }
    let findings: Vec<&str> = Finding::ALL.map(Finding::name).to_vec();
    assert_eq!(schema["properties"]["finding"]["enum"], serde_json::json!(findings));
    for finding in Finding::ALL {
        assert_eq!(serde_json::to_value(finding).unwrap(), finding.name());
    }
}

proptest! {
    /// Whatever comes is told with what it has, and never told of a node that has not this tag.
    #[test]
    fn any_mark_is_a_nodes_or_none(mark in any::<u32>(), few in 0u32..4, is_few in any::<bool>()) {
        let mark = if is_few { few } else { mark };
        let flow = of(FOREIGN, mark);
        prop_assert_eq!(flow.entry.as_deref(), match mark { 1 => Some("node1"), 2 => Some("node2"), _ => None });
        prop_assert_eq!(flow.finding.is_none(), flow.entry.is_some());
        prop_assert!(!line(&flow).contains('\n'));
    }
}
