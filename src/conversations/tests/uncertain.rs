//! Faults that events do not prove: each is among the causes that fit, and nothing wrong is said to be certain.

use super::cluster::{ACK, GUEST, SYN, Sim, Wrong};
use crate::conversations::{Cause, Conversation, Finding, Judgement, Paths};

pub(super) fn of(paths: &Paths, port: u16) -> &Conversation {
    paths.conversations.iter().find(|one| one.flow.ports.unwrap().0 == port).unwrap()
}

pub(super) fn fits(judgement: &Judgement) -> Vec<Cause> {
    judgement.causes.iter().map(|possible| possible.cause).collect()
}

/// A cluster in which all is well with one guest's connection, and then something is wrong.
pub(super) fn with(full: bool, wrong: Wrong) -> Sim {
    let mut sim = Sim::new();
    sim.full = full;
    for node in 1..=3 {
        sim.connect(node, 41000 + node as u16);
    }
    sim.wrong = wrong;
    sim
}

/// A client tries through a node, and nothing comes back.
fn tries(sim: &mut Sim, node: usize) -> Conversation {
    let port = 40000 + node as u16;
    for _ in 0..3 {
        sim.asks(node, port, SYN, u32::from(port) * 10, 0, false);
    }
    of(&sim.paths(), port).clone()
}

/// The last that shows the packet, no certain cause, and the first that fits.
fn is_open(conversation: &Conversation, last: &str, first: Cause) {
    let judgement = &conversation.judgement;
    assert_eq!((judgement.finding, judgement.cause), (Finding::NoReply, None), "{judgement:?}");
    assert_eq!(judgement.proof[0].to_string().split(" #").next(), Some(last), "{judgement:?}");
    assert_eq!(fits(judgement)[0], first, "{judgement:?}");
    assert!(judgement.says.contains("is the last that shows"), "{}", judgement.says);
    assert!(conversation.hints().iter().all(|hint| !hint.decided_by().is_empty()), "{judgement:?}");
}

pub(super) fn both_ways(check: impl Fn(bool)) {
    check(false);
    check(true);
}

#[test]
fn a_drop_in_the_forward_hook() {
    both_ways(|full| {
        let mut sim = with(full, Wrong { forward_drop: Some(1), ..Wrong::default() });
        is_open(&tries(&mut sim, 1), "node1 dnat", Cause::ForwardDrop);
        for node in [2, 3] {
            let conversation = tries(&mut sim, node);
            is_open(&conversation, "node1 tag", Cause::ForwardDrop);
            let judgement = conversation.judgement;
            assert!(!judgement.says.contains("gone"), "{}", judgement.says);
            assert_eq!(judgement.says.contains("node1 shows every packet at save"), full);
        }
        // On the entry node of a foreign flow.
        let mut sim = with(full, Wrong { forward_drop: Some(2), ..Wrong::default() });
        is_open(&tries(&mut sim, 2), "node2 dnat", Cause::ForwardDrop);
    });
}

#[test]
fn a_conntrack_table_that_is_full() {
    both_ways(|full| {
        let mut sim = with(full, Wrong { conntrack_full: Some(1), ..Wrong::default() });
        for (node, last) in [(1, "node1 dnat"), (2, "node2 save"), (3, "node2 ")] {
            let conversation = tries(&mut sim, node);
            let judgement = &conversation.judgement;
            assert!(judgement.proof[0].to_string().starts_with(last), "{judgement:?}");
            assert_eq!((judgement.finding, judgement.cause), (Finding::NoReply, None));
            let full = conversation.hints().into_iter().find(|it| it.cause == Cause::ConntrackFull).unwrap();
            assert_eq!(full.decided_by(), "on node1: dunnat doctor, fact conntrack-room; conntrack -S");
            assert!(!fits(judgement).contains(&Cause::NoSpoof), "{judgement:?}");
        }
    });
}

/// Nobody knows then where the guest lives: it is not to be guessed.
#[test]
fn a_full_table_on_the_home_node_of_a_guest_of_which_nothing_is_seen() {
    both_ways(|full| {
        let mut sim = Sim::new();
        (sim.full, sim.wrong.conntrack_full) = (full, Some(1));
        let judgements: Vec<Judgement> = (1..=3).map(|node| tries(&mut sim, node).judgement).collect();
        let paths = sim.paths();
        for (one, judgement) in paths.conversations.iter().zip(&judgements) {
            assert_eq!((one.home.as_deref(), judgement.cause), (None, None));
            assert!(fits(&one.judgement).contains(&Cause::ConntrackFull), "{judgement:?}");
        }
        assert!(paths.conversations[1].judgement.says.contains("home node of 10.5.5.201 is not known"));
    });
}

