//! Addresses that no host of a cluster can have, or be reached at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Blocks of the registries of IANA for special addresses (RFC 6890), as far as no packet to or from there is ever forwarded.
const V4: [(Ipv4Addr, u8, &str); 6] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "\"this network\" (RFC 1122 section 3.2.1.3)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback (RFC 1122 section 3.2.1.3)"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local, which is not routed (RFC 3927 section 2.7)"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast (RFC 5771)"),
    // Before the block that it is in.
    (Ipv4Addr::BROADCAST, 32, "the broadcast address (RFC 919)"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved (RFC 1112 section 4)"),
];

const V6: [(Ipv6Addr, u8, &str); 6] = [
    (Ipv6Addr::UNSPECIFIED, 128, "the unspecified address (RFC 4291 section 2.5.2)"),
    (Ipv6Addr::LOCALHOST, 128, "loopback (RFC 4291 section 2.5.3)"),
    (Ipv6Addr::UNSPECIFIED, 96, "IPv4-compatible, which is obsolete (RFC 4291 section 2.5.5.1)"),
    (
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
        96,
        "IPv4-mapped: packets carry it as an IPv4 address (RFC 4291 section 2.5.5.2)",
    ),
    (
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
        "link-local, which is not routed (RFC 4291 section 2.5.6)",
    ),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast (RFC 4291 section 2.7)"),
];

/// What an address is that no host can have outside of itself or its link; none for a usual one.
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    overlapping(address.into()).map(|(_, what)| what)
}

/// The first such block that has addresses in common with a network, and what it is.
pub(super) fn overlapping(network: IpNet) -> Option<(IpNet, &'static str)> {
    let four =
        V4.into_iter().filter_map(|(first, len, what)| Some((Ipv4Net::new(first, len).ok()?.into(), what)));
    let six =
        V6.into_iter().filter_map(|(first, len, what)| Some((Ipv6Net::new(first, len).ok()?.into(), what)));
    four.chain(six).find(|(block, _): &(IpNet, _)| network.contains(block) || block.contains(&network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_told_from_usual_ones() {
        for (address, what) in [
            ("0.0.0.0", "this network"),
            ("0.255.255.255", "this network"),
            ("127.0.0.1", "loopback"),
            ("127.255.0.9", "loopback"),
            ("169.254.0.1", "link-local"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.0", "reserved"),
            ("255.255.255.254", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::10.0.0.1", "IPv4-compatible"),
            ("::ffff:192.168.122.11", "IPv4-mapped"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("ff02::1", "multicast"),
        ] {
            let said =
                special(address.parse().unwrap()).unwrap_or_else(|| panic!("{address} is a usual one"));
            assert!(said.contains(what), "{address} is {said}");
        }
        for usual in
            ["1.0.0.0", "10.5.5.201", "126.255.255.255", "128.0.0.1", "169.253.255.255", "192.168.122.11"]
        {
            assert_eq!(special(usual.parse().unwrap()), None, "{usual}");
        }
        for usual in ["223.255.255.255", "64:ff9b::1", "2001:db8::1", "fd00::1", "fec0::1", "::1:0:0:0"] {
            assert_eq!(special(usual.parse().unwrap()), None, "{usual}");
        }
    }

    #[test]
    fn networks_with_special_addresses_are_told() {
        for (network, block) in [
            ("0.0.0.0/0", "0.0.0.0/8"),
            ("126.0.0.0/7", "127.0.0.0/8"),
            ("127.5.0.0/16", "127.0.0.0/8"),
            ("128.0.0.0/1", "169.254.0.0/16"),
            ("224.0.0.0/3", "224.0.0.0/4"),
            ("255.255.255.0/24", "255.255.255.255/32"),
            ("::/0", "::/128"),
            ("::/128", "::/128"),
            ("fe80::/64", "fe80::/10"),
            ("f000::/4", "fe80::/10"),
        ] {
            let (found, _) = overlapping(network.parse().unwrap()).unwrap();
            assert_eq!(found.to_string(), block, "{network}");
        }
        for usual in ["10.0.0.0/8", "10.5.5.0/24", "128.0.0.0/3", "fd00::/8", "2000::/3"] {
            assert_eq!(overlapping(usual.parse().unwrap()), None, "{usual}");
        }
    }
}
