//! Why a packet did not come out as it should, from what was seen of it.

use std::net::IpAddr;

use super::flow::Step;
use super::node::OwnDrop;
use super::outcome::{Change, Fate, Loss, Packet};
use super::rules_met::{RuleMet, Rules};
use crate::net::Tuple;
use crate::netlink::nftables::{Met, Then, Traced};
use crate::packet::{View, addresses};
use crate::ruleset::is_our_name;

/// What was seen of one packet.
pub(super) struct Seen {
    pub(super) is_there: bool,
    /// What came out that is something like it, and by which interface.
    pub(super) others: Vec<(String, Tuple)>,
    /// The rules that it met.
    pub(super) met: Vec<Traced>,
    /// The rules that others met at the same time: who asks for neighbours, what the host says about the packet.
    elsewhere: Vec<Traced>,
    /// Between whom it goes, as it came in and as it should come out.
    between: [(IpAddr, IpAddr); 2],
    ids: Vec<u32>,
}

impl Seen {
    /// Nothing yet, of the packet of a step.
    pub(super) fn of(step: &Step) -> Self {
        let expected = step.expected.tuple();
        let came = View::parse(&step.packet, step.packet.len()).map_or(expected, |view| view.tuple);
        Self {
            is_there: false,
            others: Vec::new(),
            met: Vec::new(),
            elsewhere: Vec::new(),
            between: [(came.src, came.dst), (expected.src, expected.dst)],
            ids: Vec::new(),
        }
    }

    /// A packet keeps its number on its way; a copy of it has another, and the same addresses.
    pub(super) fn note(&mut self, traced: Traced) {
        if addresses(&traced.network).is_some_and(|between| self.between.contains(&between)) {
            self.ids.push(traced.id);
        }
        let met = if self.ids.contains(&traced.id) { &mut self.met } else { &mut self.elsewhere };
        met.push(traced);
    }
}

/// What was seen of a flow.
#[derive(Default)]
pub(super) struct FlowSeen {
    /// The rules that were met when client and guest said where they are.
    pub(super) neighbours: Vec<Traced>,
    /// Rules of others that do more than let packets pass or drop them.
    pub(super) touched: Vec<Traced>,
    /// The node had not learned in time where the guest lives, by which it tells foreign flows.
    pub(super) is_home_unknown: bool,
}

/// What a packet is judged by that did not come out as it should.
pub(super) struct Judge<'j, 'r> {
    pub(super) rules: &'j mut Rules<'r>,
    /// What the node itself dropped.
    pub(super) own: Option<OwnDrop>,
    pub(super) flow: &'j FlowSeen,
    /// What else may have stopped it, where no rule did.
    pub(super) kernel: &'j dyn Fn() -> Vec<String>,
}

impl Judge<'_, '_> {
    pub(super) fn judge(self, packet: Packet, seen: Seen) -> Fate {
        let Self { rules, own, flow, kernel } = self;
        let drops =
            |met: &[Traced]| met.iter().rev().find(|it| it.then == Then::Drop && it.met != Met::End).cloned();
        // Without a neighbour no packet goes out. Our own rules keep such messages from pipes alone.
        let of_others = |it: &&Traced| it.then == Then::Drop && it.met != Met::End && !is_our_name(&it.table);
        let asked = flow.neighbours.iter().chain(&seen.elsewhere).rev().find(of_others).cloned();
        // It drops what it would not drop if it had been told.
        let is_early = flow.is_home_unknown && asked.is_none();
        let early = |packet| {
            let why = "the node had not learned in time where the guest lives: this host is busy, or the bridge tells nobody";
            Fate::Unknown(packet, why.to_owned())
        };
        // The last of them did it, if it was not what became of the packet anyway.
        let touched = flow.touched.last().map(|it| rules.find(it));
        if let Some(dropped) = drops(&seen.met) {
            let rule = rules.find(&dropped);
            if rule.depends_on_others() {
                let why = format!("{} drops it only when there are many: `{}`", rule.place(), rule.rule);
                return Fate::Unknown(packet, why);
            }
            if rule.is_ours && is_early {
                return early(packet);
            }
            let before = touched.filter(|_| rule.is_ours);
            return Fate::Lost(packet, Loss::Rule { rule, before });
        }
        if let Some(OwnDrop { stage, reason }) = own {
            if is_early {
                return early(packet);
            }
            return Fate::Lost(packet, Loss::Node { stage, reason, before: touched });
        }
        let to_others = seen.met.iter().rev().find_map(|it| match it.then {
            Then::Queue(number) if !is_our_name(&it.table) => Some((number, it)),
            _ => None,
        });
        if let Some((number, traced)) = to_others {
            let place = rules.find(traced).place();
            let why = format!("{place} hands it to queue {number}, whose program is not in the copy");
            return Fate::Unknown(packet, why);
        }
        if let Some((out, tuple)) = seen.others.into_iter().next() {
            return Fate::Changed(packet, Change { out, tuple, by: touched });
        }
        if let Some(by) = touched {
            return Fate::Lost(packet, Loss::Gone { after: by });
        }
        if let Some(dropped) = asked {
            return Fate::Lost(packet, Loss::Neighbours(rules.find(&dropped)));
        }
        Fate::Lost(packet, Loss::Kernel(kernel()))
    }
}

impl RuleMet {
    /// What it does depends on how many packets there are, and the rehearsal sends its own all at once.
    fn depends_on_others(&self) -> bool {
        [
            "limit rate",
            "quota ",
            "ct count",
            "xt match limit",
            "xt match hashlimit",
            "xt match recent",
            "xt match connlimit",
            "xt match statistic",
            "numgen ",
        ]
        .iter()
        .any(|words| self.rule.contains(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearse::flow::{Expected, Place};

    /// What the node itself drops because it was told too late is no fault of the host.
    #[test]
    fn a_node_that_was_told_late_is_not_blamed() {
        let packet = || Packet { number: 2, of: 9, what: "the guest's SYN/ACK", is_error: false };
        let tuple = Tuple {
            proto: crate::net::Proto::TCP,
            src: "10.5.5.201".parse().unwrap(),
            dst: "192.168.122.200".parse().unwrap(),
            ports: Some((80, 40_000)),
        };
        let step = Step {
            what: packet().what,
            from: Place::Guest,
            packet: Vec::new(),
            to: Place::Public,
            expected: Expected::Tuple(tuple),
            is_full: false,
        };
        let (stage, reason) = ("guard".to_owned(), "nothing-inside".to_owned());
        let judged = |is_home_unknown| {
            let flow = FlowSeen { is_home_unknown, ..FlowSeen::default() };
            let own = Some(OwnDrop { stage: stage.clone(), reason: reason.clone() });
            let judge = Judge { rules: &mut Rules::of(&[]), own, flow: &flow, kernel: &Vec::new };
            judge.judge(packet(), Seen::of(&step))
        };
        let lost = judged(false);
        let by_itself = Loss::Node { stage: stage.clone(), reason: reason.clone(), before: None };
        assert_eq!(lost, Fate::Lost(packet(), by_itself));
        assert!(lost.is_unexplained());
        assert!(matches!(judged(true), Fate::Unknown(..)));
    }
}
