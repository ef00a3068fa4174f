//! A decision that is kept, and as it goes to the page.

use std::net::IpAddr;

use serde::Serialize;

use crate::net::Tuple;
use crate::trace::{Event, decision, packet_text};

/// A decision, with its number here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// From 1 on, in the order in which they came.
    pub id: u64,
    /// Its flow, client → guest, as far as it is about one.
    pub flow: Option<Tuple>,
    /// The decision.
    pub event: Event,
}

/// As the page gets it.
#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest: Option<IpAddr>,
    packet: String,
    decision: String,
    event: &'a Event,
}

impl Kept {
    /// As JSON, in one line.
    pub(super) fn json(&self) -> String {
        let line = Line {
            id: self.id,
            flow: self.flow.map(|flow| flow.to_string()),
            client: self.flow.map(|flow| flow.src),
            guest: self.flow.map(|flow| flow.dst),
            packet: packet_text(&self.event),
            decision: decision(&self.event),
            event: &self.event,
        };
        // Nothing in an event has another key than a text.
        serde_json::to_string(&line).unwrap_or_default()
    }
}
