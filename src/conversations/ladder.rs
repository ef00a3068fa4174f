//! The way of a conversation as a ladder: a lane for each that has a part in it, a rung for each step.
//!
//! Drawn is the first packet, from node to node as far as it was seen, and one reply: the one that proves the
//! finding, or the first. Text, Mermaid and SVG draw the same ladder.

use super::carried::CarriedHere;
use super::connection::Kept;
use super::conversation::{Conversation, end};
use super::finding::{Finding, Proof};
use super::seen::Seen;
use crate::net::{Stage, Tuple, Verdict};
use crate::packet::TcpFlags;
use crate::trace::{Name, Source, mark};

/// Lanes from left to right, rungs from top to bottom.
#[derive(Clone, Debug)]
pub struct Ladder<'a> {
    /// The client, the nodes in the order of the way, the guest.
    pub lanes: Vec<Lifeline>,
    /// What happens.
    pub rungs: Vec<Rung<'a>>,
}

/// Who has a part in it.
#[derive(Clone, Debug)]
pub struct Lifeline {
    /// The name of a node, or `client` and `guest`.
    pub name: String,
    /// Its address, where the conversation tells.
    pub address: String,
}

/// One step; places are those of lanes.
#[derive(Clone, Debug)]
pub enum Rung<'a> {
    /// A packet goes from one to another.
    Arrow(Arrow<'a>),
    /// A node decides.
    Decision(Decision<'a>),
    /// The kernel has carried packets of it at a node, about which no worker has decided.
    Carried {
        /// Whose rules.
        at: usize,
        /// What.
        carried: &'a CarriedHere,
    },
    /// What should be there was not seen.
    Gap {
        /// Where it was last.
        from: usize,
        /// Where it should have been next.
        to: usize,
        /// What is known of it.
        says: String,
    },
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub struct Arrow<'a> {
    /// Who sends.
    pub from: usize,
    /// Who receives.
    pub to: usize,
    /// It goes through a pipe between two nodes.
    pub pipe: bool,
    /// Its addresses and ports there.
    pub packet: Tuple,
    /// Its TCP flags.
    pub flags: Option<TcpFlags>,
    /// Where the frame came from, if the receiver was told.
    pub mac: Option<&'a Source>,
    /// The interface or bridge port that it came in by or leaves by.
    pub port: Option<&'a Name>,
}

/// A decision.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// Who decides.
    pub at: usize,
    /// The event.
    pub event: &'a Seen,
    /// It proves the finding.
    pub proves: bool,
}

impl Arrow<'_> {
    /// The packet's addresses, ports and flags, as in `192.168.122.1:40000 > 10.5.5.201:80 S`.
    pub fn label(&self) -> String {
        let Tuple { src, dst, ports, .. } = self.packet;
        let mut text =
            format!("{} > {}", end(src, ports.map(|ports| ports.0)), end(dst, ports.map(|ports| ports.1)));
        if let Some(flags) = self.flags {
            text += &format!(" {flags}");
        }
        text
    }

    /// The frame it comes in, as in `mac 0e:00:00:00:01:00 (node2)`; empty if nobody was told.
    pub fn frame(&self) -> String {
        match self.mac {
            Some(Source { address, node: Some(node) }) => format!("mac {address} ({node})"),
            Some(Source { address, node: None }) => format!("mac {address}"),
            None => String::new(),
        }
    }
}

impl Decision<'_> {
    /// As in `tag #1`.
    pub fn title(&self) -> String {
        format!("{} #{}", self.event.stage, self.event.seq)
    }

    /// What changes and why: the parts of it, each short.
    pub fn parts(&self) -> Vec<String> {
        let event = self.event;
        let mut parts = Vec::new();
        if let (Some(before), Some(after)) = (event.before, event.after) {
            parts.extend(before.changes(after).map(|(field, to)| format!("{field} -> {to}")));
        }
        parts.push(mark("mark", &event.mark));
        parts.extend(event.ct_mark.as_ref().map(|marks| mark("ct mark", marks)));
        let mut why = match event.verdict {
            Verdict::Accept => event.reason.to_string(),
            Verdict::Drop => format!("DROP {}", event.reason),
        };
        // That a node names itself says nothing new.
        let about = event.entry.as_ref().filter(|about| **about != event.node);
        for name in event.service.iter().chain(about) {
            why += &format!(" {name}");
        }
        parts.push(why);
        parts
    }
}

impl Conversation {
    /// The ladder of it.
    pub fn ladder(&self) -> Ladder<'_> {
        let lane = |name: &str, address: String| Lifeline { name: name.to_owned(), address };
        let mut lanes = vec![lane("client", self.client())];
        for node in &self.way {
            let address = self.original().filter(|_| self.entry.as_ref() == Some(node));
            lanes.push(lane(node, address.unwrap_or_default()));
        }
        lanes.push(lane("guest", self.guest().unwrap_or_default()));
        let mut drawing = Drawing { of: self, rungs: Vec::new() };
        if self.judgement.finding != Finding::Outbound {
            let reached = drawing.request();
            drawing.rest_of_proof();
            drawing.reply(reached);
        } else {
            drawing.reply(true);
            drawing.rest_of_proof();
        }
        drawing.carried();
        Ladder { lanes, rungs: drawing.rungs }
    }
}

struct Drawing<'a> {
    of: &'a Conversation,
    rungs: Vec<Rung<'a>>,
}

impl<'a> Drawing<'a> {
    const CLIENT: usize = 0;

