//! Packets that somebody has rejected, and said so: by a reset, or by an ICMP error.

use std::net::IpAddr;

use super::{Case, certain};
use crate::conversations::cause::Cause;
use crate::conversations::clue::Possible;
use crate::conversations::finding::{Finding, Judgement};
use crate::conversations::seen::Seen;
use crate::net::{Stage, Verdict};
use crate::packet::Icmp;

/// What an ICMP error says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// None: time exceeded, and what is no error about a packet's way.
    pub(super) cause: Option<Cause>,
    pub(super) words: String,
}

/// By type and code, in the registries of IANA: RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1, RFC 4443.
pub(super) fn meaning(is_v4: bool, icmp: &Icmp) -> Meaning {
    let (cause, words) = match (is_v4, icmp.kind, icmp.code) {
        (true, 11, 0) | (false, 3, 0) => (None, "time exceeded in transit"),
        (true, 11, _) | (false, 3, _) => (Some(Cause::OtherError), "fragment reassembly time exceeded"),
        // It speaks to neighbours about neighbours.
        (true, 5, _) => (None, "redirect"),
        (true, 3, 3) | (false, 1, 4) => (Some(Cause::PortUnreachable), "port unreachable"),
        (true, 3, 4) => (Some(Cause::TooBig), "fragmentation needed"),
        (false, 2, _) => (Some(Cause::TooBig), "packet too big"),
        (true, 3, 9) => (Some(Cause::Prohibited), "network administratively prohibited"),
        (true, 3, 10) => (Some(Cause::Prohibited), "host administratively prohibited"),
        (true, 3, 13) | (false, 1, 1) => (Some(Cause::Prohibited), "administratively prohibited"),
        (false, 1, 5) => (Some(Cause::Prohibited), "source address failed policy"),
        (false, 1, 6) => (Some(Cause::Prohibited), "reject route"),
        (true, 3, 0) => (Some(Cause::Unreachable), "network unreachable"),
        (true, 3, 1) => (Some(Cause::Unreachable), "host unreachable"),
        (true, 3, 6) => (Some(Cause::Unreachable), "network unknown"),
        (true, 3, 7) => (Some(Cause::Unreachable), "host unknown"),
        (false, 1, 0) => (Some(Cause::Unreachable), "no route to destination"),
        (false, 1, 3) => (Some(Cause::Unreachable), "address unreachable"),
        (true, 3, 2) => (Some(Cause::OtherError), "protocol unreachable"),
        (true, 3, _) | (false, 1, _) => (Some(Cause::OtherError), "destination unreachable"),
        (true, 4, _) => (Some(Cause::OtherError), "source quench"),
        (true, 12, _) | (false, 4, _) => (Some(Cause::OtherError), "parameter problem"),
        _ => (Some(Cause::OtherError), "ICMP error"),
    };
    let mtu = icmp.mtu.map(|mtu| format!(", MTU {mtu}")).unwrap_or_default();
    Meaning { cause, words: format!("{words}{mtu} (type {} code {})", icmp.kind, icmp.code) }
}

impl<'a> Case<'a> {
    /// Who sent an error.
    pub(super) fn sender(&self, error: &Seen) -> String {
        let Some(src) = error.before.map(|before| before.src) else { return "somebody".to_owned() };
        if src == self.flow.dst {
            return format!("the guest {src}");
        }
        if src == self.flow.src {
            return format!("the client {src}");
        }
        if is_own(error) {
            return format!("{} itself ({src})", error.node);
        }
        let of_node = self.events().find(|event| event.original_dst() == Some(src));
        match of_node {
            Some(event) => format!("{} ({src})", event.node),
            None => format!("a router, {src},"),
        }
    }

    /// Somebody says that a packet does not get through.
    pub(super) fn rejected(&self, original: IpAddr) -> Option<Judgement> {
        let cause_of = |event: &Seen| {
            let icmp = event.icmp.as_ref().filter(|_| event.is_error())?;
            meaning(event.before?.src.is_ipv4(), icmp).cause
        };
        let is_fault = |event: &Seen| {
            event.verdict == Verdict::Accept && cause_of(event).is_some() && !self.is_discovered(event)
        };
        if let Some(error) = self.find(is_fault) {
            let icmp = error.icmp.as_ref()?;
            let words = meaning(error.before?.src.is_ipv4(), icmp).words;
            let cause = cause_of(error)?;
            let about = match error.stage {
                Stage::Spoof => format!("the request to {original}"),
                _ => format!("a reply of {}", self.flow.dst),
            };
            let mut says =
                format!("{} sent \"{words}\" about {about}, seen on {}", self.sender(error), error.node);
            let quoted = icmp.inner_after.or(icmp.inner)?;
            if error.stage == Stage::Spoof && quoted.dst != original {
                says += ". It left untranslated, so the client does not know which packet it is about";
            }
            // What a node itself sends is what a rule there rejects, whatever the error says, or is too long for its way.
            let here = |causes: &[Cause]| self.possibles(causes, &error.node);
            let mut causes = match error.stage {
                Stage::Spoof if is_own(error) && cause == Cause::Unreachable => self.unreachable(error),
                Stage::Spoof if is_own(error) && cause != Cause::TooBig => here(&[Cause::Prohibited, cause]),
                Stage::Spoof => here(&[cause]),
                // Of the client nobody knows where it is, or how to get there: a reply came no further.
                Stage::Dnat if cause == Cause::Unreachable => {
                    let replied = self.find(|event| event.is_reply(self.flow.dst)).map(|event| &event.node);
                    let node = self.home.or(replied);
                    node.map(|node| self.possible(Cause::PublicPath, node)).into_iter().collect()
                }
                _ => Vec::new(),
            };
            causes.dedup();
            return Some(certain(Finding::Rejected, Some(cause), says, &[error]).perhaps(causes));
        }
        self.reset()
    }

