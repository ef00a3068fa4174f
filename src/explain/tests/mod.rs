mod honest;
mod laws;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::cluster::{Cluster, NodeId, TagBy};
use crate::engine::{Policy, Reason};
use crate::net::{Dscp, Mark, Proto, Stage, Tuple};
use crate::packet::{Fragment, Headers, Icmp};
use crate::policy::of_cluster;
use crate::simulate::{Arrival, PacketSpec, SimulatedNode, made};
use crate::trace::samples;

fn by_cluster(cluster: &Cluster, node: NodeId) -> Arc<dyn Policy> {
    of_cluster(cluster, node)
}

/// The example with two more services, and a third node.
fn cluster() -> Cluster {
    let text = include_str!("../../../rules/example.toml");
    let more = "[[service]]\nname = \"tls\"\nproto = \"tcp\"\nport = 443\nguest = \"10.5.5.202\"\n\
                [[service]]\nname = \"dns\"\nproto = \"udp\"\nport = 53\nguest = \"10.5.5.203\"\n\
                [[node]]\nname = \"node3\"\ntag = 3\nmac = \"0c:00:00:00:00:00/24\"\npublic = \"192.168.122.13\"\n";
    Cluster::parse(&format!("{text}\n{more}"), Path::new("cluster.toml")).unwrap()
}

/// The same with tags in the second byte only.
fn masked() -> Cluster {
    let mut cluster = cluster();
    cluster.mask = Mark(0xff00);
    for node in &mut cluster.nodes {
        node.tag = Mark(node.tag.0 << 8);
    }
    cluster
}

fn told(cluster: &Cluster, node: Option<u32>, packet: &str, verbose: bool) -> String {
    let asked: PacketSpec = packet.parse().unwrap();
    let story = match node {
        Some(id) => at_node(&mut SimulatedNode::new(cluster, NodeId(id)), asked.arrival(cluster, NodeId(id))),
        None => through_cluster(cluster, &asked, None, &by_cluster).unwrap(),
    };
    format!("$ {packet}\n{}", StoryText::new(false, verbose).story(&story))
}

#[test]
fn a_connection_is_told_through_the_cluster() {
    let request = "tcp 192.168.122.1:40000 > 192.168.122.12:443";
    insta::assert_snapshot!(told(&cluster(), None, request, false));
}

#[test]
fn every_way_through_the_cluster_has_an_end() {
    let cluster = cluster();
    let last = |packet: &str| {
        let told = told(&cluster, None, packet, false);
        told.lines().last().unwrap().to_owned()
    };
    insta::assert_snapshot!(last("tcp 192.168.122.1:40000 > 192.168.122.12:81"), @"The packet stays on node2, unchanged: it is for the node itself, or for a flow that its SNAT knows.");
    insta::assert_snapshot!(last("tcp 10.5.5.201:40000 > 192.168.122.1:80"), @"The packet leaves node1 by xenbr0. dunnat has not changed it; if a guest sent it, the kernel's SNAT gives it the address 192.168.122.11.");
    insta::assert_snapshot!(last("tcp 10.5.5.201:80 > 192.168.122.1:40000 ct mark 3"), @"The packet leaves node1 by xenbr0, with the public address of the entry node.");
    insta::assert_snapshot!(last("udp 192.168.122.1:40000 > 192.168.122.13:53"), @"The reply goes out as udp 192.168.122.13:53 > 192.168.122.1:40000: its source is the original destination, as it must be.");
    // The flow holds another node's tag already: the reply goes out with the wrong source, and this is said.
    insta::assert_snapshot!(last("tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100 mac 0e:00:00:00:00:01 ct mark 3"), @"The reply goes out as tcp 192.168.122.13:80 > 192.168.122.1:40000.");
    let nobody =
        through_cluster(&cluster, &"tcp 1.1.1.1:1 > 192.168.122.9:80".parse().unwrap(), None, &by_cluster);
    assert!(nobody.unwrap_err().to_string().contains("--node"));
}

#[test]
fn a_guest_on_the_entry_node_replies_from_there() {
    let cluster = cluster();
    let asked = "tcp 192.168.122.1:40000 > 192.168.122.13:80".parse().unwrap();
    for home in cluster.node_ids() {
        let story = through_cluster(&cluster, &asked, Some(home), &by_cluster).unwrap();
        let local = cluster.node(home).name == "node3";
        assert_eq!(story.nodes.len(), if local { 2 } else { 3 });
        assert!(
            story.after[0]
                .contains("192.168.122.13:80 > 192.168.122.1:40000: its source is the original destination")
        );
    }
}

