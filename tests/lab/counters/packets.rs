//! The frames that are sent: of each way that a packet can take through a node, in both families.

use std::net::IpAddr;

use dunnat::net::{Family, OfFamily as _, Proto, Tuple};
use dunnat::packet::{Fragment, Headers, Icmp, Tcp, TcpFlags, full};
use dunnat::simulate::made;

/// Where a frame is put on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// On the cable to node1, and to node2. The LAN itself does not see it, so no sniffer takes it for an inside address outside.
    Lan(&'static str),
    Guest,
}

pub(super) struct Sent {
    pub(super) from: From,
    pub(super) what: String,
    pub(super) frame: Vec<u8>,
}

/// The hardware addresses of the lab.
pub(super) const CLIENT: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
pub(super) const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 2, 1];
pub(super) const OTHER_GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 2, 2];
pub(super) const CARDS: [[u8; 6]; 2] = [[0x52, 0x54, 0, 0, 1, 1], [0x52, 0x54, 0, 0, 1, 2]];
pub(super) const BRIDGE: [u8; 6] = [0x0a, 0, 0, 0, 1, 0];

/// The addresses of the lab in a family.
pub(super) struct Ends {
    pub(super) client: IpAddr,
    pub(super) public: [IpAddr; 2],
    pub(super) guests: [IpAddr; 2],
    pub(super) gateway: IpAddr,
}

pub(super) fn ends(family: Family) -> Ends {
    let at = |four: &str, six: &str| if family == Family::V4 { four } else { six }.parse().unwrap();
    Ends {
        client: at("192.168.122.1", "fd00:122::1"),
        public: [at("192.168.122.11", "fd00:122::11"), at("192.168.122.12", "fd00:122::12")],
        guests: [at("10.5.5.201", "fd00:5::201"), at("10.5.5.202", "fd00:5::202")],
        gateway: at("10.5.5.254", "fd00:5::fe"),
    }
}

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;

fn tuple(proto: Proto, (src, from): (IpAddr, u16), (dst, to): (IpAddr, u16)) -> Tuple {
    Tuple { proto, src, dst, ports: proto.has_ports().then_some((from, to)) }
}

fn plain(tuple: Tuple) -> Vec<u8> {
    made(tuple, &Headers::default(), Fragment::None, 70).unwrap()
}

fn tcp(tuple: Tuple, flags: u8) -> Vec<u8> {
    let tcp = Tcp { flags: TcpFlags(flags), seq: 1000, ack: if flags == SYN { 0 } else { 1001 } };
    made(tuple, &Headers { tcp: Some(tcp), ..Headers::default() }, Fragment::None, 60).unwrap()
}

fn icmp(src: IpAddr, dst: IpAddr, [four, six]: [u8; 2], inner: Option<Tuple>) -> Vec<u8> {
    let (proto, kind) = if src.is_ipv4() { (Proto::ICMP, four) } else { (Proto::ICMP6, six) };
    let icmp = Icmp {
        kind,
        code: if inner.is_some() && src.is_ipv4() { 3 } else { 0 },
        inner,
        inner_after: None,
        mtu: None,
    };
    let tuple = Tuple { proto, src, dst, ports: None };
    made(tuple, &Headers { icmp: Some(icmp), ..Headers::default() }, Fragment::None, 90).unwrap()
}

/// The same, for one router and no more.
fn expiring(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes[0] >> 4 == 6 {
        bytes[7] = 1;
        return bytes;
    }
    bytes[8] = 1;
    bytes[10..12].fill(0);
    let sum = full(&[&bytes[..20]]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn ethernet(dst: [u8; 6], src: [u8; 6], kind: u16, carried: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &kind.to_be_bytes(), carried].concat()
}

fn of_ip(dst: [u8; 6], src: [u8; 6], packet: &[u8]) -> Vec<u8> {
    ethernet(dst, src, if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }, packet)
}

