//! Other addresses and names, the same everywhere.
//!
//! Addresses keep their prefixes: two that have their first n bits in common still have (Xu, Fan, Ammar, Moon: Prefix-Preserving IP
//! Address Anonymization, 2002; here by SHA-256 with a key that nobody keeps). So a network, and what lies in it, are still to be
//! seen. What everybody has stays as it is: loopback, multicast, the beginnings of link-local addresses, masks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest as _, Sha256};

use crate::net::Mac;

/// What stands for what.
pub struct Anonymous {
    key: [u8; 32],
    /// The longest first: of two names one may begin with the other.
    names: Vec<(String, String)>,
    /// Other forms of addresses that were met, as hexadecimal numbers.
    numbers: BTreeMap<String, String>,
}

/// An address, as it is met in a text.
enum Met {
    Ip(IpAddr),
    Mac(Mac),
}

impl Anonymous {
    /// With a key, which should be known to nobody.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, names: Vec::new(), numbers: BTreeMap::new() }
    }

    /// From now on a name is another one: `kind` and a number. What is too common to tell anything stays: `lo`, numbers.
    pub fn hide(&mut self, kind: &str, name: &str) {
        let known = self.names.iter().any(|(hidden, _)| hidden == name);
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        if is_number || name == "lo" || known {
            return;
        }
        let number =
            self.names.iter().filter(|(_, other)| other.starts_with(&format!("{kind}-"))).count() + 1;
        self.names.push((name.to_owned(), format!("{kind}-{number}")));
        self.names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    }

    /// Looks at a text that will be changed: addresses in it may stand in another one as numbers.
    pub fn learn(&mut self, text: &str) {
        let mut found = Vec::new();
        self.each_address(text, |met, _| {
            found.push(match met {
                Met::Ip(address) => (hex_of(address), hex_of(self.address(address, 0))),
                Met::Mac(mac) => (hex(&mac.0), hex(&self.mac(mac, 0).0)),
            });
            None
        });
        self.numbers.extend(found.into_iter().filter(|(from, to)| from != to));
    }

    /// The text with other addresses and names.
    pub fn text(&self, text: &str) -> String {
        let text = self.each_address(text, |met, kept| {
            Some(match met {
                Met::Ip(address) => self.address(address, kept).to_string(),
                Met::Mac(mac) => self.mac(mac, kept).to_string(),
            })
        });
        self.named(&self.numbered(&text))
    }

    /// Replaces numbers in hexadecimal digits that are addresses, as in `0x0a0505c9`.
    fn numbered(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
            let (before, word_on) = rest.split_at(at);
            let end = word_on.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word_on.len());
            let (word, behind) = word_on.split_at(end);
            out.push_str(before);
            let digits = word.strip_prefix("0x");
            let full = digits.map(|digits| {
                let width =
                    [8, 12, 32].into_iter().find(|width| digits.len() <= *width).unwrap_or(digits.len());
                format!("{digits:0>width$}").to_ascii_lowercase()
            });
            match full.and_then(|full| self.numbers.get(&full)) {
                Some(other) => out.push_str(&format!("0x{other}")),
                None => out.push_str(word),
            }
            rest = behind;
        }
        out.push_str(rest);
        out
    }

    /// Replaces names where they are whole words.
    fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // Two steps: what one name becomes may look like another name.
        for (place, (name, _)) in self.names.iter().enumerate() {
            text = replace_word(&text, name, &format!("\u{1}{place}\u{2}"));
        }
        for (place, (_, other)) in self.names.iter().enumerate() {
            text = text.replace(&format!("\u{1}{place}\u{2}"), other);
        }
        text
    }

    /// The text with what `change` makes of each address, if anything. It is told how many bits at the end are no part of it: a prefix
    /// length follows, and all bits behind it are zero, so the address stands for a network.
    fn each_address(&self, text: &str, mut change: impl FnMut(Met, u32) -> Option<String>) -> String {
        let mut out = String::with_capacity(text.len());
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let begins = at == 0 || !bytes[at - 1].is_ascii_alphanumeric() && bytes[at - 1] != b':';
            if begins && (bytes[at].is_ascii_hexdigit() || bytes[at] == b':') {
                let run = bytes[at..].iter().take_while(|c| is_of_address(**c)).count();
                if let Some((met, len)) = longest(&text[at..at + run], bytes.get(at + run)) {
                    let behind = &text[at + len..];
                    let kept = prefix_len(behind).map_or(0, |prefix| zeros_behind(&met, prefix));
                    match change(met, kept) {
                        Some(other) => out.push_str(&other),
                        None => out.push_str(&text[at..at + len]),
                    }
                    at += len;
                    continue;
                }
            }
            let char = text[at..].chars().next().unwrap_or(' ');
            out.push(char);
            at += char.len_utf8();
        }
        out
    }

    /// Another address; its last `kept` bits stay.
    fn address(&self, address: IpAddr, kept: u32) -> IpAddr {
        match address {
            IpAddr::V4(four) => {
                let fixed = fixed_four(four);
                IpAddr::V4(Ipv4Addr::from_bits(self.bits(4, four.to_bits().into(), 32, fixed, kept) as u32))
            }
            IpAddr::V6(six) => {
                if let Some(four) = six.to_ipv4_mapped() {
                    let IpAddr::V4(four) = self.address(four.into(), kept) else { return address };
                    return four.to_ipv6_mapped().into();
                }
                IpAddr::V6(Ipv6Addr::from_bits(self.bits(6, six.to_bits(), 128, fixed_six(six), kept)))
            }
        }
    }

    fn mac(&self, mac: Mac, kept: u32) -> Mac {
        let number = mac.0.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        // Nobody, everybody, and what stands for many (IPv4 and IPv6 multicast, bridges).
        let fixed = if number == 0 || mac.0[0] & 1 == 1 { 48 } else { 0 };
        let mut other = self.bits(2, number, 48, fixed, kept);
        // Whether it is for one, and whether somebody has chosen it, stays.
        other = other & !(3 << 40) | number & (3 << 40);
        let [.., a, b, c, d, e, f] = other.to_be_bytes();
        Mac([a, b, c, d, e, f])
    }

    /// Other bits: the first `fixed` and the last `kept` of `width` stay. Each other one depends on those before it alone.
    fn bits(&self, kind: u8, number: u128, width: u32, fixed: u32, kept: u32) -> u128 {
        let mut other = number;
        for place in fixed..width.saturating_sub(kept) {
            let before = number.checked_shr(width - place).unwrap_or(0);
            let mut hash = Sha256::new();
            hash.update(self.key);
            hash.update([kind, place as u8]);
            hash.update(before.to_be_bytes());
            let flips = hash.finalize().first().is_some_and(|byte| byte & 1 == 1);
            if flips {
                other ^= 1 << (width - 1 - place);
            }
        }
        other
    }
}

