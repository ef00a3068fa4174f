use std::path::Path;

use super::*;
use crate::cluster::{Cluster, NodeId};
use crate::net::Mark;

const EXAMPLE: &str = include_str!("../../rules/example.toml");

fn plan(node: u32, queue_by: QueueBy, workers: u16) -> Plan {
    Plan {
        node: NodeId(node),
        queue_by,
        backend: Backend::Netlink,
        rewrite_by: RewriteBy::Userspace,
        full: false,
        queue_base: 100,
        workers,
    }
}

fn example() -> Cluster {
    Cluster::parse(EXAMPLE, Path::new("example.toml")).unwrap()
}

/// `rules/` holds what a reader should see; it is rewritten by running this test with BLESS=1.
#[test]
fn the_rulesets_in_rules_are_those_of_the_example() {
    let cluster = example();
    let files = [
        ("node1.nft", Rules::render(&cluster, &plan(0, QueueBy::Nft, 2)).as_script()),
        ("node1-iptables.sh", Rules::render(&cluster, &plan(0, QueueBy::Iptables, 2)).as_script()),
        ("node1-kernel.nft", in_kernel(&cluster, NodeId(0))),
    ];
    for (name, rendered) in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules").join(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &rendered).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == rendered,
            "rules/{name} is stale; run BLESS=1 cargo test --lib ruleset and look at the diff"
        );
    }
}

/// Another mask, more services than one multiport match takes, both protocols, a node without pipes of its own.
#[test]
fn a_mask_ports_by_the_dozen_and_one_worker() {
    let mut cluster = example();
    cluster.mask = Mark(0xff00);
    let service = cluster.services[0].clone();
    for (node, tag) in cluster.nodes.iter_mut().zip([0x100, 0x200]) {
        node.tag = Mark(tag);
    }
    cluster.nodes[1].pipes = Some(vec!["uplink".parse().unwrap()]);
    cluster.services = (1..=16)
        .map(|port| crate::cluster::Service { name: format!("s{port}"), port, ..service.clone() })
        .collect();
    cluster.services.push(crate::cluster::Service { proto: crate::net::Proto::UDP, ..service });
    insta::assert_snapshot!("masked-nft", Rules::render(&cluster, &plan(1, QueueBy::Nft, 1)).as_script());
    insta::assert_snapshot!(
        "masked-iptables",
        Rules::render(&cluster, &plan(1, QueueBy::Iptables, 1)).as_script()
    );
    insta::assert_snapshot!("masked-kernel", in_kernel(&cluster, NodeId(1)));
    let full = |queue_by| Plan { full: true, rewrite_by: RewriteBy::Kernel, ..plan(1, queue_by, 2) };
    let render = |queue_by| Rules::render(&cluster, &full(queue_by)).as_script();
    insta::assert_snapshot!("masked-full-rewrite-by-kernel-nft", render(QueueBy::Nft));
    insta::assert_snapshot!("masked-full-rewrite-by-kernel-iptables", render(QueueBy::Iptables));
}
