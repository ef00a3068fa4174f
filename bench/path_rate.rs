//! How long it takes to join traces, and with how much memory: writes the traces of a cluster of three nodes as JSON,
//! then reads and joins them as `dunnat path` does. The connections have twelve packets each, and come through all
//! nodes in turn to a guest on node1; with `flood` each is one SYN through node1, which gets no reply.
//!
//! usage: path_rate DIRECTORY [EVENTS [flood]]
//!
//! The files stay, to be measured with the program itself, too: time dunnat path DIRECTORY/*.jsonl

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be is a fault of this program, which should say so and end"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use dunnat::conversations::{Finding, Joiner};
use dunnat::trace::Event;

/// The trace of one node, as it grows.
struct Trace {
    out: BufWriter<File>,
    name: String,
    seq: u64,
}

impl Trace {
    fn create(directory: &Path, node: usize) -> (PathBuf, Self) {
        let name = format!("node{node}");
        let path = directory.join(format!("{name}.jsonl"));
        let out = BufWriter::new(File::create(&path).unwrap());
        (path, Self { out, name, seq: 0 })
    }

    /// An event with what all have, and `rest`, which is what this one has.
    fn event(&mut self, stage: &str, rest: &str) {
        self.seq += 1;
        let hook = if matches!(stage, "dnat" | "tag") { "prerouting" } else { "postrouting" };
        writeln!(
            self.out,
            r#"{{"v":1,"seq":{},"time":"2026-11-23T12:29:{:02}.{:09}Z","deciding_ns":1532,"node":"{}","stage":"{stage}","hook":"{hook}","queue":100,"packet_id":{},{rest},"mask":"0xffffffff","verdict":"accept"}}"#,
            self.seq,
            self.seq / 20_000 % 60,
            self.seq % 20_000 * 50_000,
            self.name,
            self.seq,
        )
        .unwrap();
    }
}

/// One connection: a SYN, five more packets of the client, and six of the guest; or, of a flood, the SYN alone.
fn connection(number: u32, flood: bool, traces: &mut [Trace]) {
    let entry = if flood { 0 } else { number as usize % 3 };
    let tag = entry + 1;
    let (public, mac) = (format!("192.168.122.{}", 10 + tag), format!("{:02x}:00:00:00:01:00", 6 + 4 * tag));
    let port = 1024 + number % 60_000;
    let client = format!("172.{}.{}.7", 16 + number / 60_000 / 256, number / 60_000 % 256);
    let tuple = |src: &str, dst: &str, sport: u32, dport: u32| {
        format!(r#"{{"proto":"tcp","src":"{src}","dst":"{dst}","sport":{sport},"dport":{dport}}}"#)
    };
    let guest = "10.5.5.201";
    let (request, inside) = (tuple(&client, &public, port, 80), tuple(&client, guest, port, 80));
    let (reply, spoofed) = (tuple(guest, &client, 80, port), tuple(&public, &client, 80, port));
    let node = format!(r#""node":"node{tag}""#);
    for packet in 0..6 {
        let flags =
            ["\"syn\"", "\"ack\"", "\"psh\",\"ack\"", "\"ack\"", "\"fin\",\"ack\"", "\"ack\""][packet];
        let (ip_id, seq) = (number as usize * 7 + packet, number as usize * 1000 + packet * 100);
        let tcp =
            format!(r#""len":60,"ip_id":{},"tcp":{{"flags":[{flags}],"seq":{seq},"ack":0}}"#, ip_id % 65536);
        traces[entry].event(
            "dnat",
            &format!(r#""in":"xenbr0","phys_in":"eth0","mac":{{"address":"52:54:00:00:00:01"}},"before":{request},"after":{inside},{tcp},"mark":{{"before":"0x0","after":"0x{tag}",{node}}},"service":"web","entry":"node{tag}","reason":"service""#),
        );
        if packet == 0 {
            traces[entry].event(
                "save",
                &format!(r#""in":"xenbr0","out":"guestbr0","before":{inside},{tcp},"mark":{{"before":"0x{tag}",{node}}},"ct_mark":{{"before":"0x0","after":"0x{tag}",{node}}},"entry":"node{tag}","reason":"saved""#),
            );
            if entry > 0 {
                traces[0].event(
                    "tag",
                    &format!(r#""in":"guestbr0","phys_in":"eth1.100","mac":{{"address":"{mac}",{node}}},"before":{inside},{tcp},"mark":{{"before":"0x0","after":"0x{tag}",{node}}},"ct_mark":{{"before":"0x0","after":"0x{tag}",{node}}},"entry":"node{tag}","reason":"from-node""#),
                );
            }
        }
        if flood {
            return;
        }
        let flags = [
            "\"syn\",\"ack\"",
            "\"ack\"",
            "\"psh\",\"ack\"",
            "\"psh\",\"ack\"",
            "\"fin\",\"ack\"",
            "\"ack\"",
        ][packet];
        traces[0].event(
            "spoof",
            &format!(
                r#""in":"guestbr0","out":"xenbr0","phys_in":"vif1","before":{reply},"after":{spoofed},"len":1500,"ip_id":{},"tcp":{{"flags":[{flags}],"seq":{},"ack":{}}},"mark":{{"before":"0x{tag}",{node}}},"ct_mark":{{"before":"0x{tag}",{node}}},"entry":"node{tag}","reason":"entry-node""#,
                ip_id % 65536,
                packet * 1448,
                number as usize * 1000 + 1,
            ),
        );
    }
}

/// The most memory this process has had, in MiB (VmHWM of proc(5)).
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn main() {
    let directory = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "target/path_rate".to_owned()));
    let wanted: u64 = std::env::args().nth(2).and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let flood = std::env::args().nth(3).is_some_and(|kind| kind == "flood");
    std::fs::create_dir_all(&directory).unwrap();
    let (files, mut traces): (Vec<PathBuf>, Vec<Trace>) =
        (1..=3).map(|node| Trace::create(&directory, node)).unzip();
    let mut number = 0;
    while traces.iter().map(|trace| trace.seq).sum::<u64>() < wanted {
        connection(number, flood, &mut traces);
        number += 1;
    }
    drop(traces);

    let began = Instant::now();
    let mut joiner = Joiner::default();
    let (mut events, mut bytes) = (0, 0);
    let mut line = String::new();
    for file in &files {
        let mut file = BufReader::with_capacity(256 << 10, File::open(file).unwrap());
        while file.read_line(&mut line).unwrap() > 0 {
            let event: Event = serde_json::from_str(&line).unwrap();
            joiner.add(event, true);
            events += 1;
            bytes += line.len();
            line.clear();
        }
    }
    let read = began.elapsed().as_secs_f64();
    let paths = joiner.finish();
    let all = began.elapsed().as_secs_f64();
    let count = |is_it: &dyn Fn(Finding) -> bool| {
        paths.conversations.iter().filter(|one| is_it(one.judgement.finding)).count()
    };
    let (right, local) = if flood { (0, 0) } else { (number, number.div_ceil(3)) };
    assert_eq!(paths.conversations.len(), number as usize);
    assert_eq!(count(&Finding::is_right), right as usize);
    assert_eq!(count(&|finding| finding == Finding::Local), local as usize);
    println!(
        "{events} events, {} MiB, {number} conversations: {all:.2} s ({read:.2} s to read and sort them), {:.0} events/s, {} MiB of memory at most",
        bytes >> 20,
        events as f64 / all,
        memory(),
    );
}