#[test]
fn conntrack_that_is_flushed() {
    both_ways(|full| {
        let mut sim = with(full, Wrong::default());
        sim.asks(2, 40002, SYN, 400_020, 0, false);
        sim.flush(1);
        sim.asks(2, 40002, SYN, 400_020, 0, false);
        let paths = sim.paths();
        let judgement = &of(&paths, 40002).judgement;
        // Only in full mode save shows that the packet passed the forward hook.
        let expected = match full {
            true => (Finding::NoCtMark, Some(Cause::NotKept)),
            false => (Finding::NoReply, None),
        };
        assert_eq!((judgement.finding, judgement.cause), expected, "{judgement:?}");
        assert!(fits(judgement).contains(&Cause::ConntrackForgot));
        let first = if full { Cause::ConntrackForgot } else { Cause::ForwardDrop };
        assert!(fits(judgement)[..2].contains(&first), "{judgement:?}");
        assert!(!judgement.says.contains("node2") && !fits(judgement).contains(&Cause::NoSpoof));
    });
}

#[test]
fn a_guest_that_has_another_node_for_its_gateway() {
    both_ways(|full| {
        let mut sim = with(full, Wrong { gateway: Some(2), ..Wrong::default() });
        // The guest's node before node2, so that it is known which of its ports is the pipe.
        sim.connect(3, 40003);
        sim.try_to_connect(1, 40001);
        let paths = sim.paths();
        let foreign = of(&paths, 40003);
        assert_eq!(foreign.judgement.finding, Finding::Foreign, "{:?}", foreign.judgement);
        assert!(foreign.judgement.also.iter().any(|also| also.contains("ip neigh")), "{foreign:?}");
        assert_eq!(foreign.home.as_deref(), Some("node1"));
        let local = of(&paths, 40001);
        assert_eq!(local.home.as_deref(), Some("node1"));
        if full {
            assert_eq!(local.judgement.finding, Finding::NoCtMark);
            assert_eq!(local.judgement.cause, Some(Cause::GatewayMac));
            assert!(local.judgement.says.contains("eth1.100, which is a pipe"), "{}", local.judgement.says);
        } else {
            is_open(local, "node1 save", Cause::GatewayMac);
            assert!(
                local.judgement.says.contains("came to node2, on which it does not live"),
                "{}",
                local.judgement.says
            );
        }
        assert_eq!(local.hints()[0].decided_by(), "in the guest: ip neigh");
    });
}

/// No frame of a node came by the pipe to node2, so that it is not seen to be one. But node2 sends requests on to node1.
#[test]
fn a_guest_that_has_another_node_for_its_gateway_from_the_beginning() {
    both_ways(|full| {
        let mut sim = Sim::new();
        (sim.full, sim.wrong.gateway) = (full, Some(2));
        sim.connect(2, 40002);
        sim.try_to_connect(1, 40001);
        let paths = sim.paths();
        assert_eq!(of(&paths, 40002).judgement.finding, Finding::Foreign);
        let local = of(&paths, 40001);
        assert_eq!((local.home.as_deref(), local.judgement.cause), (None, None), "{:?}", local.judgement);
        assert!(fits(&local.judgement)[..2].contains(&Cause::GatewayMac), "{:?}", local.judgement);
    });
}

#[test]
fn conntrack_that_is_flushed_while_a_connection_goes_on() {
    both_ways(|full| {
        let mut sim = Sim::new();
        sim.full = full;
        sim.connect(2, 40002);
        sim.flush(1);
        sim.sends(2, 40002, 400_021, 100);
        sim.replies_data(40002, 501, 100);
        let paths = sim.paths();
        let judgement = &of(&paths, 40002).judgement;
        assert_eq!((judgement.finding, judgement.cause), (Finding::Foreign, None), "{judgement:?}");
        assert!(judgement.also.iter().any(|also| also.starts_with("conntrack on node1 forgot")));
    });
}

#[test]
fn a_guest_that_is_silent() {
    both_ways(|full| {
        let mut sim = with(full, Wrong::default());
        is_open(&tries(&mut sim, 1), "node1 save", Cause::Silent);
        is_open(&tries(&mut sim, 2), if full { "node1 save" } else { "node1 tag" }, Cause::Silent);
        assert_eq!(
            of(&sim.paths(), 40002).judgement.also,
            ["the client sent its SYN 3 times"],
            "how often is no other cause"
        );
    });
}

