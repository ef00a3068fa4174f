//! Each fault is found, by its name, with the events that prove it, whether all packets are seen or few.

use super::cluster::{ACK, FILE, RST, SYN, Sim};
use crate::conversations::{Cause, Conversation, Finding, Paths};

/// Client port, finding, cause, and the nodes and stages of the proof.
fn found(paths: &Paths) -> Vec<(u16, Finding, Option<Cause>, String)> {
    let found = |one: &Conversation| {
        let proof: Vec<String> =
            one.judgement.proof.iter().map(|proof| format!("{} {}", proof.node, proof.stage)).collect();
        (one.flow.ports.unwrap().0, one.judgement.finding, one.judgement.cause, proof.join(", "))
    };
    let mut all: Vec<_> = paths.conversations.iter().map(found).collect();
    all.sort_by_key(|one| one.0);
    all
}

fn one(
    port: u16,
    finding: Finding,
    cause: Option<Cause>,
    proof: &str,
) -> (u16, Finding, Option<Cause>, String) {
    (port, finding, cause, proof.to_owned())
}

fn both_ways(mut check: impl FnMut(bool)) {
    check(false);
    check(true);
}

/// A node was started anew while a client connected: its decisions are numbered from 1 again, and go on after the earlier ones.
#[test]
fn two_runs_of_a_node_do_not_interleave() {
    let mut sim = Sim::new();
    sim.connect(2, 40002);
    let second = sim.events.len() / 2;
    let mut numbers = std::collections::HashMap::new();
    for (place, event) in sim.events.iter_mut().enumerate() {
        let run = if place < second { "first" } else { "second" };
        event.run = Some(run.into());
        let number: &mut u64 = numbers.entry((event.node.clone(), run)).or_default();
        *number += 1;
        event.seq = *number;
    }
    for order in [["node1", "node2", "node3"], ["node3", "node2", "node1"]] {
        let paths = sim.joined(&order);
        assert_eq!(found(&paths), [one(40002, Finding::Foreign, None, "node1 spoof")]);
        let conversation = &paths.conversations[0];
        for node in ["node1", "node2"] {
            let runs: Vec<_> = conversation.events().filter(|event| &*event.node == node).collect();
            assert!(runs.is_sorted_by_key(|event| event.time), "{runs:?}");
            assert!(
                runs.iter().any(|event| event.seq == 1 && event.run.as_deref() == Some("second")),
                "{runs:?}"
            );
        }
        assert!(conversation.judgement.proof.iter().all(|proof| proof.run.is_some()));
    }
}

#[test]
fn what_is_right_is_found_right_in_any_order_of_nodes() {
    both_ways(|full| {
        let mut sim = Sim::new();
        sim.full = full;
        for node in 1..=3 {
            sim.connect(node, 40000 + node as u16);
        }
        let right = [
            one(40001, Finding::Local, None, "node1 spoof"),
            one(40002, Finding::Foreign, None, "node1 spoof"),
            one(40003, Finding::Foreign, None, "node1 spoof"),
        ];
        for order in [["node1", "node2", "node3"], ["node3", "node2", "node1"], ["node2", "node3", "node1"]] {
            let paths = sim.joined(&order);
            assert_eq!(found(&paths), right);
            let of = |port| paths.conversations.iter().find(|one| one.flow.ports.unwrap().0 == port).unwrap();
            assert_eq!(of(40001).way.join(" "), "node1");
            assert_eq!(of(40003).way.first().map(|node| &**node), Some("node3"));
            assert_eq!(of(40003).home.as_deref(), Some("node1"));
            assert_eq!(
                paths.conversations.iter().map(Conversation::count).sum::<u64>(),
                sim.events.len() as u64
            );
        }
    });
}

#[test]
fn a_wrong_mac_prefix_is_named() {
    let wrong = FILE.replace("12:00:00:00:00:00/24", "16:00:00:00:00:00/24");
    both_ways(|full| {
        let mut sim = Sim::with_files([&wrong, FILE, FILE]);
        sim.full = full;
        sim.connect(2, 40002);
        sim.try_to_connect(3, 40003);
        let (finding, proof) = match full {
            false => (Finding::NoReply, "node1 tag"),
            true => (Finding::NoCtMark, "node1 tag, node1 spoof"),
        };
        let paths = sim.paths();
        assert_eq!(
            found(&paths),
            [
                one(40002, Finding::Foreign, None, "node1 spoof"),
                one(40003, finding, Some(Cause::UnknownMac), proof)
            ]
        );
        let says = &paths.conversations[1].judgement.says;
        assert!(says.contains("12:00:00:00:01:00") && says.contains("node3 sent it"), "{says}");
    });
}

