//! An event as one line of text.
//!
//! ```text
//! 09:14:22.104233 node2 dnat  xenbr0>           tcp 192.168.122.1:40000 > 192.168.122.12:80 S
//!     daddr -> 10.5.5.201, mark 0x0 -> 0x2            accept service web node2
//! ```
//! (one line, broken here): the time of day, the node, the stage, the way in and out (for `tag` the pipe that the
//! frame came in by), the packet as it came with its TCP flags as tcpdump has them, then the address that
//! changes, packet mark and ct mark, the verdict, and the reason with the names behind it. An arrow stands only
//! where something changes; there is no ct mark where conntrack has not seen the packet yet.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::Event;
use crate::cluster::Cluster;
use crate::net::{Mark, Stage};
use crate::packet::Side;

/// Finds the name of an interface.
pub trait Names {
    /// The name of the interface with that index, if there is one.
    fn interface(&mut self, index: u32) -> Option<&str>;
}

/// Writes events of one node.
#[derive(Debug)]
pub struct Text<'a> {
    cluster: &'a Cluster,
    node: &'a str,
    zone: TimeZone,
}

impl<'a> Text<'a> {
    /// A writer for the events of the node of that name, with times in `zone`.
    pub fn new(cluster: &'a Cluster, node: &'a str, zone: TimeZone) -> Self {
        Self { cluster, node, zone }
    }

    /// Appends the line of an event, with its newline, to `out`.
    pub fn line(&self, event: &Event, names: &mut impl Names, out: &mut String) {
        let decision = &event.decision;
        let time = Timestamp::try_from(event.time).map_or_else(
            |_| "-".to_owned(),
            |time| Zoned::new(time, self.zone.clone()).strftime("%H:%M:%S.%6f").to_string(),
        );
        let packet = match &event.packet {
            Ok(packet) => match packet.tcp {
                Some(flags) => format!("{} {flags}", packet.tuple),
                None => packet.tuple.to_string(),
            },
            Err(_) => format!("unreadable, {} bytes", event.len),
        };
        let mut change = String::new();
        if let Some(rewrite) = decision.rewrite {
            let side = if rewrite.side == Side::Source { "saddr" } else { "daddr" };
            let _ = write!(change, "{side} -> {}, ", rewrite.to);
        }
        mark("mark", event.mark, decision.mark, &mut change);
        match event.ct_mark {
            _ if event.stage == Stage::Dnat => {}
            Some(before) => mark(", ct mark", before, decision.ct_mark, &mut change),
            None => change.push_str(", ct mark another"),
        }
        let _ = write!(
            out,
            "{time} {} {:5} {:17} {packet:50} {change:46} {} {}",
            self.node,
            event.stage,
            way(event, names),
            decision.verdict,
            decision.reason,
        );
        if let Some(service) = decision.service {
            let _ = write!(out, " {}", self.cluster.service(service).name);
        }
        if let Some(node) = decision.node {
            let _ = write!(out, " {}", self.cluster.node(node).name);
        }
        if let (Stage::Tag, Some(mac)) = (event.stage, event.src_mac) {
            let _ = write!(out, " {mac}");
        }
        out.push('\n');
    }
}

fn mark(what: &str, before: Mark, after: Option<Mark>, out: &mut String) {
    let _ = match after {
        Some(after) if after != before => write!(out, "{what} {before} -> {after}"),
        _ => write!(out, "{what} {before}"),
    };
}

/// `in>out`; a side that the kernel does not know, or that is not decided yet, is empty.
fn way(event: &Event, names: &mut impl Names) -> String {
    let came = match event.stage {
        Stage::Tag => event.phys_in.or(event.in_if),
        _ => event.in_if,
    };
    let mut name = |index: Option<u32>| match index {
        Some(index) => names.interface(index).map_or_else(|| format!("if{index}"), str::to_owned),
        None => String::new(),
    };
    let (came, goes) = (name(came), name(event.out_if));
    format!("{came}>{goes}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::engine::{Meta, Tables, decide};
    use crate::net::Tuple;
    use crate::packet::{Malformed, TcpFlags, View};
    use crate::trace::Summary;

    struct Few;

    impl Names for Few {
        fn interface(&mut self, index: u32) -> Option<&str> {
            ["xenbr0", "guestbr0", "eth1.100", "vif1"].get(index as usize - 1).copied()
        }
    }

    fn view(tuple: &str) -> View {
        let tuple: Tuple = tuple.parse().unwrap();
        let (src, dst) = (tuple.src.to_string(), tuple.dst.to_string());
        let four = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
        let (from, to) = tuple.ports.unwrap();
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ipv4(four(&src), four(&dst), 64)
            .tcp(from, to, 0, 0)
            .syn()
            .write(&mut bytes, b"")
            .unwrap();
        View::parse(&bytes, bytes.len()).unwrap()
    }

    /// The four stages of a foreign connection, and two packets that are not as they should be.
    #[test]
    fn lines_are_a_pleasure_to_read() {
        let cluster =
            Cluster::parse(include_str!("../../rules/example.toml"), Path::new("example.toml")).unwrap();
        let mac = "0e:00:00:00:01:00".parse().ok();
        let call = "tcp 192.168.122.1:40000 > 192.168.122.12:80";
        let inside = "tcp 192.168.122.1:40000 > 10.5.5.201:80";
        let reply = "tcp 10.5.5.201:80 > 192.168.122.1:40000";
        let plain = Meta { src_mac: mac, ..Meta::default() };
        let marked = Meta { mark: Mark(2), ..plain };
        let piped = Meta { from_pipe: true, ..plain };
        let answer = Meta { mark: Mark(2), ct_mark: Some(Mark(2)), ..plain };
        let moves = [
            ("node2", Stage::Dnat, Ok(call), plain, [1, 0, 0, 0]),
            ("node2", Stage::Save, Ok(inside), marked, [1, 2, 0, 0]),
            ("node1", Stage::Tag, Ok(inside), piped, [2, 0, 3, 0]),
            ("node1", Stage::Spoof, Ok(reply), answer, [2, 1, 4, 0]),
            ("node1", Stage::Tag, Ok(inside), plain, [2, 0, 9, 0]),
            ("node1", Stage::Spoof, Err(Malformed::IpLength), answer, [2, 1, 0, 0]),
        ];
        let mut out = String::new();
        for (place, (node, stage, tuple, meta, [a, b, c, d])) in moves.into_iter().enumerate() {
            let id = cluster.find(node).unwrap();
            let packet = tuple.map(view);
            let decision = decide(&Tables::new(&cluster, id), stage, packet.as_ref().map_err(|e| *e), &meta);
            let index = |index: u32| (index > 0).then_some(index);
            let event = Event {
                time: SystemTime::UNIX_EPOCH + Duration::from_micros(33_262_104_233 + 58 * place as u64),
                stage,
                in_if: index(a),
                out_if: index(b),
                phys_in: index(c),
                phys_out: index(d),
                src_mac: meta.src_mac,
                packet: packet.map(|view| Summary { tuple: view.tuple, tcp: Some(TcpFlags(2)) }),
                len: 60,
                mark: meta.mark,
                ct_mark: meta.ct_mark,
                decision,
            };
            Text::new(&cluster, node, TimeZone::UTC).line(&event, &mut Few, &mut out);
        }
        insta::assert_snapshot!(out);
    }
}