/// A guest asks who has the gateway's address (RFC 826; RFC 4861 §4.3).
fn who_has(ends: &Ends) -> Vec<u8> {
    let (guest, gateway) = (super::octets(ends.guests[0]), super::octets(ends.gateway));
    if ends.gateway.is_ipv4() {
        let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &GUEST, &guest, &[0; 6], &gateway].concat();
        return ethernet([0xff; 6], GUEST, 0x0806, &arp);
    }
    let group = [&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff][..], &gateway[13..]].concat();
    let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &gateway, &[1, 1], &GUEST].concat();
    let len = (message.len() as u16).to_be_bytes();
    let sum = full(&[&guest, &group, &[0, 58], &len, &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let ip = [&[0x60, 0, 0, 0][..], &len, &[58, 255], &guest, &group, &message].concat();
    ethernet([0x33, 0x33, 0xff, group[13], group[14], group[15]], GUEST, 0x86dd, &ip)
}

/// All frames of a family, in their order.
pub(super) fn all(family: Family) -> Vec<Sent> {
    let ends = ends(family);
    let Ends { client, public: [public1, public2], guests: [guest1, guest2], .. } = ends;
    let (udp, other) = (Proto::UDP, Proto(253));
    let mut sent = Vec::new();
    let mut add = |from, what: &str, frame| sent.push(Sent { from, what: format!("{family} {what}"), frame });
    let to_node = |node: usize, packet: Vec<u8>| of_ip(CARDS[node], CLIENT, &packet);
    let by_guest = |packet: Vec<u8>| of_ip(BRIDGE, GUEST, &packet);
    let (lan1, lan2) = (From::Lan("node1"), From::Lan("node2"));
    assert_eq!(client.family(), family);

    let request = tuple(udp, (client, 40001), (public1, 5353));
    add(lan1, "local request", to_node(0, plain(request)));
    add(From::Guest, "reply", by_guest(plain(tuple(udp, (guest1, 5353), (client, 40001)))));
    add(lan1, "second request", to_node(0, plain(request)));
    add(lan1, "local SYN", to_node(0, tcp(tuple(Proto::TCP, (client, 40002), (public1, 80)), SYN)));
    let back = tuple(Proto::TCP, (guest1, 80), (client, 40002));
    add(From::Guest, "reply to it", by_guest(tcp(back, SYN_ACK)));
    let foreign = tuple(Proto::TCP, (client, 40003), (public1, 8080));
    add(lan1, "foreign SYN, on the entry node", to_node(0, tcp(foreign, SYN)));
    add(lan1, "the same again", to_node(0, tcp(foreign, SYN)));
    let foreign = tuple(Proto::TCP, (client, 40004), (public2, 80));
    add(lan2, "foreign SYN, on the home node", to_node(1, tcp(foreign, SYN)));
    let back = tuple(Proto::TCP, (guest1, 80), (client, 40004));
    add(From::Guest, "reply to it", by_guest(tcp(back, SYN_ACK)));
    let moved = tuple(udp, (client, 40005), (public1, 5354));
    add(lan1, "request to a port that moves", to_node(0, plain(moved)));
    let at_guest = tuple(udp, (client, 40005), (guest1, 5400));
    add(From::Guest, "error about it", by_guest(icmp(guest1, client, [3, 1], Some(at_guest))));
    add(From::Guest, "reply to it", by_guest(plain(at_guest.reversed())));
    let reply = tuple(udp, (public1, 5353), (client, 40001));
    add(lan1, "error about a reply", to_node(0, icmp(client, public1, [3, 1], Some(reply))));
    add(lan1, "ping", to_node(0, icmp(client, public1, [8, 128], None)));
    add(lan1, "another protocol", to_node(0, plain(tuple(other, (client, 0), (public1, 0)))));
    add(lan1, "no service", to_node(0, plain(tuple(udp, (client, 40006), (public1, 9)))));
    add(lan1, "spoofed", to_node(0, plain(tuple(udp, (guest1, 40007), (public1, 9)))));
    add(lan1, "spoofed, to a guest", to_node(0, plain(tuple(udp, (guest2, 40008), (guest1, 9)))));
    let others = tuple(udp, (client, 40009), (guest1, 5353));
    add(lan1, "others', to a guest", to_node(0, plain(others)));
    add(lan1, "others', to a guest elsewhere", to_node(0, plain(tuple(udp, (client, 40010), (guest2, 9)))));
    let last = tuple(udp, (client, 40011), (guest1, 9));
    add(lan1, "that expires here", to_node(0, expiring(plain(last))));
    let begun = plain(tuple(udp, (guest1, 5000), (client, 53)));
    add(From::Guest, "begun by a guest", by_guest(begun.clone()));
    add(From::Guest, "the same again", by_guest(begun));
    add(From::Guest, "a reply to nothing", by_guest(icmp(guest1, client, [0, 129], None)));
    let asked = tuple(udp, (guest1, 5001), (guest2, 53));
    add(From::Guest, "to another guest", of_ip(OTHER_GUEST, GUEST, &plain(asked)));
    add(From::Guest, "who has the gateway", who_has(&ends));
    sent
}
