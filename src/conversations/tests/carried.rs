//! What the kernel has carried is known, and nobody is blamed for it.

use jiff::{SignedDuration, Timestamp};

use super::cluster::{SYN, Sim};
use super::uncertain::of;
use crate::conversations::{Cause, Conversation, Finding, Joiner, Text, json, mermaid, svg};
use crate::net::{Mark, Stage, Verdict};
use crate::trace::{Carried, Carrier, Counted, Event};

/// A request by way of node2, and what the nodes have carried; no decision about a reply.
fn asked(carried: impl Fn(&Event) -> Vec<Carried>) -> Conversation {
    let mut sim = Sim::new();
    sim.connect(1, 41000);
    sim.asks(2, 40002, SYN, 7, 0, false);
    let request = sim.events.iter().rfind(|event| event.stage == Stage::Dnat).unwrap();
    assert_eq!((&*request.node, request.verdict), ("node2", Verdict::Accept));
    let mut joiner = Joiner::default();
    for carried in carried(request) {
        // In two files.
        joiner.add_carried(carried.clone());
        joiner.add_carried(carried);
    }
    sim.events.iter().for_each(|event| joiner.add(event.clone(), true));
    of(&joiner.finish(), 40002).clone()
}

fn counted(event: &Event, stage: Stage, by: Carrier, packets: u64) -> Counted {
    let later = event.time.checked_add(SignedDuration::from_secs(3)).unwrap();
    let since = Some(event.time);
    let flow = match stage {
        _ if by == Carrier::StandIn => None,
        Stage::Spoof => event.after.map(crate::net::Tuple::reversed),
        _ => event.before,
    };
    Counted { since, packets, bytes: 100, flow, ..Counted::new(stage, by, later) }
}

fn on(node: &str, entry: Option<&str>, counted: Counted) -> Carried {
    Carried { node: node.into(), run: Some("1".into()), entry: entry.map(Into::into), counted }
}

#[test]
fn replies_that_were_carried_are_replies() {
    assert_eq!(asked(|_| Vec::new()).judgement.finding, Finding::NoReply);
    let carried = asked(|request| {
        let forth = counted(request, Stage::Dnat, Carrier::Flow, 9);
        let later =
            Counted { until: forth.until.checked_add(SignedDuration::from_secs(9)).unwrap(), ..forth };
        let back = Counted { ct_mark: Some(Mark(2)), ..counted(request, Stage::Spoof, Carrier::Flow, 10) };
        vec![
            on("node2", Some("node2"), forth),
            on("node2", Some("node2"), later),
            on("node1", Some("node2"), back),
        ]
    });
    assert_eq!(carried.judgement.finding, Finding::Foreign, "{}", carried.judgement.says);
    assert!(carried.judgement.says.contains("the kernel carried 10 packets of the guest on node1"));
    let here: Vec<_> = carried.carried.iter().map(|it| (&*it.node, it.stage, it.packets)).collect();
    assert_eq!(here, [("node2", Stage::Dnat, 18), ("node1", Stage::Spoof, 10)]);
    let drawn = Text::new(false).ladder(&carried);
    assert!(drawn.contains("≈") && drawn.contains("carried: 18 packets"), "{drawn}");
    assert!(
        mermaid(&carried).contains("spoof<br/>carried: 10 packets")
            && svg(&carried).contains("carried: 10 packets")
    );
    let line = json(&carried).unwrap();
    assert!(
        line.contains(r#"{"carried":{"node":"node1","stage":"spoof","packets":10,"bytes":100}}"#),
        "{line}"
    );
    let mut judge = crate::trace::judge::Judge::closed(crate::conversations::SCHEMA);
    assert_eq!(judge.fault(&serde_json::from_str(&line).unwrap()), None);
}

/// By rules that take the flow for another node's, the client would get replies of another address.
#[test]
fn replies_with_another_tag_are_no_replies() {
    let carried =
        asked(|request| vec![on("node1", Some("node3"), counted(request, Stage::Spoof, Carrier::Flow, 10))]);
    assert_eq!(carried.judgement.finding, Finding::NoReply);
    assert!(carried.judgement.is_fault());
}

#[test]
fn what_a_stand_in_carried_may_have_been_the_reply() {
    let by = |seconds: i64, node: &str| {
        asked(|request| {
            let mut counted = counted(request, Stage::Spoof, Carrier::StandIn, 7);
            let moved = |time: Timestamp| time.checked_add(SignedDuration::from_secs(seconds)).unwrap();
            (counted.since, counted.until) = (counted.since.map(moved), moved(counted.until));
            vec![on(node, None, counted)]
        })
        .judgement
    };
    let judgement = by(0, "node1");
    assert_eq!((judgement.finding, judgement.causes[0].cause), (Finding::NoReply, Cause::Carried));
    assert!(!judgement.is_fault(), "{}", judgement.says);
    // It was before, long after, or elsewhere.
    for (seconds, node) in [(-10, "node1"), (60, "node1"), (0, "node3")] {
        let judgement = by(seconds, node);
        assert!(judgement.is_fault() && judgement.causes[0].cause != Cause::Carried, "{}", judgement.says);
    }
}
