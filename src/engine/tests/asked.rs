//! What was asked about a packet, in words.

use super::*;
use crate::cluster::{FromGuest, ToGuest};
use crate::net::{Family, Proto};

fn asked(subject: Subject, value: Value) -> Condition {
    Condition { subject, value, wants: Wants::Is(Value::Nothing), holds: false }
}

#[test]
fn what_was_looked_at_has_the_words_of_nft() {
    let (four, six) = (Value::Address(GUEST.into()), Value::Address("fd00:5::201".parse().unwrap()));
    let port = |proto| Value::Port(proto, None, Some(80));
    let mark = |mask| Value::Mark(Mark(2), Mark(mask));
    let ct_mark = |mask| Value::CtMark(CtMark::Is(Mark(2)), Mark(mask));
    for (subject, value, words) in [
        (Subject::Bytes, Value::Nothing, "packet"),
        (Subject::Family, Value::Nothing, "family"),
        (Subject::Neighbours, Value::Nothing, "neighbour discovery"),
        (Subject::Pipe, Value::Nothing, "iifname"),
        (Subject::Frame, Value::Nothing, "ether saddr"),
        (Subject::Saddr, four, "ip saddr"),
        (Subject::Saddr, six, "ip6 saddr"),
        (Subject::Daddr, four, "ip daddr"),
        (Subject::Daddr, six, "ip6 daddr"),
        (Subject::Daddr, Value::Nothing, "ip daddr"),
        (Subject::Sport, port(Proto::UDP), "udp sport"),
        (Subject::Sport, Value::Nothing, "sport"),
        (Subject::Dport, port(Proto::TCP), "tcp dport"),
        (Subject::Dport, Value::Nothing, "dport"),
        (Subject::Dscp, Value::Nothing, "dscp"),
        (Subject::Error, Value::Nothing, "icmp error"),
        (Subject::Redirect, Value::Nothing, "icmp error"),
        (Subject::QuotedSaddr, four, "quoted ip saddr"),
        (Subject::QuotedSaddr, six, "quoted ip6 saddr"),
        (Subject::QuotedSport, port(Proto::TCP), "quoted tcp sport"),
        (Subject::QuotedDport, port(Proto::SCTP), "quoted sctp dport"),
        (Subject::Mark, mark(u32::MAX), "mark"),
        (Subject::Mark, mark(0xff), "mark & 0xff"),
        (Subject::Mark, Value::Nothing, "mark"),
        (Subject::CtMark, ct_mark(u32::MAX), "ct mark"),
        (Subject::CtMark, ct_mark(0xff00), "ct mark & 0xff00"),
        (Subject::Service, Value::Nothing, "service"),
        (Subject::Public, Value::Nothing, "public address"),
        (Subject::Guest, Value::Nothing, "guest"),
        (Subject::Policy, Value::Nothing, "policy"),
        (Subject::Own("knocks"), Value::Nothing, "knocks"),
    ] {
        assert_eq!(asked(subject, value).subject(), words, "{subject:?}");
    }
}

#[test]
fn what_it_is_has_words_unless_only_the_cluster_knows_its_name() {
    let six = "fd00:5::201".parse::<IpAddr>().unwrap();
    let port = |guest: Option<IpAddr>, port| Value::Port(Proto::TCP, guest, port);
    let about = "tcp 10.5.5.201:80 > 192.168.122.1:40000".parse().unwrap();
    for (value, words) in [
        (Value::Nothing, None),
        (Value::Service(ServiceId(0)), None),
        (Value::Node(NODE1), None),
        (Value::Word("whole"), Some("whole")),
        (Value::Malformed(Malformed::NotIp), Some(&*Malformed::NotIp.to_string())),
        (Value::Address(GUEST.into()), Some("10.5.5.201")),
        (Value::Network("10.5.5.0/24".parse().unwrap()), Some("10.5.5.0/24")),
        (port(None, None), None),
        (port(None, Some(80)), Some("80")),
        (port(Some(GUEST.into()), None), Some("10.5.5.201")),
        (port(Some(GUEST.into()), Some(80)), Some("10.5.5.201:80")),
        (port(Some(six), Some(80)), Some("[fd00:5::201]:80")),
        (
            Value::Error(ELSEWHERE.into(), about),
            Some("from 198.51.100.9 about tcp 10.5.5.201:80 > 192.168.122.1:40000"),
        ),
        (Value::Mac("0e:00:00:00:01:00".parse().unwrap()), Some("0e:00:00:00:01:00")),
        (Value::Dscp("af11".parse().unwrap()), Some("af11")),
        (Value::Mark(Mark(2), Mark::ALL), Some("0x2")),
        (Value::CtMark(CtMark::Another, Mark::ALL), Some("another")),
        (Value::Family(Family::V6), Some(&*Family::V6.to_string())),
        (Value::Ports("8000-8099".parse().unwrap()), Some("8000-8099")),
        (Value::Number(12), Some("12")),
    ] {
        assert_eq!(value.words().as_deref(), words, "{value:?}");
    }
}

#[test]
fn how_it_is_compared_has_words() {
    let all = [
        (Wants::Is(Value::Nothing), "is"),
        (Wants::IsNot(Value::Nothing), "is not"),
        (Wants::In(Value::Nothing), "is in"),
        (Wants::AtMost(Value::Nothing), "is at most"),
        (Wants::OneOf(Table::Tags, None), "is one of"),
    ];
    for (wants, words) in all {
        assert_eq!(wants.operator(), words);
    }
    let tables =
        [Table::Services, Table::ServicesOfGuests, Table::Macs, Table::Pipes, Table::Dscps, Table::Tags];
    insta::assert_snapshot!(
        tables.map(|table| format!("{table:>4}")).join(", "),
        @"services, services of guests, MAC addresses of nodes, pipes to nodes, code points of nodes, tags of nodes"
    );
}

#[test]
fn what_was_found_in_a_table_is_told_with_its_service() {
    let (service, guest) = (ServiceId(3), GUEST.into());
    let to = Row::ToGuest(ToGuest { service, guest, port: None });
    let from = Row::FromGuest(FromGuest { service, port: Some(8080), whole: false });
    let services = [to, from, Row::Node(NODE2)].map(Row::service);
    assert_eq!(services, [Some(service), Some(service), None]);
    for row in [Some(to), None] {
        let wants = Wants::OneOf(Table::Services, row);
        let condition = Condition { wants, ..asked(Subject::Dport, Value::Nothing) };
        assert_eq!(condition.looked_up(), Some((Table::Services, row)));
    }
    assert_eq!(asked(Subject::Dport, Value::Nothing).looked_up(), None);
}

/// What an ICMP error is about stands before what is looked up for it.
#[test]
fn that_a_packet_is_an_icmp_error_is_told() {
    let request = "tcp 192.168.122.1:40000 > 10.5.5.201:80";
    let error = error(11, GUEST, CLIENT, request);
    let mut conditions = Conditions::new();
    decide_before(
        &Tables::new(&cluster(), NODE1),
        Stage::Spoof,
        Ok(&error),
        &Meta::default(),
        &mut conditions,
    );
    let told = conditions.iter().find(|condition| condition.subject == Subject::Error).unwrap();
    assert!(told.holds);
    assert_eq!(
        (told.value, told.wants),
        (Value::Error(GUEST.into(), request.parse().unwrap()), Wants::Is(Value::Word("an ICMP error")))
    );
}
