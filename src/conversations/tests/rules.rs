//! Rules of which the kernel has said that they dropped a packet.

use jiff::{SignedDuration, Timestamp};

use super::cluster::{SYN, Sim, Wrong};
use super::uncertain::{fits, of, with};
use crate::conversations::{Cause, Conversation, Finding, Joiner, Paths, Text, json};
use crate::trace::{RuleEvent, RuleVerdict, samples};

/// A rule that drops requests to the guest in the forward hook of node1.
fn forward(packet: &str, time: Timestamp) -> RuleEvent {
    let [_, rule, ..] = &samples::rules()[..] else { panic!("too few") };
    RuleEvent {
        time,
        node: Some("node1".into()),
        handle: Some(7),
        chain: "forward".to_owned(),
        rule: "tcp dport 80 drop".to_owned(),
        verdict: RuleVerdict::Drop,
        to: None,
        packet: packet.parse().ok(),
        ..rule.clone()
    }
}

const SYN_BEHIND_DNAT: &str = "tcp 192.168.122.1:40002 > 10.5.5.201:80";

fn joined(sim: &Sim, rules: &[RuleEvent]) -> Paths {
    let mut joiner = Joiner::default();
    for rule in rules {
        joiner.add_rule(rule.node.as_ref().unwrap(), rule.clone(), true);
    }
    for event in &sim.events {
        joiner.add(event.clone(), true);
    }
    joiner.finish()
}

/// A client tries in vain through node2.
fn dropped() -> Sim {
    let mut sim = with(false, Wrong { forward_drop: Some(1), ..Wrong::default() });
    for _ in 0..3 {
        sim.asks(2, 40002, SYN, 400_020, 0, false);
    }
    sim
}

fn last_time(sim: &Sim, node: &str) -> Timestamp {
    sim.events.iter().filter(|event| &*event.node == node).map(|event| event.time).max().unwrap()
}

fn one(paths: &Paths) -> &Conversation {
    of(paths, 40002)
}

#[test]
fn a_rule_that_dropped_the_request_is_no_guess() {
    let sim = dropped();
    let guessed = joined(&sim, &[]);
    assert_eq!(one(&guessed).judgement.cause, None);
    let rule = forward(SYN_BEHIND_DNAT, last_time(&sim, "node1"));
    let paths = joined(&sim, &[rule.clone(), rule]);
    let judgement = &one(&paths).judgement;
    assert_eq!((judgement.finding, judgement.cause), (Finding::NoReply, Some(Cause::RuleDrop)));
    assert_eq!(fits(judgement), [Cause::RuleDrop]);
    let expected = "node1 dropped the SYN 192.168.122.1:40002 > 10.5.5.201:80 (S) 2 times by rule 7 of chain forward, \
                    table inet fw: tcp dport 80 drop. ";
    assert!(judgement.says.starts_with(expected), "{}", judgement.says);
    assert!(judgement.says.ends_with(&one(&guessed).judgement.says), "{}", judgement.says);
    let line: serde_json::Value = serde_json::from_str(&json(one(&paths)).unwrap()).unwrap();
    assert_eq!((&line["rule"]["node"], &line["rule"]["handle"]), (&"node1".into(), &7.into()), "{line:#}");
    assert_eq!((&line["rule"]["times"], &line["cause"]), (&2.into(), &"rule-drop".into()));
    let drawn = Text::new(false).ladder(one(&paths));
    assert!(drawn.lines().all(|line| line.chars().count() <= 100), "{drawn}");
    // The others are right, and nothing is said of it there.
    for other in paths.conversations.iter().filter(|other| other.flow.ports.unwrap().0 != 40002) {
        assert!(
            other.judgement.finding.is_right() && other.judgement.also.is_empty(),
            "{:?}",
            other.judgement
        );
    }
}

/// By the tuple as the client sent it, as the guest got it, and both ways.
#[test]
fn a_packet_is_known_wherever_it_was_dropped() {
    let sim = dropped();
    for packet in [
        "tcp 192.168.122.1:40002 > 192.168.122.12:80",
        SYN_BEHIND_DNAT,
        "tcp 10.5.5.201:80 > 192.168.122.1:40002",
        "tcp 192.168.122.12:80 > 192.168.122.1:40002",
    ] {
        let paths = joined(&sim, &[forward(packet, last_time(&sim, "node1"))]);
        assert_eq!(one(&paths).judgement.cause, Some(Cause::RuleDrop), "{packet}");
        assert!(paths.rule_drops.is_empty());
    }
    for packet in ["tcp 192.168.122.1:40009 > 192.168.122.11:22", "udp 192.168.122.1:40002 > 10.5.5.201:80"] {
        let paths = joined(&sim, &[forward(packet, last_time(&sim, "node1"))]);
        assert_eq!(one(&paths).judgement.cause, None, "{packet}");
        let [drop] = &paths.rule_drops[..] else { panic!("{:?}", paths.rule_drops) };
        let totals = Text::new(false).totals(&paths, &[]);
        assert!(totals.contains("of no conversation: node1 dropped the"), "{totals}");
        assert_eq!(drop.packet.to_string(), packet);
    }
}

