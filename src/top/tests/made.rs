//! Nodes and flows that are made up, always the same.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::control::Status;
use crate::net::Tuple;
use crate::packet::TcpFlags;
use crate::top::{Input, Model};
use crate::trace::{Event, samples};

/// When all begins: on 2026-11-27, at 10:13:00 UTC.
pub(super) const BEGIN: i64 = 1_795_774_380;

pub(super) fn at(milliseconds: i64) -> Timestamp {
    Timestamp::new(BEGIN, 0).unwrap() + SignedDuration::from_millis(milliseconds)
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fate {
    Right,
    /// The reply has the public address of the home node.
    WrongAddress,
    /// The home node has not seen it.
    NoReply,
}

/// The events of a connection to node2 for a guest of node1.
pub(super) fn connection(number: u64, begin: Timestamp, fate: Fate) -> Vec<Event> {
    let port = 40_000 + number as u16;
    let mut events = samples::events();
    events.truncate(if fate == Fate::NoReply { 2 } else { 4 });
    for (event, place) in events.iter_mut().zip(0..) {
        event.bytes = None;
        event.gso = false;
        event.seq = 10 * number + place + 1;
        event.time = begin + SignedDuration::from_micros(58 * place as i64);
        event.deciding_ns = 700 + 37 * number + place;
        event.run = Some("5f0e2d1c3b4a5968".into());
        let of_reply = place == 3;
        let ported = |tuple: &mut Tuple| {
            if let Some(ports) = &mut tuple.ports {
                *ports = if of_reply { (80, port) } else { (port, 80) };
            }
        };
        event.before.iter_mut().chain(&mut event.after).for_each(ported);
        if let Some(tcp) = &mut event.tcp {
            (tcp.seq, tcp.ack) = if of_reply { (9000, 1001) } else { (1000, 0) };
        }
        if of_reply && fate == Fate::WrongAddress {
            event.after = event.after.map(|tuple| Tuple { src: "192.168.122.11".parse().unwrap(), ..tuple });
        }
    }
    if fate == Fate::Right {
        let mut end = events[3].clone();
        end.seq += 2;
        end.time += SignedDuration::from_millis(30);
        if let Some(tcp) = &mut end.tcp {
            tcp.flags = TcpFlags(0x11);
            tcp.seq += 1;
        }
        events.push(end);
    }
    events
}

/// What a node says after so many seconds.
pub(super) fn status(node: &str, second: u64, lost: u64, amiss: &[&str]) -> Box<Status> {
    let packets = 120 * second + 40 * (second % 5);
    let (asked, replied) = if node == "node2" { (packets, 0) } else { (0, packets) };
    let json = serde_json::json!({
        "v": 1, "node": node, "dunnat": "0.2.0", "process": 4711, "since": at(-7_000).to_string(),
        "serving": format!("serving {node} with 2 workers, queues 100-111, nft queue, ct marks by verdict"),
        "config": "0f3a5b7c9d1e2f40", "packets": packets, "dropped": second / 4, "generation": 2,
        "decisions": [
            {"stage": "dnat", "reason": "service", "packets": asked},
            {"stage": "dnat", "reason": "no-service", "packets": second},
            {"stage": "tag", "reason": "from-node", "packets": replied / 10},
            {"stage": "tag", "reason": "not-from-pipe", "packets": 17},
            {"stage": "spoof", "reason": "entry-node", "packets": replied},
            {"stage": "spoof", "reason": "ip-length", "packets": second / 4},
        ],
        "lost": {"queue_full": lost, "socket_full": 0},
        "queues": [
            {"number": 100, "waiting": second % 3, "lost": {"queue_full": lost, "socket_full": 0},
             "ledger": {"numbered": packets, "answered": packets, "repeated": 0, "difference": 0}},
            {"number": 104, "waiting": 0, "lost": {"queue_full": 0, "socket_full": 0},
             "ledger": {"numbered": packets / 2, "answered": packets / 2, "repeated": 0, "difference": 0}},
        ],
        "guard": [{"counter": "inside-source", "packets": second / 10}, {"counter": "untranslated", "packets": 0}],
        "carried": [{"stage": "dnat", "packets": 0}],
        "elsewhere": null, "rehearsal": null, "traces": 1, "restarts": 1, "amiss": amiss,
    });
    serde_json::from_value(json).unwrap()
}

/// Two nodes for some seconds: a connection each second, some go wrong. In the last second node1 loses packets.
pub(super) fn nodes(seconds: i64) -> Model {
    let mut model = Model::new(false);
    model.take(Input::Cluster(samples::cluster()));
    for (place, name) in ["node1", "node2"].into_iter().enumerate() {
        model.take(Input::Found(place, name.to_owned()));
    }
    for second in 0..seconds {
        model.take(Input::Now(at(1000 * second)));
        let is_last = second == seconds - 1;
        let amiss: &[&str] = if is_last { &["packets were lost in the last minute: 37"] } else { &[] };
        let lost = if is_last { 37 } else { 0 };
        model.take(Input::Status(0, status("node1", second as u64, lost, amiss)));
        model.take(Input::Status(1, status("node2", second as u64, 0, &[])));
        let fate = match second % 20 {
            8 => Fate::WrongAddress,
            4 => Fate::NoReply,
            _ => Fate::Right,
        };
        for event in connection(second as u64, at(1000 * second - 200), fate) {
            model.take(Input::Event(Box::new(event)));
        }
    }
    model.take(Input::Now(at(1000 * seconds + 100)));
    model
}

/// A saved trace, some seconds after its beginning.
pub(super) fn saved(seconds: i64) -> Model {
    let mut model = Model::new(true);
    model.take(Input::Cluster(Arc::clone(&samples::cluster())));
    for second in 0..seconds {
        for event in connection(second as u64, at(1000 * second), Fate::Right) {
            model.take(Input::Event(Box::new(event)));
        }
        model.take(Input::Now(at(1000 * second + 999)));
    }
    model
}