#[test]
fn nodes_that_are_swapped_are_named() {
    let swapped = FILE
        .replace("0e:00:00:00:00:00/24", "@")
        .replace("12:00:00:00:00:00/24", "0e:00:00:00:00:00/24")
        .replace('@', "12:00:00:00:00:00/24");
    both_ways(|full| {
        let mut sim = Sim::with_files([&swapped, FILE, FILE]);
        sim.full = full;
        sim.asks(2, 40002, SYN, 7, 0, false);
        sim.replies(40002, SYN | ACK, 500, 8);
        // What the client did not send to that address it resets there.
        sim.asks(3, 40002, RST, 8, 0, false);
        let paths = sim.paths();
        assert_eq!(
            found(&paths),
            [one(
                40002,
                Finding::WrongAddress,
                Some(Cause::TakenForAnother),
                "node1 spoof, node1 tag, node2 dnat"
            )]
        );
        let judgement = &paths.conversations[0].judgement;
        assert!(
            judgement
                .says
                .contains("sent the reply from 192.168.122.13; the original destination is 192.168.122.12")
        );
        assert!(
            judgement.also[0].contains("a reset to 192.168.122.13, which is not the original destination"),
            "{:?}",
            judgement.also
        );
    });
}

#[test]
fn public_addresses_that_differ_are_named() {
    let other = FILE.replace("192.168.122.12", "192.168.122.99");
    let mut sim = Sim::with_files([&other, FILE, FILE]);
    sim.try_to_connect(2, 40002);
    let cause = Some(Cause::OtherAddress);
    assert_eq!(found(&sim.paths()), [one(40002, Finding::WrongAddress, cause, "node1 spoof, node2 dnat")]);
}

/// Tags are each node's own business: they do not cross the pipes.
#[test]
fn tags_and_names_that_differ_do_no_harm_and_are_no_finding() {
    let other = FILE.replace("tag = 3", "tag = 9").replace("node3", "nodeX");
    let mut sim = Sim::with_files([&other, FILE, FILE]);
    sim.connect(3, 40003);
    assert_eq!(found(&sim.paths()), [one(40003, Finding::Foreign, None, "node1 spoof")]);
}

/// What the events do not prove.
fn possible(conversation: &Conversation) -> Vec<Cause> {
    conversation.judgement.causes.iter().map(|possible| possible.cause).collect()
}

#[test]
fn ct_marks_that_are_not_kept_are_named() {
    for (full, node, proof) in [
        (false, 1, "node1 save, node1 save"),
        (false, 2, "node1 tag, node1 save"),
        (true, 1, "node1 save, node1 spoof"),
        (true, 3, "node1 tag, node1 save"),
    ] {
        let mut sim = Sim::new();
        (sim.full, sim.forgets) = (full, true);
        sim.try_to_connect(node, 40000);
        let paths = sim.paths();
        assert_eq!(found(&paths), [one(40000, Finding::NoCtMark, Some(Cause::NotKept), proof)]);
        assert_eq!(possible(&paths.conversations[0])[..2], [Cause::NoSave, Cause::CtMarkChanged]);
    }
}

/// No event says why there is none.
#[test]
fn without_replies_nothing_is_certain_and_what_fits_is_named() {
    both_ways(|full| {
        let mut sim = Sim::new();
        (sim.full, sim.no_spoof) = (full, true);
        sim.try_to_connect(2, 40002);
        sim.try_to_connect(1, 40001);
        let paths = sim.paths();
        for one in &paths.conversations {
            assert_eq!((one.judgement.finding, one.judgement.cause), (Finding::NoReply, None));
            assert!(possible(one).contains(&Cause::NoSpoof) && possible(one).contains(&Cause::Silent));
            assert!(one.judgement.says.contains("--guest-on 10.5.5.201=NODE"), "{}", one.judgement.says);
            assert_eq!(one.home, None);
        }
        sim.no_spoof = false;
        sim.connect(3, 40003);
        for one in sim.paths().conversations.iter().filter(|one| !one.judgement.finding.is_right()) {
            assert_eq!((one.judgement.cause, possible(one)[0]), (None, Cause::Silent));
            assert_eq!(one.home.as_deref(), Some("node1"));
        }
    });
}

#[test]
fn what_a_pipe_loses_was_last_seen_before_it() {
    let mut sim = Sim::new();
    sim.connect(1, 40001);
    sim.asks(2, 40002, SYN, 7, 0, true);
    let paths = sim.paths();
    assert_eq!(found(&paths)[1], one(40002, Finding::NoReply, None, "node2 save"));
    let lost = &paths.conversations[1];
    assert_eq!(possible(lost)[0], Cause::NeverArrived);
    assert!(lost.judgement.says.contains("node2 save #2 is the last that shows the client's SYN"));
    assert!(lost.judgement.says.contains("tag did not follow on node1"), "{}", lost.judgement.says);
}

