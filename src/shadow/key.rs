//! What a packet is known again by.

use std::net::IpAddr;

use crate::net::{Proto, Stage};
use crate::packet::{Headers, Malformed, View};
use crate::queue::Packet;

/// What a stage leaves alone of a packet. Two packets may have the same; they are taken to keep their order then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    stage: Stage,
    len: usize,
    flow: Option<Flow>,
    ip_id: Option<u16>,
    /// Sequence and acknowledgement number, of TCP.
    numbers: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    proto: Proto,
    /// Address and port.
    src: Option<(IpAddr, Option<u16>)>,
    dst: Option<(IpAddr, Option<u16>)>,
}

impl Key {
    /// The key of a packet at a stage; `view` is what was read of it.
    pub fn new(stage: Stage, packet: &Packet<'_>, view: Result<&View, Malformed>) -> Self {
        let bytes = packet.bytes;
        let (flow, headers) = match view {
            Ok(view) => {
                let tuple = view.tuple;
                let flow = Flow {
                    proto: tuple.proto,
                    src: (stage != Stage::Spoof).then_some((tuple.src, tuple.ports.map(|ports| ports.0))),
                    dst: (stage != Stage::Dnat).then_some((tuple.dst, tuple.ports.map(|ports| ports.1))),
                };
                (Some(flow), Headers::read(bytes, view))
            }
            Err(_) => {
                let ip_id = bytes.get(4..6).and_then(<[u8]>::first_chunk).copied().map(u16::from_be_bytes);
                (None, Headers { ip_id, ..Headers::default() })
            }
        };
        Self {
            stage,
            len: packet.original_len(),
            flow,
            ip_id: headers.ip_id,
            numbers: headers.tcp.map(|tcp| (tcp.seq, tcp.ack)),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }
}