fn is_of_address(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b':' || byte == b'.'
}

/// The longest beginning that is an address, if what follows does not go on with it.
fn longest(run: &str, behind: Option<&u8>) -> Option<(Met, usize)> {
    /// No address is longer as text.
    const LONGEST: usize = 45;
    let most = run.len().min(LONGEST);
    (2..=most).rev().find_map(|len| {
        let next = run.as_bytes().get(len).or(behind);
        if next.is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        let text = run.get(..len)?;
        if let Ok(address) = text.parse() {
            return Some((Met::Ip(address), len));
        }
        (len == 17).then(|| text.parse().ok().map(|mac| (Met::Mac(mac), len)))?
    })
}

/// The prefix length that a text begins with, as in `/24`.
fn prefix_len(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('/')?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// How many bits are behind a prefix, if they are all zero; none otherwise.
fn zeros_behind(met: &Met, prefix: u32) -> u32 {
    let (zeros, width): (u32, u32) = match met {
        Met::Ip(IpAddr::V4(four)) => (four.to_bits().trailing_zeros(), 32),
        Met::Ip(IpAddr::V6(six)) => (six.to_bits().trailing_zeros(), 128),
        Met::Mac(Mac([a, b, c, d, e, f])) => {
            (u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f]).trailing_zeros(), 48)
        }
    };
    let behind = width.saturating_sub(prefix);
    if zeros.min(width) >= behind { behind } else { 0 }
}

/// How many of the first bits stay.
fn fixed_four(address: Ipv4Addr) -> u32 {
    let bits = address.to_bits();
    // A mask: ones, then zeros.
    let is_mask = address.octets()[0] == 255 && (!bits & (!bits).wrapping_add(1)) == 0;
    if address.is_loopback() || address.is_multicast() || address.is_unspecified() || is_mask {
        32
    } else if address.is_link_local() {
        16
    } else {
        // Else a unicast address could become one that nobody can have.
        8
    }
}

fn fixed_six(address: Ipv6Addr) -> u32 {
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        128
    } else if address.is_unicast_link_local() {
        64
    } else if address.is_unique_local() {
        8
    } else {
        3
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(four) => hex(&four.octets()),
        IpAddr::V6(six) => hex(&six.octets()),
    }
}

