use std::path::Path;

use super::*;
use crate::kernel::Support;
use crate::ruleset::in_kernel;
use crate::ruleset::owner::TABLE;
use crate::ruleset::table::Table;

fn example() -> Cluster {
    Cluster::parse(include_str!("../../../rules/example.toml"), Path::new("example.toml")).unwrap()
}

fn dual() -> Cluster {
    Cluster::parse(include_str!("../../../rules/dual.toml"), Path::new("dual.toml")).unwrap()
}

fn plan(cluster: &Cluster, workers: u16, kernel: &Capabilities) -> Result<ShadowPlan, NoPlan> {
    let wishes = Wishes { workers, ..Wishes::default() };
    ShadowPlan::new(cluster, wishes, kernel)
}

#[test]
fn rules_of_both_forms() {
    let mut cluster = example();
    let whole = plan(&cluster, 2, &Capabilities::all()).unwrap();
    insta::assert_snapshot!("shadow-nft", whole.render(&cluster).as_script());
    let fallback = plan(&cluster, 2, &Capabilities::none()).unwrap();
    insta::assert_snapshot!("shadow-xt", fallback.render(&cluster).as_script());
    insta::assert_snapshot!("shadow-explain", whole.explain(&cluster) + &fallback.explain(&cluster));
    cluster.mask = Mark(0xff);
    let sorted = Capabilities { nft_queue: Support::Yes, ..Capabilities::none() };
    let sorted = plan(&cluster, 1, &sorted).unwrap();
    insta::assert_snapshot!("shadow-masked-nft-sorted", sorted.render(&cluster).as_script());
}

/// Where queues show ct marks, those queues do that have them to show.
#[test]
fn a_queue_shows_ct_marks_if_its_lane_says_so() {
    for (kernel, shows) in [(Capabilities::all(), true), (Capabilities::none(), false)] {
        let plan = plan(&example(), 2, &kernel).unwrap();
        let queues = plan.queues_of_worker(1);
        assert_eq!(queues.iter().map(|(lane, _)| *lane).collect::<Vec<_>>(), plan.lanes());
        for (lane, queue) in &queues {
            assert_eq!(queue.ct_mark, lane.ct_mark == LaneCtMark::Shown);
            let is_whole = lane.side == Moment::Before && [Stage::Dnat, Stage::Spoof].contains(&lane.stage);
            assert_eq!(queue.copy, if is_whole { u32::MAX } else { HEADERS });
        }
        assert_eq!(queues.iter().any(|(_, queue)| queue.ct_mark), shows);
    }
}

/// What is judged is the ruleset that people are given.
#[test]
fn the_ruleset_is_the_printed_one() {
    let cluster = example();
    let printed = in_kernel(&cluster, NodeId(0));
    for kernel in [Capabilities::all(), Capabilities::none()] {
        let rules = plan(&cluster, 2, &kernel).unwrap().render(&cluster);
        let its = rules.tables.iter().filter(|table| table.name == in_kernel::TABLE);
        let text: String = its.map(Table::created).collect();
        assert!(text.starts_with("\ncreate table ip") && printed.ends_with(&text), "{text}");
    }
}

/// Nothing that a shadow adds changes a packet, or keeps one.
#[test]
fn what_is_added_changes_nothing() {
    for (cluster, kernel) in [example(), dual()]
        .iter()
        .flat_map(|cluster| [Capabilities::all(), Capabilities::none()].map(|kernel| (cluster, kernel)))
    {
        let rules = plan(cluster, 3, &kernel).unwrap().render(cluster);
        let added = rules.tables.iter().filter(|table| table.name == TABLE);
        for rule in added.flat_map(|table| &table.chains).flat_map(|chain| &chain.rules) {
            let rule = rule.to_string();
            assert!(!rule.contains(" set ") && !rule.contains("drop"), "{rule}");
            assert!(rule.contains("queue flags bypass") || rule.contains("-bypass"), "{rule}");
        }
    }
}

#[test]
fn both_families_are_shown_by_the_same_queues() {
    let cluster = dual();
    let whole = plan(&cluster, 2, &Capabilities::all()).unwrap();
    insta::assert_snapshot!("shadow-dual-nft", whole.render(&cluster).as_script());
    let fallback = plan(&cluster, 2, &Capabilities::none()).unwrap();
    insta::assert_snapshot!("shadow-dual-xt", fallback.render(&cluster).as_script());
}

#[test]
fn each_lane_and_worker_has_a_queue_of_its_own() {
    let cluster = example();
    for (kernel, lanes) in [(Capabilities::all(), 7), (Capabilities::none(), 3 + 4 * 4)] {
        let plan = plan(&cluster, 3, &kernel).unwrap();
        assert_eq!(plan.lanes().len(), lanes);
        let mut seen: Vec<u16> = (0..3)
            .flat_map(|worker| plan.queues_of_worker(worker))
            .map(|(_, queue)| {
                assert!(queue.gso && queue.fail_open);
                queue.queue
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, plan.layout.all().collect::<Vec<_>>());
    }
    assert!(plan(&cluster, 4000, &Capabilities::none()).is_err());
}
