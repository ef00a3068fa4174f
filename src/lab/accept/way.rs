//! The way of a flow, as captures show it: which addresses it has on the LAN, and which pipes it takes.

use super::Seen;
use super::claim::Claim;
use crate::cluster::TagBy;
use crate::lab::{Frame, Layout};
use crate::net::{Family, Proto};

/// A flow from the workstation, through a node, to a guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) family: Family,
    pub(super) proto: Proto,
    /// The place of the entry node.
    pub(super) via: usize,
    /// The place of the guest.
    pub(super) guest: usize,
    pub(super) client_port: u16,
    /// The port of the original destination.
    pub(super) port: u16,
    /// The guest's.
    pub(super) guest_port: u16,
}

impl Way {
    /// Whether a frame is of this client port.
    fn has(&self, frame: &Frame) -> bool {
        frame.is(self.proto) && frame.port(self.client_port)
    }

    fn home(&self, layout: &Layout) -> usize {
        layout.guests[self.guest].home
    }

    /// No reply: how far did the request get? The first frames at every place that was watched.
    pub(super) fn show_where_it_ended(&self, claim: &mut Claim, seen: &Seen) {
        for capture in seen.all() {
            let mut frames = capture.frames.iter().filter(|frame| self.has(frame)).take(3).peekable();
            if frames.peek().is_none() {
                claim.fault(format!("{}: no frame of client port {}", capture.name, self.client_port));
            }
            for frame in frames {
                claim.fault(format!("{}: {frame}", capture.name));
            }
        }
    }

    /// On the LAN: the requests go to the entry node, and the replies have its address, but come from the network card of the home
    /// node; and nobody else takes part under this client port.
    pub(super) fn prove_names_on_lan(&self, claim: &mut Claim, layout: &Layout, seen: &Seen) {
        let (lan, home) = (&seen.lan, &layout.nodes[self.home(layout)]);
        let (public, client) = (layout.public(self.via, self.family), layout.at(self.family).client);
        let is_ours = |frame: &Frame| self.has(frame) && frame.has(client);
        let is_reply =
            |frame: &Frame| is_ours(frame) && frame.from(public) && frame.sport() == Some(self.port);
        if self.proto == Proto::TCP {
            let ended = lan.count(|frame| is_ours(frame) && frame.fin());
            claim.must(ended >= 2, || "LAN: the connection was not closed by both sides".to_owned());
            let syn = lan.count(|frame| is_ours(frame) && frame.to(public) && frame.syn(false));
            claim.must_be(format_args!("LAN: SYN frames to {public}"), syn, 1);
        }
        let replies = lan.count(is_reply);
        claim.must(replies > 0, || format!("LAN: no reply from {public}"));
        let other_card = lan.count(|frame| is_reply(frame) && frame.src.to_string() != home.card);
        claim.must_be(
            format_args!("LAN: replies from another network card than that of {}", home.name),
            other_card,
            0,
        );
        // Had a request gone on as it came, the entry node would have complained about it.
        let complaints = lan.count(|frame| {
            let about = frame.error().map(|error| error.about).filter(|about| about.proto == self.proto);
            let ports = about.and_then(|about| about.ports);
            ports.is_some_and(|(from, to)| [from, to].contains(&self.client_port))
        });
        claim.must_be(format_args!("LAN: ICMP errors about client port {}", self.client_port), complaints, 0);
        let strangers = lan.count(|frame| self.has(frame) && !(frame.has(public) && frame.has(client)));
        claim.must_be(
            format_args!(
                "LAN: frames of client port {} with other ends than {client} and {public}",
                self.client_port
            ),
            strangers,
            0,
        );
        claim.proof_by(
            "LAN",
            format!(
                "{} frames, all between {client}:{} and {public}:{}; the replies came from {} (card {})",
                lan.count(is_ours),
                self.client_port,
                self.port,
                home.name,
                home.card
            ),
            Some(lan),
            is_ours,
        );
    }

    /// On the pipes: requests travel from the entry node to the home node, under the MAC address of the former;
    /// replies never travel back that way. A local flow is not on any pipe.
    pub(super) fn prove_way_inside(&self, claim: &mut Claim, layout: &Layout, seen: &Seen) {
        let (via, home) = (&layout.nodes[self.via], self.home(layout));
        let (client, guest) = (layout.at(self.family).client, layout.guest(self.guest, self.family));
        let is_request = |frame: &Frame| {
            frame.is(self.proto)
                && frame.from(client)
                && frame.to(guest)
                && frame.sport() == Some(self.client_port)
                && frame.dport() == Some(self.guest_port)
        };
        let by_dscp = layout.choice.tag_by == TagBy::Dscp;
        let code = |frame: &Frame| frame.view.map_or(0, |view| view.dscp.value());
        let (mut requests, mut way, mut shown) = (0, Vec::new(), None);
        for (wire, capture) in &seen.pipes {
            let name = &capture.name;
            let replies = capture.count(|frame| {
                self.has(frame) && frame.from(guest) && frame.dport() == Some(self.client_port)
            });
            claim.must_be(format_args!("{name}: replies on this pipe"), replies, 0);
            if !layout.on_way(*wire, self.via, home) {
                let strays = capture.count(|frame| self.has(frame));
                claim.must_be(format_args!("{name}: frames of a flow that does not belong there"), strays, 0);
                continue;
            }
            let here = capture.count(is_request);
            requests += here;
            claim.must(here > 0, || format!("{name}: no request of {} ({})", via.name, via.mac));
            let others = capture.count(|frame| is_request(frame) && frame.src.to_string() != via.mac);
            claim.must_be(
                format_args!("{name}: requests with another source MAC than {}", via.mac),
                others,
                0,
            );
            if self.proto == Proto::TCP {
                let ended = capture.count(|frame| is_request(frame) && frame.fin());
                claim.must(ended > 0, || format!("{name}: no FIN of the client"));
            }
            if by_dscp {
                let wrong = capture.count(|frame| is_request(frame) && code(frame) != via.dscp);
                claim.must_be(
                    format_args!("{name}: requests with another code point than {}'s", via.name),
                    wrong,
                    0,
                );
            }
            way.push(name.trim_start_matches("pipe "));
            shown = Some(capture);
        }
        if let Some(capture) = seen.guest.as_ref().filter(|_| self.guest == 0) {
            let got = capture.count(is_request);
            claim.must(got > 0, || "the guest's own capture has no request".to_owned());
            let coded = capture.count(|frame| is_request(frame) && code(frame) != 0);
            claim.must_be("requests that reached the guest with a code point", coded, 0);
        }
        if self.via != home {
            let text = format!(
                "{requests} requests to {guest} over {}, source MAC {} ({}); no reply went back over a pipe",
                way.join(" "),
                via.mac,
                via.name
            );
            claim.proof_by("pipe", text, shown, is_request);
        } else if layout.nodes.len() > 1 {
            claim.proof("pipe", "no packet of this flow on any pipe");
        }
    }
}
