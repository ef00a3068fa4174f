use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::engine::Meta;
use crate::net::CtMark;
use crate::packet::{Fragment, Headers, Icmp};
use crate::policy::{Supervised, laws};
use crate::simulate::made;

const POOLS: &str = "web=10.5.5.201,10.5.5.202,10.5.5.203;alt=10.5.5.211,10.5.5.212";

fn cluster() -> Cluster {
    let alt = "[[service]]\nname = \"alt\"\nproto = \"tcp\"\nport = \"8080-8081\"\nguest = \"10.5.5.211\"\nguest_port = 90\n\
               [[service]]\nname = \"plain\"\nproto = \"tcp\"\nport = 90\nguest = \"10.5.5.221\"\n\
               [[service]]\nname = \"all\"\nproto = \"udp\"\nport = \"any\"\nguest = \"10.5.5.220\"\n";
    let text = format!("{}\n{alt}", include_str!("../../../rules/example.toml"));
    Cluster::parse(&text, Path::new("example.toml")).unwrap()
}

fn policy(node: u32) -> Supervised {
    let cluster = cluster();
    let spread = Spread::new(&cluster, &POOLS.parse().unwrap()).unwrap();
    Supervised::new(Arc::new(Maglev::new(&cluster, NodeId(node), spread)), &cluster, NodeId(node), 1)
}

fn packet(tuple: &str) -> Vec<u8> {
    made(tuple.parse().unwrap(), &Headers::default(), Fragment::None, 0).unwrap()
}

/// The packet as it goes on, with the reason.
fn passed(policy: &Supervised, stage: Stage, bytes: &[u8], ct_mark: u32) -> (Reason, View) {
    let meta = Meta { ct_mark: CtMark::Is(crate::net::Mark(ct_mark)), ..Meta::default() };
    let (decision, after) = laws::passed(policy, stage, bytes, &meta, crate::engine::Time::default());
    let after = after.unwrap();
    (decision.reason, View::parse(&after, after.len()).unwrap())
}

#[test]
fn a_flow_has_one_guest_whichever_node_it_comes_to_and_gets_back_from_each() {
    let policies = [policy(0), policy(1)];
    let mut counts = BTreeMap::new();
    for port in 1..=3000 {
        let [one, other] = [(&policies[0], 11), (&policies[1], 12)].map(|(policy, last)| {
            let request = packet(&format!("tcp 192.168.122.1:{port} > 192.168.122.{last}:80"));
            let (reason, view) = passed(policy, Stage::Dnat, &request, 0);
            assert_eq!(reason, Reason::GuestOfFlow);
            // Home may be any node.
            for home in &policies {
                let outside = laws::there_and_back(
                    (policy, home),
                    Stage::Dnat,
                    &request,
                    crate::engine::Time::default(),
                );
                assert_eq!(outside, Ok(Some(view.tuple)));
            }
            view.tuple.dst
        });
        assert_eq!(one, other);
        *counts.entry(one).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 3);
    assert!(counts.values().all(|count| (850..=1150).contains(count)), "{counts:?}");
}

#[test]
fn a_moved_port_comes_back_from_each_guest() {
    let policy = policy(0);
    let mut guests = BTreeMap::new();
    for (client, public) in (40_000..40_050).flat_map(|client| [(client, 8080), (client, 8081)]) {
        let request = packet(&format!("tcp 192.168.122.1:{client} > 192.168.122.11:{public}"));
        let back =
            laws::there_and_back((&policy, &policy), Stage::Dnat, &request, crate::engine::Time::default());
        let inside = back.unwrap().unwrap();
        assert_eq!(inside.ports, Some((client, public - 8080 + 90)));
        *guests.entry(inside.dst.to_string()).or_insert(0) += 1;
    }
    assert_eq!(guests.keys().collect::<Vec<_>>(), ["10.5.5.211", "10.5.5.212"]);
    // A port that is not of the service stays.
    let (_, view) = passed(&policy, Stage::Spoof, &packet("tcp 10.5.5.212:92 > 192.168.122.1:40000"), 1);
    assert_eq!(view.tuple.to_string(), "tcp 192.168.122.11:92 > 192.168.122.1:40000");
}

