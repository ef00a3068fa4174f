//! A flow for people: one line.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::flow::{Counted, Flow, Way};

/// One line, without its line feed: who began what to whom, and what conntrack knows of it. What a stranger could have written in it
/// is names of the cluster file alone, which has no odd ones.
pub fn line(flow: &Flow) -> String {
    let mut out = String::new();
    if let Some(event) = flow.event {
        let _ = write!(out, "{:8}", event.name());
    }
    let shown = flow.original.unwrap_or(flow.request);
    let _ = write!(out, "{shown}");
    if let Some(id) = flow.icmp_id {
        let _ = write!(out, " id {id}");
    }
    match (flow.way, flow.guest) {
        (Way::ToGuest | Way::Inside, Some(guest)) if flow.original.is_some() || flow.reply.is_some() => {
            let reply = flow.reply.unwrap_or(flow.request.reversed());
            let guest =
                reply.ports.map_or(guest.to_string(), |(port, _)| SocketAddr::new(guest, port).to_string());
            let _ = write!(out, "  guest {guest}");
        }
        (Way::FromGuest, _) => {
            out.push_str("  begun by the guest");
            if let Some(reply) = flow.reply {
                let _ = write!(out, ", replies {reply}");
            }
        }
        _ => {}
    }
    if let Some(service) = &flow.service {
        let _ = write!(out, "  service {service}");
    }
    match &flow.entry {
        Some(node) => _ = write!(out, "  entry {node} tag {}", flow.tag),
        None if !flow.tag.is_zero() => _ = write!(out, "  tag {}", flow.tag),
        None => {}
    }
    if let Some(state) = &flow.state {
        let _ = write!(out, "  {state}");
    }
    if !flow.replied {
        out.push_str("  no reply");
    }
    if flow.offloaded {
        out.push_str("  offloaded");
    }
    if let (Some(requests), Some(replies)) = (flow.requests, flow.replies) {
        let _ = write!(out, "  {} > {} <", counts(requests), counts(replies));
    }
    if let Some(age) = flow.age_s {
        let _ = write!(out, "  age {age} s");
    }
    if let Some(expires) = flow.expires_s {
        let _ = write!(out, "  expires {expires} s");
    }
    if let Some(zone) = flow.zone {
        let _ = write!(out, "  zone {zone}");
    }
    if let Some(finding) = flow.finding {
        let _ = write!(out, "  ! {}", finding.name());
    }
    out
}

fn counts(Counted { packets, bytes }: Counted) -> String {
    format!("{packets} packets {bytes} bytes")
}
