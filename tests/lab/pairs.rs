//! Labs chosen so that every pair of choices is met at least once, in as few as that takes.

use super::cluster::Lab;

/// Family, `tag_by`, who translates, how many nodes, names and masks, which packets are queued, who rewrites.
type Choices = [&'static str; 7];

const TABLE: [Choices; 14] = [
    ["both", "mac", "dunnat", "3", "plain", "lean", "worker"],
    ["both", "pipe", "dunnat", "2", "other", "full", "kernel"],
    ["both", "dscp", "kernel", "1", "plain", "-", "-"],
    ["4", "mac", "kernel", "2", "other", "-", "-"],
    ["4", "pipe", "dunnat", "1", "plain", "lean", "kernel"],
    ["4", "dscp", "dunnat", "3", "other", "full", "worker"],
    ["6", "mac", "dunnat", "1", "other", "full", "worker"],
    ["6", "pipe", "kernel", "3", "plain", "-", "-"],
    ["6", "dscp", "dunnat", "2", "plain", "lean", "kernel"],
    ["both", "mac", "dunnat", "1", "plain", "full", "kernel"],
    ["4", "mac", "dunnat", "2", "plain", "full", "worker"],
    ["6", "pipe", "dunnat", "3", "other", "lean", "worker"],
    ["both", "dscp", "dunnat", "3", "plain", "full", "kernel"],
    ["4", "pipe", "dunnat", "2", "plain", "lean", "worker"],
];

/// What there is to choose from. The pure ruleset has no lean and full, and nobody else rewrites.
const VALUES: [&[&str]; 7] = [
    &["4", "6", "both"],
    &["mac", "pipe", "dscp"],
    &["dunnat", "kernel"],
    &["1", "2", "3"],
    &["plain", "other"],
    &["lean", "full"],
    &["worker", "kernel"],
];

#[test]
fn every_pair_of_choices_is_in_the_table() {
    let mut missing = Vec::new();
    for (first, firsts) in VALUES.iter().enumerate() {
        for (second, seconds) in VALUES.iter().enumerate().skip(first + 1) {
            for one in *firsts {
                for other in *seconds {
                    let impossible = first == 2 && *one == "kernel" && second > 4;
                    let is_there = TABLE.iter().any(|row| row[first] == *one && row[second] == *other);
                    if !is_there && !impossible {
                        missing.push(format!("{one} ({first}) with {other} ({second})"));
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

fn accepted(rows: &[Choices]) {
    for [family, tag_by, by, nodes, names, which, rewrite] in rows {
        let lab = Lab::up(&["--family", family, "--tag-by", tag_by, "--nodes", nodes, "--names", names]);
        if *by == "kernel" {
            lab.accept("kernel");
            continue;
        }
        let full = if *which == "full" { "--full" } else { "" };
        let rewrite = if *rewrite == "kernel" { "--rewrite kernel" } else { "" };
        lab.accept_with(&format!("{full} {rewrite}"));
    }
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn every_pair_of_choices_is_accepted_first_half() {
    accepted(&TABLE[..7]);
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn every_pair_of_choices_is_accepted_second_half() {
    accepted(&TABLE[7..]);
}