/// What an ICMP error quotes has to be what its receiver has sent.
#[test]
fn errors_find_the_guest_of_their_flow_and_its_client() {
    let policy = policy(0);
    for client in 40_000..40_020 {
        let request: Tuple = format!("tcp 192.168.122.1:{client} > 192.168.122.11:8080").parse().unwrap();
        let (_, inside) = passed(&policy, Stage::Dnat, &packet(&request.to_string()), 0);
        let error = |src: IpAddr, dst: IpAddr, inner| {
            let icmp = Icmp { kind: 3, code: 4, inner: Some(inner), inner_after: None, mtu: Some(1400) };
            let tuple = Tuple { proto: Proto::ICMP, src, dst, ports: None };
            made(tuple, &Headers { icmp: Some(icmp), ..Headers::default() }, Fragment::None, 0).unwrap()
        };
        let router = [198, 51, 100, 9].into();
        let (reason, view) = passed(&policy, Stage::Dnat, &error(router, request.dst, request.reversed()), 0);
        assert_eq!(reason, Reason::ErrorAboutReply);
        assert_eq!((view.tuple.dst, view.error.unwrap().about), (inside.tuple.dst, inside.tuple.reversed()));
        let (reason, view) =
            passed(&policy, Stage::Spoof, &error(inside.tuple.dst, request.src, inside.tuple), 1);
        assert_eq!(reason, Reason::ErrorAboutRequest);
        assert_eq!((view.tuple.src, view.error.unwrap().about), (request.dst, request));
    }
}

#[test]
fn services_that_cannot_have_several_guests_are_refused_with_the_reason() {
    let cluster = cluster();
    let refused = |text: &str| match text.parse() {
        Ok(pools) => Spread::new(&cluster, &pools).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    for (text, expected) in [
        ("", "give services and their guests"),
        ("web", "give services and their guests"),
        ("=10.5.5.1", "give services and their guests"),
        ("web=", "'' is no address of a guest"),
        ("web=10.5.5.1,guest", "'guest' is no address of a guest"),
        ("wep=10.5.5.1", "the cluster file has no service wep; it has web, alt, plain, all"),
        ("web=10.5.5.1;web=10.5.5.2", "service web is there twice"),
        ("all=10.5.5.1", "service all has no port"),
        ("web=10.5.5.1,10.6.0.1", "10.6.0.1, for service web, is not in the guests' network"),
        ("web=10.5.5.1,fd00::1", "fd00::1, for service web, is not in the guests' network"),
        ("web=10.5.5.1,10.5.5.1", "each of them once"),
        ("plain=10.5.5.211", "guest 10.5.5.211 replies from port 90 for service plain and for service alt"),
        (
            "plain=10.5.5.1;alt=10.5.5.1",
            "guest 10.5.5.1 replies from port 90 for service plain and for service alt",
        ),
    ] {
        assert!(refused(text).contains(expected), "{text}: {}", refused(text));
    }
    // One guest of two services is clear, where each of its ports is of one.
    for pools in ["web=10.5.5.211", "web=10.5.5.1;alt=10.5.5.1", "web=10.5.5.220", "alt=10.5.5.201"] {
        assert!(Spread::new(&cluster, &pools.parse().unwrap()).is_ok(), "{pools}");
    }
    let dual = Cluster::parse(include_str!("../../../rules/dual.toml"), Path::new("dual.toml")).unwrap();
    let both: Pools = "web=10.5.5.201,10.5.5.202,fd00:5::201".parse().unwrap();
    assert_eq!(both.to_string().parse(), Ok(both.clone()));
    let tables =
        |pools: &Pools| Spread::new(&dual, pools).map(|spread| spread.pools()[0].tables.iter().count());
    assert_eq!(tables(&both), Ok(2));
    let other = PoolsError::Family("dns6".to_owned(), [10, 5, 5, 1].into());
    assert_eq!(tables(&"dns6=10.5.5.1".parse().unwrap()), Err(other));
}

/// An outside packet that no service takes is what it is under the cluster's policy.
#[test]
fn all_else_is_as_the_cluster_s_policy_has_it() {
    let (maglev, plain) = (policy(0), Supervised::cluster(&cluster(), NodeId(0)));
    for tuple in [
        "tcp 192.168.122.1:40000 > 192.168.122.11:81",
        "tcp 192.168.122.1:40000 > 192.168.122.12:80",
        "udp 192.168.122.1:40000 > 192.168.122.11:80",
        "udp 10.5.5.220:53 > 192.168.122.1:40000",
        "icmp 192.168.122.1 > 192.168.122.11",
    ] {
        let bytes = packet(tuple);
        for stage in Stage::ALL {
            assert_eq!(passed(&maglev, stage, &bytes, 0), passed(&plain, stage, &bytes, 0), "{tuple}");
        }
    }
}
