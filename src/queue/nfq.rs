//! The plain backend: the `nfq` crate, one packet per system call.
//!
//! The simplest thing that works, and the second opinion on the batched backend. What the crate cannot do shapes the
//! rest: it neither reads nor sets a ct mark, so rules carry the ct mark in and out by way of the packet mark,
//! and its socket is its own, so a thread that waits can only be woken by a signal.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Journal, MAX_LEN, OpenError, Packet, PacketQueue, PacketVerdict, QueueConfig, Turn, passed};
use crate::net::{Checksum, Envelope, Mac, Mark, Verdict};
use crate::netlink::passing::{self, Pauses};

/// The most of a packet that the kernel hands over, in bytes (`NFQNL_MAX_COPY_RANGE`). Longer packets are cut.
const COPY_RANGE: u16 = 65531;

/// One socket with several queues.
pub struct Nfq {
    queue: nfq::Queue,
    journal: Journal,
    /// Between tries to receive.
    pauses: Pauses,
}

impl Nfq {
    /// Takes queues, with one socket.
    ///
    /// # Errors
    /// Rights are missing, somebody else has one of the queues, or the kernel has no NFQUEUE.
    pub fn open(lanes: &[QueueConfig]) -> Result<Self, OpenError> {
        let mut queue = nfq::Queue::open().map_err(OpenError::Socket)?;
        for lane in lanes {
            let number = lane.queue;
            let failed = |source| OpenError::Bind { queue: number, source };
            queue.bind(number).map_err(failed)?;
            let copy = u16::try_from(lane.copy).map_or(COPY_RANGE, |copy| copy.min(COPY_RANGE));
            queue.set_copy_range(number, copy).map_err(failed)?;
            queue.set_recv_gso(number, lane.gso).map_err(failed)?;
            queue.set_queue_max_len(number, MAX_LEN).map_err(failed)?;
            if lane.fail_open {
                queue.set_fail_open(number, true).map_err(failed)?;
            }
        }
        Ok(Self { queue, journal: Journal::alone(lanes), pauses: Pauses::short() })
    }

    fn verdict(
        message: &nfq::Message,
        decide: &mut dyn FnMut(&Packet<'_>) -> PacketVerdict,
    ) -> PacketVerdict {
        let index = |index: u32| (index != 0).then_some(index);
        let bytes = message.get_payload();
        let len = message.get_original_len();
        let envelope = Envelope {
            queue: message.get_queue_num(),
            id: message.get_packet_id(),
            in_if: index(message.get_indev()),
            out_if: index(message.get_outdev()),
            phys_in: index(message.get_physindev()),
            phys_out: index(message.get_physoutdev()),
            src_mac: message.get_hw_addr().and_then(|mac| Some(Mac(mac.try_into().ok()?))),
            mark: Mark(message.get_nfmark()),
            ct_mark: None,
            checksum: if message.is_checksum_ready() { Checksum::Ready } else { Checksum::Partial },
            // The crate does not show the flag; without F_GSO no packet is one.
            gso: false,
            // The crate has the time, but reads it through a pointer that need not be aligned.
            received: None,
            ct_state: None,
            cut_from: (len > bytes.len()).then_some(len as u32),
        };
        decide(&Packet { envelope: &envelope, bytes })
    }
}

impl PacketQueue for Nfq {
    fn turn(&mut self, decide: &mut dyn FnMut(&Packet<'_>) -> PacketVerdict) -> io::Result<Turn> {
        let mut turn = Turn::default();
        // The crate asserts that messages are well formed. The kernel's are; should one not be, it is skipped.
        let received = catch_unwind(AssertUnwindSafe(|| self.queue.recv()));
        let mut message = match received {
            Err(_) => return Ok(Turn { malformed: 1, ..turn }),
            Ok(Ok(message)) => message,
            Ok(Err(error)) => match error.raw_os_error() {
                // The kernel refuses an earlier verdict: no such packet, or no such queue.
                Some(libc::ENOENT | libc::ENODEV | libc::EINVAL) => return Ok(Turn { refused: 1, ..turn }),
                // The message was longer than the buffer.
                Some(libc::ENOSPC) => return Ok(Turn { malformed: 1, ..turn }),
                _ => return passed(&error, "receive packets", &mut self.pauses).ok_or(error),
            },
        };
        self.pauses.reset();
        turn.packets = 1;
        if let Some(place) = self.journal.place(message.get_queue_num()) {
            turn.lost = self.journal.came(place, message.get_packet_id());
        }
        // The crate cannot set a ct mark.
        let PacketVerdict { verdict, mark, ct_mark: _, patch } = Self::verdict(&message, decide);
        message.set_verdict(match verdict {
            Verdict::Accept => nfq::Verdict::Accept,
            Verdict::Drop => nfq::Verdict::Drop,
        });
        if let Some(mark) = mark {
            message.set_nfmark(mark.0);
        }
        // Asking for the bytes to write is what makes the crate send them back.
        if let Some(patch) = patch {
            patch.apply(message.get_payload_mut());
        }
        // The crate has taken the message, and its socket is its own, so this verdict cannot be sent again: the packet stays
        // in the kernel until the queue is closed.
        if let Err(error) = self.queue.verdict(message) {
            if !passing::is_passing(&error) {
                return Err(error);
            }
            passing::tell("send a verdict", &error);
            turn.refused = 1;
        }
        Ok(turn)
    }
}
