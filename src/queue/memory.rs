//! A queue without a kernel, for tests: packets that are given to it, and the verdicts they got.

use std::collections::VecDeque;
use std::io;

use super::{Packet, PacketQueue, PacketVerdict, Turn, Waiting};
use crate::net::{Mark, Verdict};

/// Serves packets from memory, for tests: nothing of a worker needs a kernel.
///
/// ```
/// use dunnat::net::{Envelope, Verdict};
/// use dunnat::queue::{Memory, Packet, PacketQueue as _, PacketVerdict, Waiting};
///
/// let packet = |byte| Waiting { envelope: Envelope::default(), bytes: vec![byte] };
/// let mut queue = Memory::new([packet(1), packet(2)]);
/// let turn = queue.turn(&mut |packet: &Packet<'_>| PacketVerdict {
///     verdict: if packet.bytes == [1] { Verdict::Accept } else { Verdict::Drop },
///     mark: None,
///     ct_mark: None,
///     patch: None,
/// })?;
/// let served: Vec<bool> = queue.served.iter().map(Option::is_some).collect();
/// assert_eq!((turn.packets, served), (2, vec![true, false]));
/// assert!(queue.turn(&mut |_: &Packet<'_>| unreachable!()).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
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

/// After the last packet there is an end: an error of the kind `UnexpectedEof`.
impl PacketQueue for Memory {
    fn turn(&mut self, decide: &mut dyn FnMut(&Packet<'_>) -> PacketVerdict) -> io::Result<Turn> {
        let count = self.waiting.len().min(BATCH);
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for mut packet in self.waiting.drain(..count) {
            packet.envelope.id = self.served.len() as u32 + 1;
            let PacketVerdict { verdict, mark, ct_mark, patch } =
                decide(&Packet { envelope: &packet.envelope, bytes: &packet.bytes });
            if let Some(mark) = mark {
                packet.envelope.mark = mark;
            }
            if let Some((mark, mask)) = ct_mark {
                let before = packet.envelope.ct_mark.unwrap_or(Mark::ZERO);
                packet.envelope.ct_mark = Some(before.merge(mark, mask));
            }
            if let Some(patch) = patch {
                patch.apply(&mut packet.bytes);
            }
            self.served.push((verdict == Verdict::Accept).then_some(packet));
        }
        Ok(Turn { packets: count as u64, ..Turn::default() })
    }
}
