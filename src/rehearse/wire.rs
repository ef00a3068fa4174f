//! The other ends of the copy's interfaces: frames go in here, and come out, and who is asked for an address is there.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr};

use crate::net::{Mac, Proto};
use crate::netlink::sys;
use crate::packet::neighbours::{
    ADVERTISEMENT, ETHER_ARP as ARP, ETHER_IPV6 as IPV6, REPLY, REQUEST, SOLICITATION, arp, frame, neighbour,
};

const HEADER: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];

/// The far end of an interface.
pub(super) struct Wire {
    /// The interface's name.
    pub(super) name: String,
    frames: File,
}

/// A frame that came out.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) source: Mac,
    kind: [u8; 2],
    pub(super) payload: Vec<u8>,
}

impl Wire {
    /// The wire of the interface `name`, whose far end in this network namespace is called `far`.
    pub(super) fn open(name: &str, far: &str) -> io::Result<Self> {
        Ok(Self { name: name.to_owned(), frames: sys::frames_of(sys::interface_index(far)?)? })
    }

    /// Sends an IP packet.
    pub(super) fn send(&self, from: Mac, to: Mac, packet: &[u8]) -> io::Result<()> {
        let kind = if packet.first().is_some_and(|byte| byte >> 4 == 6) { IPV6 } else { IPV4 };
        self.put(from, to, kind, packet)
    }

    fn put(&self, from: Mac, to: Mac, kind: [u8; 2], payload: &[u8]) -> io::Result<()> {
        (&self.frames).write_all(&frame(from, to, kind, payload))
    }

    /// The next frame that came, if one did.
    pub(super) fn receive(&self) -> Option<Frame> {
        let mut buffer = [0; 10_240];
        let len = (&self.frames).read(&mut buffer).ok()?;
        Frame::read(&buffer[..len])
    }

    /// Says to all that an address is here, as who asks for another address does: `asks_for` learns it.
    pub(super) fn announce(&self, mac: Mac, address: IpAddr, asks_for: IpAddr) -> io::Result<()> {
        match (address, asks_for) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                self.put(mac, Mac([0xff; 6]), ARP, &arp(REQUEST, (mac, own), (Mac([0; 6]), other)))
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                // The group of those whose address ends so (RFC 4291 §2.7.1), and its frames' address (RFC 2464 §7).
                let [.., x, y, z] = other.octets();
                let group = Ipv6Addr::from_bits(
                    (0xff02 << 112) | 0x1_ff00_0000 | u128::from(u32::from_be_bytes([0, x, y, z])),
                );
                let to = Mac([0x33, 0x33, 0xff, x, y, z]);
                self.put(mac, to, IPV6, &neighbour(SOLICITATION, (own, group), other, mac))
            }
            _ => Ok(()),
        }
    }

    /// Answers who asks for an address that `is_here`, as a neighbour does; whether the frame was such a question.
    pub(super) fn reply_as_neighbour(
        &self,
        frame: &Frame,
        mac: Mac,
        is_here: impl Fn(IpAddr) -> bool,
    ) -> bool {
        let Some((asked, by)) = frame.asks_for() else { return false };
        if is_here(asked) {
            // Who does not get it asks again.
            let _ = match (asked, by) {
                (IpAddr::V4(own), IpAddr::V4(other)) => {
                    self.put(mac, frame.source, ARP, &arp(REPLY, (mac, own), (frame.source, other)))
                }
                (IpAddr::V6(own), IpAddr::V6(other)) => {
                    self.put(mac, frame.source, IPV6, &neighbour(ADVERTISEMENT, (own, other), own, mac))
                }
                _ => Ok(()),
            };
        }
        true
    }
}

/// The address that a frame asks for, if it is such a question.
pub(super) fn asks_for(frame: &[u8]) -> Option<IpAddr> {
    Frame::read(frame)?.asks_for().map(|(asked, _)| asked)
}

impl Frame {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk::<HEADER>()?;
        let [_, _, _, _, _, _, a, b, c, d, e, f, kind @ ..] = *header;
        Some(Self { source: Mac([a, b, c, d, e, f]), kind, payload: payload.to_vec() })
    }

    /// The IP packet in it, if there is one.
    pub(super) fn packet(&self) -> Option<&[u8]> {
        [IPV4, IPV6].contains(&self.kind).then_some(&self.payload)
    }

    /// The address that is asked for, and who asks: an ARP request (RFC 826), or a neighbour solicitation (RFC 4861 §4.3).
    fn asks_for(&self) -> Option<(IpAddr, IpAddr)> {
        let four = |at: usize| Some(IpAddr::from(*self.payload.get(at..)?.first_chunk::<4>()?));
        let six = |at: usize| Some(IpAddr::from(*self.payload.get(at..)?.first_chunk::<16>()?));
        match self.kind {
            ARP if self.payload.get(6..8)? == [0, 1] => Some((four(24)?, four(14)?)),
            IPV6 if *self.payload.get(6)? == Proto::ICMP6.0 && *self.payload.get(40)? == SOLICITATION => {
                Some((six(48)?, six(8)?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    use crate::packet::{PseudoHeader, View, full};

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_question_is_read_as_it_is_asked() {
        let (own, other) = (Ipv4Addr::new(10, 5, 5, 201), Ipv4Addr::new(10, 5, 5, 254));
        let frame = |kind, payload| Frame { source: MAC, kind, payload };
        let asked = frame(ARP, arp(1, (MAC, own), (Mac([0; 6]), other)));
        assert_eq!(asked.asks_for(), Some((other.into(), own.into())));
        assert_eq!(frame(ARP, arp(2, (MAC, own), (MAC, other))).asks_for(), None);
        let (own, other): (Ipv6Addr, Ipv6Addr) =
            ("fd00:5::201".parse().unwrap(), "fd00:5::fe".parse().unwrap());
        let bytes = neighbour(SOLICITATION, (own, other), other, MAC);
        let view = View::parse(&bytes, bytes.len()).unwrap();
        assert_eq!((view.tuple.src, view.tuple.dst, view.len), (own.into(), other.into(), 72));
        let pseudo = PseudoHeader::new(own.into(), other.into(), Proto::ICMP6, 32);
        assert_eq!(full(&[pseudo.as_bytes(), &bytes[40..]]), 0);
        assert_eq!(frame(IPV6, bytes.clone()).asks_for(), Some((other.into(), own.into())));
        assert_eq!(frame(IPV6, neighbour(ADVERTISEMENT, (own, other), own, MAC)).asks_for(), None);
        assert_eq!(frame(IPV4, bytes).asks_for(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_frame_is_read(kind in proptest::prelude::any::<u8>(), payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100)) {
            for kind in [ARP, IPV4, IPV6, [kind, 0]] {
                let _ = Frame { source: MAC, kind, payload: payload.clone() }.asks_for();
            }
        }
    }
}
