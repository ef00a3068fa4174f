//! The arithmetic of a changed checksum (RFC 1624), step by step.

use std::ops::Range;

use serde::Serialize;

use crate::net::Checksum;
use crate::packet::{Fragment, View};
use crate::simulate::Visit;

/// How a checksum field became another: HC' = ~(~HC + ~m + m' + ...).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arithmetic {
    /// Whose checksum: `ip`, or the protocol above; `quoted` in front of those that an ICMP error quotes.
    pub of: String,
    /// Where it is in the packet, in bytes.
    pub at: usize,
    /// HC, the field as it came.
    pub old: u16,
    /// The 16-bit words that changed: m and m'.
    pub words: Vec<(u16, u16)>,
    /// ~HC and, for each word, ~m and m', summed up. If it is worked out anew, all words that it covers.
    pub sum: u32,
    /// The sum with its carries added to it until none is left.
    pub folded: u16,
    /// HC', its complement, as it is in the packet now.
    pub new: u16,
    /// It is worked out anew (RFC 1071), because the field held no checksum yet: only the sum of the pseudo-header, for
    /// hardware to go on from.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// The arithmetic of all checksums that a decision changes, in the order in which one needs the other: that of an ICMP
/// error covers those that it quotes.
pub(super) fn arithmetic(visit: &Visit) -> Vec<Arithmetic> {
    let (Ok(view), Some(_), Some(after)) = (&visit.view, &visit.patch, visit.after()) else {
        return Vec::new();
    };
    let change = Change { before: &visit.bytes, after: &after };
    let is_v4 = view.tuple.src.is_ipv4();
    let addresses =
        |header: usize| change.words(if is_v4 { header + 12..header + 20 } else { header + 8..header + 40 });
    let header = |of: &str, at: usize| is_v4.then(|| change.of(of, at + 10, addresses(at))).flatten();
    let mut all = Vec::new();
    let outer = addresses(0);
    if !outer.is_empty() || view.error.is_none() {
        all.extend(header("ip", 0));
    }
    let proto = view.tuple.proto.to_string();
    let ports = |at: Option<usize>| at.map_or(Vec::new(), |at| change.words(at..at + 4));
    let Some(error) = &view.error else {
        let covered = [outer, ports(view.ports_at())].concat();
        let mut transport = view.checksum_at().and_then(|at| match visit.checksum {
            Checksum::Ready => change.of(&proto, at, covered),
            Checksum::Partial => change.anew(&proto, at, view),
        });
        if let (Some(transport), Fragment::First) = (&mut transport, view.fragment) {
            transport.note = transport.note.or(Some("it covers all fragments"));
        }
        all.extend(transport);
        return all;
    };
    let quote = error.quote_at();
    let quoted = addresses(quote);
    if !quoted.is_empty() {
        all.extend(header("quoted ip", quote));
        let of = format!("quoted {}", error.about.proto);
        let covered = [quoted, ports(error.ports_at())].concat();
        all.extend(error.checksum_at().and_then(|at| change.of(&of, at, covered)));
    }
    // The quoted packet lies at an even offset of what the error's checksum covers; ICMPv6 covers addresses, too.
    let mut covered = change.words(quote..after.len());
    if view.checksum_at().is_some() {
        covered.extend(outer);
    }
    if !covered.is_empty() {
        all.extend(change.of(&proto, quote - 6, covered));
    }
    all
}

/// A packet before and after.
struct Change<'a> {
    before: &'a [u8],
    after: &'a [u8],
}

impl Change<'_> {
    /// The words that changed in a part of it.
    fn words(&self, part: Range<usize>) -> Vec<(u16, u16)> {
        part.step_by(2)
            .filter_map(|at| Some((word(self.before, at)?, word(self.after, at)?)))
            .filter(|(old, new)| old != new)
            .collect()
    }

    /// What words that changed make of the checksum at `at`.
    fn of(&self, of: &str, at: usize, words: Vec<(u16, u16)>) -> Option<Arithmetic> {
        let (old, new) = (word(self.before, at)?, word(self.after, at)?);
        let sum = u32::from(!old) + words.iter().map(|(m, to)| u32::from(!m) + u32::from(*to)).sum::<u32>();
        let folded = fold(sum);
        let (is_udp, is_lite) = (of.ends_with("udp"), of.ends_with("udplite"));
        let note = match (old, !folded) {
            (0, _) if is_udp => Some("0x0000 means no checksum and stays (RFC 768)"),
            (_, 0) if is_udp => Some("0x0000 would mean no checksum: written as 0xffff (RFC 768)"),
            (_, 0) if is_lite => Some("0x0000 would mean no checksum: written as 0xffff (RFC 3828)"),
            _ => None,
        };
        Some(Arithmetic { of: of.to_owned(), at, old, words, sum, folded, new, anew: false, note })
    }

    /// The checksum at `at`, which was not finished before: all that it covers is summed up, the pseudo-header (RFC 9293
    /// §3.1, RFC 8200 §8.1), header and data, with zero in its own place.
    fn anew(&self, of: &str, at: usize, view: &View) -> Option<Arithmetic> {
        let (old, new) = (word(self.before, at)?, word(self.after, at)?);
        let addresses = self.after.get(if view.tuple.src.is_ipv4() { 12..20 } else { 8..40 })?;
        let transport = self.after.get(view.transport_at()..view.len)?;
        let len = u32::try_from(transport.len()).ok()?.to_be_bytes();
        let sum = total(addresses) + total(&len) + u32::from(view.tuple.proto.0) + total(transport)
            - u32::from(new);
        let folded = fold(sum);
        let zero = || "0x0000 would mean no checksum: written as 0xffff (RFC 768)";
        let note = (of == "udp" && folded == 0xffff).then(zero);
        Some(Arithmetic { of: of.to_owned(), at, old, words: Vec::new(), sum, folded, new, anew: true, note })
    }
}

/// The sum of the words of some bytes; an odd last byte is the higher one of its word.
fn total(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    bytes.chunks(2).map(word).sum()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn fold(sum: u32) -> u16 {
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
