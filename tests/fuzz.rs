//! Whatever the bytes are: no panic, no endless loop, and what must hold, holds.
//!
//! Plain `cargo test` runs each target on what is kept for it in `tests/__fuzz__/TARGET/`, the corpus and what once
//! went wrong (`crashes`), and then for a moment on random bytes.

#![allow(clippy::unwrap_used, reason = "a target that panics has found something")]

use std::path::Path;
use std::sync::Arc;

use dunnat::cluster::{Cluster, NodeId, OnConflict};
use dunnat::daemon::Worker;
use dunnat::engine::Tables;
use dunnat::net::Checksum;
use dunnat::packet::{Patch, Rewrite, Side, View};
use dunnat::queue::{PacketQueue as _, Recorded};
use dunnat::ruleset::{Backend, CtMarkBy, Plan, QueueBy, RewriteBy};
use dunnat::trace::Filter;

fn example() -> Cluster {
    Cluster::parse(include_str!("../rules/example.toml"), Path::new("example.toml")).unwrap()
}

/// Datagrams as the kernel might send them, from bytes: a length, so many bytes, and again.
fn datagrams(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    while let Some((&len, rest)) = bytes.split_first() {
        let (datagram, rest) = rest.split_at(usize::from(len).min(rest.len()));
        datagrams.push(datagram.to_vec());
        bytes = rest;
    }
    datagrams
}

/// Messages of nfnetlink_queue through a worker: each is answered or counted.
#[test]
fn messages() {
    let tables = Arc::new(Tables::new(&example(), NodeId(0)));
    let plan = Plan {
        node: NodeId(0),
        queue_by: QueueBy::Nft,
        ct_mark_by: CtMarkBy::Verdict,
        backend: Backend::Netlink,
        rewrite_by: RewriteBy::Userspace,
        full: true,
        on_conflict: OnConflict::Keep,
        queue_base: 0,
        workers: 1,
    };
    bolero::check!().for_each(|bytes: &[u8]| {
        let datagrams = datagrams(bytes);
        // As many as one turn takes.
        let count = datagrams.len().min(64) as u64;
        let mut queue = Recorded::of_datagrams(datagrams.clone());
        let mut worker = Worker::new(Arc::clone(&tables), &plan, Vec::new(), None);
        worker.turn(&mut queue).unwrap();
        let mut again = Recorded::of_datagrams(datagrams);
        let mut accept = |_: &dunnat::queue::Packet<'_>| dunnat::queue::Answer {
            verdict: dunnat::net::Verdict::Accept,
            mark: None,
            ct_mark: None,
            patch: None,
        };
        let turn = again.turn(&mut accept).unwrap();
        assert!(turn.packets + turn.malformed <= count);
        // A verdict without changes has 32 bytes.
        assert_eq!(again.sent(), 32 * turn.packets);
    });
}

/// A packet that can be read can be rewritten; its length stays, and back again it is what it was.
#[test]
fn packets() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(view) = View::parse(bytes, bytes.len()) else { return };
        for side in [Side::Source, Side::Destination] {
            let old = if side == Side::Source { view.tuple.src } else { view.tuple.dst };
            for to in ["10.5.5.201".parse().unwrap(), "fd00::201".parse().unwrap()] {
                let there = Rewrite::outer(side, to);
                let Ok(patch) = Patch::new(bytes, &view, there, Checksum::Ready) else {
                    assert_ne!(old.is_ipv4(), to.is_ipv4(), "what can be read can be rewritten");
                    continue;
                };
                let mut rewritten = bytes.to_vec();
                patch.apply(&mut rewritten);
                let seen = View::parse(&rewritten, rewritten.len()).unwrap();
                assert_eq!(if side == Side::Source { seen.tuple.src } else { seen.tuple.dst }, to);
                let _ = Patch::new(bytes, &view, there, Checksum::Partial)
                    .map(|patch| patch.apply(&mut rewritten));
            }
        }
    });
}

/// A cluster file, right or wrong, has an outcome, and what is found wrong has a line that exists.
#[test]
fn cluster_files() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        if let Err(report) = Cluster::parse(&text, Path::new("fuzz.toml")) {
            assert!(report.to_string().starts_with("fuzz.toml:"), "{report}");
        }
    });
}

/// A filter that can be read is written so that it is read as the same.
#[test]
fn filters() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match text.parse::<Filter>() {
            Ok(filter) => {
                let written = filter.to_string();
                let read: Filter = written.parse().unwrap();
                assert_eq!(read.to_string(), written);
            }
            Err(error) => assert!(error.to_string().contains('^'), "{error}"),
        }
    });
}
