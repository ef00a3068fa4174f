//! What the kernel counts of packets that it drops by itself, and no rule shows.

use std::collections::BTreeMap;
use std::fs;

/// The counters of this thread's network namespace, by what one says when they go up.
pub(super) struct Counters(BTreeMap<&'static str, u64>);

/// File below /proc/thread-self/net, group, name, and what it means (Documentation/networking/snmp_counter.rst).
const KNOWN: [(&str, &str, &str, &str); 9] = [
    ("netstat", "TcpExt", "IPReversePathFilter", "the reverse-path filter (rp_filter) dropped it"),
    ("snmp", "Ip", "InAddrErrors", "its destination or source cannot be used here (martian)"),
    ("snmp", "Ip", "OutNoRoutes", "there is no route to its destination"),
    ("netstat", "IpExt", "InNoRoutes", "there is no route for it"),
    ("snmp", "Ip", "InDiscards", "the kernel discarded it"),
    ("snmp", "Ip", "OutDiscards", "the kernel discarded it on the way out"),
    ("snmp", "Ip", "FragFails", "it is longer than the MTU on the way out"),
    ("snmp", "Ip", "InHdrErrors", "its header is wrong, or it came to its last hop"),
    ("snmp", "Ip", "InUnknownProtos", "the host itself got it, and has no use for its protocol"),
];

/// The same of IPv6, where each counter has a line of its own.
const KNOWN_OF_IPV6: [(&str, &str); 5] = [
    ("Ip6InNoRoutes", "there is no route for it"),
    ("Ip6OutNoRoutes", "there is no route to its destination"),
    ("Ip6InAddrErrors", "its destination or source cannot be used here"),
    ("Ip6InDiscards", "the kernel discarded it"),
    ("Ip6InTooBigErrors", "it is longer than the MTU on the way out"),
];

impl Counters {
    pub(super) fn read() -> Self {
        let read =
            |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        let (netstat, snmp, snmp6) = (read("netstat"), read("snmp"), read("snmp6"));
        let of_four = KNOWN.into_iter().filter_map(|(file, group, name, meaning)| {
            let text = if file == "snmp" { &snmp } else { &netstat };
            Some((meaning, value(text, group, name)?))
        });
        let of_six = KNOWN_OF_IPV6.into_iter().filter_map(|(name, meaning)| {
            let line = snmp6.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', '\t']))?;
            Some((meaning, line.trim().parse().ok()?))
        });
        let mut sums = BTreeMap::new();
        for (meaning, count) in of_four.chain(of_six) {
            *sums.entry(meaning).or_insert(0) += count;
        }
        Self(sums)
    }

    /// What has gone up since.
    pub(super) fn gone_up(&self) -> Vec<String> {
        let now = Self::read();
        let more =
            now.0.into_iter().filter(|(what, count)| self.0.get(what).is_some_and(|before| count > before));
        more.map(|(what, _)| what.to_owned()).collect()
    }
}

/// Each group has two lines: its names, and their values in the same order (net/ipv4/proc.c, `snmp_seq_show()`).
fn value(text: &str, group: &str, name: &str) -> Option<u64> {
    let of_group = |line: &&str| line.strip_prefix(group).is_some_and(|rest| rest.starts_with(':'));
    let mut lines = text.lines().filter(of_group);
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|it| it == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_under_its_name() {
        let text = "Ip: Forwarding InAddrErrors\nIp: 1 7\nIpExt: InNoRoutes\nIpExt: 9\n";
        assert_eq!(value(text, "Ip", "InAddrErrors"), Some(7));
        assert_eq!(value(text, "IpExt", "InNoRoutes"), Some(9));
        assert_eq!(value(text, "Ip", "InNoRoutes"), None);
        assert_eq!(value("Ip: a b\nIp: 1\n", "Ip", "b"), None);
    }

    #[test]
    fn this_kernel_has_them() {
        let counters = Counters::read();
        assert!(counters.0.contains_key("the reverse-path filter (rp_filter) dropped it"));
        assert!(counters.0.contains_key("there is no route for it"));
    }
}
