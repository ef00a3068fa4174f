//! A queue without a kernel: packets that are given to it, and the answers they got.

use std::collections::VecDeque;
use std::io;

use super::{Answer, Packet, PacketQueue, Turn};
use crate::net::{Mac, Mark, Verdict};
use crate::packet::Checksum;

/// A packet with what the kernel would say of it; see [`Packet`] for the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is what the field of that name in Packet is")]
pub struct Waiting {
    pub queue: u16,
    pub in_if: Option<u32>,
    pub out_if: Option<u32>,
    pub phys_in: Option<u32>,
    pub phys_out: Option<u32>,
    pub src_mac: Option<Mac>,
    pub mark: Mark,
    pub bytes: Vec<u8>,
}

/// Serves packets from memory, for tests and for programs that try decisions without a network.
#[derive(Debug, Default)]
pub struct Memory {
    waiting: VecDeque<Waiting>,
    /// What came of the packets, in order: the packet as it left, or nothing if it was dropped.
    pub served: Vec<Option<Waiting>>,
}

/// How many packets one turn hands over.
const BATCH: usize = 8;

impl Memory {
    /// A queue in which these packets wait.
    pub fn new(packets: impl IntoIterator<Item = Waiting>) -> Self {
        Self { waiting: packets.into_iter().collect(), served: Vec::new() }
    }
}

impl PacketQueue for Memory {
    fn turn(&mut self, answer: &mut dyn FnMut(&Packet<'_>) -> Answer) -> io::Result<Turn> {
        let count = self.waiting.len().min(BATCH);
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for mut packet in self.waiting.drain(..count) {
            let Waiting { queue, in_if, out_if, phys_in, phys_out, src_mac, mark, ref bytes } = packet;
            let Answer { verdict, mark, patch } = answer(&Packet {
                queue,
                id: self.served.len() as u32 + 1,
                in_if,
                out_if,
                phys_in,
                phys_out,
                src_mac,
                mark,
                checksum: Checksum::Ready,
                gso: false,
                received: None,
                ct_state: None,
                original_len: bytes.len(),
                bytes,
            });
            if let Some(mark) = mark {
                packet.mark = mark;
            }
            if let Some(patch) = patch {
                patch.apply(&mut packet.bytes);
            }
            self.served.push((verdict == Verdict::Accept).then_some(packet));
        }
        Ok(Turn { packets: count as u64, ..Turn::default() })
    }
}
