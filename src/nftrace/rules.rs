//! The rules that choose packets, written as the kernel reads them.
//!
//! A base chain at each hook that packets begin at has a rule for each alternative of what is asked for
//! ([`Alternatives`]), which leads to one chain: it counts the packet, and has it traced if not too many were. No rule does more:
//! each packet goes on as it came.

use std::time::SystemTime;

use ipnet::IpNet;

use crate::net::{Family, OfFamily as _, octets};
use crate::netlink::expression::{Compare, Expressions, Load, Say, meta};
use crate::netlink::nftables::{self, Batch, Hook};
use crate::ruleset::TRACING;
use crate::trace::{Alternatives, Asked};

/// Packets that were asked for, and those of them that were traced.
pub(super) const CHOSEN: &str = "chosen";
pub(super) const TRACED: &str = "traced";

/// The families of the tables: that of IP packets, and that of frames which a bridge may drop before. Not every kernel has the
/// last.
pub(super) const FAMILIES: [&str; 2] = [INET, "bridge"];
const INET: &str = "inet";

/// Behind the hook by which br_netfilter keeps a packet from prerouting that was there as a frame already
/// (`ip_sabotage_in()`, `NF_IP_PRI_FIRST`), and before all else.
const PRIORITY: i32 = i32::MIN + 1;

/// What is to be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) alternatives: Alternatives,
    /// Packets a second, at most.
    pub(super) rate: u32,
    /// From then on nothing is traced, even if the rules are still there.
    pub(super) until: SystemTime,
}

/// Where packets begin: name and number of the hook (`NF_INET_*`, include/uapi/linux/netfilter.h; `NF_BR_PRE_ROUTING`).
fn hooks(family: &str) -> &'static [(&'static str, u32)] {
    if family == INET { &[("prerouting", 0), ("output", 3)] } else { &[("prerouting", 0)] }
}

/// Writes the table of a family, whatever is in it already.
pub(super) fn put(batch: &mut Batch, family_name: &'static str, wanted: &Wanted, flags: u32, comment: &str) {
    let family = nftables::family(family_name);
    batch.table(family, TRACING, flags, comment);
    for counter in [CHOSEN, TRACED] {
        batch.counter(family, TRACING, counter);
    }
    // Whoever leads to the chain goes first, and comes last.
    batch.chain(family, TRACING, CHOSEN, None);
    for (name, number) in hooks(family_name) {
        batch.chain(
            family,
            TRACING,
            name,
            Some(Hook { kind: "filter", number: *number, priority: PRIORITY }),
        );
        batch.flush_chain(family, TRACING, name);
    }
    batch.flush_chain(family, TRACING, CHOSEN);
    for rule in choosing(wanted) {
        batch.rule(family, TRACING, CHOSEN, &rule);
    }
    for (name, _) in hooks(family_name) {
        for conditions in &wanted.alternatives {
            batch.rule(family, TRACING, name, &leading(family_name, conditions, CHOSEN));
        }
    }
}

fn choosing(wanted: &Wanted) -> [Expressions; 3] {
    let mut counted = Expressions::default();
    counted.count(CHOSEN);
    let mut traced = Expressions::default();
    traced.limit(wanted.rate);
    traced.count(TRACED);
    traced.trace();
    [over(wanted.until), counted, traced]
}

/// From that time on no packet gets to the rules behind this one.
pub(crate) fn over(until: SystemTime) -> Expressions {
    let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
    let mut over = Expressions::default();
    over.load(Load::Meta(meta::TIME));
    over.order_eight();
    over.compare(Compare::AtLeast, &until.to_be_bytes());
    over.say(Say::Return);
    over
}

/// A packet that is so goes to that chain. In a table of one family addresses are of that family.
pub(crate) fn leading(family: &str, conditions: &[Asked], to: &str) -> Expressions {
    let mut out = Expressions::default();
    for condition in conditions {
        match condition {
            Asked::Proto(proto) => {
                out.load(Load::Meta(meta::PROTOCOL));
                out.compare(Compare::Equal, &[proto.0]);
            }
            // Where the addresses are in the header: RFC 791 §3.1, RFC 8200 §3.
            Asked::From(net) => within(&mut out, family, *net, [12, 8]),
            Asked::To(net) => within(&mut out, family, *net, [16, 24]),
            Asked::FromPort(first, last) => out.port(0, (*first, *last)),
            Asked::ToPort(first, last) => out.port(2, (*first, *last)),
        }
    }
    out.go_to(to);
    out
}

