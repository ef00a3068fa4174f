//! The batched backend: many packets by one system call, their verdicts by another.
//!
//! Datagrams are received into slots that are used again and again; a decision reads them there, a patch changes
//! them there, and the kernel copies them from there when the verdicts of the whole batch are sent, gathered from
//! the messages' heads and the slots. Nothing is allocated once it runs. A batch is what was there when it was
//! asked for: the first packet is waited for, no other.

use std::io::{self, IoSlice};
use std::ops::Range;

use super::{Answer, Lane, MAX_LEN, Numbers, OpenError, Packet, PacketQueue, Turn};
use crate::net::Verdict;
use crate::netlink::attribute::padded;
use crate::netlink::nfqueue::{self, Changes, Config, FLAG_GSO, Message, VERDICT_MAX};
use crate::netlink::socket::{SEND_BUFFER, Socket};
use crate::netlink::sys::Batch;
use crate::packet::Checksum;

/// How many packets one system call takes at the most.
const SLOTS: usize = 64;

/// A packet of 64 KiB with all that is said of it. Not a multiple of a page, so that the beginnings of the slots,
/// which are all that is read of small packets, do not all fall into one set of the processor's cache.
const SLOT_BYTES: usize = (64 << 10) + (8 << 10) + 64 * 5;

/// How many bytes are sent back by one system call at the most, beside the last packet: the kernel needs memory in
/// one piece for all of it.
const FLUSH_BYTES: usize = 256 << 10;

const _: () = assert!(FLUSH_BYTES + (64 << 10) + SLOTS * VERDICT_MAX < SEND_BUFFER as usize);

/// One socket with several queues.
pub struct Netlink {
    socket: Socket,
    batch: Batch,
    heads: Vec<u8>,
    pending: Vec<Pending>,
    numbers: Numbers,
}

/// A verdict that is not sent yet.
struct Pending {
    /// Where in `heads` it is, less the packet. Between two heads there may be padding for the packet of the first.
    head: Range<usize>,
    queue: u16,
    id: u32,
    /// The packet that is sent back, by slot and place.
    payload: Option<(usize, Range<usize>)>,
}

impl Netlink {
    /// Takes queues, with one socket.
    ///
    /// # Errors
    /// Rights are missing, somebody else has one of the queues, or the kernel has no NFQUEUE.
    pub fn open(lanes: &[Lane]) -> Result<Self, OpenError> {
        let socket = Socket::open().map_err(OpenError::Socket)?;
        for lane in lanes {
            let config = Config {
                copy: lane.copy.min(nfqueue::COPY_WHOLE),
                max_len: MAX_LEN,
                flags: if lane.gso { FLAG_GSO } else { 0 },
            };
            socket
                .bind(lane.queue, config)
                .map_err(|source| OpenError::Bind { queue: lane.queue, source })?;
        }
        Ok(Self {
            socket,
            batch: Batch::new(SLOTS, SLOT_BYTES),
            heads: Vec::with_capacity(SLOTS * (VERDICT_MAX + 3)),
            pending: Vec::with_capacity(SLOTS),
            numbers: Numbers::new(lanes),
        })
    }

