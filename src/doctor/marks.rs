//! Who else uses bits of the packet mark and the ct mark.

use super::{Fact, Host, Reading, Role, Section, Severity};

pub(super) fn judge(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    vec![no_other_user(host, role)]
}

fn no_other_user(host: &Host, role: &Role<'_>) -> Fact {
    let ours = role.cluster.mask.0;
    let fact = Fact::new(Section::Others, "mark-bits", format!("others use no mark bits of {ours:#x}"));
    let users = match users(host) {
        Ok(users) => users,
        Err(why) => return fact.otherwise(Severity::Matters, "tags may be changed or misread").unknown(why),
    };
    let taken = users.iter().fold(0, |taken, (bits, _)| taken | bits);
    let (all, nodes) = (users.len(), role.cluster.nodes.len());
    let in_our_way: Vec<&String> =
        users.iter().filter(|(bits, _)| bits & ours != 0).map(|(_, who)| who).collect();
    match in_our_way.as_slice() {
        [] => fact.yes(match all {
            0 => "nobody uses marks".to_owned(),
            _ => format!("others use {taken:#x}"),
        }),
        [first, rest @ ..] => {
            let advice = match free_byte(taken) {
                Some(mask) if nodes < 256 => format!(
                    "; give dunnat free bits, in the cluster file of all nodes: mask = \"{mask:#x}\", and \
                     tags of {:#x}, {:#x} and so on",
                    mask & mask.wrapping_neg(),
                    2 * (mask & mask.wrapping_neg())
                ),
                _ => "; no byte of the mark is free: remove one of the two".to_owned(),
            };
            let meaning = format!(
                "tags may be changed or misread, or other rules may route flows by \
                                   them{advice}"
            );
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            fact.otherwise(Severity::Matters, meaning).no(format!("{first}{more}"))
        }
    }
}

/// Each rule that reads or writes marks, with the bits that it uses.
fn users(host: &Host) -> Reading<Vec<(u32, String)>> {
    let listing = host.rules.as_ref().map_err(Clone::clone)?;
    let mut users = Vec::new();
    for chain in listing.chains.iter().filter(|chain| !chain.is_ours()) {
        for rule in &chain.rules {
            let bits = bits_of(rule);
            if bits != 0 {
                users.push((bits, format!("{}{}: {rule}", chain.place(), known(&chain.place(), 0))));
            }
        }
    }
    for (priority, mark, mask) in host.policy_routing.as_ref().map_err(Clone::clone)? {
        let whose = known("", *mask);
        users.push((*mask, format!("ip rule {priority}{whose}: fwmark {mark:#x}/{mask:#x}")));
    }
    Ok(users)
}

/// Programs that are known to use marks, by a part of the names of their tables and chains in small letters, and by the mask of
/// their rules of routing, where that is theirs alone.
const KNOWN: [(&str, u32, &str); 9] = [
    ("kube-", 0, "kube-proxy"),
    ("cali-", 0, "Calico"),
    ("cilium", 0xf00, "Cilium"),
    ("ts-", 0x00ff_0000, "Tailscale"),
    ("mwan3", 0x3f00, "mwan3"),
    ("docker", 0, "Docker"),
    ("firewalld", 0, "firewalld"),
    ("fw4", 0, "OpenWrt's firewall"),
    ("libvirt", 0, "libvirt"),
];

/// Whose it is, as in ` (Calico)`, if that is known.
fn known(place: &str, mask: u32) -> String {
    let place = place.to_ascii_lowercase();
    let words = || place.split_whitespace();
    let is_its = |(name, its_mask, _): &&(&str, u32, &str)| {
        words().any(|word| word.starts_with(name)) || mask != 0 && *its_mask == mask
    };
    KNOWN.iter().find(is_its).map(|(.., who)| format!(" ({who})")).unwrap_or_default()
}

/// A byte of the mark that is nobody's, the lower the better, but not the lowest: many a tool counts from 1.
fn free_byte(taken: u32) -> Option<u32> {
    [0xff00, 0x00ff_0000, 0xff00_0000, 0xff].into_iter().find(|mask| taken & mask == 0)
}

