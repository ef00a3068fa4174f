//! What is above the IP header, for who does not need to know whether it can be read.

use etherparse::IpNumber;

use super::extensions;
use super::transport::Fragment;
use crate::net::Proto;

/// What is above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AboveIp {
    pub(crate) proto: Proto,
    /// Where it begins, in bytes from the beginning of the IP header.
    pub(crate) at: usize,
    /// What begins there is no transport header.
    pub(crate) is_later_fragment: bool,
}

/// Finds what is above the IP header that a packet begins with; none if the bytes end before (RFC 791 §3.1, RFC 8200 §3 and §4).
pub(crate) fn above_ip(packet: &[u8]) -> Option<AboveIp> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            let at = usize::from(header[0] & 0xf) * 4;
            let is_later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
            (20..=packet.len()).contains(&at).then_some(AboveIp {
                proto: Proto(header[9]),
                at,
                is_later_fragment,
            })
        }
        6 => {
            const HEADER: usize = 40;
            let next = packet.first_chunk::<HEADER>()?[6];
            let above = extensions::above(IpNumber(next), packet.get(HEADER..)?).ok()?;
            Some(AboveIp {
                proto: Proto(above.protocol.0),
                at: HEADER + above.at,
                is_later_fragment: above.fragment == Fragment::Later,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::View;
    use crate::packet::samples::syn_ack;
    use proptest::prelude::*;

    #[test]
    fn it_begins_where_a_view_has_it() {
        let packet = syn_ack();
        let view = View::parse(&packet, packet.len()).unwrap();
        let expected = AboveIp { proto: Proto::TCP, at: view.transport_at(), is_later_fragment: false };
        assert_eq!(above_ip(&packet), Some(expected));
        assert_eq!(above_ip(&packet[..19]), None);
    }

    #[test]
    fn it_is_behind_extension_headers() {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ipv6([1; 16], [2; 16], 64)
            .write(
                &mut bytes,
                IpNumber::IPV6_DESTINATION_OPTIONS,
                &[17, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0],
            )
            .unwrap();
        let expected = AboveIp { proto: Proto::UDP, at: 48, is_later_fragment: false };
        assert_eq!(above_ip(&bytes), Some(expected));
    }

    proptest! {
        /// Of what a view can be read, this says the same.
        #[test]
        fn it_is_that_of_a_view(mut bytes in prop::collection::vec(any::<u8>(), 0..120), six: bool) {
            if let Some(first) = bytes.first_mut() {
                *first = if six { 0x60 } else { 0x45 };
            }
            if let Ok(view) = View::parse(&bytes, 65_535) {
                let above = above_ip(&bytes).unwrap();
                prop_assert_eq!((above.proto, above.at), (view.tuple.proto, view.transport_at()));
                prop_assert_eq!(above.is_later_fragment, view.fragment == Fragment::Later);
            }
        }
    }
}
