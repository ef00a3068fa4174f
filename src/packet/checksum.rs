//! The Internet checksum: whole (RFC 1071) and changed in place (RFC 1624).
//!
//! The sum is one's complement over 16-bit words, most significant byte first, an odd last byte padded with a
//! zero. It does not care about the order of its words, so a change of some of them can be made up for without
//! reading the others. One's complement has two zeros, 0x0000 and 0xffff; they are equal as sums, and a
//! checksum field that is right holds 0x0000 of the two (all words would have to be zero for 0xffff), except in
//! UDP, which keeps 0x0000 for "no checksum" (RFC 768).

/// The checksum over `parts`, each of which starts a new 16-bit word: the complement of the folded sum.
///
/// The words are added in 64 bits and folded once at the end, which compilers turn into vector code.
pub fn full(parts: &[&[u8]]) -> u16 {
    !fold(parts.iter().map(|part| sum(part)).sum())
}

/// What becomes of a `checksum` field when the `old` words among those it covers turn into `new`.
///
/// RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). A field that was wrong stays exactly as wrong. `old` and `new`
/// are of even length and begin at an even offset of what is summed; so are IP addresses.
pub fn updated(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    // ~m over a run of words is the complement of their folded sum.
    !fold(u64::from(!checksum) + u64::from(!fold(sum(old))) + sum(new))
}

fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>() + last
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
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
        assert_eq!(updated(0xdd2f, &[0x55, 0x55], &[0x32, 0x85]), 0x0000);
    }

    #[test]
    fn an_odd_byte_counts_as_the_high_one() {
        assert_eq!(full(&[&[0x12]]), full(&[&[0x12, 0x00]]));
        assert_eq!(full(&[]), 0xffff);
    }

    proptest! {
        #[test]
        fn updating_equals_summing_anew(
            mut bytes in prop::collection::vec(any::<u8>(), 4..200),
            at in 0usize..98,
            new: [u8; 4],
        ) {
            let at = at * 2 % (bytes.len() - 3) / 2 * 2;
            let before = full(&[&bytes]);
            let old: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            bytes[at..at + 4].copy_from_slice(&new);
            let anew = full(&[&bytes]);
            let updated = updated(before, &old, &new);
            // The two zeros differ only where every word is zero.
            prop_assert!(updated == anew || bytes.iter().all(|byte| *byte == 0), "{updated:#x} {anew:#x}");
        }

        #[test]
        fn updating_back_restores(checksum in 0u16..0xffff, old: [u8; 4], new: [u8; 4]) {
            prop_assume!(new != [0; 4] && old != [0; 4]);
            prop_assert_eq!(updated(updated(checksum, &old, &new), &new, &old), checksum);
        }

        #[test]
        fn it_is_what_etherparse_says(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let theirs = etherparse::checksum::Sum16BitWords::new().add_slice(&bytes).ones_complement();
            prop_assert_eq!(full(&[&bytes]), u16::from_be(theirs));
        }
    }
}