/// The bits of packet and ct mark that a rule reads or writes.
fn bits_of(rule: &str) -> u32 {
    let cleaned = rule.replace(['(', ')', ','], " ");
    let words: Vec<&str> = cleaned.split_whitespace().collect();
    let mut bits = 0;
    let mut at = 0;
    while at < words.len() {
        if words[at] != "mark" || at == 0 || !["meta", "ct"].contains(&words[at - 1]) {
            at += 1;
            continue;
        }
        let kind = words[at - 1];
        let rest = &words[at + 1..];
        let (used, len) = match rest.first() {
            Some(&"set") => written(kind, &rest[1..]),
            Some(&("&" | "and")) => (rest.get(1).and_then(|word| number(word)).unwrap_or(u32::MAX), 2),
            // Compared as a whole, or looked up.
            _ => (u32::MAX, 0),
        };
        bits |= used;
        at += 1 + len;
    }
    bits
}

/// What `set` changes, of what follows it: `meta mark & A | V`, `mark or V` (as nft writes a rule of iptables),
/// `ct mark`, `V`. Also how many words those are.
fn written(kind: &str, words: &[&str]) -> (u32, usize) {
    let source = match words {
        ["mark", ..] => Some(("meta", 1)),
        [from @ ("meta" | "ct"), "mark", ..] => Some((*from, 2)),
        _ => None,
    };
    let Some((from, mut len)) = source else { return (u32::MAX, 1) };
    let keeps = from == kind;
    // A copy changes all that no mask leaves out; a mark made from itself changes what operators change.
    let mut bits = if keeps { 0 } else { u32::MAX };
    while let Some((operator, value)) = words.get(len).zip(words.get(len + 1).and_then(|word| number(word))) {
        match *operator {
            "&" | "and" if keeps => bits |= !value,
            "&" | "and" => bits &= value,
            "|" | "or" | "^" | "xor" => bits |= value,
            _ => break,
        }
        len += 2;
    }
    (if keeps && bits == 0 { u32::MAX } else { bits }, 1 + len)
}

fn number(word: &str) -> Option<u32> {
    word.parse::<crate::net::Mark>().ok().map(|mark| mark.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_that_a_rule_uses_are_found() {
        for (rule, bits) in [
            ("meta mark set mark or 0x4000", 0x4000),
            ("meta mark set meta mark & 0xffff00ff | 0x00000100", 0xff00),
            ("meta mark set (meta mark & 0xfffffff0) ^ 0x1", 0xf),
            ("meta mark & 0x000000ff == 0x00000001 ct mark set mark and 0xff", 0xff),
            ("ct mark set meta mark", u32::MAX),
            ("ct mark set ct mark | 0x10", 0x10),
            ("ct mark 0x2 meta mark set 0x7", u32::MAX),
            ("meta mark != 0x1 accept", u32::MAX),
            ("meta mark vmap { 0x1 : accept }", u32::MAX),
            ("meta mark and 0x40000 != 0x0 return", 0x40000),
            ("tcp dport 80 accept", 0),
            ("log prefix \"mark\" drop", 0),
            ("socket mark 0x1 accept", 0),
        ] {
            assert_eq!(bits_of(rule), bits, "{rule}");
        }
    }

    #[test]
    fn known_users_are_named() {
        for (place, mask, who) in [
            ("ip mangle KUBE-MARK-MASQ", 0, " (kube-proxy)"),
            ("ip nat DOCKER", 0, " (Docker)"),
            ("inet firewalld filter_FORWARD", 0, " (firewalld)"),
            ("", 0x00ff_0000, " (Tailscale)"),
            ("", 0x3f00, " (mwan3)"),
            ("inet fw hosts-out", 0, ""),
            ("", 0xff, ""),
            ("", 0, ""),
        ] {
            assert_eq!(known(place, mask), who, "{place} {mask:#x}");
        }
    }

    #[test]
    fn a_free_byte_is_one_that_nobody_uses() {
        assert_eq!(free_byte(0x1), Some(0xff00));
        assert_eq!(free_byte(0x4000), Some(0x00ff_0000));
        assert_eq!(free_byte(u32::MAX), None);
    }
}
