use proptest::prelude::*;

use super::*;
use crate::net::{Dscp, Mac, Tuple};
use crate::trace::samples;

fn matching(filter: &str) -> Vec<u64> {
    let filter: Filter = filter.parse().unwrap_or_else(|error| panic!("{error}"));
    samples::events().iter().filter(|event| filter.matches(event)).map(|event| event.seq).collect()
}

#[test]
fn each_word_means_what_its_documentation_says() {
    for (filter, expected) in [
        ("stage tag", &[3, 5][..]),
        ("node node2", &[1, 2, 8, 9]),
        ("entry node1", &[6]),
        // Its name in version 1.
        ("about node1", &[6]),
        ("service web", &[1, 8, 9]),
        ("reason from-node", &[3]),
        ("verdict drop", &[7]),
        ("host 192.168.122.12", &[1, 4, 8, 9]),
        ("src host 192.168.122.12", &[4, 9]),
        ("dst host 10.5.5.201", &[1, 2, 3, 5, 6, 8]),
        ("net 192.168.122.12/31", &[1, 4, 8, 9]),
        ("not net 10.0.0.0/8", &[7, 9]),
        ("port 80", &[1, 2, 3, 4, 5, 6]),
        ("src port 80-90", &[4]),
        ("dst port 81-90", &[]),
        ("proto icmp", &[8, 9]),
        ("icmp", &[8, 9]),
        ("icmp type 3", &[8, 9]),
        ("icmp type 11", &[]),
        ("icmpv6 type 3", &[]),
        ("icmpv6", &[]),
        ("udp", &[]),
        ("tcp flags ack", &[4]),
        ("tcp flags syn,fin", &[1, 2, 3, 4, 5, 6]),
        ("tcp flags syn/syn,ack", &[1, 2, 3, 5, 6]),
        ("tcp flags syn,ack / syn,ack", &[4]),
        ("in eth1.100", &[3]),
        ("in guestbr0", &[3, 4, 5, 7]),
        ("in e*", &[3]),
        ("out xen*", &[4, 7, 9]),
        ("mac 0e:00:00:00:00:00/24 and stage tag", &[3, 5]),
        ("mac 52:54:00:00:00:01", &[1]),
        ("mark 0x2", &[1, 2, 3, 4, 7, 8, 9]),
        ("mark 0x0/0x2 and mark 2/2", &[1, 3, 8]),
        ("ct mark 2", &[2, 3, 4, 7, 9]),
        ("queue 100 and rewritten", &[1, 4, 8, 9]),
        ("malformed", &[7]),
        ("stage spoof and host 192.168.122.1 and not node node2", &[4]),
        ("stage dnat or stage tag and verdict drop", &[1, 8]),
        ("(stage dnat or stage spoof) && ! (rewritten || icmp)", &[7]),
    ] {
        assert_eq!(matching(filter), expected, "{filter}");
    }
}

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    let texts = [
        "",
        "stage spoff and host 192.168.122.1",
        "host 192.168.122.1 and",
        "hots 192.168.122.1",
        "(stage tag or stage save",
        "stage tag) or icmp",
        "stage tag stage save",
        "reason unmarkd",
        "mark 0x200/0xff",
        "ct state new",
        "tcp flags sin",
        "tcp flags syn/ack",
        "net 10.5.5.1/24",
        "port 80-79",
        "port +80",
        "src 10.5.5.1",
        "mac 0e:00/24",
        "node (",
        "verdict",
        "in eth0:1",
    ];
    let errors = texts.map(|text| text.parse::<Filter>().unwrap_err().to_string());
    insta::assert_snapshot!(errors.join("\n\n"));
    let error = Filter::parse_for("not service wbe", &samples::cluster()).unwrap_err().to_string();
    insta::assert_snapshot!(error, @r"
    the filter is wrong: not a value for this
      not service wbe
                  ^^^ the cluster has the services web
    ");
    assert!(Filter::parse_for("service web and about node1", &samples::cluster()).is_ok());
}

