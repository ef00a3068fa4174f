//! The whole of a packet, for policies that look further than a translator has to.

use std::fmt;

use crate::net::Proto;
use crate::packet::{Fragment, View};

/// An interface that a packet passes.
///
/// ```
/// use dunnat::engine::{Interface, Whole};
///
/// assert_eq!(Whole::default().interfaces.name(Interface::Out), None, "nobody told one");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Interface {
    /// It came in by it; the bridge, for a bridged frame.
    In,
    /// It leaves by it; the bridge, for a bridged frame. Not known before routing, so not at dnat and tag.
    Out,
    /// The bridge port that it came in by.
    PortIn,
    /// The bridge port that it leaves by.
    PortOut,
}

/// Who tells the names of the interfaces that a packet passes.
///
/// A test may have some of its own:
///
/// ```
/// use dunnat::engine::{Interface, Interfaces, NoInterfaces};
///
/// struct ByCard;
///
/// impl Interfaces for ByCard {
///     fn name(&self, which: Interface) -> Option<String> {
///         (which == Interface::In).then(|| "xenbr0".to_owned())
///     }
/// }
///
/// assert_eq!(ByCard.name(Interface::In).as_deref(), Some("xenbr0"));
/// assert_eq!(NoInterfaces.name(Interface::In), None);
/// ```
pub trait Interfaces {
    /// The name of an interface, if the packet passes one there, and it is known. The kernel takes nearly every character for a name:
    /// one that is shown has to be made harmless.
    fn name(&self, which: Interface) -> Option<String>;
}

/// No interface is known.
///
/// ```
/// use dunnat::engine::{Interface, Interfaces as _, NoInterfaces};
///
/// assert_eq!(NoInterfaces.name(Interface::In), None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoInterfaces;

impl Interfaces for NoInterfaces {
    fn name(&self, _: Interface) -> Option<String> {
        None
    }
}

/// The whole of a packet: its bytes, and the interfaces that it passes. A translator needs neither. A policy that looks at them has
/// [`Decide::decide_whole`](super::Decide::decide_whole).
///
/// Bytes are those that were received. A node hands over at least the first 128 of each packet, and all of one that it may change,
/// where that has no more than 64 KiB. A trace keeps the first 128 at most, and only if it is asked to: what is behind is zero in a
/// replay of it, while a capture has what was captured.
///
/// ```
/// use dunnat::engine::{Interface, Whole};
/// use dunnat::packet::{Fragment, Headers, View};
/// use dunnat::simulate::made;
///
/// let tuple = "udp 192.168.122.1:40000 > 192.168.122.11:53".parse()?;
/// let bytes = made(tuple, &Headers::default(), Fragment::None, 40).unwrap();
/// let view = View::parse(&bytes, bytes.len())?;
/// let whole = Whole { bytes: &bytes, ..Whole::default() };
/// // Behind 20 bytes of the IP header and 8 of UDP.
/// assert_eq!((whole.bytes.len(), whole.payload(&view).len()), (40, 12));
/// assert_eq!(whole.interfaces.name(Interface::In), None, "nobody told one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Whole<'a> {
    /// The packet, from its IP header on, as far as it was received.
    pub bytes: &'a [u8],
    /// The interfaces that it passes.
    pub interfaces: &'a dyn Interfaces,
}

/// Nothing is known.
impl Default for Whole<'_> {
    fn default() -> Self {
        Self { bytes: &[], interfaces: &NoInterfaces }
    }
}

impl fmt::Debug for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Whole").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<'a> Whole<'a> {
    /// What is behind the transport header, as far as it was received; behind the IP header where there is no transport header that
    /// is known, and in a later fragment. `view` is what the bytes say.
    pub fn payload(&self, view: &View) -> &'a [u8] {
        let end = view.len.min(self.bytes.len());
        let above = self.bytes.get(view.transport_at()..end).unwrap_or_default();
        // In words of four bytes (RFC 9293 §3.1, RFC 4340 §5.1); longer than all that is there, if that is not known.
        let words =
            |at: usize, shift: u32| above.get(at).map_or(usize::MAX, |byte| usize::from(byte >> shift) * 4);
        let header = match view.tuple.proto {
            _ if view.fragment == Fragment::Later => 0,
            Proto::TCP => words(12, 4),
            Proto::DCCP => words(4, 0),
            Proto::UDP | Proto::UDPLITE => 8,
            Proto::SCTP => 12,
            Proto::ICMP if view.tuple.src.is_ipv4() => 8,
            Proto::ICMP6 if view.tuple.src.is_ipv6() => 8,
            _ => 0,
        };
        above.get(header..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a packet that was built: what was put in.
    #[track_caller]
    fn holds(build: impl FnOnce(&mut Vec<u8>), expected: &[u8]) {
        let mut bytes = Vec::new();
        build(&mut bytes);
        // What a frame is filled up with is no part of the packet.
        let len = bytes.len();
        bytes.extend([0xee; 6]);
        let view = View::parse(&bytes, bytes.len()).unwrap();
        let whole = Whole { bytes: &bytes, ..Whole::default() };
        assert_eq!((view.len, whole.payload(&view)), (len, expected));
        for cut in view.transport_at()..len {
            let whole = Whole { bytes: &bytes[..cut], ..Whole::default() };
            assert!(expected.starts_with(whole.payload(&view)), "cut to {cut}");
        }
    }

    #[test]
    fn the_payload_is_what_is_behind_all_headers() {
        use etherparse::{IpNumber, PacketBuilder, TcpOptionElement};
        let four = || PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let six = || PacketBuilder::ipv6([1; 16], [2; 16], 64);
        let options = [TcpOptionElement::MaximumSegmentSize(1400)];
        holds(|to| four().udp(1, 2).write(to, b"name?").unwrap(), b"name?");
        holds(|to| six().udp(1, 2).write(to, b"").unwrap(), b"");
        holds(|to| four().tcp(1, 2, 3, 4).options(&options).unwrap().write(to, b"GET /").unwrap(), b"GET /");
        holds(|to| six().tcp(1, 2, 3, 4).write(to, b"GET /").unwrap(), b"GET /");
        holds(|to| four().icmpv4_echo_request(7, 1).write(to, b"ping").unwrap(), b"ping");
        holds(|to| six().icmpv6_echo_request(7, 1).write(to, b"ping").unwrap(), b"ping");
        holds(
            |to| four().write(to, IpNumber::IPV6_ICMP, b"of the other family").unwrap(),
            b"of the other family",
        );
        holds(|to| six().write(to, IpNumber::ICMP, b"of the other family").unwrap(), b"of the other family");
        holds(|to| four().write(to, IpNumber::GRE, b"anything").unwrap(), b"anything");
        holds(|to| four().write(to, IpNumber::SCTP, b"\0\x01\0\x02vtagsum.chunk").unwrap(), b"chunk");
        // Four words of header, by its fifth byte.
        holds(|to| six().write(to, IpNumber::DCCP, b"\0\x01\0\x02\x04..........~data").unwrap(), b"data");
    }

    #[test]
    fn a_later_fragment_has_no_transport_header() {
        let later = |to: &mut Vec<u8>| {
            etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .write(to, etherparse::IpNumber::UDP, b"what is left of it")
                .unwrap();
            to[7] = 1;
        };
        holds(later, b"what is left of it");
    }

    #[test]
    fn what_is_printed_of_it_are_its_bytes() {
        let whole = Whole { bytes: &[1, 2], ..Whole::default() };
        assert_eq!(format!("{whole:?}"), "Whole { bytes: [1, 2], .. }");
    }
}