#[test]
fn one_port_through_two_nodes_is_a_conflict() {
    both_ways(|full| {
        let mut sim = Sim::new();
        sim.full = full;
        sim.connect(2, 40000);
        // The guest takes it for a packet of the first connection, and so does conntrack.
        sim.asks(3, 40000, SYN, 99, 0, false);
        let paths = sim.paths();
        let all = found(&paths);
        assert_eq!(all[0], one(40000, Finding::Foreign, None, "node1 spoof"));
        if full {
            assert_eq!((all[1].1, all[1].2), (Finding::MarkConflict, Some(Cause::PortShared)));
            assert_eq!(all[1].3, "node3 dnat, node2 dnat, node1 tag");
        } else {
            // No event shows what the home node did with it.
            assert_eq!((all[1].1, all[1].2), (Finding::NoReply, None));
            assert_eq!(possible(&paths.conversations[1])[0], Cause::PortShared);
        }
    });
}

#[test]
fn packets_without_numbers_of_their_own_belong_to_the_node_that_sent_them_on() {
    let mut sim = Sim::new();
    for node in [2, 1, 2] {
        sim.asks(node, 40000, ACK, 7, 501, false);
        sim.replies(40000, ACK, 501, 8);
    }
    // As in IPv6.
    sim.events.iter_mut().for_each(|event| event.ip_id = None);
    for order in [["node1", "node2"], ["node2", "node1"]] {
        let paths = sim.joined(&order);
        let mut all: Vec<_> = paths
            .conversations
            .iter()
            .map(|one| (one.entry.as_deref(), one.judgement.finding, one.judgement.cause))
            .collect();
        all.sort_by_key(|one| one.0.map(str::to_owned));
        let expected = [(Some("node1"), Finding::NoReply, None), (Some("node2"), Finding::Foreign, None)];
        assert_eq!(all, expected);
    }
}

#[test]
fn a_port_that_is_used_again_later_is_another_conversation() {
    let mut sim = Sim::new();
    sim.asks(2, 40000, SYN, 7, 0, false);
    sim.replies(40000, SYN | ACK, 500, 8);
    let forgotten = Sim::new();
    // Meanwhile conntrack has forgotten the first.
    let events = std::mem::replace(&mut sim, forgotten).events;
    let seqs = |node: &str| events.iter().filter(|event| &*event.node == node).count() as u64;
    sim.asks(3, 40000, SYN, 99, 0, false);
    sim.replies(40000, SYN | ACK, 600, 100);
    for event in &mut sim.events {
        event.seq += seqs(&event.node);
    }
    sim.events.splice(0..0, events);
    let foreign = one(40000, Finding::Foreign, None, "node1 spoof");
    assert_eq!(found(&sim.paths()), [foreign.clone(), foreign]);
}

#[test]
fn traces_that_are_missing_are_said_to_be() {
    let mut sim = Sim::new();
    sim.connect(2, 40002);
    let entry = sim.joined(&["node2"]);
    assert_eq!(found(&entry), [one(40002, Finding::NoReply, None, "node2 save, node2 dnat")]);
    assert_eq!(possible(&entry.conversations[0])[0], Cause::NotTraced);
    let home = sim.joined(&["node1"]);
    assert_eq!(found(&home), [one(40002, Finding::NoRequest, Some(Cause::NotTraced), "node1 tag")]);
    assert!(home.conversations[0].judgement.says.contains("node2 is the entry node"));
}

#[test]
fn what_a_trace_has_lost_is_said_where_something_is_not_seen() {
    let mut sim = Sim::new();
    sim.no_spoof = true;
    sim.asks(1, 40001, SYN, 7, 0, false);
    sim.events[1].lost = 17;
    let paths = sim.paths();
    let also = &paths.conversations[0].judgement.also;
    assert_eq!(also[..], ["the trace of node1 has lost 17 events; a missing packet may be among them"]);
    assert_eq!(paths.nodes["node1"].lost, 17);
}

#[test]
fn what_the_guest_begins_is_its_own() {
    let mut sim = Sim::new();
    sim.full = true;
    sim.replies(40000, SYN, 7, 0);
    assert_eq!(found(&sim.paths()), [one(40000, Finding::Outbound, None, "node1 spoof")]);
    let mut sim = Sim::new();
    sim.full = true;
    sim.replies(40000, SYN | ACK, 7, 9);
    assert_eq!(found(&sim.paths()), [one(40000, Finding::NoCtMark, None, "node1 spoof")]);
}

#[test]
fn many_packets_that_are_alike_are_counted_and_not_kept() {
    let mut sim = Sim::new();
    sim.connect(2, 40002);
    for packet in 0..1000 {
        sim.asks(2, 40002, ACK, 8 + packet, 501, false);
    }
    let paths = sim.paths();
    assert_eq!(paths.conversations[0].count(), sim.events.len() as u64);
    assert!(paths.conversations[0].kept.len() < 10);
}
