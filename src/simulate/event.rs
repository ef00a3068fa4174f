//! A decision that no kernel asked for, as an event.

use std::time::Instant;

use jiff::Timestamp;

use super::{Visit, Ways};
use crate::cluster::Cluster;
use crate::engine::{Interface, Interfaces as _};
use crate::net::Envelope;
use crate::queue::Packet;
use crate::trace::{Bytes, Event, Hex, Namer, Record};

/// When a packet was seen, and which of a row it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbering {
    /// When.
    pub time: Timestamp,
    /// The number of the event, from 1 on.
    pub seq: u64,
    /// The number of the packet, from 1 on.
    pub packet: u32,
}

impl Visit {
    /// The event of this decision, with the whole packet as its bytes. There was no queue and nothing to wait for:
    /// these numbers are zero.
    pub fn event(&self, cluster: &Cluster, namer: &mut Namer, moment: Numbering) -> Event {
        let cut_from = (self.original_len > self.bytes.len()).then_some(self.original_len as u32);
        let envelope = Envelope {
            id: moment.packet,
            src_mac: self.meta.src_mac,
            mark: self.meta.mark,
            cut_from,
            ..Envelope::default()
        };
        let packet = Packet { envelope: &envelope, bytes: &self.bytes };
        let outcome = (self.decision, self.patch);
        let record = Record::new(&packet, self.stage, self.view, self.meta.ct_mark, outcome, Instant::now());
        let after = self.patch.and_then(|_| self.after());
        let ways = Ways(cluster, &self.ingress, self.egress.as_ref());
        let name = |which| ways.name(which).map(|name| name.as_str().into());
        Event {
            seq: moment.seq,
            time: moment.time,
            deciding_ns: 0,
            in_if: name(Interface::In),
            out_if: name(Interface::Out),
            phys_in: name(Interface::PortIn),
            bytes: Some(Bytes { before: Hex(self.bytes.clone()), after: after.map(Hex) }),
            ..namer.event(&record)
        }
    }
}
