//! Random histories of clusters, each one with nodes and addresses of its own, in a file: other programs judge the same
//! (`scripts/sql`).

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::cluster::{ACK, GUEST, RST, SYN, Sim};
use super::laws::any_sim;
use crate::net::{Proto, Tuple};
use crate::trace::{Event, Name};

/// Numbers that look random, and are the same each time (splitmix64, public domain).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What else may happen, in any order.
fn happens(sim: &mut Sim, random: &mut Random) {
    let node = 1 + random.below(3) as usize;
    let port = 40001 + random.below(4) as u16;
    let first = u32::from(port) * 10;
    match random.below(10) {
        0 => {
            let from = if random.is(50) { GUEST } else { [10, 5, 5, 250] };
            let said = [(3, 3), (3, 1), (3, 13), (3, 4), (11, 0), (5, 1)][random.below(6) as usize];
            sim.rejects(from, port, said, [0, 0, 2, 88]);
        }
        1 => sim.connect(node, port + 1000),
        2 => sim.try_to_connect(node, port),
        3 => sim.replies(port, RST | ACK, 0, first + 1),
        4 => sim.asks(node, port, RST, first + 1, 0, random.is(30)),
        5 => sim.flush(node),
        6 => (0..3).for_each(|_| sim.sends(node, port, first + 1, 300)),
        7 => (0..3).for_each(|_| sim.replies_data(port, 501, 400)),
        8 => sim.asks(node, port, SYN, first + 7, 0, random.is(30)),
        _ => sim.acknowledges(port, 501, first + 1),
    }
}

fn history(random: &mut Random) -> Vec<Event> {
    let clocks = [(); 3].map(|()| random.below(14_400) as i64 - 7200);
    let mut sim = any_sim(random.is(50), random.below(30) as usize, clocks);
    if random.is(60) {
        (sim.no_spoof, sim.forgets) = (random.is(10), random.is(15));
        for _ in 0..random.below(9) {
            happens(&mut sim, random);
        }
    }
    // Traces have gaps, and begin late.
    if random.is(50) {
        let lost = [2, 10, 40][random.below(3) as usize];
        sim.events.retain(|_| !random.is(lost));
        let late = random.below(20) as usize;
        sim.events.drain(..late.min(sim.events.len()));
    }
    if random.is(20) {
        sim.events.iter_mut().for_each(as_udp);
    }
    let mut events: Vec<Event> = Vec::new();
    let has_runs = random.is(50);
    for node in ["node1", "node2", "node3"] {
        for mut event in sim.events.iter().filter(|event| *event.node == *node).cloned() {
            event.run = has_runs.then(|| "1".into());
            // What `run --trace` wrote, and somebody has saved beside it.
            let is_twice = has_runs && random.is(5);
            events.extend(is_twice.then(|| event.clone()));
            events.push(event);
        }
    }
    events
}

fn tuples(event: &mut Event) -> impl Iterator<Item = &mut Tuple> {
    let quoted = event.icmp.iter_mut().flat_map(|icmp| icmp.inner.iter_mut().chain(&mut icmp.inner_after));
    event.before.iter_mut().chain(&mut event.after).chain(quoted)
}

/// Then no number tells connections apart.
fn as_udp(event: &mut Event) {
    event.tcp = None;
    for tuple in tuples(event).filter(|tuple| tuple.proto == Proto::TCP) {
        tuple.proto = Proto::UDP;
    }
}

/// No history has a node or an address of another.
fn apart(event: &mut Event, number: u16) {
    let [high, low] = number.to_be_bytes();
    let address = |address: &mut IpAddr| {
        if let IpAddr::V4(ip) = address {
            *address = [10, high, low, ip.octets()[3]].into();
        }
    };
    for tuple in tuples(event) {
        address(&mut tuple.src);
        address(&mut tuple.dst);
    }
    let name = |name: &mut Name| *name = format!("{number}-{name}").into();
    name(&mut event.node);
    event.entry.iter_mut().for_each(name);
    let marks = [Some(&mut event.mark), event.ct_mark.as_mut()];
    marks.into_iter().flatten().filter_map(|marks| marks.node.as_mut()).for_each(name);
    event.mac.iter_mut().filter_map(|mac| mac.node.as_mut()).for_each(name);
}

#[test]
#[ignore = "writes a file; run by scripts/sql"]
fn random_histories_are_written() {
    let (Ok(path), Ok(count)) = (std::env::var("DUNNAT_HISTORIES"), std::env::var("DUNNAT_HISTORIES_COUNT"))
    else {
        panic!("DUNNAT_HISTORIES and DUNNAT_HISTORIES_COUNT say where, and how many");
    };
    let mut out = BufWriter::new(File::create(path).unwrap());
    let mut random = Random(1);
    let now = Timestamp::now().duration_since(Timestamp::UNIX_EPOCH) - SignedDuration::from_secs(1_000_000);
    for number in 0..count.parse().unwrap() {
        for mut event in history(&mut random) {
            apart(&mut event, number);
            event.time += now;
            serde_json::to_writer(&mut out, &event).unwrap();
            out.write_all(b"\n").unwrap();
        }
    }
    out.flush().unwrap();
}
