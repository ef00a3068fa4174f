//! No trace has a reply: how far did the request get?

use super::stalled::least_mtu;
use super::{Case, came_of, certain, open};
use crate::conversations::cause::Cause;
use crate::conversations::clue::Possible;
use crate::conversations::connection::Traced;
use crate::conversations::finding::{Finding, Judgement, Proof};
use crate::conversations::seen::Seen;
use crate::engine::Reason;
use crate::net::{CtState, Stage, Verdict};
use crate::trace::Name;

/// What keeps a frame that came to the home node from being seen there.
const AT_HOME: [Cause; 3] = [Cause::ConntrackFull, Cause::BrNetfilter, Cause::NodeStopped];

/// How far a request came, as far as it is known.
enum Reached<'a> {
    /// Only the entry node's dnat has it.
    Dnat,
    /// Behind the forward hook of the entry node, on its way to the home node.
    Pipe(&'a Seen),
    /// The node that it is for.
    Home(&'a Seen),
}

impl<'a> Case<'a> {
    pub(super) fn no_reply(&self, request: &'a Seen) -> Judgement {
        if let Some(dropped) = self.dropped() {
            return dropped;
        }
        if let Some(changed) = self.mark_changed() {
            return changed;
        }
        let original = request.before.map_or(self.flow.dst, |before| before.dst);
        if let Some(conflict) = self.find(|event| event.reason == Reason::MarkConflict) {
            return match self.others_than(original).next() {
                Some(other) => self.shared(request, original, other, conflict),
                None => certain(
                    Finding::MarkConflict,
                    None,
                    format!("on {} the flow has the tag of another node{}", conflict.node, came_of(conflict)),
                    &[conflict],
                )
                .perhaps(self.possibles(&[Cause::PortShared, Cause::CtMarkChanged], &conflict.node)),
            };
        }
        if let Some(unknown) = self.unknown_sender() {
            return unknown;
        }
        if let Some(forgotten) = self.not_kept() {
            return forgotten;
        }
        let mut judgement = self.no_answer(request);
        // A request that got its tag at the home node has no conflict, whoever used the port before.
        let fresh =
            |event: &Seen| self.is_home(event) && matches!(event.reason, Reason::FromNode | Reason::Saved);
        if let (Some(other), None) = (self.others_than(original).next(), self.find(fresh)) {
            judgement.says += &format!(
                ". {} also sent requests from this port to {} ({}), which are the same flow for the home node",
                self.flow.src, other.original_dst, other.proof
            );
            judgement.proof.push(other.proof.clone());
            judgement.causes.insert(0, self.possible(Cause::PortShared, self.home.unwrap_or(&request.node)));
        }
        judgement
    }

    /// A request or a reply was dropped, and none got through there later.
    pub(super) fn dropped(&self) -> Option<Judgement> {
        let is_drop = |event: &Seen| {
            event.verdict == Verdict::Drop && event.reason != Reason::MarkConflict && !event.is_error()
        };
        let goes_on = |drop: &Seen| {
            self.events().any(|event| {
                (&event.node, &event.run, event.stage) == (&drop.node, &drop.run, drop.stage)
                    && event.verdict == Verdict::Accept
                    && !event.is_error()
                    && event.seq > drop.seq
            })
        };
        let dropped = self.find(|event| is_drop(event) && !goes_on(event))?;
        let says = format!("{} dropped a packet at {}: {}", dropped.node, dropped.stage, dropped.reason);
        Some(certain(Finding::NoReply, Some(Cause::Dropped), says, &[dropped]))
    }

    fn no_answer(&self, request: &'a Seen) -> Judgement {
        match self.reached(request) {
            Reached::Dnat => self.only_at_dnat(request),
            Reached::Pipe(last) => self.on_its_way(request, last),
            Reached::Home(last) => self.without_reply(request, last),
        }
    }

    fn reached(&self, request: &'a Seen) -> Reached<'a> {
        let entry = &request.node;
        let last_on = |node: &Name| {
            let here = || {
                self.events().filter(|event| {
                    event.node == *node
                        && matches!(event.stage, Stage::Tag | Stage::Save)
                        && !event.is_error()
                })
            };
            here().filter(|event| event.is_same_packet(request)).last().or_else(|| here().next())
        };
        if let Some(home) = self.home
            && let Some(last) = last_on(home)
        {
            return Reached::Home(last);
        }
        if let Some(last) = self.nearest().filter(|node| *node != entry).and_then(last_on) {
            return Reached::Pipe(last);
        }
        match last_on(entry) {
            Some(save) => Reached::Pipe(save),
            // A packet of a connection that was there before: save need not see it.
            None if request.acknowledges() && self.home == Some(entry) => Reached::Home(request),
            None if request.acknowledges() => Reached::Pipe(request),
            None => Reached::Dnat,
        }
    }

    /// As in `the client's SYN`.
    fn packet(&self, last: &Seen) -> String {
        let what = match (self.is_tcp(), last.is_syn()) {
            (true, true) => "SYN",
            (true, false) => "packet",
            (false, _) => "request",
        };
        format!("{} is the last that shows the client's {what}", Proof::from(last))
    }

    /// What follows dnat on a node is conntrack, routing, the forward hook, and then save.
    fn only_at_dnat(&self, request: &'a Seen) -> Judgement {
        let node = &request.node;
        if self.home != Some(node) {
            return self.passed_on(request);
        }
        let mut causes = vec![Cause::ForwardDrop, Cause::ConntrackFull];
        let mut says = format!("{}; save did not follow on {node}", self.packet(request));
        if self.shows_all(request) {
            says += ", which shows every packet there";
        } else {
            says += ", where it is seen if its flow has no ct mark yet";
            causes.extend([Cause::CtMarkChanged, Cause::MarkChanged]);
        }
        causes.extend([Cause::NotForwarded, Cause::NotTraced]);
        open(Finding::NoReply, says, &[request], self.possibles(&causes, node))
    }

    /// The same of a flow that only passes its entry node: behind dnat no stage sees it there, whatever becomes of it.
    fn passed_on(&self, request: &'a Seen) -> Judgement {
        let node = &request.node;
        let mut further = self.on_its_way(request, request);
        further.says +=
            &format!(". On {node} no stage behind dnat sees a flow whose guest lives on another node");
        let mut here = self.possibles(&[Cause::ForwardDrop, Cause::NotForwarded], node);
        // A guest that is not known to live elsewhere is tracked.
        let tracked = [Cause::InvalidDrop, Cause::ConntrackFull];
        further.causes.extend(self.possibles(&tracked, node));
        here.append(&mut further.causes);
        unique(&mut here);
        further.causes = here;
        further
    }

    /// It left the entry node, or one behind it, and the home node is not known or does not have it.
    fn on_its_way(&self, request: &'a Seen, last: &'a Seen) -> Judgement {
        let at = &last.node;
        let is_entry = *at == request.node;
        let mut causes = Vec::new();
        let mut says = self.packet(last);
        match self.home {
            Some(home) if home != at => {
                says += &format!("; tag did not follow on {home}, the home node");
                if self.is_tcp() && !request.begins() && !self.nodes.get(home).is_some_and(Traced::shows_any)
                {
                    says += ", which shows it only if its flow has no ct mark yet";
                    causes.extend(self.beyond(home, last));
                }
                if !self.nodes.contains_key(home) {
                    says += ", of which there is no trace";
                    causes.push(self.possible(Cause::NotTraced, home));
                }
                causes.extend(self.lost_in_pipe(last));
                causes.extend(self.possibles(&AT_HOME, home));
                if is_entry {
                    causes.push(self.possible(Cause::NoNeighbour, at));
                }
                causes.extend(self.possibles(&[Cause::ForwardDrop, Cause::NotTraced], home));
            }
            _ => {
                says += &format!(
                    ". The home node of {} is not known: the traces have no frame of the guest itself (--guest-on {0}=NODE names it)",
                    self.flow.dst
                );
                let beyond = self.beyond(at, last);
                if self.nodes.len() == 1 {
                    causes.extend(self.elsewhere(&[Cause::NotTraced]));
                    causes.extend(beyond);
                } else {
                    let (first, rest) = beyond.split_at(beyond.len().min(1));
                    causes.extend_from_slice(first);
                    if is_entry {
                        causes.push(self.possible(Cause::NoNeighbour, at));
                    }
                    causes.extend(self.lost_in_pipe(last));
                    causes.extend(self.elsewhere(&AT_HOME));
                    causes.extend_from_slice(rest);
                    causes.extend(self.elsewhere(&[Cause::NotTraced]));
                }
            }
        }
        if causes.first().is_some_and(|first| first.cause == Cause::GatewayMac) {
            says += &self.stray_frames();
        }
        let mut proof = vec![last];
        if let Some(follows) = self.acknowledged() {
            says += ". There was a reply: the client acknowledges it";
            proof.push(follows);
            // It came to the client, so nothing was lost but its events.
            causes = vec![Possible { cause: Cause::NotTraced, node: self.home.cloned() }];
        }
        unique(&mut causes);
        open(Finding::NoReply, says, &proof, causes)
    }

    fn lost_in_pipe(&self, last: &Seen) -> Vec<Possible> {
        let is_large = last.len > least_mtu(self.flow.src.is_ipv4());
        let causes: &[Cause] =
            if is_large { &[Cause::NeverArrived, Cause::PipeMtu] } else { &[Cause::NeverArrived] };
        // A pipe has two ends, and what is wrong may be at either.
        let ends = [Some(&last.node), self.home].into_iter().flatten();
        let mut all: Vec<Possible> = Vec::new();
        for cause in causes {
            all.extend(ends.clone().map(|node| self.possible(*cause, node)));
        }
        unique(&mut all);
        all
    }

    /// The home node has the request, and there is no reply.
    fn without_reply(&self, request: &'a Seen, last: &'a Seen) -> Judgement {
        let home = &last.node;
        let mut says = format!("{}, on the home node; spoof did not follow there", self.packet(last));
        let mut proof = vec![last];
        let mut causes = self.beyond(home, last);
        if let Some((event, how)) = self.sign_of_reply() {
            says += &format!(". There was a reply: {how}");
            proof.push(event);
            let went = |cause: &[Cause]| self.possibles(cause, home);
            causes = if event.acknowledges() && event.stage == Stage::Dnat {
                went(&[Cause::NotTraced, Cause::NoSpoof, Cause::CtMarkChanged])
            } else if event.node == request.node && request.node != *home {
                // Conntrack there has seen a reply, which is not its way.
                let mut all = vec![self.possible(Cause::GatewayMac, home)];
                all.extend(went(&[Cause::NotTraced, Cause::NoSpoof]));
                all
            } else {
                went(&[
                    Cause::NoSpoof,
                    Cause::CtMarkChanged,
                    Cause::ForwardDrop,
                    Cause::OtherWayOut,
                    Cause::NotTraced,
                ])
            };
        }
        if causes.first().is_some_and(|first| first.cause == Cause::GatewayMac) {
            says += &self.stray_frames();
        }
        let mut judgement = open(Finding::NoReply, says, &proof, causes);
        unique(&mut judgement.causes);
        judgement
    }

    /// Where other frames of the guest came to, as a sentence that goes on.
    fn stray_frames(&self) -> String {
        self.home_nodes.strays(self.flow.dst).map_or_else(String::new, |stray| {
            format!(
                ". Frames of the guest for other clients came to {}, on which it does not live ({stray})",
                stray.node
            )
        })
    }

    /// What may be behind the last that a node shows of a request, if that node may be the guest's.
    fn beyond(&self, node: &Name, last: &Seen) -> Vec<Possible> {
        let mut causes = Vec::new();
        let strays = self.home_nodes.strays(self.flow.dst).is_some();
        if strays {
            causes.push(Cause::GatewayMac);
        }
        // At tag the forward hook is still to come. What is kept of the flow at the next packet has passed it.
        let is_before_forward = last.stage == Stage::Tag;
        let repeated = self.sent.iter().any(|sent| sent.kind().stage == Stage::Dnat && sent.times > 1)
            || self.kept.iter().any(|kept| kept.more > 0 && kept.event.stage == Stage::Dnat);
        if is_before_forward && self.shows_all(last) {
            causes.push(Cause::ForwardDrop);
        }
        let translates = self.nodes.get(node).is_some_and(|node| node.translated > 0);
        if translates {
            causes.extend([Cause::Silent, Cause::GatewayMac, Cause::NoGateway]);
        } else {
            causes.extend([Cause::Silent, Cause::NoSpoof, Cause::GatewayMac, Cause::NoGateway]);
        }
        if is_before_forward && !repeated {
            causes.push(Cause::ForwardDrop);
        }
        causes.extend([Cause::CtMarkChanged, Cause::NoSpoof, Cause::ForwardDrop, Cause::OtherWayOut]);
        let mut causes = self.possibles(&causes, node);
        unique(&mut causes);
        causes
    }

    /// The client acknowledges what came back after its SYN. An ACK alone may be anything.
    fn acknowledged(&self) -> Option<&'a Seen> {
        self.request.filter(|request| request.begins())?;
        self.find(|event| event.stage == Stage::Dnat && event.acknowledges())
    }

    /// What shows that there was a reply, though no trace has it.
    fn sign_of_reply(&self) -> Option<(&'a Seen, &'static str)> {
        let forth = |event: &Seen| event.stage != Stage::Spoof && !event.is_error();
        let follows = self.acknowledged();
        let established =
            self.find(|event| forth(event) && self.is_tcp() && event.ct_state == Some(CtState::Established));
        match (follows, established) {
            (Some(event), _) => Some((event, "the client acknowledges it")),
            (None, Some(event)) => Some((event, "conntrack has the connection established")),
            (None, None) => None,
        }
    }
}

/// Each once, at the place where it is first.
fn unique(causes: &mut Vec<Possible>) {
    let mut known: Vec<Possible> = Vec::new();
    for cause in causes.drain(..) {
        if !known.contains(&cause) {
            known.push(cause);
        }
    }
    *causes = known;
}
