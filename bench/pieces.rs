//! The pieces, each by itself: `cargo bench`. What is to be compared is in one group.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "what cannot be is a fault of this program, which should say so and end; criterion's macros have no docs"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dunnat::cluster::Cluster;
use dunnat::engine::{Meta, Tables, decide};
use dunnat::net::{Checksum, CtMark, Mac, Mark, Stage};
use dunnat::packet::{Patch, View, full};

/// Nodes and services.
const SIZES: [(u32, u32); 9] =
    [(2, 1), (2, 100), (2, 10_000), (64, 1), (64, 100), (64, 10_000), (4096, 1), (4096, 100), (4096, 10_000)];

/// How many different packets take turns, so that neither caches nor branch predictors know the next one.
const PACKETS: u32 = 1024;

fn public(node: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc0a8_0000 + 1 + node)
}

fn guest(service: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a05_0000 + 1 + service)
}

fn mac(node: u32) -> Mac {
    let [_, a, b, c] = (node << 8).to_be_bytes();
    Mac([0x0a, a, b, c, 1, 0])
}

fn port(service: u32) -> u16 {
    1000 + service as u16
}

fn cluster(nodes: u32, services: u32) -> Cluster {
    let mut text = String::from(
        "[guests]\nnetwork = \"10.5.0.0/16\"\ngateway = \"10.5.255.254\"\nbridge = \"guestbr0\"\npipes = [\"eth1\"]\n\
         [public]\ninterface = \"xenbr0\"\n",
    );
    for service in 0..services {
        let (port, guest) = (port(service), guest(service));
        write!(
            text,
            "[[service]]\nname = \"s{service}\"\nproto = \"tcp\"\nport = {port}\nguest = \"{guest}\"\n"
        )
        .unwrap();
    }
    for node in 0..nodes {
        let (tag, public) = (node + 1, public(node));
        let Mac([a, b, c, d, ..]) = mac(node);
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:00:00/32");
        write!(text, "[[node]]\nname = \"n{node}\"\ntag = {tag}\nmac = \"{mac}\"\npublic = \"{public}\"\n")
            .unwrap();
    }
    Cluster::parse(&text, Path::new("generated.toml")).unwrap()
}

fn tcp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4(src.0.octets(), dst.0.octets(), 64)
        .tcp(src.1, dst.1, 1, 2)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// A step through all numbers below `count` that looks like chance.
fn shuffled(number: u32, count: u32) -> u32 {
    number.wrapping_mul(2_654_435_761) % count
}

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 40_000);

/// One decision of every stage in turn, as its packets come: request, tagged frame, flow to save, reply.
fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("decision");
    for (nodes, services) in SIZES {
        let cluster = cluster(nodes, services);
        let tables = Tables::new(&cluster, cluster.node_ids().next().unwrap());
        let facts: Vec<(Stage, View, Meta)> = (0..PACKETS)
            .map(|number| {
                let (node, service) = (shuffled(number, nodes), shuffled(number / 4, services));
                let inside = (guest(service), port(service));
                let view = |bytes: Vec<u8>| View::parse(&bytes, bytes.len()).unwrap();
                let tag = Mark(node + 1);
                match number % 4 {
                    0 => (Stage::Dnat, view(tcp(CLIENT, (public(0), port(service)), b"")), Meta::default()),
                    1 => {
                        let meta = Meta { from_pipe: true, src_mac: Some(mac(node)), ..Meta::default() };
                        (Stage::Tag, view(tcp(CLIENT, inside, b"")), meta)
                    }
                    2 => (Stage::Save, view(tcp(CLIENT, inside, b"")), Meta { mark: tag, ..Meta::default() }),
                    _ => {
                        let meta = Meta { mark: tag, ct_mark: CtMark::Is(tag), ..Meta::default() };
                        (Stage::Spoof, view(tcp(inside, CLIENT, b"")), meta)
                    }
                }
            })
            .collect();
        for (stage, view, meta) in &facts {
            let decision = decide(&tables, *stage, Ok(view), meta);
            assert!(decision.node.is_some(), "{stage}: {decision:?} is not what is to be measured");
        }
        let mut next = 0;
        group.bench_function(
            BenchmarkId::from_parameter(format!("{nodes} nodes {services} services")),
            |b| {
                b.iter(|| {
                    next = (next + 1) % facts.len();
                    let (stage, view, meta) = &facts[next];
                    decide(&tables, *stage, Ok(black_box(view)), black_box(meta))
                });
            },
        );
    }
    group.finish();
}

fn packets(c: &mut Criterion) {
    let cluster = cluster(2, 1);
    let tables = Tables::new(&cluster, cluster.node_ids().next().unwrap());
    let mut group = c.benchmark_group("packet");
    for (name, len) in [("empty", 0), ("1460 bytes", 1460), ("65000 bytes", 65_000)] {
        let mut bytes = tcp(CLIENT, (public(0), port(0)), &vec![0xa5; len]);
        group.bench_function(BenchmarkId::new("parse", name), |b| {
            b.iter(|| View::parse(black_box(&bytes), bytes.len()));
        });
        let view = View::parse(&bytes, bytes.len()).unwrap();
        let rewrite = decide(&tables, Stage::Dnat, Ok(&view), &Meta::default()).rewrite.unwrap();
        for (what, checksum) in [("rewrite", Checksum::Ready), ("rewrite and sum", Checksum::Partial)] {
            group.bench_function(BenchmarkId::new(what, name), |b| {
                b.iter(|| {
                    let patch = Patch::new(black_box(&bytes), &view, rewrite, checksum).unwrap();
                    patch.apply(&mut bytes);
                });
            });
        }
    }
    group.finish();
}

fn sums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [64, 1460, 65_535] {
        let bytes = vec![0xa5; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| b.iter(|| full(&[black_box(&bytes)])));
    }
    group.finish();
}

criterion_group!(pieces, decisions, packets, sums);
criterion_main!(pieces);
