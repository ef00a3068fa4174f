mod against;

use std::net::IpAddr;
use std::path::Path;

use super::*;
use crate::cluster::{Cluster, NodeId, OnConflict, TagBy};
use crate::kernel::{Capabilities, Support};
use crate::net::{ByFamily, Dscp, Family, Mark, Ports};
use crate::ruleset::rule::{Condition, Rule, Statement};
use crate::ruleset::table::{Chain, Hook, PREROUTING};
use against::against;

const EXAMPLE: &str = include_str!("../../rules/example.toml");

fn plan(node: u32, queue_by: QueueBy, workers: u16) -> Plan {
    let wishes = Wishes { node: NodeId(node), workers, ..Wishes::default() };
    let nft_queue = match queue_by {
        QueueBy::Nft => Support::Yes,
        QueueBy::Xt => Support::unwanted(),
    };
    Plan::new(wishes, &Capabilities { nft_queue, ct_mark_by_verdict: Support::unwanted() }).unwrap()
}

/// A plan with another choice may have other lanes: its queues are numbered anew.
fn numbered(plan: Plan, workers: u16) -> Plan {
    let layout = QueueLayout::new(100, workers, plan.lanes().len()).unwrap();
    Plan { layout, ..plan }
}

/// A ruleset that others are held against: of the example, as its plan says. node1's plainest ones are whole in `rules/`.
fn base(node: u32, plan: &Plan) -> String {
    Rules::render(&example(), &Plan { node: NodeId(node), ..*plan }).as_script()
}

/// After a reload the rules are the same, by other queues; and the next reload has the first queues again.
#[test]
fn a_generation_has_its_own_queues_and_says_which_it_is() {
    for queue_by in [QueueBy::Nft, QueueBy::Xt] {
        let first = plan(0, queue_by, 2);
        let mut plans = vec![first];
        for _ in 0..2 {
            let last = plans[plans.len() - 1];
            plans.push(last.next(last.node, last.on_conflict, 2).unwrap());
        }
        let [one, two, three] = &plans.iter().map(|plan| base(0, plan)).collect::<Vec<_>>()[..] else {
            panic!("not three")
        };
        let named = |rules: &str, queues: std::ops::RangeInclusive<u16>| {
            let words = rules.lines().filter_map(|line| line.split_once("queue")).flat_map(|(_, behind)| {
                behind.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u16>().ok())
            });
            words.filter(|number| queues.contains(number)).count()
        };
        assert!(named(one, 100..=111) > 5 && named(one, 112..=123) == 0, "{one}");
        assert!(named(two, 112..=123) > 5 && named(two, 100..=111) == 0, "{two}");
        let chain = |generation| format!("\tchain generation-{generation} {{\n\t}}\n");
        assert_eq!([one, two, three].map(|rules| rules.matches("generation-").count()), [0, 2, 2]);
        assert_eq!(two.matches(&chain(2)).count(), 2);
        let about = "\n\t# No packet passes here: it says after how many reloads this is.\n";
        assert_eq!(three.replace(&format!("{about}{}", chain(3)), ""), *one);
    }
}

/// While flows have tags of the file before, the rules take these for their nodes', too.
#[test]
fn former_tags_are_among_the_tags_in_rules() {
    for mask in ["0xffffffff", "0xff"] {
        let file = EXAMPLE.replacen("mask = \"0xffffffff\"", &format!("mask = \"{mask}\""), 1);
        let [old, new] = [file.clone(), file.replacen("tag    = 1", "tag    = 7", 1)]
            .map(|text| Cluster::parse(&text, Path::new("c")).unwrap());
        let changed = old.new_tags(&new).changed;
        let new = new.with_former(&changed);
        let full =
            numbered(Plan { rewrite_by: RewriteBy::Kernel, full: true, ..plan(0, QueueBy::Nft, 1) }, 1);
        let rules = Rules::render(&new, &full).as_script();
        for line in rules.lines().filter(|line| line.contains("0x7")) {
            // A chain that sets one gives the new one, and the pure ruleset knows no former ones.
            assert!(line.contains("0x1") || line.trim_start().contains("mark set"), "{line}");
        }
        assert!(rules.contains("0x1"), "{rules}");
    }
}

