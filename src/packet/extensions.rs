//! The extension headers of IPv6 (RFC 8200 §4): where they end, and what comes behind them.

use etherparse::IpNumber;

use super::transport::Fragment;

/// What is behind the extension headers of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Above {
    /// What it is. Of a later fragment it is what the fragmented part began with (RFC 8200 §4.5), and need not be what the
    /// bytes are.
    pub(super) protocol: IpNumber,
    /// How many bytes the extension headers have.
    pub(super) at: usize,
    /// The packet's place among fragments.
    pub(super) fragment: Fragment,
}

/// The bytes end within an extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends;

/// Passes over the extension headers that `bytes` begin with, the first of which is a `next`. They may come in any order,
/// as in the kernel (`ipv6_find_hdr` with IP6_FH_F_AUTH, net/ipv6/exthdrs_core.c, by which rules read a packet): a node that forwards
/// reads none of them. An authentication header is what is above, as in IPv4: an address that it covers cannot be changed unseen.
///
/// What is behind the header of a later fragment is data. So is what is behind a second fragment header: no packet has
/// two, and what is in the inner one cannot be told from its outside. It is then the second one that is `above`.
pub(super) fn above(next: IpNumber, bytes: &[u8]) -> Result<Above, Ends> {
    let (mut protocol, mut at, mut place) = (next, 0, None);
    loop {
        let rest = bytes.get(at..).ok_or(Ends)?;
        let fragment = place.unwrap_or(Fragment::None);
        let header = match protocol {
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS => rest.get(1).map(|more| 8 * (1 + usize::from(*more))),
            IpNumber::IPV6_FRAGMENTATION_HEADER if place.is_none() => Some(8),
            _ => return Ok(Above { protocol, at, fragment }),
        };
        let header = rest.get(..header.ok_or(Ends)?).ok_or(Ends)?;
        if let (IpNumber::IPV6_FRAGMENTATION_HEADER, [_, _, high, low, ..]) = (protocol, header) {
            let word = u16::from_be_bytes([*high, *low]);
            place = Some(match (word >> 3, word & 1) {
                // RFC 6946: an atomic fragment is a whole packet.
                (0, 0) => Fragment::None,
                (0, _) => Fragment::First,
                _ => Fragment::Later,
            });
        }
        at += header.len();
        protocol = IpNumber(header.first().copied().ok_or(Ends)?);
        if place == Some(Fragment::Later) {
            return Ok(Above { protocol, at, fragment: Fragment::Later });
        }
    }
}

/// The length that is in a packet's jumbo payload option (RFC 2675 §2), in bytes behind the IPv6 header; of the options,
/// which `bytes` begin with, a sender that has one puts it first (RFC 2675 §2: aligned to 4n + 2).
pub(super) fn jumbo(next: IpNumber, bytes: &[u8]) -> Option<usize> {
    match (next, bytes) {
        (IpNumber::IPV6_HEADER_HOP_BY_HOP, [_, _, 0xc2, 4, length @ ..]) => {
            usize::try_from(u32::from_be_bytes(*length.first_chunk()?)).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UDP: IpNumber = IpNumber::UDP;

    fn walk(next: u8, bytes: &[u8]) -> Result<(u8, usize, Fragment), Ends> {
        above(IpNumber(next), bytes).map(|above| (above.protocol.0, above.at, above.fragment))
    }

    #[test]
    fn they_are_passed_over_in_any_order() {
        let options = |next| [next, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(walk(17, &[1; 8]), Ok((17, 0, Fragment::None)));
        for first in [0, 43, 60] {
            assert_eq!(walk(first, &options(17)), Ok((17, 8, Fragment::None)), "{first}");
        }
        let all = [options(43), options(0), options(60), options(6)].concat();
        assert_eq!(walk(60, &all), Ok((6, 32, Fragment::None)));
        assert_eq!(walk(60, &options(59)), Ok((59, 8, Fragment::None)), "nothing follows");
        // Encrypted, signed, or of a protocol that is not known to be one of them.
        for upper in [50, 51, 59, 132, 135, 139, 140, 253] {
            assert_eq!(walk(upper, &options(17)), Ok((upper, 0, Fragment::None)), "{upper}");
        }
    }

    #[test]
    fn a_later_fragment_holds_data_whatever_its_header_says() {
        for next in [0, 6, 17, 44, 51, 60] {
            let bytes = [&[next, 0, 0, 9, 0, 0, 0, 7][..], &[0xff; 20]].concat();
            assert_eq!(walk(44, &bytes), Ok((next, 8, Fragment::Later)), "{next}");
        }
        let behind_options = [&[44, 0, 1, 4, 0, 0, 0, 0][..], &[60, 0, 5, 0xa8, 0, 0, 0, 7], &[0xff; 9]];
        assert_eq!(walk(60, &behind_options.concat()), Ok((60, 16, Fragment::Later)));
    }

    #[test]
    fn fragments_before_that_may_have_more_headers() {
        for (place, fragment) in [(0, Fragment::None), (1, Fragment::First)] {
            let bytes = [[60, 0, 0, place, 0, 0, 0, 7], [17, 0, 1, 4, 0, 0, 0, 0]].concat();
            assert_eq!(walk(44, &bytes), Ok((17, 16, fragment)));
        }
    }

    #[test]
    fn a_second_fragment_header_is_not_looked_into() {
        for first in [0, 1] {
            for second in [0, 1, 8] {
                let bytes = [[44, 0, 0, first, 0, 0, 0, 7], [17, 0, 0, second, 0, 0, 0, 8]].concat();
                let (protocol, at, fragment) = walk(44, &bytes).unwrap();
                assert_eq!((protocol, at, fragment == Fragment::First), (44, 8, first == 1));
            }
        }
    }

    #[test]
    fn bytes_that_end_too_early_are_known() {
        for (next, whole) in [(60, 8), (44, 8)] {
            let bytes = [17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            for len in 0..whole {
                assert_eq!(walk(next, &bytes[..len]), Err(Ends), "{next} of {len} bytes");
            }
            assert_eq!(walk(next, &bytes[..whole]), Ok((17, whole, Fragment::None)));
        }
        assert_eq!(walk(60, &[17, 1, 0, 0, 0, 0, 0, 0]), Err(Ends), "it calls itself longer");
    }

    #[test]
    fn a_jumbo_payload_says_its_length() {
        let option = [6, 0, 0xc2, 4, 0, 1, 0, 2];
        assert_eq!(jumbo(IpNumber(0), &option), Some(65_538));
        assert_eq!(jumbo(UDP, &option), None);
        assert_eq!(jumbo(IpNumber(0), &option[..7]), None);
        assert_eq!(jumbo(IpNumber(0), &[6, 0, 1, 4, 0, 1, 0, 2]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_end(next: u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(above) = above(IpNumber(next), &bytes) {
                prop_assert!(above.at <= bytes.len());
            }
        }
    }
}