#[test]
fn a_bridge_with_the_mac_address_of_another_node() {
    both_ways(|full| {
        let mut sim = with(full, Wrong { mac_of: Some((2, 3)), ..Wrong::default() });
        sim.try_to_connect(2, 40002);
        let judge = |sim: &Sim| of(&sim.paths(), 40002).judgement.clone();
        let judgement = judge(&sim);
        assert_eq!((judgement.finding, judgement.cause), (Finding::WrongAddress, Some(Cause::BridgeMac)));
        assert!(judgement.says.contains("by the same cluster file"), "{}", judgement.says);
        let hints = of(&sim.paths(), 40002).hints();
        assert_eq!(hints[0].decided_by(), "on node2: dunnat doctor, fact bridge-mac");
        // Traces that do not say by which file they were decided prove neither.
        sim.events.iter_mut().for_each(|event| event.config = None);
        let judgement = judge(&sim);
        assert_eq!(judgement.cause, None);
        assert_eq!(fits(&judgement), [Cause::BridgeMac, Cause::TakenForAnother]);
    });
}

#[test]
fn a_bridge_with_the_mac_address_of_nobody() {
    let mut sim = with(false, Wrong { mac_of: Some((2, 9)), ..Wrong::default() });
    let judgement = tries(&mut sim, 2).judgement;
    assert_eq!(judgement.cause, Some(Cause::UnknownMac));
    let node = judgement.causes[0].node.as_deref();
    assert_eq!((fits(&judgement), node), (vec![Cause::BridgeMac], Some("node2")));
    // Where nobody knows that node1 is the home node, it may be one that the frame only passes.
    let mut sim = Sim::new();
    sim.wrong.mac_of = Some((2, 9));
    let judgement = tries(&mut sim, 2).judgement;
    assert_eq!((judgement.cause, fits(&judgement)), (None, vec![Cause::UnknownMac, Cause::BridgeMac]));
}

#[test]
fn a_mark_that_another_rule_sets() {
    both_ways(|full| {
        let mut sim = with(full, Wrong { mark: Some(1), ..Wrong::default() });
        sim.try_to_connect(1, 40001);
        let paths = sim.paths();
        let judgement = &of(&paths, 40001).judgement;
        assert_eq!(judgement.cause, Some(Cause::MarkChanged), "{judgement:?}");
        let expected = if full { Finding::NoCtMark } else { Finding::NoReply };
        assert_eq!(judgement.finding, expected);
        assert!(judgement.says.contains("set the mark 0x1 at dnat, and at save the same packet has 0x64"));
        let proof: Vec<String> =
            judgement.proof.iter().map(|proof| format!("{} {}", proof.node, proof.stage)).collect();
        assert_eq!(proof, ["node1 dnat", "node1 save"]);
    });
}

#[test]
fn a_ct_mark_that_another_rule_sets() {
    both_ways(|full| {
        for node in [1, 2] {
            let mut sim = with(full, Wrong { ct_mark: Some(1), ..Wrong::default() });
            let judgement = tries(&mut sim, node).judgement;
            if full {
                // At home tag has given the flow its mark, which is another at save.
                let (cause, says) = match node {
                    1 => (Cause::UnknownTag, "0x64, which is no node's tag"),
                    _ => (Cause::CtMarkChanged, "at save the flow of the same packet has another"),
                };
                assert_eq!(judgement.cause, Some(cause), "{judgement:?}");
                assert!(judgement.says.contains(says), "{}", judgement.says);
            } else {
                assert_eq!(judgement.cause, None);
                assert!(fits(&judgement).contains(&Cause::CtMarkChanged), "{judgement:?}");
            }
        }
    });
}

#[test]
fn a_firewall_that_drops_what_is_invalid() {
    both_ways(|full| {
        let mut sim = with(full, Wrong { invalid_drop: Some(2), ..Wrong::default() });
        let first = 400_020;
        sim.asks(2, 40002, SYN, first, 0, false);
        sim.replies(40002, SYN | ACK, 500, first + 1);
        sim.asks(2, 40002, ACK, first + 1, 501, false);
        for _ in 0..4 {
            sim.sends(2, 40002, first + 1, 200);
            sim.replies(40002, SYN | ACK, 500, first + 1);
        }
        let paths = sim.paths();
        let judgement = &of(&paths, 40002).judgement;
        assert_eq!((judgement.finding, judgement.cause), (Finding::Stalled, None), "{judgement:?}");
        assert_eq!(fits(judgement)[0], Cause::InvalidDrop);
        assert!(judgement.says.contains("the client sent the same packet of 240 bytes 4 times"));
        assert!(judgement.says.contains("sent its SYN/ACK 5 times"), "{}", judgement.says);
        assert_eq!(judgement.says.contains("node2 shows every packet at save"), full);
    });
}

