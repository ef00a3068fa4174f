//! What holds whatever goes wrong, whatever the clocks say, and whatever is missing in the traces.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::cluster::{ACK, SYN, Sim, Wrong};
use super::uncertain::{both_ways, of};
use crate::conversations::{Cause, Finding, Judgement, Paths};

/// What can go wrong, by a number.
fn wrong(number: usize) -> (Wrong, bool) {
    let mut wrong = Wrong::default();
    let node = Some(1 + number % 3);
    match number / 3 {
        0 => wrong.forward_drop = node,
        1 => wrong.conntrack_full = node,
        2 => wrong.mark = node,
        3 => wrong.ct_mark = node,
        4 => wrong.gateway = node.filter(|node| *node > 1),
        5 => wrong.mac_of = Some((1 + number % 3, 3 - number % 3)),
        6 => wrong.invalid_drop = node,
        7 => wrong.pipe_mtu = Some(100),
        _ => return (wrong, number.is_multiple_of(2)),
    }
    (wrong, false)
}

pub(super) fn any_sim(full: bool, number: usize, clocks: [i64; 3]) -> Sim {
    let mut sim = Sim::new();
    for (node, seconds) in (1..).zip(clocks) {
        sim.set_clock(node, SignedDuration::from_secs(seconds));
    }
    (sim.full, (sim.wrong, sim.forgets)) = (full, wrong(number));
    for node in 1..=3 {
        let port = 40000 + node as u16;
        let first = u32::from(port) * 10;
        // Who gets nothing says nothing.
        let mut is_open = false;
        for _ in 0..2 {
            sim.asks(node, port, SYN, first, 0, false);
            if sim.arrived {
                sim.replies(port, SYN | ACK, 500, first + 1);
                is_open = true;
            }
        }
        if is_open {
            for _ in 0..3 {
                sim.sends(node, port, first + 1, 800);
            }
            if sim.arrived {
                sim.replies_data(port, 501, 100);
            }
        }
    }
    sim
}

/// What is said of each conversation.
fn said(paths: &Paths) -> Vec<(u16, String)> {
    let mut all: Vec<_> = paths
        .conversations
        .iter()
        .map(|one| {
            let Judgement { finding, cause, causes, proof, says, .. } = &one.judgement;
            (
                one.flow.ports.unwrap().0,
                format!("{finding} {cause:?} {causes:?} {proof:?} {says} {:?}", one.home),
            )
        })
        .collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_certain_without_an_event_that_proves_it(
        full: bool,
        number in 0..26_usize,
        clocks in prop::array::uniform3(-7200..7200_i64),
        // Traces have gaps, begin late and end early.
        lost in prop::collection::vec(prop::bool::weighted(0.2), 200),
        late in 0..40_usize,
    ) {
        let mut sim = any_sim(full, number, clocks);
        let mut lost = lost.into_iter().cycle();
        if late > 20 {
            sim.events.retain(|_| !lost.next().unwrap());
            sim.events.drain(..(late - 20).min(sim.events.len()));
        }
        let paths = sim.paths();
        for one in &paths.conversations {
            let judgement = &one.judgement;
            let drawn = crate::conversations::Text::new(false).ladder(one);
            prop_assert!(drawn.lines().all(|line| line.chars().count() <= 100), "{drawn}");
            prop_assert!(!judgement.proof.is_empty(), "{judgement:?}");
            for proof in &judgement.proof {
                let is_it = |event: &&crate::trace::Event| {
                    (&event.node, event.seq, event.stage) == (&proof.node, proof.seq, proof.stage)
                };
                prop_assert!(sim.events.iter().any(|event| is_it(&event)), "{proof}");
            }
            let right: &[Cause] = match number / 3 {
                2 => &[Cause::MarkChanged],
                3 => &[Cause::UnknownTag, Cause::CtMarkChanged],
                4 => &[Cause::GatewayMac],
                5 => &[Cause::BridgeMac],
                8 if number.is_multiple_of(2) => &[Cause::NotKept],
                _ => &[],
            };
            let is_right = |cause| right.contains(&cause) || cause == Cause::NotTraced && late > 20;
            prop_assert!(judgement.cause.is_none_or(is_right), "{number} {judgement:?}");
            if judgement.cause.is_none() && !judgement.finding.is_right() {
                prop_assert!(!judgement.causes.is_empty(), "{judgement:?}");
            }
            if judgement.finding.is_right() {
                prop_assert!(judgement.cause.is_none() && judgement.causes.is_empty(), "{judgement:?}");
            }
            // Without the cluster files nothing is said about them.
            prop_assert!(!judgement.says.contains("different cluster files"), "{judgement:?}");
        }
    }

    #[test]
    fn neither_clocks_nor_the_order_of_traces_matter(
        full: bool,
        number in 0..26_usize,
        clocks in prop::array::uniform3(-7200..7200_i64),
        first in 0..3_usize,
    ) {
        let nodes = ["node1", "node2", "node3"];
        let order: Vec<&str> = (0..3).map(|place| nodes[(first + 2 * place) % 3]).collect();
        let right = any_sim(full, number, [0; 3]).paths();
        let sim = any_sim(full, number, clocks);
        prop_assert_eq!(said(&sim.joined(&order)), said(&right));
    }
}

#[test]
fn clocks_that_differ_by_two_seconds_or_an_hour_change_nothing() {
    for clocks in [[0, 2, 0], [2, 0, -2], [0, 3600, 0], [0, -3600, 3600], [3600, 0, -3600]] {
        both_ways(|full| {
            let mut sim = Sim::new();
            sim.full = full;
            for (node, seconds) in (1..).zip(clocks) {
                sim.set_clock(node, SignedDuration::from_secs(seconds));
            }
            for node in 1..=3 {
                sim.connect(node, 40000 + node as u16);
            }
            let paths = sim.paths();
            for (port, finding, way) in [
                (40001, Finding::Local, "node1"),
                (40002, Finding::Foreign, "node2 node1"),
                (40003, Finding::Foreign, "node3 node2 node1"),
            ] {
                let one = of(&paths, port);
                assert_eq!((one.judgement.finding, one.way.join(" ").as_str()), (finding, way), "{clocks:?}");
            }
        });
    }
}
