//! The arithmetic of a changed checksum (RFC 1624), step by step.

use serde::Serialize;

use crate::net::Proto;
use crate::packet::Fragment;
use crate::walk::Visit;

/// How a checksum field became another: HC' = ~(~HC + ~m + m' + ...).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arithmetic {
    /// Whose checksum: `ip`, or the protocol above.
    pub of: String,
    /// Where it is in the packet, in bytes.
    pub at: usize,
    /// HC, the field as it came.
    pub old: u16,
    /// The 16-bit words that changed: m and m'.
    pub words: Vec<(u16, u16)>,
    /// ~HC and, for each word, ~m and m', summed up.
    pub sum: u32,
    /// The sum with its carries added to it until none is left.
    pub folded: u16,
    /// HC', its complement, as it is in the packet now.
    pub new: u16,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// The arithmetic of all checksums that a decision changes.
pub fn arithmetic(visit: &Visit) -> Vec<Arithmetic> {
    let (Ok(view), Some(_), Some(after)) = (&visit.view, &visit.patch, visit.after()) else {
        return Vec::new();
    };
    let before = &visit.bytes;
    let (addresses, header) = if view.tuple.src.is_ipv4() { (12..20, Some(10)) } else { (8..40, None) };
    let words: Vec<(u16, u16)> = addresses
        .step_by(2)
        .filter_map(|at| Some((word(before, at)?, word(&after, at)?)))
        .filter(|(old, new)| old != new)
        .collect();
    let proto = view.tuple.proto;
    let fields =
        [header.map(|at| ("ip".to_owned(), at)), view.checksum_at().map(|at| (proto.to_string(), at))];
    let of = |(of, at): (String, usize)| {
        let old = word(before, at)?;
        let is_udp = proto == Proto::UDP && of != "ip";
        let sum = u32::from(!old) + words.iter().map(|(m, to)| u32::from(!m) + u32::from(*to)).sum::<u32>();
        let folded = fold(sum);
        let note = match (is_udp, old, !folded) {
            (true, 0, _) => Some("0x0000 says that there is none, and stays (RFC 768)"),
            (true, _, 0) => Some("0x0000 would say that there is none: written 0xffff (RFC 768)"),
            _ if of != "ip" && view.fragment == Fragment::First => Some("it covers all fragments"),
            _ => None,
        };
        Some(Arithmetic { of, at, old, words: words.clone(), sum, folded, new: word(&after, at)?, note })
    };
    fields.into_iter().flatten().filter_map(of).collect()
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