/// What was dropped once and came through later was not stopped by the rule; and our own rules drop what another fault has brought
/// there.
#[test]
fn a_rule_is_not_blamed_for_what_it_did_not_stop() {
    let mut sim = with(true, Wrong::default());
    sim.no_spoof = true;
    sim.asks(2, 40002, SYN, 400_020, 0, false);
    let before = last_time(&sim, "node1") - SignedDuration::from_millis(1);
    let open = |paths: &Paths| {
        let judgement = &one(paths).judgement;
        assert_eq!(judgement.cause, None, "{judgement:?}");
        assert!(judgement.also.iter().any(|also| also.contains("rule 7 of chain forward")), "{judgement:?}");
    };
    open(&joined(&sim, &[forward(SYN_BEHIND_DNAT, before)]));
    let ours = RuleEvent { is_ours: true, ..forward(SYN_BEHIND_DNAT, last_time(&sim, "node1")) };
    open(&joined(&sim, &[ours]));
    // A connection that works is right, and the drop is told of.
    let mut sim = with(false, Wrong::default());
    sim.connect(2, 40002);
    let paths = joined(&sim, &[forward(SYN_BEHIND_DNAT, last_time(&sim, "node1"))]);
    assert_eq!(one(&paths).judgement.finding, Finding::Foreign);
    assert_eq!(one(&paths).judgement.also.len(), 1, "{:?}", one(&paths).judgement);
}

/// The same decisions are in the file of `run --trace` and in that of `dunnat trace`.
#[test]
fn a_decision_that_is_in_two_files_counts_once() {
    let mut sim = dropped();
    for event in &mut sim.events {
        event.run = Some("a".into());
    }
    let once = joined(&sim, &[]);
    let mut twice = Joiner::default();
    for event in sim.events.iter().chain(&sim.events) {
        twice.add(event.clone(), true);
    }
    let twice = twice.finish();
    assert_eq!(one(&twice).judgement, one(&once).judgement);
    assert_eq!((one(&twice).count(), &twice.nodes), (one(&once).count(), &once.nodes));
}

/// What was dropped before any decision has a conversation of its own, if it asked for a service that is known.
#[test]
fn a_request_that_never_came_to_dnat_is_told_of() {
    let sim = with(false, Wrong::default());
    let packet = "tcp 192.168.122.1:40009 > 192.168.122.11:80";
    let rule = RuleEvent { hook: Some("ingress".to_owned()), ..forward(packet, last_time(&sim, "node1")) };
    let paths = joined(&sim, std::slice::from_ref(&rule));
    let found = of(&paths, 40009);
    let judgement = &found.judgement;
    assert_eq!((judgement.finding, judgement.cause), (Finding::NoReply, Some(Cause::RuleDrop)));
    assert!(judgement.is_fault() && judgement.says.ends_with(", before dnat"), "{judgement:?}");
    assert_eq!((found.original().as_deref(), found.guest()), (Some("192.168.122.11:80"), None));
    assert_eq!((found.number, found.count()), (paths.conversations.len(), 0));
    let line: serde_json::Value = serde_json::from_str(&json(found).unwrap()).unwrap();
    assert_eq!((&line["entry"], &line["way"]), (&"node1".into(), &serde_json::json!(["node1"])), "{line:#}");
    let drawn = Text::new(false).ladder(found);
    assert!(drawn.split_whitespace().collect::<Vec<_>>().join(" ").contains("by rule 7 of chain forward"));
    // A reply of somebody, or what dunnat's own rules drop, begins nothing.
    for rule in [
        RuleEvent { flags: Some(crate::packet::TcpFlags(0x12)), ..rule.clone() },
        RuleEvent { is_ours: true, ..rule },
    ] {
        let paths = joined(&sim, &[rule]);
        assert!(paths.conversations.iter().all(|one| one.flow.ports.unwrap().0 != 40009));
        assert_eq!(paths.rule_drops.len(), 1);
    }
}
