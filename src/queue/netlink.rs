//! The batched backend: many packets by one system call, their verdicts by another.
//!
//! Datagrams are received into slots that are used again and again; a decision reads them there, a patch changes
//! them there, and the kernel copies them from there when the verdicts of the whole batch are sent, gathered from
//! the messages' heads and the slots. Nothing is allocated once it runs. A batch is what was there when it was
//! asked for: the first packet is waited for, no other.

use std::io::{self, IoSlice};
use std::ops::Range;

use super::{Answer, Lane, MAX_LEN, Numbers, OpenError, Packet, PacketQueue, Turn, Waiting};
use crate::net::Verdict;
use crate::netlink::attribute::padded;
use crate::netlink::nfqueue::{self, Changes, Config, FLAG_GSO, Message, VERDICT_MAX};
use crate::netlink::socket::{Recording, SEND_BUFFER, Socket, Transport};
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
pub struct Netlink(Batches<Socket>);

/// The batched backend without a kernel: the same packets again and again, and what is sent goes nowhere.
///
/// All that userspace does for a packet is done for each of them; so this measures it, and fuzzes it.
pub struct Recorded(Batches<Recording>);

/// What is the same for both.
struct Batches<T> {
    transport: T,
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
    /// The slot of the packet that is sent back, and where in it; empty if none is.
    slot: usize,
    payload: Range<usize>,
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
        Ok(Self(Batches::new(socket, lanes)))
    }
}

impl Recorded {
    /// A queue in which these packets wait in every turn; 64 of them at the most.
    pub fn new(packets: &[Waiting]) -> Self {
        let datagram = |(id, packet): (u32, &Waiting)| {
            let &Waiting { queue, in_if, out_if, phys_in, phys_out, src_mac, mark, ref bytes } = packet;
            let described = nfqueue::Packet {
                queue,
                id,
                mark,
                in_if,
                out_if,
                phys_in,
                phys_out,
                src_mac,
                ..nfqueue::Packet::default()
            };
            let mut datagram = Vec::new();
            nfqueue::put_packet(&mut datagram, &described, bytes);
            datagram
        };
        Self::of_datagrams((1..).zip(packets).map(datagram).collect())
    }

    /// A queue that receives these datagrams, whatever they are.
    pub fn of_datagrams(datagrams: Vec<Vec<u8>>) -> Self {
        Self(Batches::new(Recording { datagrams, sent: 0 }, &[]))
    }

    /// How many bytes of verdicts, packets sent back included, have been sent.
    pub fn sent(&self) -> u64 {
        self.0.transport.sent
    }
}

impl PacketQueue for Netlink {
    fn turn(&mut self, answer: &mut dyn FnMut(&Packet<'_>) -> Answer) -> io::Result<Turn> {
        self.0.turn(answer)
    }
}

impl PacketQueue for Recorded {
    fn turn(&mut self, answer: &mut dyn FnMut(&Packet<'_>) -> Answer) -> io::Result<Turn> {
        self.0.turn(answer)
    }
}

impl<T: Transport> Batches<T> {
    fn new(transport: T, lanes: &[Lane]) -> Self {
        Self {
            transport,
            batch: Batch::new(SLOTS, SLOT_BYTES),
            heads: Vec::with_capacity(SLOTS * (VERDICT_MAX + 3)),
            pending: Vec::with_capacity(SLOTS),
            numbers: Numbers::new(lanes),
        }
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
                    self.transport.send(&[IoSlice::new(&drop)])?;
                }
            }
        }
        self.pending.clear();
        self.heads.clear();
        Ok(())
    }

    /// Sends some of the pending verdicts as one datagram.
    fn send(&mut self, which: Range<usize>) -> io::Result<()> {
        let which = &self.pending[which];
        let (Some(first), Some(last)) = (which.first(), which.last()) else { return Ok(()) };
        let mut parts = [IoSlice::new(&[]); 2 * SLOTS + 1];
        let mut count = 0;
        let mut from = first.head.start;
        for pending in which {
            if !pending.payload.is_empty() {
                parts[count] = IoSlice::new(&self.heads[from..pending.head.end]);
                parts[count + 1] = IoSlice::new(self.batch.bytes(pending.slot, pending.payload.clone()));
                count += 2;
                from = pending.head.end;
            }
        }
        if from < last.head.end {
            parts[count] = IoSlice::new(&self.heads[from..last.head.end]);
            count += 1;
        }
        self.transport.send(&parts[..count])
    }

    fn turn(&mut self, answer: &mut dyn FnMut(&Packet<'_>) -> Answer) -> io::Result<Turn> {
        let mut turn = Turn::default();
        let count = match self.transport.receive(&mut self.batch) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(turn),
            Err(error) => return Err(error),
        };
        let mut to_send = 0;
        for slot in 0..count {
            let datagram = self.batch.datagram(slot);
            match nfqueue::read(datagram) {
                Ok(Message::Packet(packet)) => {
                    turn.packets += 1;
                    turn.lost += self.numbers.missing(packet.queue, packet.id);
                    let bytes = datagram.get_mut(packet.payload.clone()).unwrap_or_default();
                    let pending =
                        answered(slot, &packet, bytes, answer, &mut self.heads, self.pending.last());
                    to_send += pending.payload.len();
                    self.pending.push(pending);
                    if to_send >= FLUSH_BYTES {
                        self.flush(&mut turn)?;
                        to_send = 0;
                    }
                }
                // The packet was gone: its queue was emptied, or the packet's interface went down.
                Ok(Message::Answer(errno)) => turn.refused += u64::from(errno != 0),
                Ok(Message::Other) => {}
                Err(nfqueue::Malformed) => turn.malformed += 1,
            }
        }
        self.flush(&mut turn)?;
        Ok(turn)
    }
}

/// Has a packet answered, changes it where it lies, and writes the head of its verdict behind that of the one before.
#[inline]
fn answered(
    slot: usize,
    packet: &nfqueue::Packet,
    bytes: &mut [u8],
    answer: &mut dyn FnMut(&Packet<'_>) -> Answer,
    heads: &mut Vec<u8>,
    before: Option<&Pending>,
) -> Pending {
    let Answer { verdict, mark, patch } = answer(&Packet {
        queue: packet.queue,
        id: packet.id,
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
    let payload = match patch {
        Some(patch) if packet.cut_from.is_none() && verdict == Verdict::Accept => {
            patch.apply(bytes);
            packet.payload.clone()
        }
        _ => 0..0,
    };
    if let Some(before) = before {
        let len = before.payload.len();
        heads.extend_from_slice(&[0; 3][..padded(len) - len]);
    }
    let start = heads.len();
    let sent_back = (!payload.is_empty()).then_some(payload.len());
    let changes = Changes { mark, ct_mark: None, payload: sent_back };
    nfqueue::put_verdict(heads, packet.queue, packet.id, verdict, changes);
    Pending { head: start..heads.len(), queue: packet.queue, id: packet.id, slot, payload }
}
