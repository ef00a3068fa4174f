use std::collections::HashSet;

use super::*;
use crate::cluster::{Cluster, Foreign, Node, TagBy};
use crate::lab::{Choice, Families, Layout, NameSet, Pipes};

fn layout(nodes: usize, names: NameSet, tag_by: TagBy) -> Layout {
    Layout::new(Choice { nodes, names, families: Families::Both, tag_by, pipes: Pipes::Veth })
}

/// Layouts of every kind.
fn layouts() -> impl Iterator<Item = Layout> {
    [NameSet::Plain, NameSet::Other].into_iter().flat_map(|names| {
        TagBy::ALL.into_iter().flat_map(move |(tag_by, _)| (1..=5).map(move |n| layout(n, names, tag_by)))
    })
}

/// What the first node's cluster file says.
fn cluster(layout: &Layout, fault: Fault) -> Cluster {
    let text = cluster_file::text(layout, fault);
    Cluster::parse(&text, "lab".as_ref()).unwrap_or_else(|error| panic!("{}: {error}\n{text}", fault.name()))
}

fn right(layout: &Layout) -> Cluster {
    Cluster::parse(&crate::lab::cluster_file(layout), "lab".as_ref()).unwrap()
}

#[test]
fn each_has_a_name_of_its_own_and_a_clause() {
    let names: HashSet<&str> = Fault::ALL.iter().map(|(_, name, _)| *name).collect();
    assert_eq!(names.len(), Fault::ALL.len());
    for (fault, name, about) in Fault::ALL {
        assert_eq!((fault.name(), fault.about(), name.parse()), (name, about, Ok(fault)));
        assert!(name.len() <= WIDTH && !about.ends_with('.'), "{name}: {about}");
        assert!(list().contains(&format!("\n{name:<WIDTH$} {about}\n")) || list().starts_with(name));
    }
    assert!(!names.contains("help") && !names.contains("random"));
    assert!("nothing".parse::<Fault>().unwrap_err().starts_with("give one of mac, swap, "));
}

#[test]
fn a_fault_that_needs_more_than_there_is_says_so() {
    let needs = |layout: &Layout| -> Vec<&str> {
        let all = Fault::ALL.iter().filter(|(fault, ..)| fault.needs(layout).is_some());
        all.map(|(_, name, _)| *name).collect()
    };
    assert!(needs(&layout(3, NameSet::Plain, TagBy::Mac)).is_empty());
    assert_eq!(needs(&layout(2, NameSet::Other, TagBy::Mac)), ["swap"]);
    assert_eq!(needs(&layout(3, NameSet::Plain, TagBy::Dscp)), ["mac", "swap"]);
    let alone = ["mac", "swap", "tags", "invalid-drop", "br-netfilter", "mtu"];
    assert_eq!(needs(&layout(1, NameSet::Plain, TagBy::Mac)), alone);
    assert_eq!(
        Fault::Swap.needs(&layout(2, NameSet::Plain, TagBy::Mac)).unwrap(),
        "the fault 'swap' needs three nodes, but this lab has 2"
    );
    assert_eq!(
        Fault::Mtu.needs(&layout(1, NameSet::Plain, TagBy::Mac)).unwrap(),
        "the fault 'mtu' needs two nodes, but this lab has one"
    );
}

/// A wrong cluster file is one that dunnat takes, and is wrong in one thing.
#[test]
fn a_wrong_cluster_file_differs_in_one_thing() {
    for layout in layouts() {
        let right = right(&layout);
        for (fault, ..) in Fault::ALL.into_iter().filter(|(fault, ..)| fault.needs(&layout).is_none()) {
            let wrong = cluster(&layout, fault);
            let others = |cluster: &Cluster| {
                let mut guests = cluster.guests.clone();
                if fault == Fault::InvalidDrop {
                    guests.foreign = Foreign::default();
                }
                let mut rest = format!("{:?}", (&guests, cluster.mask, cluster.tag_by, cluster.on_conflict));
                if fault != Fault::Service {
                    rest += &format!("{:?}", cluster.services);
                }
                for node in &cluster.nodes {
                    let Node { mac, tag, .. } = node;
                    rest +=
                        &format!("{:?}", (&node.name, node.dscp, node.public, &node.pipes, &node.leads_to));
                    rest += &if fault == Fault::Tags { String::new() } else { format!("{tag:?}") };
                    let is_mac = matches!(fault, Fault::Mac | Fault::Swap);
                    rest += &if is_mac { String::new() } else { format!("{mac:?}") };
                }
                rest
            };
            assert_eq!(others(&right), others(&wrong), "{}", fault.name());
            let differs: Vec<usize> = (0..right.nodes.len())
                .filter(|place| {
                    let (a, b) = (&right.nodes[*place], &wrong.nodes[*place]);
                    (a.tag, a.mac) != (b.tag, b.mac)
                })
                .collect();
            let last = right.nodes.len() - 1;
            let wanted = match fault {
                Fault::Mac => vec![last],
                Fault::Swap => vec![last - 1, last],
                Fault::Tags => (0..=last).collect(),
                _ => Vec::new(),
            };
            assert_eq!(differs, wanted, "{}", fault.name());
            let names = |cluster: &Cluster| -> Vec<String> {
                cluster.services.iter().map(|service| service.name.clone()).collect()
            };
            let mut services = names(&right);
            if fault == Fault::Service {
                services.retain(|name| *name != layout.guests[0].service);
                assert_eq!(services.len() + 1, right.services.len());
            }
            assert_eq!(names(&wrong), services);
        }
    }
}