/// Replaces a word wherever no letter or digit touches it.
fn replace_word(text: &str, word: &str, by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in text.match_indices(word) {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let touches = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
        // What a name has become is not looked at again.
        let is_mark = before == Some('\u{1}') || after == Some('\u{2}');
        if at < from || touches(before) || touches(after) || is_mark {
            continue;
        }
        out.push_str(&text[from..at]);
        out.push_str(by);
        from = at + word.len();
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn anonymous() -> Anonymous {
        let mut anonymous = Anonymous::new([7; 32]);
        for name in ["node1", "node12", "web", "eth1", "eth1.100", "lo", "1"] {
            anonymous.hide("name", name);
        }
        anonymous
    }

    fn other(text: &str) -> String {
        anonymous().text(text)
    }

    #[test]
    fn no_address_and_no_name_is_left_and_the_rest_is() {
        let text = "node1: tcp 192.168.122.1:40001 > [fd00:5::201]:80, 10.5.5.201. mac 52:54:00:00:00:01 via eth1.100 (web) \
                    node12_x node123 a webcam; at 12:30:01, 6.1.0-18, 0.2.0\n";
        let changed = other(text);
        for gone in ["192.168.122", "fd00:5:", "10.5.5", "52:54:00", "eth1", "(web)", "node12_"] {
            assert!(!changed.contains(gone), "{gone}: {changed}");
        }
        for stays in ["tcp ", ":40001 > [", "]:80, ", "node123 a webcam; at 12:30:01, 6.1.0-18, 0.2.0\n"] {
            assert!(changed.contains(stays), "{stays}: {changed}");
        }
        assert_eq!(other(text), changed, "the same everywhere");
        assert_ne!(Anonymous::new([8; 32]).text(text), changed, "another report has other ones");
    }

    #[test]
    fn what_everybody_has_stays() {
        for text in [
            "127.0.0.1 0.0.0.0/0 224.0.0.1 255.255.255.0 255.255.255.255",
            "::1 ::/0 ff02::1 fe80::/10 33:33:00:00:00:01 ff:ff:ff:ff:ff:ff 00:00:00:00:00:00 lo",
        ] {
            assert_eq!(other(text), text);
        }
        assert!(other("fe80::5054:ff:fe00:1").starts_with("fe80::"));
    }

    #[test]
    fn a_network_is_one_still_and_numbers_are_found() {
        let changed = other("10.5.5.0/24 10.5.5.201 0a:00:00:00:00:00/24 fd00:5::/64");
        let words: Vec<&str> = changed.split(' ').collect();
        let net: ipnet::IpNet = words[0].parse().unwrap();
        assert_eq!(net.addr(), net.network(), "{changed}");
        assert!(net.contains(&words[1].parse::<IpAddr>().unwrap()), "{changed}");
        assert!(words[2].ends_with(":00:00:00/24") && words[3].ends_with("::/64"), "{changed}");
        // Bits of the prefix that happen to be zero are bits of it all the same.
        for (network, inside) in
            [("10.0.0.0/24", "10.0.0.7"), ("fd00::/64", "fd00::7"), ("10.0.0.0/8", "10.9.9.9")]
        {
            let changed = other(&format!("{network} {inside}"));
            let (network, inside) = changed.split_once(' ').unwrap();
            let (network, inside): (ipnet::IpNet, IpAddr) =
                (network.parse().unwrap(), inside.parse().unwrap());
            assert!(network.contains(&inside) && network.addr() == network.network(), "{changed}");
        }
        let mut anonymous = anonymous();
        anonymous.learn("10.5.5.201");
        let number = anonymous.text("@nh,128,32 0xa0505c9 mark 0x2");
        assert!(!number.contains("a0505c9") && number.ends_with(" mark 0x2"), "{number}");
    }

    proptest! {
        #[test]
        fn prefixes_in_common_stay_in_common(one in any::<u32>(), other in any::<u32>(), common in 0u32..=32) {
            let mask = u32::MAX.checked_shl(32 - common).unwrap_or(0);
            let other = one & mask | other & !mask;
            let anonymous = anonymous();
            let of = |bits| Ipv4Addr::from_bits(anonymous.bits(4, u128::from(bits), 32, 0, 0) as u32).to_bits();
            prop_assert_eq!((of(one) ^ of(other)).leading_zeros(), (one ^ other).leading_zeros());
        }

        #[test]
        fn any_text_comes_to_an_end_and_any_address_is_found(text in ".{0,40}", bits in any::<u32>(), six in any::<u128>()) {
            let anonymous = anonymous();
            let _ = anonymous.text(&text);
            let (four, six) = (Ipv4Addr::from_bits(bits | 1 << 31 & !(1 << 30)), Ipv6Addr::from_bits(six));
            for (address, fixed) in [(IpAddr::V4(four), fixed_four(four)), (IpAddr::V6(six), fixed_six(six))] {
                let changed = anonymous.text(&format!("{text} {address} {text}"));
                let same = anonymous.address(address, 0) == address;
                prop_assert!(same || fixed >= 32 || !changed.contains(&format!(" {address} ")), "{changed}");
            }
        }
    }
}