fn within(out: &mut Expressions, family: &str, net: IpNet, [four, six]: [u32; 2]) {
    match family {
        INET => {
            out.load(Load::Meta(meta::FAMILY));
            out.compare(Compare::Equal, &[nftables::family(net.family().nft())]);
        }
        // The family of a frame is that of the bridge.
        "bridge" => {
            let ether_type = if net.family() == Family::V4 { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
            out.load(Load::Meta(meta::ETHER_TYPE));
            out.compare(Compare::Equal, &(ether_type as u16).to_be_bytes());
        }
        // All its packets are of its family; nft 1.0.6 aborts when it lists a rule there that asks for it, and then for a port.
        _ => {}
    }
    let address = octets(net.network());
    out.load(Load::Network(if net.family() == Family::V4 { four } else { six }, address.len() as u32));
    if net.prefix_len() < net.max_prefix_len() {
        out.mask(&octets(net.netmask()));
    }
    out.compare(Compare::Equal, &address);
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::net::{Proto, Tuple};
    use crate::netlink::attribute::{Attributes, be32};
    use crate::netlink::message::{self, Message};
    use crate::ruleset::is_our_name;

    /// A packet as a rule sees it.
    struct Seen {
        family: &'static str,
        tuple: Tuple,
        network: Vec<u8>,
        transport: Vec<u8>,
    }

    impl Seen {
        fn new(family: &'static str, tuple: Tuple) -> Self {
            let network = match (tuple.src, tuple.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => [&[0; 12][..], &src.octets(), &dst.octets()].concat(),
                (IpAddr::V6(src), IpAddr::V6(dst)) => [&[0; 8][..], &src.octets(), &dst.octets()].concat(),
                _ => panic!("two families"),
            };
            let (from, to) = tuple.ports.unwrap_or_default();
            Self { family, tuple, network, transport: [from.to_be_bytes(), to.to_be_bytes()].concat() }
        }

        fn meta(&self, key: u32) -> Vec<u8> {
            let is_four = self.tuple.src.is_ipv4();
            match key {
                meta::PROTOCOL => vec![self.tuple.proto.0],
                meta::FAMILY if self.family == "bridge" => vec![nftables::family("bridge")],
                meta::FAMILY => vec![nftables::family(if is_four { "ip" } else { "ip6" })],
                meta::ETHER_TYPE => if is_four { [0x08, 0x00] } else { [0x86, 0xdd] }.to_vec(),
                other => panic!("meta {other}"),
            }
        }
    }

    fn attribute(bytes: &[u8], wanted: u16) -> &[u8] {
        Attributes::new(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value).unwrap_or_default()
    }

    fn number(data: &[u8], wanted: u16) -> u32 {
        be32(attribute(data, wanted)).unwrap()
    }

    /// What the kernel does with the rule: whether the packet goes to the chain of those that are chosen.
    fn is_led(rule: &[u8], seen: &Seen) -> bool {
        let mut register = Vec::new();
        for (_, expression) in Attributes::new(rule) {
            let (name, data) = (attribute(expression, 1), attribute(expression, 2));
            match name {
                b"meta\0" => register = seen.meta(number(data, 2)),
                b"payload\0" => {
                    let header = if number(data, 2) == 1 { &seen.network } else { &seen.transport };
                    let (at, len) = (number(data, 3) as usize, number(data, 4) as usize);
                    let Some(bytes) = header.get(at..at + len) else { return false };
                    register = bytes.to_vec();
                }
                b"bitwise\0" => {
                    let mask = attribute(attribute(data, 4), 1);
                    assert_eq!(mask.len(), register.len());
                    register.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
                }
                b"cmp\0" => {
                    let with = attribute(attribute(data, 3), 1);
                    assert_eq!(with.len(), register.len());
                    let goes_on = match number(data, 2) {
                        0 => register == with,
                        3 => *register <= *with,
                        5 => *register >= *with,
                        other => panic!("cmp {other}"),
                    };
                    if !goes_on {
                        return false;
                    }
                }
                b"immediate\0" => {
                    let verdict = attribute(attribute(data, 2), 2);
                    assert_eq!(number(verdict, 1).cast_signed(), -4);
                    assert_eq!(attribute(verdict, 2), b"chosen\0");
                    return true;
                }
                other => panic!("{}", String::from_utf8_lossy(other)),
            }
        }
        panic!("the rule has no end");
    }

    fn tuple() -> impl Strategy<Value = Tuple> {
        let proto = prop_oneof![Just(Proto::TCP), Just(Proto::UDP), Just(Proto::ICMP), Just(Proto::ICMP6)];
        let addresses = prop_oneof![
            any::<[[u8; 4]; 2]>().prop_map(|both| both.map(IpAddr::from)),
            any::<[[u8; 16]; 2]>().prop_map(|both| both.map(IpAddr::from)),
        ];
        (proto, addresses, any::<(u16, u16)>()).prop_map(|(proto, [src, dst], ports)| Tuple {
            proto,
            src,
            dst,
            ports: proto.has_ports().then_some(ports),
        })
    }

    /// A condition that is so of the packet, or of another.
    fn condition(of: Tuple) -> impl Strategy<Value = Asked> {
        let net = |address: IpAddr| {
            (0..=32u8)
                .prop_map(move |len| Some(IpNet::new(address, len).ok()?.trunc()))
                .prop_map(Option::unwrap)
        };
        let (from, to) = of.ports.unwrap_or((7, 7));
        let range = |port: u16| {
            (0..3u16, 0..3u16).prop_map(move |(a, b)| (port.saturating_sub(a), port.saturating_add(b)))
        };
        prop_oneof![
            prop_oneof![Just(of.proto), Just(Proto::TCP)].prop_map(Asked::Proto),
            prop_oneof![net(of.src), net(of.dst)].prop_map(Asked::From),
            prop_oneof![net(of.src), net(of.dst)].prop_map(Asked::To),
            prop_oneof![range(from), range(to)].prop_map(|(first, last)| Asked::FromPort(first, last)),
            prop_oneof![range(from), range(to)].prop_map(|(first, last)| Asked::ToPort(first, last)),
        ]
    }

    proptest! {
        /// The kernel is asked for what the conditions say, of packets as well as of frames.
        #[test]
        fn a_rule_leads_whom_its_conditions_describe(
            (tuple, conditions, another) in tuple().prop_flat_map(|of| (Just(of), prop::collection::vec(condition(of), 0..4), tuple())),
        ) {
            let own = if tuple.src.is_ipv4() { "ip" } else { "ip6" };
            for family in FAMILIES.into_iter().chain([own]) {
                for tuple in [tuple, another] {
                    // No other packet comes to a table of one family.
                    if family == own && tuple.src.is_ipv4() != (own == "ip") {
                        continue;
                    }
                    let is_so = conditions.iter().all(|condition| condition.is(tuple));
                    let is_led = is_led(leading(family, &conditions, CHOSEN).bytes(), &Seen::new(family, tuple));
                    // Where others have ports, ICMP has something else.
                    prop_assert!(is_led == is_so || is_led && tuple.ports.is_none(), "{:?} {}", conditions, tuple);
                }
            }
        }
    }

    /// The table does nothing but to have packets traced.
    #[test]
    fn no_rule_has_a_verdict_on_a_packet() {
        let alternatives = vec![Vec::new(), vec![Asked::Proto(Proto::TCP), Asked::ToPort(80, 90)]];
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        let mut batch = Batch::new();
        for family in FAMILIES {
            put(&mut batch, family, &Wanted { alternatives: alternatives.clone(), rate: 100, until }, 0, "");
        }
        let mut names = Vec::new();
        for message in message::all(batch.bytes()) {
            let Message::Netfilter { kind: 0x0a06, attributes, .. } = message else { continue };
            let attributes: Vec<(u16, &[u8])> = attributes.collect();
            let of = |wanted| attributes.iter().find(|(kind, _)| *kind == wanted).unwrap().1;
            assert!(is_our_name(String::from_utf8_lossy(of(1)).trim_end_matches('\0')));
            for (_, expression) in Attributes::new(of(4)) {
                let (name, data) = (attribute(expression, 1), attribute(expression, 2));
                names.push(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
                let verdict = attribute(attribute(data, 2), 2);
                if name == b"immediate\0" && !verdict.is_empty() {
                    // `goto` the one chain, or `return` from it.
                    assert!([-4, -5].contains(&number(verdict, 1).cast_signed()));
                }
            }
        }
        let choosing =
            ["meta", "byteorder", "cmp", "immediate", "objref", "limit", "objref", "immediate", "meta"];
        assert_eq!(names[..choosing.len()], choosing);
        assert_eq!(names.iter().filter(|name| *name == "limit").count(), FAMILIES.len());
    }
}
