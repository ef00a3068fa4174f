//! The Internet checksum: whole (RFC 1071) and changed in place (RFC 1624).
//!
//! The sum is one's complement over 16-bit words, most significant byte first, an odd last byte padded with a
//! zero. It does not care about the order of its words, so a change of some of them can be made up for without
//! reading the others. One's complement has two zeros, 0x0000 and 0xffff; they are equal as sums, and a
//! checksum field that is right holds 0x0000 of the two (all words would have to be zero for 0xffff), except in
//! UDP, which keeps 0x0000 for "no checksum" (RFC 768).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::Proto;

/// The checksum over `parts`, each of which starts a new 16-bit word: the complement of the folded sum.
pub fn full(parts: &[&[u8]]) -> u16 {
    !fold(parts.iter().map(|part| sum(part)).sum())
}

/// What a transport checksum covers besides the packet's own bytes. The pseudo-headers of IPv4 (RFC 9293 §3.1) and IPv6
/// (RFC 8200 §8.1) hold the same words: addresses, length, protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PseudoHeader {
    bytes: [u8; 40],
    len: usize,
}

impl PseudoHeader {
    /// For a transport header with its data of `len` bytes.
    pub(crate) fn new(src: IpAddr, dst: IpAddr, proto: Proto, len: u32) -> Self {
        let mut header = Self { bytes: [0; 40], len: 0 };
        for address in [src, dst] {
            match address {
                IpAddr::V4(four) => header.push(&four.octets()),
                IpAddr::V6(six) => header.push(&six.octets()),
            }
        }
        header.push(&len.to_be_bytes());
        header.push(&[0, 0, 0, proto.0]);
        header
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Its bytes, a whole number of 16-bit words.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The difference that a new address makes to every checksum that covers it.
///
/// RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). What the words that change have to do with it, ~m + m', is the
/// same for the IP header's checksum and the transport's. A field that was wrong stays exactly as wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference(u32);

impl Difference {
    /// Nothing changes.
    pub(crate) const NONE: Self = Self(0);

    /// What it makes that `old` becomes `new`. Addresses lie at even offsets of what is summed.
    #[inline]
    pub fn between_v4(old: Ipv4Addr, new: Ipv4Addr) -> Self {
        // ~m of each word is what it lacks to 0xffff.
        let words = |address: Ipv4Addr| (address.to_bits() >> 16) + (address.to_bits() & 0xffff);
        Self(2 * 0xffff - words(old) + words(new))
    }

    /// As [`between_v4`](Self::between_v4).
    pub fn between_v6(old: Ipv6Addr, new: Ipv6Addr) -> Self {
        let words = |address: Ipv6Addr| address.segments().into_iter().map(u32::from).sum::<u32>();
        Self(8 * 0xffff - words(old) + words(new))
    }

    /// What it makes that one word becomes another: a port, or a checksum that another checksum covers.
    pub(crate) fn between_words(old: u16, new: u16) -> Self {
        Self(0xffff - u32::from(old) + u32::from(new))
    }

    /// What both changes make. Some thousands may be put together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// What becomes of a checksum field.
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        // Less than 0xffff times 0xffff: folding once leaves a carry of one, folding twice none.
        let sum = u32::from(!checksum) + self.0;
        let sum = (sum & 0xffff) + (sum >> 16);
        !((sum & 0xffff) + (sum >> 16)) as u16
    }
}

/// The sum of 16-bit words, at memory speed: 32 bits at a time in the order that the processor has them, in lanes
/// that the compiler makes vectors of. One's complement sums are the same in either byte order but for the order of
/// the result's bytes (RFC 1071 §2, B).
fn sum(bytes: &[u8]) -> u64 {
    const LANES: usize = 8;
    let (blocks, rest) = bytes.as_chunks::<{ 4 * LANES }>();
    let mut lanes = [0u64; LANES];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let blocks = u16::from_be(fold(lanes.iter().map(|lane| (lane & 0xffff_ffff) + (lane >> 32)).sum()));
    let (words, odd) = rest.as_chunks::<2>();
    let last = odd.first().map_or(0, |byte| u64::from(*byte) << 8);
    u64::from(blocks) + words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>() + last
}

fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfcs() {
        // RFC 1071 §3: the sum of these words is ddf2.
        assert_eq!(full(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        // RFC 1624 §4: a field goes from 0x5555 to 0x3285, the checksum from 0xdd2f to 0x0000.
        let ends_in = |high, low| Ipv4Addr::from([0, 0, high, low]);
        let difference = Difference::between_v4(ends_in(0x55, 0x55), ends_in(0x32, 0x85));
        assert_eq!(difference.apply(0xdd2f), 0x0000);
    }

    /// The carry of a carry: one word in 65,536 has it, which examples rarely meet.
    #[test]
    fn what_is_carried_may_carry_again() {
        // A sum of 0xffff and one more.
        assert_eq!(Difference::between_words(0, 1).apply(0x0000), 0xfffe);
        // 0x0001 + 0xffff + 0xffff is 0x1ffff, that is 0x10000, and that is 1.
        assert_eq!(fold(0x0001_0000_ffff_ffff), 1);
    }

    #[test]
    fn an_odd_byte_counts_as_the_high_one() {
        assert_eq!(full(&[&[0x12]]), full(&[&[0x12, 0x00]]));
        assert_eq!(full(&[]), 0xffff);
    }

    proptest! {
        #[test]
        fn the_difference_equals_summing_anew(
            mut bytes in prop::collection::vec(any::<u8>(), 4..200),
            at in 0usize..98,
            new: [u8; 4],
        ) {
            let at = at * 2 % (bytes.len() - 3) / 2 * 2;
            let before = full(&[&bytes]);
            let old: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            bytes[at..at + 4].copy_from_slice(&new);
            let anew = full(&[&bytes]);
            let updated = Difference::between_v4(old.into(), new.into()).apply(before);
            // The two zeros differ only where every word is zero.
            prop_assert!(updated == anew || bytes.iter().all(|byte| *byte == 0), "{updated:#x} {anew:#x}");
        }

        #[test]
        fn there_and_back_restores(checksum in 0u16..0xffff, old: [u8; 16], new: [u8; 16]) {
            prop_assume!(new != [0; 16] && old != [0; 16]);
            let there = Difference::between_v6(old.into(), new.into());
            let back = Difference::between_v6(new.into(), old.into());
            prop_assert_eq!(back.apply(there.apply(checksum)), checksum);
        }

        #[test]
        fn it_is_what_etherparse_says(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff)], 0..3000)) {
            let theirs = etherparse::checksum::Sum16BitWords::new().add_slice(&bytes).ones_complement();
            prop_assert_eq!(full(&[&bytes]), u16::from_be(theirs));
        }
    }
}
