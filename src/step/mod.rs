//! A node step by step, for study: each decision is shown, and its packet waits until somebody says what becomes of it.
//!
//! The worker hands over what it holds ([`Held`]), and waits for a response or for the node's end, whichever comes first.
//! A thread of its own shows the packet and asks ([`Console`]), so neither a screen that is stuck nor a key that is never
//! pressed keeps the node from ending. What is shown ([`Screen`]) is told by [`crate::explain`], beside the bytes.
//!
//! # How long a packet may wait
//!
//! As long as one likes: a queue has no timeout. But:
//!
//! - The worker waits with the packet, so all packets of this node that rules queue wait behind it, whichever flow
//!   they are of. A queue holds 16,384 packets, its socket 64 MiB of kernel memory, the packets'
//!   overhead included; what comes beyond is dropped by the kernel, and counted at the end (`lost before dunnat saw them`).
//! - A sender of TCP that hears nothing sends again after a second, and again; the copies wait behind the first and are
//!   shown after it. [`Flows`](crate::trace::Flows) shows the first packet of a flow only; `tcp flags syn` shows how
//!   connections begin, and lets data pass. Linux gives up connecting after some two minutes (`tcp_syn_retries`).
//! - At `dnat` conntrack has not seen the packet yet, and the entry of a flow whose first packet waits at `tag` or `save` is
//!   not in its table yet. Others may meanwhile end: 120 s after a SYN, 60 s after a SYN/ACK, 30 s after a UDP packet
//!   (`nf_conntrack_tcp_timeout_syn_sent`, `_syn_recv`, `nf_conntrack_udp_timeout`). The packet that waits keeps its ct
//!   mark; those after it are of a new flow, which has none.

mod console;
mod dump;
mod screen;

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};

use crate::cluster::{Cluster, NodeId};
use crate::daemon::{Held, Observer, Response};
use crate::net::Checksum;
use crate::simulate::{Ingress, Visit};
use crate::trace::{Event, Namer, Record, Selection};
pub use console::Console;
pub use screen::Screen;

/// A packet with its decision, for the screen.
#[derive(Clone, Debug)]
pub struct Shown {
    /// As in a trace.
    pub event: Event,
    /// The decision and what it was made of, with all bytes that the queue handed over.
    pub visit: Visit,
}

/// A packet that is shown, and where the response is waited for.
struct Asked {
    shown: Shown,
    response: Sender<Response>,
}

/// Shows the decisions of the node `id` that are selected at a console, and asks there. What comes out beside it has kept packets from being
/// shown, and the node stops.
///
/// # Errors
/// A thread could not be started.
pub fn observer(
    cluster: Arc<Cluster>,
    id: NodeId,
    mut selection: Selection,
    console: Console,
) -> io::Result<(Observer, Receiver<io::Error>)> {
    let (asked, to_ask) = bounded::<Asked>(0);
    let screen = Screen::new(Arc::clone(&cluster), id, console.text(), console.colour());
    let (stop, failed) = console.start(screen, to_ask)?;
    let mut namer = Namer::new(Arc::clone(&cluster), id, false);
    let observe = move |held: &Held<'_>| {
        if held.ending.try_recv() == Err(TryRecvError::Disconnected) {
            return Response::AsDecided;
        }
        let shown = Shown::new(held, &mut namer, &cluster, id);
        if !selection.takes(&shown.event) {
            return Response::AsDecided;
        }
        let (response, responded) = bounded(1);
        select! {
            send(asked, Asked { shown, response }) -> sent => if sent.is_err() { return Response::AsDecided },
            recv(held.ending) -> _ => return Response::AsDecided,
        }
        select! {
            recv(responded) -> said => said.unwrap_or(Response::AsDecided),
            recv(held.ending) -> _ => Response::AsDecided,
        }
    };
    Ok((Observer { observe: Box::new(observe), stop }, failed))
}

impl Shown {
    fn new(held: &Held<'_>, namer: &mut Namer, cluster: &Cluster, id: NodeId) -> Self {
        let Held { packet, stage, view, meta, decision, conditions, patch, ending: _ } = *held;
        let record =
            Record::new(packet, stage, view, meta.ct_mark, (decision, patch), std::time::Instant::now());
        let event = namer.event(&record);
        let ingress = Ingress::of_event(&event, cluster, id);
        let visit = Visit {
            stage,
            bytes: packet.bytes.to_vec(),
            original_len: packet.original_len(),
            view,
            checksum: packet.envelope.checksum,
            meta,
            decision,
            conditions: conditions.to_vec(),
            patch,
            ingress,
            egress: None,
        };
        Self { event, visit }
    }

    /// Whether the transport checksum is still to be finished by somebody.
    fn is_unfinished(&self) -> bool {
        self.visit.checksum == Checksum::Partial
    }
}

#[cfg(test)]
mod tests;
