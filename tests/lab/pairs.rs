//! A few clusters in which every pair of what can be chosen is met: what `scripts/test` runs of all that `scripts/nightly` does.
//!
//! Most faults need one choice, or two together. Ten clusters are enough for all pairs of these seven choices, and the pure
//! ruleset, for which four of them mean something else or nothing, takes part in three of the ten.

use std::collections::BTreeSet;

use super::cluster::Lab;

/// One cluster, and how it works.
struct Row {
    family: &'static str,
    tag_by: &'static str,
    nodes: &'static str,
    /// `other` brings a mask with it.
    names: &'static str,
    /// `lean` or `full`.
    visits: &'static str,
    /// Who writes addresses: `worker` or `kernel`; or `flow`, the kernel, and a worker decides once about a flow.
    rewrite: &'static str,
    /// What the kernel does with what no worker takes: `stands_in` or `drops`.
    stand_in: &'static str,
    /// Whether the pure ruleset has to pass on this cluster, too.
    kernel: bool,
}

/// Each line is a cluster and a test.
macro_rules! clusters {
    ($($test:ident: $family:literal $tag_by:ident $nodes:literal $names:ident $visits:ident $rewrite:ident $stand_in:ident $kernel:literal;)*) => {
        const ROWS: &[Row] = &[$(Row {
            family: $family,
            tag_by: stringify!($tag_by),
            nodes: $nodes,
            names: stringify!($names),
            visits: stringify!($visits),
            rewrite: stringify!($rewrite),
            stand_in: stringify!($stand_in),
            kernel: $kernel,
        }),*];
        const TESTS: &[&str] = &[$(stringify!($test)),*];

        $(#[test]
        #[ignore = "needs root; run by scripts/test"]
        fn $test() {
            ROWS.iter().find(|row| row.name() == stringify!($test)).unwrap().passes();
        })*
    };
}

clusters! {
    four_dscp_2_other_full_kernel: "4" dscp "2" other full kernel stands_in false;
    four_mac_5_other_full_worker: "4" mac "5" other full worker stands_in false;
    four_pipe_3_plain_lean_flow: "4" pipe "3" plain lean flow drops true;
    six_dscp_3_plain_lean_worker: "6" dscp "3" plain lean worker stands_in false;
    six_mac_2_plain_lean_flow: "6" mac "2" plain lean flow drops true;
    six_pipe_3_other_full_kernel: "6" pipe "3" other full kernel stands_in false;
    six_pipe_5_plain_lean_kernel: "6" pipe "5" plain lean kernel drops false;
    both_dscp_5_other_lean_flow: "both" dscp "5" other lean flow drops true;
    both_mac_3_other_full_kernel: "both" mac "3" other full kernel stands_in false;
    both_pipe_2_plain_full_worker: "both" pipe "2" plain full worker drops false;
}

impl Row {
    /// The name that a test of it must have.
    fn name(&self) -> String {
        let family = match self.family {
            "4" => "four",
            "6" => "six",
            both => both,
        };
        [family, self.tag_by, self.nodes, self.names, self.visits, self.rewrite].join("_")
    }

    fn passes(&self) {
        let lab = Lab::up(&[
            "--family",
            self.family,
            "--tag-by",
            self.tag_by,
            "--nodes",
            self.nodes,
            "--names",
            self.names,
        ]);
        let visits = if self.visits == "full" { "--full " } else { "" };
        let rewrite = match self.rewrite {
            "kernel" => "--rewrite kernel",
            "flow" => "--decide flow",
            _ => "",
        };
        let stand_in = if self.stand_in == "stands_in" { " --stand-in kernel" } else { "" };
        // What workers need is on their list, whatever is chosen.
        lab.accept_with(&format!("{visits}{rewrite}{stand_in} --sandbox strict"));
        if self.kernel {
            lab.accept("kernel");
        }
    }
}

/// The choices of one cluster, each by its name; of the pure ruleset those that it has.
fn choices(row: &Row, kernel: bool) -> Vec<(&'static str, &'static str)> {
    let mut all =
        vec![("family", row.family), ("tag_by", row.tag_by), ("nodes", row.nodes), ("names", row.names)];
    if kernel {
        all.push(("by", "kernel"));
    } else {
        all.extend([("by", "dunnat"), ("visits", row.visits), ("rewrite", row.rewrite)]);
        all.push(("stand_in", row.stand_in));
    }
    all
}

#[test]
fn every_pair_of_choices_is_met() {
    let all: [(&str, &[&str]); 8] = [
        ("family", &["4", "6", "both"]),
        ("tag_by", &["mac", "pipe", "dscp"]),
        ("nodes", &["2", "3", "5"]),
        ("names", &["plain", "other"]),
        ("by", &["dunnat", "kernel"]),
        ("visits", &["lean", "full"]),
        ("rewrite", &["worker", "kernel", "flow"]),
        ("stand_in", &["stands_in", "drops"]),
    ];
    let mut met = BTreeSet::new();
    for row in ROWS {
        for by_kernel in [false, true] {
            if by_kernel && !row.kernel {
                continue;
            }
            let choices = choices(row, by_kernel);
            for (place, &one) in choices.iter().enumerate() {
                met.extend(choices[place + 1..].iter().map(|&other| BTreeSet::from([one, other])));
            }
        }
    }
    for (place, (what, values)) in all.iter().enumerate() {
        for (other, theirs) in &all[place + 1..] {
            for (one, another) in
                values.iter().flat_map(|one| theirs.iter().map(move |another| (one, another)))
            {
                let of_the_worker_alone =
                    *what == "by" && *one == "kernel" && ["visits", "rewrite", "stand_in"].contains(other);
                // What is decided once does not visit every stage, and is the worker's word.
                let is_refused = [(*one, *another), (*another, *one)]
                    .iter()
                    .any(|pair| *pair == ("flow", "full") || *pair == ("flow", "stands_in"));
                assert!(
                    of_the_worker_alone
                        || is_refused
                        || met.contains(&BTreeSet::from([(*what, *one), (*other, *another)])),
                    "{what} {one} with {other} {another}"
                );
            }
        }
    }
}

#[test]
fn each_test_is_named_after_its_cluster() {
    assert_eq!(ROWS.iter().map(Row::name).collect::<Vec<_>>(), TESTS);
}
