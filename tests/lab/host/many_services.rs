//! A cluster file with ten thousand services: how long a node takes to serve by it, and to go on with another, and what memory it has.

use std::fs;

use super::own_file::{OwnFile, example};
use super::*;

const SERVICES: usize = 10_000;

/// Single ports of UDP, `apart` from each other, among 200 guests. With another `first`, all of them are others.
fn text(first: usize, apart: usize) -> String {
    let mut text = example();
    for number in 0..SERVICES {
        let guest = 1 + number % 200;
        let port = first + number * apart;
        text += &format!(
            "\n[[service]]\nname = \"s{number}\"\nproto = \"udp\"\nport = {port}\nguest = \"10.5.5.{guest}\"\n"
        );
    }
    text
}

/// The resident memory of a process, now and at its highest, in MiB (`VmRSS` and `VmHWM` in proc(5)).
fn memory(process: u32) -> [u64; 2] {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    })
}

/// How long a node takes to serve, and then to go on with other services; the memory of its worker is within limits.
fn served_and_reloaded(ways: &[&str], apart: usize) -> [Duration; 2] {
    let own = OwnFile::new();
    own.write("cluster.toml", &text(20_000, apart));
    let begun = Instant::now();
    let node = own.serve(&[ways, &["--workers", "1"]].concat());
    let served = begun.elapsed();
    let next = own.write("next.toml", &text(40_001, apart));
    let begun = Instant::now();
    let (code, said, error) = own.reload(&[&next]);
    let reloaded = begun.elapsed();
    assert_eq!(code, 0, "{said}{error}");
    assert!(said.contains("\n  and "), "not all are told: {said}");
    let [memory, highest] = memory(node.worker());
    println!(
        "{ways:?}, {apart} apart: serves after {served:?}, reloaded after {reloaded:?}, {memory} MiB in the worker, {highest} at its highest"
    );
    assert!(memory <= 32, "{memory} MiB");
    node.end("TERM");
    [served, reloaded]
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn ten_thousand_services_are_installed_and_reloaded_soon() {
    let ways = [&[][..], &["--rewrite", "kernel"], &["--decide", "flow"]];
    // Ports that follow each other are one range for the kernel, and others are not.
    for (ways, apart) in ways.into_iter().flat_map(|ways| [(ways, 1), (ways, 2)]) {
        // Others may keep the processors for a while, but not each time.
        let is_soon = |_| served_and_reloaded(ways, apart).iter().all(|took| took.as_millis() < 2000);
        assert!((0..3).any(is_soon), "{ways:?}, {apart} apart");
    }
}
