//! The batched backend: many packets by one system call, their verdicts by another.
//!
//! Datagrams are received into slots that are used again and again; a decision reads them there, a patch changes
//! them there, and the kernel copies them from there when the verdicts of the whole batch are sent, gathered from
//! the messages' heads and the slots. Nothing is allocated once it runs. A batch is what was there when it was
//! asked for: the first packet is waited for, no other.

use std::io::{self, IoSlice};
use std::ops::Range;

use super::{Answer, Lane, MAX_LEN, Numbers, OpenError, Packet, PacketQueue, Turn, Waiting};
use crate::net::{Envelope, Verdict};
use crate::netlink::nfqueue::{
    self, Changes, Config, FLAG_CONNTRACK, FLAG_FAIL_OPEN, FLAG_GSO, Head, Message, VERDICT_MAX,
};
use crate::netlink::socket::{Recording, SEND_BUFFER, Socket, Transport};
use crate::netlink::sys::Batch;

/// How many packets one system call takes at the most.
const SLOTS: usize = 64;

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
    /// The first `waiting` of them are verdicts that are not sent yet.
    pending: [Pending; SLOTS],
    waiting: usize,
    numbers: Numbers,
}

/// A verdict that is not sent yet.
struct Pending {
    head: Head,
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
                flags: if lane.gso { FLAG_GSO } else { 0 }
                    | if lane.ct_mark { FLAG_CONNTRACK } else { 0 }
                    | if lane.fail_open { FLAG_FAIL_OPEN } else { 0 },
            };
            socket
                .bind(lane.queue, config)
                .map_err(|source| OpenError::Bind { queue: lane.queue, source })?;
        }
        Ok(Self(Batches::new(socket, lanes)))
    }

    /// The same in batches of one: a packet's verdict is sent before the next packet is looked at, however long that takes.
    #[must_use]
    pub fn one_by_one(self) -> Self {
        Self(Batches { batch: Batch::new(1), ..self.0 })
    }
}

impl Recorded {
    /// A queue in which these packets wait in every turn; 64 of them at the most.
    pub fn new(packets: &[Waiting]) -> Self {
        let datagram = |(id, packet): (u32, &Waiting)| {
            let mut datagram = Vec::new();
            nfqueue::put_packet(&mut datagram, &Envelope { id, ..packet.envelope }, &packet.bytes);
            datagram
        };
        Self::of_datagrams((1..).zip(packets).map(datagram).collect())
    }

    /// A queue that receives these datagrams, whatever they are.
    pub fn of_datagrams(datagrams: Vec<Vec<u8>>) -> Self {
        Self(Batches::new(Recording { datagrams, sent: 0 }, &[]))
    }