/// What the other bases have otherwise than the rulesets in `rules/`.
#[test]
fn every_base_is_known_by_what_it_has_otherwise() {
    for (name, queue_by) in [("nft", QueueBy::Nft), ("xt", QueueBy::Xt)] {
        let first = plan(0, queue_by, 2);
        let mut out = String::new();
        for ct_mark_by in [CtMarkBy::Rules, CtMarkBy::Verdict] {
            for (full, rewrite_by) in [false, true]
                .into_iter()
                .flat_map(|full| [RewriteBy::Userspace, RewriteBy::Kernel].map(|by| (full, by)))
            {
                for (node, workers) in [(0, 1), (1, 1), (1, 2)] {
                    let plan = Plan { ct_mark_by, full, rewrite_by, ..plan(node, queue_by, workers) };
                    let plan = numbered(plan, workers);
                    let title = format!(
                        "node{} {ct_mark_by:?} {rewrite_by:?} full: {full} workers: {workers}",
                        node + 1
                    );
                    // Step by step: each from its neighbour with one choice less.
                    let before = match (node, workers) {
                        (0, _) => first,
                        (_, 1) => Plan { node: NodeId(0), ..plan },
                        _ => numbered(plan, 1),
                    };
                    let (before, after) = (base(before.node.0, &before), base(node, &plan));
                    out.push_str(&format!("=== {title}\n{}", against(&before, &after)));
                }
            }
        }
        insta::assert_snapshot!(format!("bases-{name}"), out);
        for rewrite_by in [RewriteBy::Userspace, RewriteBy::Kernel] {
            let render = |plan: &Plan| Rules::render(&dual(), plan).as_script();
            let plan = numbered(Plan { rewrite_by, ..plan(0, queue_by, 1) }, 1);
            insta::assert_snapshot!(
                format!("base-dual-{name}-{rewrite_by:?}"),
                against(&render(&first), &render(&plan))
            );
        }
    }
    let verdict = numbered(Plan { ct_mark_by: CtMarkBy::Verdict, ..plan(0, QueueBy::Nft, 2) }, 2);
    insta::assert_snapshot!(
        "base-by-rules",
        against(&base(0, &verdict), &base(0, &plan(0, QueueBy::Nft, 2)))
    );
    insta::assert_snapshot!(
        "base-node2-kernel",
        against(&in_kernel(&example(), NodeId(0)), &in_kernel(&example(), NodeId(1)))
    );
}

fn example() -> Cluster {
    Cluster::parse(EXAMPLE, Path::new("example.toml")).unwrap()
}

fn dual() -> Cluster {
    Cluster::parse(include_str!("../../rules/dual.toml"), Path::new("dual.toml")).unwrap()
}

/// Without IPv6 in the cluster file no rule knows of it; with both families the rules of one are those that it would
/// have alone.
#[test]
fn a_family_has_rules_of_its_own() {
    let dual = dual();
    let mut four = dual.clone();
    let only_v4 =
        |it: &ByFamily<IpAddr>| ByFamily::new(|family| it.get(family).copied().filter(IpAddr::is_ipv4));
    four.guests.network = (*dual.guests.network.get(Family::V4).unwrap()).into();
    four.guests.gateway = only_v4(&dual.guests.gateway);
    for node in &mut four.nodes {
        node.public = only_v4(&node.public);
    }
    four.services.retain_mut(|service| {
        service.guest = only_v4(&service.guest);
        !service.guest.is_empty()
    });
    for queue_by in [QueueBy::Nft, QueueBy::Xt] {
        for (full, rewrite_by) in [(false, RewriteBy::Userspace), (true, RewriteBy::Kernel)] {
            let plan = numbered(Plan { full, rewrite_by, ..plan(0, queue_by, 2) }, 2);
            let alone = Rules::render(&four, &plan).as_script();
            assert!(!alone.contains("ip6") && !alone.contains("icmpv6"), "{alone}");
            let both = Rules::render(&dual, &plan).as_script();
            let missing: Vec<&str> =
                alone.lines().filter(|line| !both.lines().any(|other| other == *line)).collect();
            assert_eq!(missing, Vec::<&str>::new());
        }
    }
    assert!(!in_kernel(&four, NodeId(0)).contains("ip6"));
}

