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

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use dunnat::cluster::Cluster;
use dunnat::engine::{Meta, Tables, decide};
use dunnat::net::{Checksum, Mark, Stage};
use dunnat::packet::{Patch, View};

/// How many cases there are at least: a script that prints less has lost some.
const CASES: usize = 10_000;

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
#[ignore = "needs Scapy; run by scripts/test"]
fn scapy_builds_the_same_icmp_errors() {
    let service = "[[service]]\nname = \"udp\"\nproto = \"udp\"\nport = 80\nguest = \"10.5.5.201\"\n";
    let text = format!("{}\n{service}", include_str!("../rules/example.toml"));
    let cluster = Cluster::parse(&text, Path::new("example.toml")).unwrap();
    let mut scapy = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scapy/icmp_errors.py"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, which scripts/setup installs");
    let (mut count, mut changed, mut differ) = (0, 0, Vec::new());
    for line in BufReader::new(scapy.stdout.take().unwrap()).lines() {
        let case: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = |field: &str| case[field].as_str().unwrap();
        let (before, after) = (bytes(text("before")), bytes(text("after")));
        let tables = Tables::new(&cluster, cluster.find(text("node")).unwrap());
        let stage: Stage = text("stage").parse().unwrap();
        let ct_mark = Mark(case["ct_mark"].as_u64().unwrap() as u32);
        let meta = Meta { mark: ct_mark, ct_mark: Some(ct_mark), ..Meta::default() };

        let view = View::parse(&before, before.len()).unwrap();
        let decision = decide(&tables, stage, Ok(&view), &meta);
        let mut bytes = before.clone();
        if let Some(rewrite) = decision.rewrite {
            Patch::new(&before, &view, rewrite, Checksum::Ready).unwrap().apply(&mut bytes);
        }
        count += 1;
        changed += usize::from(bytes != before);
        if bytes != after {
            let at: Vec<usize> = (0..bytes.len()).filter(|at| after.get(*at) != Some(&bytes[*at])).collect();
            differ.push(format!("{} ({}): differs at {at:?}", text("name"), decision.reason));
        }
    }
    assert!(scapy.wait().unwrap().success());
    assert!(
        differ.is_empty(),
        "{} of {count} differ:\n{}",
        differ.len(),
        differ[..differ.len().min(20)].join("\n")
    );
    assert!(count >= CASES && changed == count, "{count} cases, {changed} of them translated");
}