#[test]
fn what_one_node_does_and_why_not_something_else() {
    let packets = [
        (1, "tcp 192.168.122.1:40000 > 192.168.122.12:80 in xenbr0"),
        (1, "tcp 192.168.122.1:40000 > 192.168.122.12:8080 in xenbr0"),
        (0, "tcp 192.168.122.1:40000 > 192.168.122.12:80 in xenbr0"),
        (0, "icmp 192.168.122.1 > 192.168.122.11 in xenbr0"),
        (0, "tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100 mac 0f:00:00:00:00:01"),
        (0, "tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100 mac 0e:00:00:00:00:01 ct mark 1"),
        (0, "tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100"),
        (0, "tcp 10.5.5.201:80 > 192.168.122.1:40000 in guestbr0 ct mark 7"),
        (0, "tcp 10.5.5.201:80 > 192.168.122.1:40000 in vif1 out wlan0 ct mark 2"),
    ];
    let cluster = cluster();
    let told: Vec<String> =
        packets.iter().map(|(node, packet)| told(&cluster, Some(*node), packet, false)).collect();
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn checksums_are_worked_out_step_by_step() {
    let packets =
        ["tcp 192.168.122.1:40000 > 192.168.122.12:80", "udp 192.168.122.1:40000 > 192.168.122.12:53"];
    let cluster = masked();
    insta::assert_snapshot!(packets.map(|packet| told(&cluster, Some(1), packet, true)).join("\n\n"));
}

#[test]
fn json_has_the_same() {
    let cluster = cluster();
    let asked: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.12:80".parse().unwrap();
    let story = at_node(&mut SimulatedNode::new(&cluster, NodeId(1)), asked.arrival(&cluster, NodeId(1)));
    insta::assert_snapshot!(serde_json::to_string_pretty(&story).unwrap());
}

#[test]
fn colours_change_nothing_but_colours() {
    let cluster = cluster();
    let asked = "tcp 192.168.122.1:40000 > 192.168.122.12:443".parse().unwrap();
    let story = through_cluster(&cluster, &asked, None, &by_cluster).unwrap();
    let colours = StoryText::new(true, true).story(&story);
    let mut plain = String::new();
    for (place, part) in colours.split("\x1b[").enumerate() {
        plain.push_str(if place == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_ne!(colours, plain);
    assert_eq!(plain, StoryText::new(false, true).story(&story));
}

/// What a trace has recorded is explained as it was decided, with the bytes of the packets and without.
#[test]
fn recorded_events_get_the_same_decisions() {
    let cluster = samples::cluster();
    for event in samples::events() {
        for event in [event.clone(), crate::trace::Event { bytes: None, ..event }] {
            let story = of_event(&cluster, &event, &by_cluster).unwrap();
            assert_eq!(story.nodes[0].stages[0].event.as_ref(), Some(&event));
            let why = story.nodes[0].stages[0].why.as_ref().unwrap();
            assert!(!why.is_empty(), "{event:?}");
        }
    }
}

#[test]
fn other_ways_of_tagging_are_told() {
    let told = TagBy::ALL.map(|(tag_by, _)| {
        let mut cluster = cluster();
        tagged_by(&mut cluster, tag_by);
        let told = told(&cluster, None, "tcp 192.168.122.1:40000 > 192.168.122.12:80", false);
        // The frame on the guest's node, and what tag makes of it.
        let from = told.find("node1, the home node").unwrap();
        let to = from + told[from..].find("\n\n  save").unwrap();
        told[from..to].to_owned()
    });
    insta::assert_snapshot!(told.join("\n\n"));
}

/// Tags go by something else.
fn tagged_by(cluster: &mut Cluster, tag_by: TagBy) {
    cluster.tag_by = tag_by;
    let ids: Vec<NodeId> = cluster.node_ids().collect();
    for (node, own) in cluster.nodes.iter_mut().zip(&ids) {
        match tag_by {
            TagBy::Mac => {}
            TagBy::Pipe => {
                node.leads_to = ids.iter().copied().filter(|id| id != own).collect();
                node.pipes =
                    Some(node.leads_to.iter().map(|id| format!("to{}", id.0).parse().unwrap()).collect());
            }
            TagBy::Dscp => node.dscp = Dscp::try_from(8 * (i64::from(own.0) + 1)).ok(),
        }
    }
}

#[test]
fn events_of_nodes_that_are_not_there_are_refused() {
    let mut event = samples::events().remove(0);
    event.node = Arc::from("node9");
    assert_eq!(
        of_event(&cluster(), &event, &by_cluster).unwrap_err().to_string(),
        "the cluster file has no such node"
    );
}

/// No rule changes what an ICMP error quotes: the engine leads it to the guest, and the rule that leads pings there does not match.
#[test]
fn a_rule_that_does_not_do_the_same_does_not_match() {
    let service = "[[service]]\nname = \"ping\"\nproto = \"icmp\"\nguest = \"10.5.5.203\"\n";
    let text = format!("{}\n{service}", include_str!("../../../rules/example.toml"));
    let cluster = Cluster::parse(&text, Path::new("c")).unwrap();
    let icmp = |src: &str, dst: &str| Tuple {
        proto: Proto::ICMP,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        ports: None,
    };
    let (client, public) = ("192.168.122.1", "192.168.122.12");
    let told = |kind, inner| {
        let icmp_header = Some(Icmp { kind, code: 0, inner, inner_after: None, mtu: None });
        let headers = Headers { icmp: icmp_header, ..Headers::default() };
        let bytes = made(icmp(client, public), &headers, Fragment::None, 90).unwrap();
        let story = at_node(&mut SimulatedNode::new(&cluster, NodeId(1)), Arrival::of(bytes));
        let dnat = &story.nodes[0].stages[0];
        let matches: Vec<bool> = dnat.nft.iter().map(|nft| nft.matches).collect();
        (dnat.event.as_ref().unwrap().reason, matches)
    };
    assert_eq!(told(8, None), (Reason::Service, vec![true]));
    assert_eq!(told(3, Some(icmp(public, client))), (Reason::ErrorAboutReply, vec![false]));
}

/// In the words of the packet's own family, and with its addresses alone.
#[test]
fn ipv6_is_explained_in_its_own_words() {
    let cluster = dual();
    let asked: PacketSpec = "tcp [fd00:122::1]:40000 > [fd00:122::12]:80".parse().unwrap();
    let story = through_cluster(&cluster, &asked, Some(NodeId(0)), &by_cluster).unwrap();
    let steps: Vec<_> = story.nodes.iter().flat_map(|at_node| &at_node.stages).collect();
    let rules: Vec<&str> = steps.iter().flat_map(|step| &step.nft).map(|nft| &*nft.rule).collect();
    assert!(
        rules[0].contains("ip6 daddr fd00:122::12 ip6 daddr set tcp dport map { 80 : fd00:5::201 }"),
        "{rules:?}"
    );
    assert!(!rules.iter().any(|rule| rule.contains("ip daddr") || rule.contains("192.168")), "{rules:?}");
    assert_eq!(
        story.after,
        [
            "The reply goes out as tcp [fd00:122::12]:80 > [fd00:122::1]:40000: its source is the original destination, as it must be."
        ]
    );
    let say = |packet: &str, node| {
        let asked: PacketSpec = packet.parse().unwrap();
        let arrival = asked.arrival(&cluster, NodeId(node));
        let story = at_node(&mut SimulatedNode::new(&cluster, NodeId(node)), arrival);
        let why = story.nodes[0].stages.iter().filter_map(|step| step.why.as_ref());
        why.flatten().map(|asked| asked.says.clone()).collect::<Vec<_>>()
    };
    let elsewhere = say("udp [fd00:122::1]:4000 > [fd00:122::11]:53", 1).remove(0);
    assert_eq!(elsewhere, "ip6 daddr fd00:122::11 is not fd00:122::12: it is the public address of node1");
    let outside = say("icmpv6 fd00:5::201 > fd00:122::1 in guestbr0 ct mark 2", 0);
    assert!(!outside.is_empty() && !outside.iter().any(|it| it.contains("10.5.5.0")), "{outside:?}");
}

fn dual() -> Cluster {
    Cluster::parse(include_str!("../../../rules/dual.toml"), Path::new("dual.toml")).unwrap()
}