    /// The same with other datagrams, as if nothing had been before; its memory, some MiB, is used again.
    #[must_use]
    pub fn refilled(self, datagrams: Vec<Vec<u8>>) -> Self {
        let transport = Recording { datagrams, sent: 0 };
        Self(Batches { transport, waiting: 0, numbers: Numbers::new(&[]), ..self.0 })
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
            batch: Batch::new(SLOTS),
            pending: std::array::from_fn(|_| Pending { head: Head::new(), slot: 0, payload: 0..0 }),
            waiting: 0,
            numbers: Numbers::new(lanes),
        }
    }

    /// Sends what is pending.
    fn flush(&mut self, turn: &mut Turn) -> io::Result<()> {
        if self.waiting == 0 {
            return Ok(());
        }
        if self.send(0..self.waiting).is_err() {
            // Too large at once, or no memory: one by one. A packet that cannot be sent back even so is dropped by a
            // verdict that needs no room, because unchanged it must not go on.
            for place in 0..self.waiting {
                if self.send(place..place + 1).is_err() {
                    turn.refused += 1;
                    let (queue, id) = self.pending[place].head.packet();
                    let mut drop = Head::new();
                    drop.fill(queue, id, Verdict::Drop, Changes::default());
                    self.transport.send(&[IoSlice::new(drop.after(0))])?;
                }
            }
        }
        self.waiting = 0;
        Ok(())
    }

    /// Sends some of the pending verdicts as one datagram.
    fn send(&mut self, which: Range<usize>) -> io::Result<()> {
        let mut parts = [IoSlice::new(&[]); 2 * SLOTS];
        let mut count = 0;
        let mut before = 0;
        for pending in &self.pending[which] {
            parts[count] = IoSlice::new(pending.head.after(before));
            count += 1;
            if !pending.payload.is_empty() {
                parts[count] = IoSlice::new(self.batch.bytes(pending.slot, pending.payload.clone()));
                count += 1;
            }
            before = pending.payload.len();
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
        let mut envelope = Envelope::default();
        let mut to_send = 0;
        for slot in 0..count {
            let datagram = self.batch.datagram(slot);
            match nfqueue::read(datagram, &mut envelope) {
                Ok(Message::Packet(payload)) => {
                    turn.packets += 1;
                    turn.lost += self.numbers.missing(envelope.queue, envelope.id);
                    let bytes = datagram.get_mut(payload.clone()).unwrap_or_default();
                    let Some(pending) = self.pending.get_mut(self.waiting) else { break };
                    pending.slot = slot;
                    pending.payload = answered(&envelope, payload, bytes, answer, &mut pending.head);
                    to_send += pending.payload.len();
                    self.waiting += 1;
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

/// Has a packet answered, changes it where it lies, and writes its verdict; tells what is to be sent back.
#[inline]
fn answered(
    envelope: &Envelope,
    payload: Range<usize>,
    bytes: &mut [u8],
    answer: &mut dyn FnMut(&Packet<'_>) -> Answer,
    head: &mut Head,
) -> Range<usize> {
    let Answer { verdict, mark, ct_mark, patch } = answer(&Packet { envelope, bytes });
    // What was cut must not go back: it would be all that is left of the packet.
    let payload = match patch {
        Some(patch) if envelope.cut_from.is_none() && verdict == Verdict::Accept => {
            patch.apply(bytes);
            payload
        }
        _ => 0..0,
    };
    let sent_back = (!payload.is_empty()).then_some(payload.len());
    let changes = Changes { mark, ct_mark, payload: sent_back };
    head.fill(envelope.queue, envelope.id, verdict, changes);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Mark;
    use crate::netlink::attribute::padded;
    use crate::packet::{Patch, Rewrite, Side, View};
    use proptest::prelude::*;

    fn waiting(payload: usize) -> Waiting {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ipv4([192, 168, 122, 1], [192, 168, 122, 11], 64)
            .udp(40000, 53)
            .write(&mut bytes, &vec![0xa5; payload])
            .unwrap();
        Waiting { envelope: Envelope { queue: 100, in_if: Some(2), ..Envelope::default() }, bytes }
    }

    fn rewrite(packet: &Packet<'_>) -> Answer {
        let view = View::parse(packet.bytes, packet.original_len()).unwrap();
        let rewrite = Rewrite::outer(Side::Destination, [10, 5, 5, 201].into());
        let patch = Patch::new(packet.bytes, &view, rewrite, packet.envelope.checksum).ok();
        Answer { verdict: Verdict::Accept, mark: Some(Mark(1)), ct_mark: None, patch }
    }

    /// What a batch sends, taken apart again: `(id, verdict, payload)` for each message in it.
    fn verdicts(sent: &[u8]) -> Vec<(u32, u32, Vec<u8>)> {
        let mut verdicts = Vec::new();
        let mut at = 0;
        while at < sent.len() {
            let len = u32::from_ne_bytes(sent[at..at + 4].try_into().unwrap()) as usize;
            let message = &sent[at..at + len];
            let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
            let payload =
                crate::netlink::attribute::Attributes::new(&message[20..]).find(|(kind, _)| *kind == 10);
            let payload = payload.map_or(Vec::new(), |(_, value)| value.to_vec());
            verdicts.push((number(28), number(24), payload));
            at += padded(len);
        }
        verdicts
    }

    /// Keeps what is sent.
    struct Kept {
        recording: Recording,
        sent: Vec<Vec<u8>>,
        refuse_over: usize,
    }

    impl Transport for Kept {
        fn receive(&mut self, batch: &mut Batch) -> io::Result<usize> {
            self.recording.receive(batch)
        }

        fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
            let datagram: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            if datagram.len() > self.refuse_over {
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            self.sent.push(datagram);
            Ok(())
        }
    }

    fn kept(packets: &[Waiting], refuse_over: usize) -> Batches<Kept> {
        let recording = Recorded::new(packets).0.transport;
        Batches::new(Kept { recording, sent: Vec::new(), refuse_over }, &[])
    }

    #[test]
    fn a_batch_goes_back_in_one_piece_whatever_the_lengths() {
        let packets: Vec<Waiting> = [0, 1, 2, 3, 4, 5, 999, 1472].map(waiting).to_vec();
        let mut queue = kept(&packets, usize::MAX);
        // Every third is only accepted, so that heads with and without packets follow each other.
        let mut answer = |packet: &Packet<'_>| match packet.envelope.id % 3 {
            0 => Answer { verdict: Verdict::Drop, mark: None, ct_mark: None, patch: None },
            _ => rewrite(packet),
        };
        assert_eq!(queue.turn(&mut answer).unwrap().packets, 8);
        let [sent] = &queue.transport.sent[..] else { panic!("{} pieces", queue.transport.sent.len()) };
        for ((id, verdict, payload), (packet, number)) in
            verdicts(sent).into_iter().zip(packets.iter().zip(1..))
        {
            assert_eq!((id, verdict), (number, u32::from(number % 3 != 0)));
            if number % 3 == 0 {
                assert!(payload.is_empty());
            } else {
                assert_eq!(payload.len(), packet.bytes.len(), "the length is the packet's, without padding");
                let view = View::parse(&payload, payload.len()).unwrap();
                assert_eq!(view.tuple.dst.to_string(), "10.5.5.201");
            }
        }
        assert_eq!(verdicts(sent).len(), 8);
    }

    #[test]
    fn what_is_too_large_at_once_goes_one_by_one_and_what_cannot_go_is_dropped() {
        let packets = [waiting(10), waiting(1400), waiting(20)];
        let mut queue = kept(&packets, 600);
        let turn = queue.turn(&mut rewrite).unwrap();
        assert_eq!((turn.packets, turn.refused), (3, 1));
        let sent: Vec<(u32, u32)> = queue
            .transport
            .sent
            .iter()
            .flat_map(|sent| verdicts(sent))
            .map(|(id, verdict, _)| (id, verdict))
            .collect();
        assert_eq!(sent, [(1, 1), (2, 0), (3, 1)], "the second is dropped, and not left waiting");
    }

    #[test]
    fn answers_and_gaps_and_nonsense_are_counted() {
        let packet = |id: u32| {
            let mut datagram = Vec::new();
            let described = Envelope { queue: 100, id, ..Envelope::default() };
            nfqueue::put_packet(&mut datagram, &described, &waiting(1).bytes);
            datagram
        };
        let mut refused = 36u32.to_ne_bytes().to_vec();
        refused.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        refused.extend_from_slice(&(-libc::ENOENT).to_ne_bytes());
        refused.resize(36, 0);
        let datagrams = vec![packet(1), packet(5), vec![1, 2, 3], refused, packet(6)];
        let lane = Lane { queue: 100, gso: false, ct_mark: false, copy: 128, fail_open: false };
        let mut queue = Batches::new(Recording { datagrams, sent: 0 }, &[lane]);
        let turn = queue.turn(&mut rewrite).unwrap();
        assert_eq!(turn, Turn { packets: 3, malformed: 1, refused: 1, lost: 3 });
    }

    #[test]
    fn a_cut_packet_is_never_sent_back() {
        let mut datagram = Vec::new();
        let described = Envelope { id: 1, cut_from: Some(9000), ..Envelope::default() };
        nfqueue::put_packet(&mut datagram, &described, &waiting(100).bytes);
        let mut queue = Recorded::of_datagrams(vec![datagram]);
        let mut insists = |packet: &Packet<'_>| {
            let whole = Envelope { cut_from: None, ..*packet.envelope };
            rewrite(&Packet { envelope: &whole, ..*packet })
        };
        queue.turn(&mut insists).unwrap();
        assert_eq!(queue.sent(), 40, "a verdict with a mark, and no packet");
    }

    proptest! {
        /// The fuzz target of the batched backend: whatever the kernel sends, a turn ends, and counts it.
        #[test]
        fn any_datagrams_are_served(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let count = datagrams.len() as u64;
            let datagrams = datagrams.into_iter().map(|mut datagram| {
                // Mostly with the head of a packet's message, so that what follows is read.
                if datagram.len() > 40 && datagram[0] % 4 != 0 {
                    let len = datagram.len() as u32;
                    datagram[..4].copy_from_slice(&len.to_ne_bytes());
                    datagram[4..6].copy_from_slice(&0x0300u16.to_ne_bytes());
                    datagram[20..24].copy_from_slice(&[11, 0, 1, 0]);
                }
                datagram
            });
            let mut queue = Recorded::of_datagrams(datagrams.collect());
            let mut accept = |_: &Packet<'_>| Answer { verdict: Verdict::Accept, mark: None, ct_mark: None, patch: None };
            let turn = queue.turn(&mut accept).unwrap();
            prop_assert!(turn.packets + turn.malformed <= count);
        }
    }
}
