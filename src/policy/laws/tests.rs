use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::cluster::{Cluster, NodeId};
use crate::engine::{Facts, Reason};
use crate::packet::{Headers, Icmp, Rewrite};
use crate::policy::by::By;
use crate::simulate::made;

/// In both families, with a port that is another at the guest, and a range.
fn cluster() -> Cluster {
    let more = "[[service]]\nname = \"moved\"\nproto = \"tcp\"\nport = \"8000-8009\"\nguest = \"10.5.5.203\"\nguest_port = 90\n\
                [[service]]\nname = \"dns\"\nproto = \"udp\"\nport = 5353\nguest = \"10.5.5.204\"\n";
    let text = format!("{}\n{more}", include_str!("../../../rules/dual.toml"));
    Cluster::parse(&text, Path::new("dual.toml")).unwrap()
}

fn of_cluster() -> [Supervised; 2] {
    [0, 1].map(|node| Supervised::cluster(&cluster(), NodeId(node)))
}

fn at() -> Time {
    Time::default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_cluster_s_policy_keeps_them(
        (entry, home, six) in (0usize..2, 0usize..2, any::<bool>()),
        proto in prop::sample::select(vec![6u8, 17]),
        (from, to) in (any::<u16>(), prop_oneof![Just(80u16), Just(53), Just(5353), 7998u16..8012]),
        (len, spoilt) in (0usize..200, prop::option::weighted(0.3, (20usize..200, any::<u8>()))),
        (mark, quotes, src) in (0u32..4, any::<bool>(), any::<[u8; 4]>()),
    ) {
        let (cluster, policies) = (cluster(), of_cluster());
        let (client, public): ([IpAddr; 1], [IpAddr; 2]) = match six {
            false => ([IpAddr::from([198, 51, 100, 7])], [11, 12].map(|last| IpAddr::from([192, 168, 122, last]))),
            true => (["2001:db8::7".parse().unwrap()], ["fd00:122::11", "fd00:122::12"].map(|it| it.parse().unwrap())),
        };
        let request = Tuple { proto: Proto(proto), src: client[0], dst: public[entry], ports: Some((from, to)) };
        let mut bytes = made(request, &Headers::default(), Fragment::None, len).unwrap();
        if let Some((at, byte)) = spoilt {
            // Not in a header, where it would be another packet.
            let header = bytes.len().min(if six { 60 } else { 40 });
            if let Some(spoilt) = bytes[header..].get_mut(at % 60) {
                *spoilt ^= byte;
            }
        }
        let seen = there_and_back((&policies[entry], &policies[home]), Stage::Dnat, &bytes, at()).unwrap();
        let quoted = errors_come_back((&policies[entry], &policies[home]), Stage::Dnat, &bytes, at()).unwrap();
        prop_assert_eq!(quoted, seen);
        let (view, dnat) = (View::parse(&bytes, bytes.len()).unwrap(), Stage::Dnat);
        prop_assert_eq!(view.tuple, request);
        checksums_keep_their_class(&policies[entry], dnat, &bytes, &Meta::default(), at()).unwrap();

        // What a guest sends in a tagged flow, and what it says about one.
        let Some(inside) = seen else { return Ok(()) };
        let meta = Meta { ct_mark: CtMark::Is(Mark(mark)), ..Meta::default() };
        let about = if quotes { inside } else { Tuple { proto: Proto::TCP, src: src.into(), dst: src.into(), ports: Some((1, 2)) } };
        let icmp = Some(Icmp { kind: if six { 1 } else { 3 }, code: 0, inner: Some(about), inner_after: None, mtu: None });
        let proto = if six { Proto::ICMP6 } else { Proto::ICMP };
        let error = Tuple { proto, src: inside.dst, dst: inside.src, ports: None };
        let error = made(error, &Headers { icmp, ..Headers::default() }, Fragment::None, 0);
        for bytes in [made(inside.reversed(), &Headers::default(), Fragment::None, len), error].into_iter().flatten() {
            checksums_keep_their_class(&policies[home], Stage::Spoof, &bytes, &meta, at()).unwrap();
            if [1, 2].contains(&mark) {
                nothing_inside_leaves(&policies[home], &cluster.guests().network, &bytes, &meta, at()).unwrap();
            }
        }
    }
}

#[test]
fn guests_of_a_cluster_have_no_port_twice() {
    let guests = [
        ("tcp", "10.5.5.201:80"),
        ("tcp", "10.5.5.203:90"),
        ("tcp", "10.5.5.203:99"),
        ("udp", "10.5.5.204:5353"),
    ];
    let packets = [1, 2].into_iter().flat_map(|tag| {
        guests.map(|(proto, guest)| {
            let tuple = format!("{proto} {guest} > 198.51.100.7:40000").parse().unwrap();
            let meta = Meta { ct_mark: CtMark::Is(Mark(tag)), ..Meta::default() };
            (made(tuple, &Headers::default(), Fragment::None, 0).unwrap(), meta)
        })
    });
    assert_eq!(no_port_twice(&of_cluster()[0], packets, at()), Ok(8));
}

/// A translator that its author has not finished.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// It changes the port there, and not back.
    Port,
    /// It leaves some as they are.
    Leaves,
    /// All have one port.
    OnePort,
    /// The port depends on the other end.
    Dependent,
}