/// `rules/` holds what a reader should see; it is rewritten by running this test with BLESS=1.
#[test]
fn the_rulesets_in_rules_are_those_of_the_example() {
    let cluster = example();
    let of_a_whole_kernel = numbered(Plan { ct_mark_by: CtMarkBy::Verdict, ..plan(0, QueueBy::Nft, 2) }, 2);
    let files = [
        ("node1.nft", Rules::render(&cluster, &of_a_whole_kernel).as_script()),
        ("node1-xt.sh", Rules::render(&cluster, &plan(0, QueueBy::Xt, 2)).as_script()),
        ("node1-kernel.nft", in_kernel(&cluster, NodeId(0))),
        ("dual-node1.nft", Rules::render(&dual(), &of_a_whole_kernel).as_script()),
        ("dual-node1-xt.sh", Rules::render(&dual(), &plan(0, QueueBy::Xt, 2)).as_script()),
        ("dual-node1-kernel.nft", in_kernel(&dual(), NodeId(0))),
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

/// Another mask, many services, both protocols, a node without pipes of its own.
#[test]
fn a_mask_ports_by_the_dozen_and_one_worker() {
    let mut cluster = example();
    cluster.mask = Mark(0xff00);
    let service = cluster.services[0].clone();
    for (node, tag) in cluster.nodes.iter_mut().zip([0x100, 0x200]) {
        node.tag = Mark(tag);
    }
    cluster.nodes[1].pipes = Some(vec!["uplink".parse().unwrap()]);
    cluster.services = (10..=160)
        .step_by(10)
        .map(|port| crate::cluster::Service {
            name: format!("s{port}"),
            ports: Ports::new(port, port),
            ..service.clone()
        })
        .collect();
    cluster.services.push(crate::cluster::Service { proto: Some(crate::net::Proto::UDP), ..service });
    let kernel = in_kernel(&example(), NodeId(1));
    let otherwise =
        |cluster: &Cluster, plan: &Plan| against(&base(1, plan), &Rules::render(cluster, plan).as_script());
    insta::assert_snapshot!("masked-nft", otherwise(&cluster, &plan(1, QueueBy::Nft, 1)));
    insta::assert_snapshot!("masked-xt", otherwise(&cluster, &plan(1, QueueBy::Xt, 1)));
    for tag_by in [TagBy::Pipe, TagBy::Dscp] {
        let mut cluster = cluster.clone();
        cluster.tag_by = tag_by;
        for (id, node) in (0..).map(NodeId).zip(&mut cluster.nodes) {
            match tag_by {
                TagBy::Dscp => node.dscp = Dscp::try_from(8 * (i64::from(id.0) + 1)).ok(),
                _ => node.leads_to = vec![NodeId(1 - id.0)],
            }
        }
        let name = format!("by-{tag_by}");
        insta::assert_snapshot!(name.clone(), otherwise(&cluster, &plan(1, QueueBy::Nft, 1)));
        insta::assert_snapshot!(format!("{name}-kernel"), against(&kernel, &in_kernel(&cluster, NodeId(1))));
    }
    insta::assert_snapshot!("masked-kernel", against(&kernel, &in_kernel(&cluster, NodeId(1))));
    let full =
        |queue_by| numbered(Plan { full: true, rewrite_by: RewriteBy::Kernel, ..plan(1, queue_by, 2) }, 2);
    let render = |queue_by| otherwise(&cluster, &full(queue_by));
    insta::assert_snapshot!("masked-full-rewrite-by-kernel-nft", render(QueueBy::Nft));
    insta::assert_snapshot!("masked-full-rewrite-by-kernel-xt", render(QueueBy::Xt));
}

/// Every kernel there can be: what is chosen, why, and the lanes that follow.
#[test]
fn every_combination_of_capabilities_has_its_plan() {
    let cluster = example();
    let supports = |what: &str| {
        [
            Support::Yes,
            Support::No(format!("no {what}")),
            Support::Unknown(format!("{what}: Permission denied")),
        ]
    };
    let mut out = String::new();
    for nft_queue in supports("queue") {
        for ct_mark_by_verdict in supports("glue") {
            let kernel = Capabilities { nft_queue: nft_queue.clone(), ct_mark_by_verdict };
            for (backend, full, rewrite_by) in [
                (Backend::Netlink, false, RewriteBy::Userspace),
                (Backend::Netlink, true, RewriteBy::Kernel),
                (Backend::Nfq, true, RewriteBy::Userspace),
            ] {
                let wishes = Wishes { backend, rewrite_by, full, workers: 2, ..Wishes::default() };
                out.push_str(&format!("=== {kernel}\n"));
                match Plan::new(wishes, &kernel) {
                    Ok(plan) => out.push_str(&plan.explain(&cluster, &kernel)),
                    Err(error) => out.push_str(&format!("{error}\n")),
                }
            }
        }
    }
    insta::assert_snapshot!("plans", out);
}

/// A fallback is what the kernel forces upon us: neither what somebody wished for, nor what a backend cannot do.
#[test]
fn a_fallback_is_what_nobody_asked_for() {
    let (no, wish) = (Support::No("no such thing".to_owned()), Support::unwanted());
    for (kernel, backend, fallbacks) in [
        ((Support::Yes, Support::Yes), Backend::Netlink, vec![]),
        ((no.clone(), no.clone()), Backend::Netlink, vec!["queueing", "ct marks"]),
        ((wish.clone(), wish.clone()), Backend::Netlink, vec![]),
        ((no.clone(), wish.clone()), Backend::Netlink, vec!["queueing"]),
        ((wish.clone(), no.clone()), Backend::Netlink, vec!["ct marks"]),
        ((Support::Yes, no.clone()), Backend::Nfq, vec![]),
        ((no, Support::Yes), Backend::Nfq, vec!["queueing"]),
    ] {
        let kernel = Capabilities { nft_queue: kernel.0, ct_mark_by_verdict: kernel.1 };
        let wishes = Wishes { backend, workers: 2, ..Wishes::default() };
        let choices = Plan::new(wishes, &kernel).unwrap().choices(&kernel);
        let found: Vec<&str> = choices.iter().filter(|it| it.fallback).map(|it| it.about).collect();
        assert_eq!(found, fallbacks, "{kernel}");
        let reason_of_queue = &choices[0].because;
        assert_eq!(reason_of_queue == "--force-fallback", kernel.nft_queue == wish, "{reason_of_queue}");
    }
}

/// Without services there is nothing that errors could be about.
#[test]
fn who_offers_nothing_is_asked_nothing() {
    let mut cluster = dual();
    cluster.services.clear();
    for queue_by in [QueueBy::Nft, QueueBy::Xt] {
        let rules = Rules::render(&cluster, &plan(0, queue_by, 1)).as_script();
        assert!(!rules.contains("destination-unreachable"), "{rules}");
    }
}

/// With ct marks by verdict no rule touches them, but to find out which packets to ask about.
#[test]
fn what_the_verdict_does_no_rule_does() {
    let mut cluster = example();
    for mask in [Mark::ALL, Mark(0xff)] {
        cluster.mask = mask;
        for (queue_by, full) in [QueueBy::Nft, QueueBy::Xt].iter().flat_map(|by| [(*by, false), (*by, true)])
        {
            let plan = Plan { ct_mark_by: CtMarkBy::Verdict, full, ..plan(0, queue_by, 2) };
            let plan = numbered(plan, 2);
            let rules = Rules::render(&cluster, &plan).as_script();
            assert!(!rules.contains("mark set"), "{rules}");
            assert!(!rules.contains("save-") && !rules.contains("show-"), "{rules}");
        }
    }
    let by_kernel =
        Plan { ct_mark_by: CtMarkBy::Verdict, rewrite_by: RewriteBy::Kernel, ..plan(0, QueueBy::Nft, 2) };
    let by_kernel = numbered(by_kernel, 2);
    insta::assert_snapshot!(
        "ct-mark-by-verdict-rewrite-by-kernel",
        against(&base(0, &by_kernel), &Rules::render(&cluster, &by_kernel).as_script())
    );
}

/// Services of every kind, and what is done about conflicts.
#[test]
fn services_of_every_kind_and_conflicts() {
    let service = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\n{more}\n");
    let text = [
        EXAMPLE.to_owned(),
        service("alt", "proto = \"tcp\"\nport = 8080\nguest = \"10.5.5.202\"\nguest_port = 80"),
        service("many", "proto = \"udp\"\nport = \"8000-8003\"\nguest = \"10.5.5.202\"\nguest_port = 9000"),
        service("one", "proto = \"udp\"\nport = 8002\nguest = \"10.5.5.203\""),
        service("sctp", "proto = \"sctp\"\nport = \"any\"\nguest = \"10.5.5.203\""),
        service("all", "proto = \"any\"\nguest = \"10.5.5.204\""),
    ];
    let mut cluster = Cluster::parse(&text.concat(), Path::new("c")).unwrap();
    let of = |cluster: &Cluster, queue_by, rewrite_by| {
        let plan = numbered(Plan { rewrite_by, on_conflict: cluster.on_conflict, ..plan(0, queue_by, 1) }, 1);
        against(
            &base(0, &numbered(Plan { on_conflict: OnConflict::Keep, ..plan }, 1)),
            &Rules::render(cluster, &plan).as_script(),
        )
    };
    let kernel =
        |cluster: &Cluster| against(&in_kernel(&example(), NodeId(0)), &in_kernel(cluster, NodeId(0)));
    cluster.on_conflict = OnConflict::Drop;
    insta::assert_snapshot!("services-drop-nft", of(&cluster, QueueBy::Nft, RewriteBy::Userspace));
    insta::assert_snapshot!("services-drop-kernel", kernel(&cluster));
    cluster.on_conflict = OnConflict::Take;
    insta::assert_snapshot!("services-take-xt", of(&cluster, QueueBy::Xt, RewriteBy::Kernel));
    insta::assert_snapshot!("services-take-kernel", kernel(&cluster));
}

/// The same in IPv6: in its own words, neighbour discovery is nobody's service, and services of one family are not in the
/// rules of the other.
#[test]
fn services_of_every_kind_in_both_families() {
    let service = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\n{more}\n");
    let text = [
        include_str!("../../rules/dual.toml").to_owned(),
        service(
            "alt",
            "proto = \"tcp\"\nport = 8080\nguest = [\"10.5.5.202\", \"fd00:5::202\"]\nguest_port = 80",
        ),
        service("many", "proto = \"udp\"\nport = \"8000-8003\"\nguest = \"fd00:5::202\"\nguest_port = 9000"),
        service("one", "proto = \"udp\"\nport = 8002\nguest = \"10.5.5.203\""),
        service("ping", "proto = \"ipv6-icmp\"\nguest = \"fd00:5::203\""),
        service("all", "proto = \"any\"\nguest = \"fd00:5::204\""),
    ];
    let cluster = Cluster::parse(&text.concat(), Path::new("c")).unwrap();
    let of = |queue_by, rewrite_by| {
        let plan = numbered(Plan { rewrite_by, ..plan(0, queue_by, 1) }, 1);
        let render = |cluster: &Cluster| Rules::render(cluster, &plan).as_script();
        against(&render(&dual()), &render(&cluster))
    };
    insta::assert_snapshot!("services-dual-nft", of(QueueBy::Nft, RewriteBy::Userspace));
    insta::assert_snapshot!("services-dual-xt", of(QueueBy::Xt, RewriteBy::Kernel));
    insta::assert_snapshot!(
        "services-dual-kernel",
        against(&in_kernel(&dual(), NodeId(0)), &in_kernel(&cluster, NodeId(0)))
    );
}

/// The chains of a stand-in, each behind the one that queues: what they add to rules without, in each way of working.
#[test]
fn a_stand_in_is_behind_each_queue() {
    let service = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\n{more}\n");
    let text = [
        EXAMPLE.to_owned(),
        service("alt", "proto = \"udp\"\nport = 8080\nguest = \"10.5.5.202\"\nguest_port = 80"),
        service("all", "proto = \"any\"\nguest = \"10.5.5.204\""),
    ];
    let mut cluster = Cluster::parse(&text.concat(), Path::new("c")).unwrap();
    let mut out = String::new();
    let mut told = |title: &str, cluster: &Cluster, plan: Plan| {
        let plan = numbered(Plan { on_conflict: cluster.on_conflict, ..plan }, 2);
        let [without, with] = [StandIn::None, StandIn::Kernel]
            .map(|stand_in| Rules::render(cluster, &Plan { stand_in, ..plan }).as_script());
        out.push_str(&format!("=== {title}\n{}", against(&without, &with)));
    };
    let (nft, xt) = (plan(0, QueueBy::Nft, 2), plan(0, QueueBy::Xt, 2));
    let by_verdict = Plan { ct_mark_by: CtMarkBy::Verdict, ..nft };
    told("nft, by verdict", &cluster, by_verdict);
    told("xt, by rules", &cluster, xt);
    told("rewrite by kernel", &cluster, Plan { rewrite_by: RewriteBy::Kernel, ..by_verdict });
    for tag_by in [TagBy::Pipe, TagBy::Dscp] {
        cluster.tag_by = tag_by;
        for (id, node) in (0..).map(NodeId).zip(&mut cluster.nodes) {
            node.dscp = Dscp::try_from(8 * (i64::from(id.0) + 1)).ok();
            node.leads_to = vec![NodeId(1 - id.0)];
        }
        told(&format!("tags by {tag_by}"), &cluster, by_verdict);
    }
    cluster.tag_by = TagBy::Mac;
    for (on_conflict, plan) in
        [(OnConflict::Drop, nft), (OnConflict::Drop, by_verdict), (OnConflict::Take, by_verdict)]
    {
        cluster.on_conflict = on_conflict;
        told(&format!("{on_conflict:?}, {:?}", plan.ct_mark_by), &cluster, plan);
    }
    insta::assert_snapshot!("stand-in", out);
}

/// What is asked about begins something; what follows is carried by rules that remember.
#[test]
fn a_flow_is_remembered() {
    let service = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\n{more}\n");
    let text = [
        EXAMPLE.to_owned(),
        service("alt", "proto = \"udp\"\nport = 8080\nguest = \"10.5.5.202\"\nguest_port = 80"),
        service("ping", "proto = \"icmp\"\nguest = \"10.5.5.202\""),
    ];
    let mut cluster = Cluster::parse(&text.concat(), Path::new("c")).unwrap();
    let mut out = String::new();
    let mut told = |title: &str, cluster: &Cluster, plan: Plan| {
        let each = Plan { on_conflict: cluster.on_conflict, rewrite_by: RewriteBy::Kernel, ..plan };
        let [each, once] = [Deciding::EveryPacket, Deciding::OnceAFlow]
            .map(|deciding| numbered(Plan { deciding, ..each }, 2))
            .map(|plan| Rules::render(cluster, &plan).as_script());
        out.push_str(&format!("=== {title}\n{}", against(&each, &once)));
    };
    let (nft, xt) = (plan(0, QueueBy::Nft, 2), plan(0, QueueBy::Xt, 2));
    let by_verdict = Plan { ct_mark_by: CtMarkBy::Verdict, ..nft };
    told("nft, by verdict", &cluster, by_verdict);
    for tag_by in [TagBy::Pipe, TagBy::Dscp] {
        cluster.tag_by = tag_by;
        for (id, node) in (0..).map(NodeId).zip(&mut cluster.nodes) {
            node.dscp = Dscp::try_from(8 * (i64::from(id.0) + 1)).ok();
            node.leads_to = vec![NodeId(1 - id.0)];
        }
        cluster.on_conflict = OnConflict::Take;
        told(&format!("xt, conflicts taken, tags by {tag_by}"), &cluster, xt);
    }
    insta::assert_snapshot!("once", out);
}

/// By that it is known which chains are emptied first when a node ends.
#[test]
fn the_chains_that_ask_are_those_that_are_called_so() {
    for queue_by in [QueueBy::Nft, QueueBy::Xt] {
        let rules = Rules::render(&example(), &plan(0, queue_by, 1));
        let chains = rules.tables.iter().flat_map(|table| &table.chains).filter(|chain| !chain.is_queue());
        for chain in chains {
            assert_eq!(chain.asks(), chain.name.starts_with("ask-"), "{}", chain.name);
        }
    }
}

/// Of what all rules of a chain ask, that comes first which takes less time: names of interfaces behind addresses, and before flags.
#[test]
fn what_takes_less_time_is_asked_first() {
    let [flag, input] = [Condition::Syn, Condition::input(&"br0".parse().unwrap())];
    let to = Condition::destination(IpAddr::from([10, 5, 5, 201]));
    let rule = |statement| Rule::new([flag.clone(), input.clone(), to.clone()], [statement]);
    let rules = vec![rule(Statement::Accept), rule(Statement::Drop)];
    let chain = Chain::new("why", "ask-dnat", rules).at(Hook::filter(PREROUTING, -300));
    let divided = asked_once::asked_once(vec![chain]);
    let sorted = Rule::new([to.clone(), input.clone(), flag.clone()], [Statement::GoTo("ask-dnat-rules")]);
    assert_eq!(divided[1].rules, [sorted]);
}