#[test]
fn a_pipe_that_carries_less() {
    both_ways(|full| {
        let mut sim = with(full, Wrong { pipe_mtu: Some(1280), ..Wrong::default() });
        sim.connect(2, 40002);
        for _ in 0..4 {
            sim.sends(2, 40002, 400_021, 1460);
        }
        let paths = sim.paths();
        let judgement = &of(&paths, 40002).judgement;
        assert_eq!((judgement.finding, judgement.cause), (Finding::Stalled, None), "{judgement:?}");
        assert_eq!(fits(judgement)[0], Cause::PipeMtu, "{judgement:?}");
        assert!(judgement.says.contains("1500 bytes 4 times, while shorter packets got through"));
        // It goes on: then nothing is wrong any more.
        sim.wrong.pipe_mtu = None;
        sim.sends(2, 40002, 401_481, 1460);
        assert_eq!(of(&sim.paths(), 40002).judgement.finding, Finding::Foreign);
    });
}

#[test]
fn replies_that_do_not_come_to_the_client() {
    let mut sim = with(false, Wrong::default());
    sim.connect(1, 40001);
    for _ in 0..3 {
        sim.replies_data(40001, 501, 1460);
    }
    let paths = sim.paths();
    let judgement = &of(&paths, 40001).judgement;
    assert_eq!((judgement.finding, fits(judgement)[0]), (Finding::Stalled, Cause::PublicPath));
}

#[test]
fn whoever_knows_it_says_where_a_guest_lives() {
    let mut sim = Sim::new();
    for _ in 0..3 {
        sim.asks(2, 40002, SYN, 7, 0, true);
    }
    let mut joiner = crate::conversations::Joiner::default();
    joiner.guest_on(std::net::IpAddr::from(GUEST), "node1".into());
    sim.events.iter().for_each(|event| joiner.add(event.clone(), true));
    let paths = joiner.finish();
    let one = &paths.conversations[0];
    assert_eq!(one.home.as_deref(), Some("node1"));
    assert!(
        one.judgement.says.contains("tag did not follow on node1, the home node, of which there is no trace")
    );
    assert_eq!(fits(&one.judgement)[0], Cause::NotTraced);
}

#[test]
fn drops_of_any_reason_are_a_proof() {
    for reason in crate::engine::Reason::ALL {
        let mut sim = with(false, Wrong::default());
        sim.asks(1, 40001, SYN, 400_010, 0, false);
        let event = sim.events.last_mut().unwrap();
        (event.verdict, event.reason) = (crate::net::Verdict::Drop, reason);
        let paths = sim.paths();
        let judgement = &of(&paths, 40001).judgement;
        if reason != crate::engine::Reason::MarkConflict {
            assert_eq!(judgement.cause, Some(Cause::Dropped), "{reason}");
        }
        assert_eq!(judgement.proof[0].to_string(), format!("node1 save #{}", sim.events.last().unwrap().seq));
    }
}

/// UDP has no numbers that tell one request from the next.
#[test]
fn datagrams_too() {
    both_ways(|full| {
        for (wrong, node, first) in [
            (Wrong { forward_drop: Some(1), ..Wrong::default() }, 2, Cause::ForwardDrop),
            (Wrong { forward_drop: Some(1), ..Wrong::default() }, 1, Cause::ForwardDrop),
            (Wrong::default(), 1, Cause::Silent),
            (Wrong::default(), 3, Cause::Silent),
        ] {
            let mut sim = with(full, wrong);
            tries(&mut sim, node);
            for event in &mut sim.events {
                event.tcp = None;
                for tuple in [&mut event.before, &mut event.after] {
                    tuple.iter_mut().for_each(|tuple| tuple.proto = crate::net::Proto::UDP);
                }
            }
            let paths = sim.paths();
            let one = of(&paths, 40000 + node as u16);
            assert_eq!((one.judgement.finding, one.judgement.cause), (Finding::NoReply, None), "{one:?}");
            assert_eq!(fits(&one.judgement)[0], first, "{:?}", one.judgement);
            assert!(one.judgement.also.contains(&"the client sent 3 requests".to_owned()), "{one:?}");
        }
    });
}

#[test]
fn a_reply_that_the_client_acknowledges_was_there() {
    let mut sim = with(false, Wrong::default());
    sim.asks(2, 40002, SYN, 400_020, 0, false);
    sim.asks(2, 40002, ACK, 400_021, 501, false);
    let paths = sim.paths();
    let judgement = &of(&paths, 40002).judgement;
    assert_eq!((judgement.finding, fits(judgement)[0]), (Finding::NoReply, Cause::NotTraced));
    assert!(judgement.says.ends_with("There was a reply: the client acknowledges it"), "{}", judgement.says);
    assert!(!fits(judgement).contains(&Cause::Silent), "{judgement:?}");
}