    /// A node looked for the guest's MAC address in vain. Whether the guest is off, or the question or its answer was lost on the
    /// way to the node that the guest lives on, the node does not know.
    fn unreachable(&self, error: &Seen) -> Vec<Possible> {
        let node = &error.node;
        let mut causes = self.possibles(&[Cause::Unreachable], node);
        match self.home {
            Some(home) if home == node => {}
            Some(home) => {
                causes.extend(self.possibles(&[Cause::NeverArrived], node));
                causes.extend(self.possibles(&[Cause::NeverArrived, Cause::ForwardDrop], home));
            }
            None => {
                causes.extend(self.possibles(&[Cause::NeverArrived], node));
                causes.extend(self.elsewhere(&[Cause::NeverArrived, Cause::ForwardDrop]));
            }
        }
        causes.extend(self.possibles(&[Cause::Prohibited], node));
        causes
    }

    /// All that the guest says to the SYN is a reset.
    fn reset(&self) -> Option<Judgement> {
        let request = self.request.filter(|request| request.begins())?;
        let mut replies = self.events().filter(|event| event.is_reply(self.flow.dst)).peekable();
        let first = *replies.peek()?;
        if !replies.all(Seen::is_reset) {
            return None;
        }
        let guest = self.flow.dst;
        if is_own(first) {
            let says = format!(
                "{} itself rejected the SYN for {guest}: the reset that it sent in the guest's name came in by no interface",
                first.node
            );
            return Some(
                certain(Finding::Rejected, Some(Cause::Prohibited), says, &[first, request])
                    .perhaps(self.possibles(&[Cause::Prohibited], &first.node)),
            );
        }
        let says = format!(
            "the guest {guest} refused the connection: its reply to the SYN is a reset, which {} sent on rightly",
            first.node
        );
        Some(
            certain(Finding::Rejected, Some(Cause::Reset), says, &[first, request])
                .perhaps(self.possibles(&[Cause::Reset], &first.node)),
        )
    }

    /// The client got "time exceeded" about its packet.
    pub(super) fn time_exceeded(&self, original: IpAddr) -> Option<Judgement> {
        let error = self.find(|event| {
            event.stage == Stage::Spoof && event.is_error() && event.verdict == Verdict::Accept
        })?;
        let (icmp, outer) = (error.icmp.as_ref()?, error.leaves_as()?);
        let quoted = icmp.inner_after.or(icmp.inner)?;
        let says = format!(
            "{} sent an ICMP error from {}, type {} code {}, about the request to {original}",
            error.node, outer.src, icmp.kind, icmp.code
        );
        (quoted.dst == original).then(|| certain(Finding::IcmpError, None, says, &[error]))
    }
}

/// A node's own packet comes in by no interface.
fn is_own(event: &Seen) -> bool {
    event.stage == Stage::Spoof && event.in_if.is_none() && event.out_if.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers and names as IANA lists them (ICMP and ICMPv6 parameters).
    #[test]
    fn errors_have_their_names() {
        let named = |is_v4, kind, code, mtu| {
            let Meaning { cause, words } =
                meaning(is_v4, &Icmp { kind, code, inner: None, inner_after: None, mtu });
            (cause, words)
        };
        for (is_v4, kind, code, cause, words) in [
            (true, 11, 0, None, "time exceeded in transit"),
            (false, 3, 0, None, "time exceeded in transit"),
            (true, 11, 1, Some(Cause::OtherError), "fragment reassembly time exceeded"),
            (true, 3, 3, Some(Cause::PortUnreachable), "port unreachable"),
            (false, 1, 4, Some(Cause::PortUnreachable), "port unreachable"),
            (true, 3, 13, Some(Cause::Prohibited), "administratively prohibited"),
            (false, 1, 1, Some(Cause::Prohibited), "administratively prohibited"),
            (true, 3, 1, Some(Cause::Unreachable), "host unreachable"),
            (false, 1, 3, Some(Cause::Unreachable), "address unreachable"),
            (true, 3, 2, Some(Cause::OtherError), "protocol unreachable"),
            (false, 4, 1, Some(Cause::OtherError), "parameter problem"),
        ] {
            let expected = (cause, format!("{words} (type {kind} code {code})"));
            assert_eq!(named(is_v4, kind, code, None), expected);
        }
        let too_big = |is_v4, kind, code| named(is_v4, kind, code, Some(1280)).1;
        assert_eq!(too_big(true, 3, 4), "fragmentation needed, MTU 1280 (type 3 code 4)");
        assert_eq!(too_big(false, 2, 0), "packet too big, MTU 1280 (type 2 code 0)");
        // Whatever comes is named, and only time exceeded and redirects are no fault.
        for (is_v4, kind, code) in (0..=u8::MAX)
            .flat_map(|kind| (0..=20).flat_map(move |code| [(true, kind, code), (false, kind, code)]))
        {
            let (cause, words) = named(is_v4, kind, code, None);
            let is_no_fault = matches!((is_v4, kind, code), (true, 11, 0) | (false, 3, 0) | (true, 5, _));
            assert_eq!(cause.is_none(), is_no_fault, "{words}");
        }
    }
}