#[test]
fn depth_has_an_end_and_length_has_none() {
    for deep in ["(".repeat(100_000), "not ".repeat(100_000)] {
        assert!(deep.parse::<Filter>().unwrap_err().to_string().contains("nested more than"));
    }
    let long = vec!["tcp"; 100_000].join(" or ");
    assert_eq!(long.parse::<Filter>().unwrap().to_string().len(), 100_000 * "proto tcp or ".len() - 4);
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9][a-z0-9._-]{0,8}", Just("and".to_owned()), Just("not".to_owned())]
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Any), Just(Side::Source), Just(Side::Destination)]
}

pub(super) fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn flags() -> impl Strategy<Value = TcpFlags> {
    (1u8..).prop_map(TcpFlags)
}

fn test() -> impl Strategy<Value = Test> {
    let interface =
        || ("[a-z][a-z0-9.-]{0,13}", any::<bool>()).prop_map(|(name, prefix)| Interface { name, prefix });
    let mark = || any::<(u32, u32)>().prop_map(|(value, mask)| (Mark(value & mask), Mark(mask)));
    prop_oneof![
        prop::sample::select(&Stage::ALL[..]).prop_map(Test::Stage),
        name().prop_map(Test::Node),
        name().prop_map(Test::Entry),
        name().prop_map(Test::Service),
        prop::sample::select(&Reason::ALL[..]).prop_map(Test::Reason),
        prop_oneof![Just(Verdict::Accept), Just(Verdict::Drop)].prop_map(Test::Verdict),
        (side(), address()).prop_map(|(side, address)| Test::Host(side, address)),
        (side(), address(), 0u8..=32)
            .prop_map(|(side, address, len)| { Test::Net(side, IpNet::new(address, len).unwrap().trunc()) }),
        (side(), any::<(u16, u16)>()).prop_map(|(side, (a, b))| Test::Port(side, a.min(b), a.max(b))),
        any::<u8>().prop_map(|number| Test::Proto(Proto(number))),
        flags().prop_map(|flags| Test::TcpFlags(flags, None)),
        (flags(), flags()).prop_map(|(a, b)| Test::TcpFlags(a, Some(TcpFlags(a.0 | b.0)))),
        any::<u8>().prop_map(|kind| Test::IcmpType(Proto::ICMP, kind)),
        any::<u8>().prop_map(|kind| Test::IcmpType(Proto::ICMP6, kind)),
        interface().prop_map(Test::In),
        interface().prop_map(Test::Out),
        (any::<[u8; 6]>(), 1u8..=48).prop_map(|(mac, len)| Test::Mac(MacPrefix::of(Mac(mac), len))),
        mark().prop_map(|(value, mask)| Test::Mark(value, mask)),
        mark().prop_map(|(value, mask)| Test::CtMark(value, mask)),
        any::<u16>().prop_map(Test::Queue),
        any::<u8>().prop_map(|class| Test::Dscp(Dscp::of_traffic_class(class))),
        (any::<u16>(), any::<[u8; 4]>()).prop_map(|(port, src)| {
            let ports = Some((port, 80));
            let tuple = Tuple { proto: Proto::TCP, src: src.into(), dst: [10, 5, 5, 201].into(), ports };
            Test::CommunityId(CommunityId::of(tuple, None).unwrap())
        }),
        Just(Test::Rewritten),
        Just(Test::Malformed),
        Just(Test::Carried),
    ]
}

pub(super) fn expression() -> impl Strategy<Value = Expression> {
    test().prop_map(Expression::Is).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Any),
            inner.prop_map(|inner| Expression::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(expression in expression()) {
        let filter = Filter(expression);
        let text = filter.to_string();
        prop_assert_eq!(text.parse(), Ok(filter), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        if let Err(error) = text.parse::<Filter>() {
            prop_assert!(error.to_string().contains('^'));
        }
    }

    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(prop::sample::select(vec![
        "and", "or", "not", "(", ")", "!", "&&", "stage", "tag", "host", "1.2.3.4", "src", "net", "10.0.0.0/8", "mark",
        "0x2/0x3", "ct", "tcp", "flags", "syn", "/", "é", "in", "eth*", "mac", "port", "80-90", "\u{a0}",
    ]), 0..12)) {
        let text = words.join(" ");
        match text.parse::<Filter>() {
            Ok(filter) => {
                for event in samples::events() {
                    filter.matches(&event);
                }
            }
            Err(error) => prop_assert!(error.to_string().contains('^')),
        }
    }
}