impl Wrong {
    fn decide(self, facts: &Facts<'_>) -> Decision {
        let Some((from, to)) = facts.packet.unwrap().tuple.ports else { return Decision::drop(Reason::Cut) };
        let (side, address, port) = match (facts.stage, self) {
            (Stage::Dnat, _) => (Side::Destination, [10, 5, 5, 201], 8080),
            (_, Self::Leaves) if from == 81 => return Decision::leave(Reason::Unmarked),
            (_, Self::Dependent) => (Side::Source, [192, 168, 122, 11], from ^ to),
            (_, Self::OnePort) => (Side::Source, [192, 168, 122, 11], 1000),
            _ => (Side::Source, [192, 168, 122, 11], 8080),
        };
        let rewrite = Rewrite::outer(side, address.into()).with_port(Some(port));
        Decision { rewrite: Some(rewrite), ..Decision::leave(Reason::Unmarked) }
    }
}

#[test]
fn what_breaks_a_law_is_told_with_its_packet() {
    let wrong = |wrong: Wrong| {
        let policy = By(move |facts: &Facts<'_>| wrong.decide(facts));
        Supervised::new(Arc::new(policy), &cluster(), NodeId(0), 1)
    };
    let bytes = |tuple: &str| made(tuple.parse().unwrap(), &Headers::default(), Fragment::None, 0).unwrap();
    let said = |broken: Broken| broken.to_string();
    let port = wrong(Wrong::Port);
    let request = bytes("tcp 198.51.100.7:40000 > 192.168.122.11:80");
    let back = there_and_back((&port, &port), Stage::Dnat, &request, at());
    assert_eq!(
        said(back.unwrap_err()),
        "there and back: tcp 198.51.100.7:40000 > 192.168.122.11:80: the reply comes back as tcp 192.168.122.11:8080 > 198.51.100.7:40000"
    );
    let error = errors_come_back((&port, &port), Stage::Dnat, &request, at());
    assert_eq!(
        said(error.unwrap_err()),
        "errors come back: tcp 198.51.100.7:40000 > 192.168.122.11:80: the error is dropped: cut"
    );
    let leaves_errors = By(|facts: &Facts<'_>| match facts.packet {
        Ok(View { error: None, .. }) => Wrong::Port.decide(facts),
        _ => Decision::leave(Reason::Unmarked),
    });
    let leaves_errors = Supervised::new(Arc::new(leaves_errors), &cluster(), NodeId(0), 1);
    let error = errors_come_back((&leaves_errors, &leaves_errors), Stage::Dnat, &request, at());
    let says = "the error comes to 198.51.100.7, about tcp 198.51.100.7:40000 > 10.5.5.201:8080";
    assert!(said(error.unwrap_err()).ends_with(says), "what it quotes is not translated");
    let network = cluster().guests().network;
    let leaves = |packet: &[u8]| {
        nothing_inside_leaves(&wrong(Wrong::Leaves), &network, packet, &Meta::default(), at())
    };
    assert_eq!(leaves(&bytes("tcp 10.5.5.201:80 > 198.51.100.7:40000")), Ok(()));
    let shown = leaves(&bytes("tcp 10.5.5.201:81 > 198.51.100.7:40000")).map_err(said).unwrap_err();
    assert!(shown.ends_with("it leaves as tcp 10.5.5.201:81 > 198.51.100.7:40000: unmarked"), "{shown}");
    let unread = nothing_inside_leaves(&of_cluster()[0], &network, &[0x45; 9], &Meta::default(), at());
    assert!(
        said(unread.unwrap_err()).contains("nobody can know what is in it"),
        "without a tag the cluster leaves it"
    );

    let two = |ends: [&str; 2]| ends.map(|end| (bytes(&format!("udp {end}")), Meta::default()));
    let from_two = two(["10.5.5.201:1 > 198.51.100.7:9", "10.5.5.202:1 > 198.51.100.7:9"]);
    let twice = no_port_twice(&wrong(Wrong::OnePort), from_two, at());
    assert!(said(twice.unwrap_err()).ends_with("it leaves from 192.168.122.11:1000, as 10.5.5.201:1 does"));
    let to_two = two(["10.5.5.201:1 > 198.51.100.7:9", "10.5.5.201:1 > 198.51.100.7:8"]);
    assert_eq!(endpoint_independent(&wrong(Wrong::OnePort), to_two.clone(), at()), Ok(2));
    let dependent = endpoint_independent(&wrong(Wrong::Dependent), to_two, at());
    assert!(
        said(dependent.unwrap_err())
            .ends_with("it leaves from 192.168.122.11:9, and left from 192.168.122.11:8 before")
    );
}

/// A policy cannot break a checksum, only what carries its decision out could: what is seen of a packet tells.
#[test]
fn sums_tell_right_from_wrong_and_from_none() {
    let bytes =
        made("udp 10.5.5.201:1 > 198.51.100.7:9".parse().unwrap(), &Headers::default(), Fragment::None, 60)
            .unwrap();
    let of = |bytes: &[u8]| sums(bytes, &View::parse(bytes, bytes.len()).unwrap());
    assert_eq!(of(&bytes), [Some(0), Some(0), None]);
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] ^= byte;
        bytes
    };
    assert_ne!(of(&changed(40, 1))[1], Some(0));
    assert_ne!(of(&changed(15, 1))[0], Some(0));
    let mut none = bytes.clone();
    none[26..28].fill(0);
    assert_eq!(of(&none), [Some(0), None, None]);
}