    /// Sends what is pending.
    fn flush(&mut self, turn: &mut Turn) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.send(0..self.pending.len()).is_err() {
            // Too large at once, or no memory: one by one. A packet that cannot be sent back even so is dropped by a
            // verdict that needs no room, because unchanged it must not go on.
            for place in 0..self.pending.len() {
                if self.send(place..place + 1).is_err() {
                    turn.refused += 1;
                    let Pending { queue, id, .. } = self.pending[place];
                    let mut drop = Vec::with_capacity(VERDICT_MAX);
                    nfqueue::put_verdict(&mut drop, queue, id, Verdict::Drop, Changes::default());
                    self.socket.send(&[IoSlice::new(&drop)])?;
                }
            }
        }
        self.pending.clear();
        self.heads.clear();
        Ok(())
    }

    /// Sends some of the pending verdicts as one datagram.
    fn send(&self, which: Range<usize>) -> io::Result<()> {
        let which = &self.pending[which];
        let (Some(first), Some(last)) = (which.first(), which.last()) else { return Ok(()) };
        let mut parts = [IoSlice::new(&[]); 2 * SLOTS + 1];
        let mut count = 0;
        let mut from = first.head.start;
        for pending in which {
            if let Some((slot, range)) = &pending.payload {
                parts[count] = IoSlice::new(&self.heads[from..pending.head.end]);
                parts[count + 1] = IoSlice::new(self.batch.bytes(*slot, range.clone()));
                count += 2;
                from = pending.head.end;
            }
        }
        if from < last.head.end {
            parts[count] = IoSlice::new(&self.heads[from..last.head.end]);
            count += 1;
        }
        self.socket.send(&parts[..count])
    }

    /// Has a packet answered, changes it where it lies, and puts its verdict among the pending.
    fn answer(
        &mut self,
        slot: usize,
        packet: nfqueue::Packet,
        answer: &mut dyn FnMut(&Packet<'_>) -> Answer,
    ) -> usize {
        let nfqueue::Packet { queue, id, payload, .. } = packet;
        let bytes = self.batch.datagram(slot).get_mut(payload.clone()).unwrap_or_default();
        let Answer { verdict, mark, patch } = answer(&Packet {
            queue,
            id,
            in_if: packet.in_if,
            out_if: packet.out_if,
            phys_in: packet.phys_in,
            phys_out: packet.phys_out,
            src_mac: packet.src_mac,
            mark: packet.mark,
            checksum: if packet.checksum_not_ready { Checksum::Partial } else { Checksum::Ready },
            original_len: packet.cut_from.map_or(bytes.len(), |len| len as usize),
            bytes,
        });
        // What was cut must not go back: it would be all that is left of the packet.
        let patch = patch.filter(|_| packet.cut_from.is_none() && verdict == Verdict::Accept);
        if let Some(patch) = patch {
            patch.apply(bytes);
        }
        let sent_back = patch.map(|_| payload.len());
        if let Some(Pending { payload: Some((_, before)), .. }) = self.pending.last() {
            let padding = padded(before.len()) - before.len();
            self.heads.extend_from_slice(&[0; 3][..padding]);
        }
        let start = self.heads.len();
        let changes = Changes { mark, ct_mark: None, payload: sent_back };
        nfqueue::put_verdict(&mut self.heads, queue, id, verdict, changes);
        let payload = sent_back.map(|_| (slot, payload));
        self.pending.push(Pending { head: start..self.heads.len(), queue, id, payload });
        sent_back.unwrap_or(0)
    }
}

impl PacketQueue for Netlink {
    fn turn(&mut self, answer: &mut dyn FnMut(&Packet<'_>) -> Answer) -> io::Result<Turn> {
        let mut turn = Turn::default();
        let count = match self.socket.receive(&mut self.batch) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(turn),
            Err(error) => return Err(error),
        };
        let mut to_send = 0;
        for slot in 0..count {
            // The kernel sends one message in a datagram.
            match nfqueue::read(self.batch.datagram(slot)) {
                Ok((Message::Packet(packet), _)) => {
                    turn.packets += 1;
                    turn.lost += self.numbers.missing(packet.queue, packet.id);
                    to_send += self.answer(slot, packet, answer);
                    if to_send >= FLUSH_BYTES {
                        self.flush(&mut turn)?;
                        to_send = 0;
                    }
                }
                // The packet was gone: its queue was emptied, or the packet's interface went down.
                Ok((Message::Answer(errno), _)) => turn.refused += u64::from(errno != 0),
                Ok((Message::Other, _)) => {}
                Err(nfqueue::Malformed) => turn.malformed += 1,
            }
        }
        self.flush(&mut turn)?;
        Ok(turn)
    }
}