    fn guest(&self) -> usize {
        self.of.way.len() + 1
    }

    fn lane(&self, node: &Name) -> Option<usize> {
        self.of.way.iter().position(|known| known == node).map(|place| place + 1)
    }

    fn decision(&mut self, event: &'a Seen) {
        let Some(at) = self.lane(&event.node) else { return };
        let proof = Proof::from(event);
        let proves = self.of.judgement.proof.contains(&proof);
        self.rungs.push(Rung::Decision(Decision { at, event, proves }));
    }

    /// The event of a node at a stage about the packet that is drawn, or else the first there.
    fn event(&self, node: &Name, stage: Stage, packet: Option<&Seen>) -> Option<&'a Seen> {
        let of: &'a Conversation = self.of;
        let here = || of.events().filter(move |event| event.node == *node && event.stage == stage);
        here()
            .find(|event| packet.is_some_and(|packet| packet.is_same_packet(event)))
            .or_else(|| here().next())
    }

    /// The way to the guest; whether it came there as far as anybody knows.
    fn request(&mut self) -> bool {
        let of = self.of;
        let request = of.request();
        let mut at = Self::CLIENT;
        for node in &of.way {
            let is_entry = of.entry.as_ref() == Some(node);
            let to = self.lane(node).unwrap_or(at);
            let first = if is_entry { request } else { self.event(node, Stage::Tag, request) };
            let save = self.event(node, Stage::Save, request);
            let Some(event) = first.or(save) else {
                // The sender of the first frame, of which there is no trace, is no gap.
                if at == Self::CLIENT {
                    at = to;
                    continue;
                }
                let says = format!("{node} has not seen it");
                self.rungs.push(Rung::Gap { from: at, to, says });
                return false;
            };
            if let Some(packet) = event.before {
                self.rungs.push(Rung::Arrow(Arrow {
                    from: at,
                    to,
                    pipe: at != Self::CLIENT,
                    packet,
                    flags: event.tcp.map(|tcp| tcp.flags),
                    mac: event.mac.as_ref().filter(|_| event.stage != Stage::Save),
                    port: event.phys_in.as_ref().or(event.in_if.as_ref()),
                }));
            }
            for event in [first, save].into_iter().flatten() {
                self.decision(event);
                if event.verdict == Verdict::Drop {
                    return false;
                }
            }
            at = to;
            if of.home.as_ref() == Some(node) {
                let packet = event.leaves_as();
                self.rungs.extend(packet.map(|packet| {
                    let flags = event.tcp.map(|tcp| tcp.flags);
                    Rung::Arrow(Arrow {
                        from: to,
                        to: to + 1,
                        pipe: false,
                        packet,
                        flags,
                        mac: None,
                        port: None,
                    })
                }));
                return true;
            }
        }
        let says = "no trace shows it from here on".to_owned();
        self.rungs.push(Rung::Gap { from: at, to: self.guest(), says });
        false
    }

    fn reply(&mut self, reached: bool) {
        let of = self.of;
        let replies = || of.events().filter(|event| event.stage == Stage::Spoof);
        let proves = |event: &&Seen| of.judgement.proof.contains(&Proof::from(*event));
        let reply = replies()
            .find(proves)
            .or_else(|| replies().find(|event| event.is_reply(of.flow.dst)))
            .or_else(|| replies().next());
        let Some((event, home)) = reply.and_then(|reply| Some((reply, self.lane(&reply.node)?))) else {
            if let Some(reply) = reply {
                let says = format!("a reply came to {} instead", reply.node);
                self.rungs.push(Rung::Gap { from: self.guest(), to: Self::CLIENT, says });
            } else if let Some(home) =
                of.carried.iter().find(|it| it.stage == Stage::Spoof).and_then(|it| self.lane(&it.node))
            {
                let says = format!("no worker of {} has seen a reply", of.way[home - 1]);
                self.rungs.push(Rung::Gap { from: self.guest(), to: Self::CLIENT, says });
            } else if reached {
                let says = "no reply seen".to_owned();
                self.rungs.push(Rung::Gap { from: self.guest(), to: Self::CLIENT, says });
            }
            return;
        };
        let arrow = |from, to, packet, port| {
            let flags = event.tcp.map(|tcp| tcp.flags);
            Rung::Arrow(Arrow { from, to, pipe: false, packet, flags, mac: None, port })
        };
        let came = event.phys_in.as_ref().or(event.in_if.as_ref());
        self.rungs.extend(event.before.map(|packet| arrow(self.guest(), home, packet, came)));
        self.decision(event);
        self.rungs
            .extend(event.leaves_as().map(|packet| arrow(home, Self::CLIENT, packet, event.out_if.as_ref())));
    }

    /// What no worker has seen.
    fn carried(&mut self) {
        for carried in &self.of.carried {
            if let Some(at) = self.lane(&carried.node) {
                self.rungs.push(Rung::Carried { at, carried });
            }
        }
    }

    /// What proves the finding and is about another packet than the one that is drawn.
    fn rest_of_proof(&mut self) {
        let of = self.of;
        for Kept { event, .. } in &of.kept {
            let shown = self.rungs.iter().any(|rung| match rung {
                Rung::Decision(decision) => Proof::from(decision.event) == Proof::from(event),
                _ => false,
            });
            if !shown && event.stage != Stage::Spoof && of.judgement.proof.contains(&Proof::from(event)) {
                self.decision(event);
            }
        }
    }
}
