//! Services that have another port at the guest, all ports, or all of a public address.

use super::*;

#[test]
fn a_guest_may_have_another_port() {
    let dnat = |tuple: &str| offered(Stage::Dnat, &view(tuple), 0);
    let to = |guest: &str, port| (Reason::Service, Some(guest.to_owned()), port);
    assert_eq!(dnat("tcp 192.168.122.1:4 > 192.168.122.12:80"), to("10.5.5.201", None));
    assert_eq!(dnat("tcp 192.168.122.1:4 > 192.168.122.12:8080"), to("10.5.5.202", Some(80)));
    assert_eq!(dnat("udp 192.168.122.1:4 > 192.168.122.12:8000"), to("10.5.5.202", Some(9000)));
    assert_eq!(dnat("udp 192.168.122.1:4 > 192.168.122.12:8099"), to("10.5.5.202", Some(9099)));
    assert_eq!(dnat("udp 192.168.122.1:4 > 192.168.122.12:8005"), to("10.5.5.203", None), "one before many");
    assert_eq!(dnat("udp 192.168.122.1:4 > 192.168.122.12:8100"), to("10.5.5.204", None), "the rest");

    let spoof = |tuple: &str| offered(Stage::Spoof, &view(tuple), 1);
    let from = |port| (Reason::EntryNode, Some("192.168.122.11".to_owned()), port);
    assert_eq!(spoof("tcp 10.5.5.202:80 > 192.168.122.1:4"), from(Some(8080)));
    assert_eq!(spoof("udp 10.5.5.202:9099 > 192.168.122.1:4"), from(Some(8099)));
    assert_eq!(spoof("udp 10.5.5.202:9005 > 192.168.122.1:4"), from(None), "that port is another's");
    assert_eq!(spoof("tcp 10.5.5.201:80 > 192.168.122.1:4"), from(None));
}

#[test]
fn a_guest_may_have_a_public_address() {
    let to = |reason: Reason| (reason, Some("10.5.5.204".to_owned()), None);
    let mut echo = Vec::new();
    PacketBuilder::ipv4(CLIENT, PUBLIC2, 64).icmpv4_echo_request(1, 2).write(&mut echo, b"ping").unwrap();
    let echo = View::parse(&echo, echo.len()).unwrap();
    assert_eq!(offered(Stage::Dnat, &echo, 0), to(Reason::Service));
    let (mut reply, mut about) = (Vec::new(), Vec::new());
    PacketBuilder::ipv4(PUBLIC2, CLIENT, 64).icmpv4_echo_reply(1, 2).write(&mut reply, b"ping").unwrap();
    PacketBuilder::ipv4(ELSEWHERE, PUBLIC2, 64).icmpv4_raw(11, 0, [0; 4]).write(&mut about, &reply).unwrap();
    let about_echo = View::parse(&about, about.len()).unwrap();
    assert_eq!(offered(Stage::Dnat, &about_echo, 0), to(Reason::ErrorAboutReply));
    // A later fragment is the guest's where no other service can be meant.
    let later = |proto| {
        let mut later = echo;
        later.fragment = Fragment::Later;
        later.tuple.proto = crate::net::Proto(proto);
        later
    };
    assert_eq!(offered(Stage::Dnat, &later(47), 0), to(Reason::Service));
    assert_eq!(offered(Stage::Dnat, &later(136), 0), to(Reason::Service));
    for known in [6, 17] {
        assert_eq!(offered(Stage::Dnat, &later(known), 0), (Reason::Fragment, None, None));
    }
    // What the guest begins gets the address without a state; what others begin does not.
    let begins = |tuple: &str| offered(Stage::Spoof, &view(tuple), 0);
    let public = (Reason::OneToOne, Some("192.168.122.12".to_owned()), None);
    assert_eq!(begins("tcp 10.5.5.204:40000 > 198.51.100.9:443"), public);
    let tables = Tables::new(&offering(), NODE2);
    let first = view("tcp 10.5.5.204:40000 > 198.51.100.9:443");
    let first = decide(&tables, Stage::Spoof, Ok(&first), &Meta::default());
    assert_eq!(
        (first.node, first.service),
        (Some(NODE2), Some(ServiceId(4))),
        "by the service that has all ports"
    );
    // Whatever its port: a reply to it comes by dnat, and conntrack would not know it.
    assert_eq!(begins("tcp 10.5.5.204:8080 > 198.51.100.9:443"), public);
    assert_eq!(begins("tcp 10.5.5.202:40000 > 198.51.100.9:443"), (Reason::Unmarked, None, None));
}
