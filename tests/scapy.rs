//! Scapy's opinion on ICMP errors: it builds each of them twice, about the packet that is translated and about the one
//! that comes of it, and the engine has to make one of the other, byte for byte.
//!
//! Needs python3-scapy, which scripts/setup installs; ignored by a plain `cargo test`, run by scripts/test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use dunnat::cluster::Cluster;
use dunnat::engine::{Meta, Tables, decide};
use dunnat::net::{Checksum, CtMark, Mark, Stage};
use dunnat::packet::{Patch, View};

/// How many cases there are at least, in each family: a script that prints less has lost some.
const CASES: usize = 7_500;

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
#[ignore = "needs Scapy; run by scripts/test"]
fn scapy_builds_the_same_icmp_errors() {
    let guest = "[\"10.5.5.201\", \"fd00:5::201\"]";
    let service = format!("[[service]]\nname = \"udp\"\nproto = \"udp\"\nport = 80\nguest = {guest}\n");
    let text = format!("{}\n{service}", include_str!("../rules/dual.toml"));
    let cluster = Cluster::parse(&text, Path::new("dual.toml")).unwrap();
    let mut scapy = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scapy/icmp_errors.py"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, which scripts/setup installs");
    let (mut count, mut changed, mut differ) = (BTreeMap::new(), 0, Vec::new());
    for line in BufReader::new(scapy.stdout.take().unwrap()).lines() {
        let case: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = |field: &str| case[field].as_str().unwrap();
        let (before, after) = (bytes(text("before")), bytes(text("after")));
        let tables = Tables::new(&cluster, cluster.find(text("node")).unwrap());
        let stage: Stage = text("stage").parse().unwrap();
        let ct_mark = Mark(case["ct_mark"].as_u64().unwrap() as u32);
        let meta = Meta { mark: ct_mark, ct_mark: CtMark::Is(ct_mark), ..Meta::default() };

        let view = View::parse(&before, before.len()).unwrap();
        let decision = decide(&tables, stage, Ok(&view), &meta);
        let mut bytes = before.clone();
        if let Some(rewrite) = decision.rewrite {
            Patch::new(&before, &view, rewrite, Checksum::Ready).unwrap().apply(&mut bytes);
        }
        *count.entry(text("family").to_owned()).or_insert(0) += 1;
        changed += usize::from(bytes != before);
        if bytes != after {
            let at: Vec<usize> = (0..bytes.len()).filter(|at| after.get(*at) != Some(&bytes[*at])).collect();
            differ.push(format!("{} ({}): differs at {at:?}", text("name"), decision.reason));
        }
    }
    let all: usize = count.values().sum();
    assert!(scapy.wait().unwrap().success());
    assert!(
        differ.is_empty(),
        "{} of {all} differ:\n{}",
        differ.len(),
        differ[..differ.len().min(20)].join("\n")
    );
    assert!(count.len() == 2 && count.values().all(|count| *count >= CASES), "{count:?}");
    assert_eq!(changed, all, "every case is one that is translated");
}
