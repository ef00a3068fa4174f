//! What is written by netlink, byte for byte. That the kernel takes it for the same rules as nft's text is seen in the lab
//! (`the_guard_that_stays_and_the_one_of_the_process_are_alike`).

use std::path::Path;

use super::*;
use crate::net::Ports;
use crate::netlink::attribute::Attributes;
use crate::netlink::expression::Expressions;
use crate::netlink::message::{self, Message};

/// The bytes of attributes as text, if they are one, else in hexadecimal.
fn shown(value: &[u8]) -> String {
    match value.split_last() {
        Some((0, text)) if !text.is_empty() && text.iter().all(u8::is_ascii_graphic) => {
            String::from_utf8_lossy(text).into_owned()
        }
        _ => value.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// An expression a line: its name, and what it has, by the numbers of its attributes.
fn expressions(bytes: &[u8]) -> String {
    let expression = |(_, element)| {
        let [(_, name), (_, data)] = Attributes::new(element).collect::<Vec<_>>()[..] else {
            panic!("not a name and data: {element:?}")
        };
        let data: Vec<String> =
            Attributes::new(data).map(|(kind, value)| format!("{kind}={}", shown(value))).collect();
        format!("    {} {}\n", shown(name), data.join(" "))
    };
    Attributes::new(bytes).map(expression).collect()
}

fn messages(batch: &Batch) -> String {
    const NEW_RULE: u16 = 0x0a06;
    const RULE_EXPRESSIONS: u16 = 4;
    let message = |message: Message<'_>| {
        let Message::Netfilter { kind, family, attributes } = message else {
            panic!("not a message of netfilter")
        };
        let mut line = format!("{kind:#06x} {}", nftables::family_name(family));
        let mut rest = String::new();
        for (number, value) in attributes {
            if (kind, number) == (NEW_RULE, RULE_EXPRESSIONS) {
                rest = expressions(value);
            } else {
                line.push_str(&format!(" {number}={}", shown(value)));
            }
        }
        format!("{line}\n{rest}")
    };
    message::all(batch.bytes()).map(message).collect()
}

fn cluster(text: &str) -> Cluster {
    Cluster::parse(text, Path::new("c")).unwrap()
}

/// Both families, with services of one port, of several, of a range, of all ports and of all there is, and networks inside.
fn of_every_kind() -> Cluster {
    let service = |name: &str, more: &str| {
        format!("\n[[service]]\nname = \"{name}\"\nproto = {more}\nguest = \"10.5.5.203\"\n")
    };
    let text = include_str!("../../../rules/dual.toml").to_owned()
        + &service("range", "\"udp\"\nport = \"8000-8099\"")
        + &service("last", "\"udp\"\nport = 65535")
        + &service("all-ports", "\"sctp\"\nport = \"any\"")
        + &service("all", "\"any\"");
    let inside = "inside = [\"10.8.0.0/13\", \"fd00:8::/33\"]\nbridge";
    cluster(&text.replacen("bridge", inside, 1))
}

#[test]
fn what_is_written_for_services_of_every_kind() {
    for (name, cluster) in [
        ("owned-guard", cluster(include_str!("../../../rules/example.toml"))),
        ("owned-guard-of-every-kind", of_every_kind()),
    ] {
        let mut batch = Batch::new();
        Guard::new(&cluster, NodeId(0)).put(&mut batch, 2, "a-comment");
        insta::assert_snapshot!(name, messages(&batch));
    }
}

/// The walk through rules that were never installed meets both, as a packet in the kernel does.
#[test]
fn the_owned_guard_is_the_one_that_stays_at_other_priorities() {
    let guard = Guard::new(&of_every_kind(), NodeId(0));
    let (stays, owned) = (guard.tables(), guard.owned());
    assert_eq!(
        owned.iter().map(|table| (table.family, table.name)).collect::<Vec<_>>(),
        [("inet", OWNED), ("arp", OWNED)]
    );
    for (one, two) in stays.iter().zip(&owned) {
        assert_eq!((one.family, &one.counters), (two.family, &two.counters));
        for (one, two) in one.chains.iter().zip(&two.chains) {
            assert_eq!((&one.name, &one.rules), (&two.name, &two.rules));
            let priority = |chain: &Chain| chain.hook.as_ref().map(|hook| hook.priority);
            assert!(one.hook.is_none() || priority(one) != priority(two), "{}", one.name);
        }
        assert_eq!(one.chains.len(), two.chains.len());
    }
    let looks_on = Guard::none();
    assert_eq!((looks_on.tables(), looks_on.owned().len()), (Vec::new(), 1));
}

/// Prefixes that end with a byte and within one; where an address has a name for nft, and where it is known by its place.
#[test]
fn what_is_written_for_a_condition() {
    let nets = [
        "10.5.5.0/24",
        "10.5.5.0/20",
        "10.5.5.7/32",
        "0.0.0.0/0",
        "fd00:5::/64",
        "fd00:5::/61",
        "fd00:5::1/128",
    ];
    let nets = nets.map(|net| net.parse::<IpNet>().unwrap());
    let ports = |first, last| Comparison::Ports(vec![Ports::new(first, last).unwrap()]);
    let conditions = [
        Comparison::Family(Family::V4),
        Comparison::Family(Family::V6),
        Comparison::In(loopback()),
        Comparison::Out(loopback()),
        Comparison::NotOut(loopback()),
        ports(80, 80),
        ports(8000, 8099),
        Comparison::Ports(
            [(80, 80), (8000, 8099), (65535, 65535)]
                .map(|(first, last)| Ports::new(first, last).unwrap())
                .to_vec(),
        ),
        Comparison::NotByIpsec,
        Comparison::IntoIpsec,
        Comparison::Invalid,
    ];
    let of_nets = nets
        .into_iter()
        .flat_map(|net| {
            [Comparison::From(net.into()), Comparison::To(net.into()), Comparison::Quotes(20, net)]
        })
        .chain(
            nets.into_iter().filter(|net| net.addr().is_ipv4()).map(|net| Comparison::ArpFrom(net.into())),
        );
    let mut out = String::new();
    for condition in conditions.into_iter().chain(of_nets) {
        let mut written = Expressions::default();
        condition.put(&mut written);
        out.push_str(&format!("{}\n{}", condition, expressions(written.bytes())));
    }
    insta::assert_snapshot!("conditions", out);
}

#[test]
fn only_what_drops_is_counted() {
    let guard = Guard::new(&cluster(include_str!("../../../rules/example.toml")), NodeId(0));
    assert_eq!(
        counters(&guard.places.iter().collect::<Vec<_>>()),
        [FROM_PUBLIC, UNTRANSLATED, SOURCES, QUOTES, ARP]
    );
    let without = guard.places.iter().filter(|place| place.family == "arp").collect::<Vec<_>>();
    assert_eq!(counters(&without), [ARP]);
}

/// In between, all is dropped that one of two guards drops.
#[test]
fn two_guards_together_drop_what_each_of_them_drops() {
    let example = include_str!("../../../rules/example.toml");
    let other = example.replace("port  = 80", "port  = 81").replace("10.5.5.", "10.6.6.");
    let [one, two] = [example, &other].map(|text| Guard::new(&cluster(text), NodeId(0)));
    let both = one.with(&two);
    assert_eq!(one.with(&one), one);
    for (place, [of_one, of_two]) in
        both.places.iter().zip(one.places.iter().zip(&two.places).map(|(one, two)| [one, two]))
    {
        assert_eq!((place.name, place.hook), (of_one.name, of_one.hook));
        let rules = || of_one.rules.iter().chain(&of_two.rules);
        assert!(rules().all(|rule| place.rules.contains(rule)), "{place:?}");
        assert!(place.rules.iter().all(|rule| rules().any(|it| it == rule)), "{place:?}");
        let first_drop = place.rules.iter().position(|rule| matches!(rule.end, End::Drop(_)));
        let leads = |rule: &&Rule| matches!(rule.end, End::GoTo(_));
        let rules = || place.rules.iter().take_while(|rule| !leads(rule));
        assert!(place.rules[rules().count()..].iter().all(|rule| leads(&rule)), "{place:?}");
        let last_other = rules().enumerate().filter(|(_, rule)| !matches!(rule.end, End::Drop(_))).last();
        let last_other = last_other.map(|(at, _)| at);
        assert!(first_drop.is_none() || last_other < first_drop, "what goes on comes first: {place:?}");
    }
    // Of both families and of one.
    let dual = Guard::new(&cluster(include_str!("../../../rules/dual.toml")), NodeId(0));
    assert_eq!(one.with(&dual).families(), ["inet", "arp"]);
    let none = Guard::none().with(&one);
    assert_eq!((none.stays, none.families()), (true, vec!["inet", "arp"]));
}
