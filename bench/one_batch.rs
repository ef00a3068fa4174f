//! What userspace does for a batch of small packets: receive is a copy, send is nothing, all between is the real
//! thing. Run under callgrind by `bench/instructions`; the first argument says how many batches of 64 packets, the second who looks on.

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be is a fault of this program, which should say so and end"
)]

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use dunnat::cluster::{Cluster, OnConflict};
use dunnat::daemon::Worker;
use dunnat::kernel::{Capabilities, Support};
use dunnat::net::Envelope;
use dunnat::policy::Supervised;
use dunnat::queue::{Playback, Waiting};
use dunnat::ruleset::{Backend, Deciding, Plan, RewriteBy, StandIn, Wishes};
use dunnat::trace::{Portion, Taps};

/// A UDP datagram of 64 bytes with its headers, as it asks for a service.
fn request(port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4([192, 168, 122, 1], [192, 168, 122, 11], 64)
        .udp(40000 + port, 5353)
        .write(&mut bytes, &[0xa5; 36])
        .unwrap();
    bytes
}

fn main() {
    let batches: u32 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1000);
    let text =
        include_str!("../rules/example.toml").replace("tcp", "udp").replace("port  = 80", "port = 5353");
    let cluster = Cluster::parse(&text, Path::new("example.toml")).unwrap();
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
    let packets: Vec<Waiting> = (0..64)
        .map(|port| Waiting {
            envelope: Envelope {
                queue: 1,
                in_if: Some(2),
                src_mac: Some("52:54:00:00:00:01".parse().unwrap()),
                ..Envelope::default()
            },
            bytes: request(port),
        })
        .collect();
    let mut queue = Playback::new(&packets);
    // Nobody is attached, as in a node that nobody looks at; `untraced` leaves even that out. `looked-at` is what `dunnat top` asks
    // for: a sample, of which these few flows have had their share. What is read of counters costs a worker nothing.
    let looker = std::env::args().nth(2);
    let taps = Taps::default();
    let _tap = (looker.as_deref() == Some("looked-at"))
        .then(|| taps.attach_client(Portion { at_most: NonZeroU32::new(500), ..Portion::default() }));
    let tracer = (looker.as_deref() != Some("untraced")).then(|| taps.tracer());
    let mut worker = Worker::new(Arc::new(Supervised::cluster(&cluster, node)), &plan, Vec::new(), tracer);
    for _ in 0..batches {
        worker.turn(&mut queue).unwrap();
    }
    // A verdict with mark and packet: 44 bytes of heads and 64 of packet.
    assert_eq!(queue.sent(), u64::from(batches) * 64 * (44 + 64));
}
