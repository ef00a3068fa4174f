//! How many decisions a second a trace takes: records go in at one end as a worker puts them in, JSON comes out into a
//! file at the other. Waits where a worker would lose one, so that the figure is what is sustained without loss.
//!
//! usage: trace_rate FILE [EVENTS]

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be is a fault of this program, which should say so and end"
)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dunnat::cluster::{Cluster, OnConflict};
use dunnat::daemon::Worker;
use dunnat::kernel::{Capabilities, Support};
use dunnat::net::Envelope;
use dunnat::policy::Supervised;
use dunnat::queue::{Playback, Waiting};
use dunnat::ruleset::{Backend, Deciding, Plan, RewriteBy, StandIn, Wishes};
use dunnat::trace::{Format, Namer, Output, Taps, Text, Writer};

fn request(port: u16) -> Waiting {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4([192, 168, 122, 1], [192, 168, 122, 11], 64)
        .tcp(40000 + port, 80, 1, 64240)
        .write(&mut bytes, &[0xa5; 36])
        .unwrap();
    Waiting {
        envelope: Envelope {
            in_if: Some(1),
            src_mac: Some("52:54:00:00:00:01".parse().unwrap()),
            ..Envelope::default()
        },
        bytes,
    }
}

/// What this process has used of the processors: utime and stime of proc(5), in hundredths of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

fn main() {
    let file = std::env::args().nth(1).unwrap_or_else(|| "/dev/null".to_owned());
    let events: u64 = std::env::args().nth(2).and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let text = include_str!("../rules/example.toml");
    let cluster = Arc::new(Cluster::parse(text, Path::new("example.toml")).unwrap());
    let node = cluster.node_ids().next().unwrap();
    let wishes = Wishes {
        node,
        backend: Backend::Netlink,
        rewrite_by: RewriteBy::Userspace,
        deciding: Deciding::EveryPacket,
        full: false,
        stand_in: StandIn::None,
        on_conflict: OnConflict::Keep,
        queue_base: 0,
        workers: 1,
    };
    let kernel = Capabilities { ct_mark_by_verdict: Support::unwanted(), ..Capabilities::all() };
    let plan = Plan::new(wishes, &kernel).unwrap();
    let taps = Taps::default();
    // As many as there will be: a queue would hold packets back where this runs ahead.
    let (tap, _end) = taps.attach(events as usize);
    let namer = Namer::new(Arc::clone(&cluster), node, false);
    let out = Box::new(File::create(&file).unwrap());
    let plain = Text::new(jiff::tz::TimeZone::UTC, false, false);
    let began = Instant::now();
    let writer = Writer::start(tap, namer, Output::new(Format::Json, plain, out, None).unwrap()).unwrap();
    let packets: Vec<Waiting> = (0..64).map(request).collect();
    let mut queue = Playback::new(&packets);
    let policy = Arc::new(Supervised::cluster(&cluster, node));
    let mut worker = Worker::new(policy, &plan, Vec::new(), Some(taps.tracer()));
    for _ in 0..events / 64 {
        worker.turn(&mut queue).unwrap();
    }
    let decided = began.elapsed();
    drop(worker);
    taps.close();
    let outcome = writer.finish();
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!((outcome.lost, outcome.written), (0, events / 64 * 64));
    println!(
        "{} events in {seconds:.2} s: {:.0} events/s written as JSON to {file}; the worker took {:.0} ns for each, all \
         together {:.0} ns of a processor",
        outcome.written,
        outcome.written as f64 / seconds,
        decided.as_secs_f64() * 1e9 / outcome.written as f64,
        processor_seconds() * 1e9 / outcome.written as f64,
    );
}
