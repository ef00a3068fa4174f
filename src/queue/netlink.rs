//! The batched backend: many packets by one system call, their verdicts by another.
//!
//! Datagrams are received into slots that are used again and again; a decision reads them there, a patch changes
//! them there, and the kernel copies them from there when the verdicts of the whole batch are sent, gathered from
//! the messages' heads and the slots. Nothing is allocated once it runs. A batch is what was there when it was
//! asked for: the first packet is waited for, no other.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{
    Gap, Journal, MAX_LEN, OpenError, Orphans, Packet, PacketQueue, PacketVerdict, QueueConfig, Turn,
    Waiting, passed,
};
use crate::net::{Envelope, Verdict};
use crate::netlink::nfqueue::{
    self, Changes, Config, FLAG_CONNTRACK, FLAG_FAIL_OPEN, FLAG_GSO, Head, Message, VERDICT_MAX,
};
use crate::netlink::passing::{self, Pauses};
use crate::netlink::socket::{Lanes, Recording, SEND_BUFFER, Socket, Transport};
use crate::netlink::sys::{self, Batch, Shared};

/// How many packets one system call takes at the most.
const SLOTS: usize = 64;

/// How many bytes are sent back by one system call at the most, beside the last packet: the kernel needs memory in
/// one piece for all of it.
const FLUSH_BYTES: usize = 256 << 10;

const _: () = assert!(FLUSH_BYTES + (64 << 10) + SLOTS * VERDICT_MAX < SEND_BUFFER as usize);

/// Several queues, each with a socket of its own.
pub struct Netlink(Batches<Lanes>);

/// The batched backend without a kernel: the same packets again and again, and what is sent goes nowhere.
///
/// All that userspace does for a packet is done for each of them; so this measures it, and fuzzes it. It is public for the
/// benchmarks in `bench` and the targets in `tests/fuzz`.
pub struct Playback(Batches<Recording>);

/// What is the same for both.
struct Batches<T> {
    transport: T,
    batch: Batch,
    /// The first `waiting` of them are verdicts that are not sent yet.
    pending: [Pending; SLOTS],
    waiting: usize,
    journal: Journal,
    /// Whether packets may wait in a queue, by its place, that somebody before us had in hand.
    orphans: Vec<Orphans>,
    /// The first queue of which nobody knows yet.
    beginning: usize,
    /// Between tries to receive.
    pauses: Pauses,
}

/// A verdict that is not sent yet.
struct Pending {
    head: Head,
    /// The queue, by its place in the journal.
    queue: Option<usize>,
    /// The slot of the packet that is sent back, and where in it; empty if none is.
    slot: usize,
    payload: Range<usize>,
}

impl Netlink {
    /// Takes queues.
    ///
    /// # Errors
    /// Rights are missing, somebody else has one of the queues, or the kernel has no NFQUEUE.
    pub fn open(lanes: &[QueueConfig]) -> Result<Self, OpenError> {
        let sockets = Lanes::new(open_sockets(lanes)?).map_err(OpenError::Socket)?;
        Ok(Self(Batches::new(sockets, lanes)))
    }

    /// Serves queues whose sockets were opened before.
    ///
    /// # Errors
    /// There are no descriptors or no memory to wait for several sockets (`epoll_create(2)`).
    pub(crate) fn inherit(inherited: Inherited) -> io::Result<Self> {
        let Inherited { sockets, journal, memory, at, slots, has_predecessor } = inherited;
        let batch = Batch::within(memory, at, slots);
        let batches = Batches::with(Lanes::new(sockets)?, journal, batch);
        Ok(Self(if has_predecessor { batches.after_somebody() } else { batches }))
    }

    /// The same in batches of one: a packet's verdict is sent before the next packet is looked at, however long that takes.
    #[must_use]
    pub fn one_by_one(self) -> Self {
        Self(Batches { batch: Batch::new(1), ..self.0 })
    }
}

/// The sockets of queues, and what is known of their packets, from whoever had them before.
pub(crate) struct Inherited {
    /// As [`open_sockets`] opened them, in the order of the journal.
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
    /// Of these queues.
    pub(crate) journal: Journal,
    /// Where packets come to lie, and from which byte on: so that the one in hand is there for others to see.
    pub(crate) memory: Arc<Shared>,
    pub(crate) at: usize,
    /// For how many packets there is room.
    pub(crate) slots: usize,
    /// Somebody served them, and may have left packets behind.
    pub(crate) has_predecessor: bool,
}

/// How many bytes of memory the packets of one batch may take.
pub(crate) const BATCH_BYTES: usize = Batch::bytes_for(SLOTS);

/// The packet in a place of a batch that lies in memory from that byte on: queue, number, bytes.
pub(crate) fn in_hand(memory: &Shared, at: usize, slot: usize) -> Option<(u16, u32, Vec<u8>)> {
    let start = at.next_multiple_of(8) + Batch::bytes_for(slot);
    let datagram = memory.copy(start..start + Batch::bytes_for(1));
    let mut envelope = Envelope::default();
    match nfqueue::read(&datagram, &mut envelope) {
        Ok(Message::Packet(payload)) => Some((envelope.queue, envelope.id, datagram.get(payload)?.to_vec())),
        _ => None,
    }
}

/// A socket for each queue; as long as anybody has it open, the queue stays.
pub(crate) fn open_sockets(lanes: &[QueueConfig]) -> Result<Vec<Arc<OwnedFd>>, OpenError> {
    lanes.iter().map(|lane| open_socket(lane).map(Arc::new)).collect()
}

fn open_socket(lane: &QueueConfig) -> Result<OwnedFd, OpenError> {
    let socket = Socket::open().map_err(OpenError::Socket)?;
    let config = Config {
        copy: lane.copy.min(nfqueue::COPY_WHOLE),
        max_len: MAX_LEN,
        flags: if lane.gso { FLAG_GSO } else { 0 }
            | if lane.ct_mark { FLAG_CONNTRACK } else { 0 }
            | if lane.fail_open { FLAG_FAIL_OPEN } else { 0 },
    };
    socket.bind(lane.queue, config).map_err(|source| OpenError::Bind { queue: lane.queue, source })?;
    socket.descriptor().map_err(OpenError::Socket)
}

impl Playback {
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
        Self(Batches { transport, waiting: 0, journal: Journal::alone(&[]), ..self.0 })
    }

    /// How many bytes of verdicts, packets sent back included, have been sent.
    pub fn sent(&self) -> u64 {
        self.0.transport.sent
    }
}

impl PacketQueue for Netlink {
    fn turn(&mut self, decide: &mut dyn FnMut(&Packet<'_>) -> PacketVerdict) -> io::Result<Turn> {
        self.0.turn(decide)
    }
}

impl PacketQueue for Playback {
    fn turn(&mut self, decide: &mut dyn FnMut(&Packet<'_>) -> PacketVerdict) -> io::Result<Turn> {
        self.0.turn(decide)
    }
}

impl<T: Transport> Batches<T> {
    fn new(transport: T, lanes: &[QueueConfig]) -> Self {
        Self::with(transport, Journal::alone(lanes), Batch::new(SLOTS))
    }

    /// With a batch that is there already: making one takes milliseconds, in which packets would wait for a new worker.
    fn with(transport: T, journal: Journal, batch: Batch) -> Self {
        Self {
            transport,
            batch,
            pending: std::array::from_fn(|_| Pending {
                head: Head::new(),
                queue: None,
                slot: 0,
                payload: 0..0,
            }),
            waiting: 0,
            orphans: vec![Orphans::None; journal.queues().len()],
            beginning: journal.queues().len(),
            journal,
            pauses: Pauses::short(),
        }
    }

    /// The same after somebody who may have left packets behind.
    fn after_somebody(mut self) -> Self {
        self.orphans.fill(Orphans::Maybe);
        self.beginning = 0;
        self
    }

    /// Waits for packets. Before the first time, what somebody before us had in hand is sent into the queues again: of each queue all
    /// that was read from its socket, as far as that was written down; then what its first packet shows, or that there is none.
    fn receive(&mut self) -> io::Result<usize> {
        while let Some(orphans) = self.orphans.get(self.beginning) {
            let place = self.beginning;
            if *orphans == Orphans::Maybe {
                if let Some((left, up_to)) = self.journal.of(place).left_behind() {
                    self.repeat(place, up_to)?;
                    self.journal.repeated(place, left);
                }
                match self.transport.receive_of(place, &mut self.batch) {
                    // Nothing is in the socket: whatever waits in the kernel was read. The packets that come from now on are new ones.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.repeat(place, self.journal.of(place).all_that_waits())?;
                        self.orphans[place] = Orphans::SentBack;
                    }
                    received => return received,
                }
            }
            self.beginning += 1;
        }
        self.transport.receive(&mut self.batch)
    }

    /// Sends the packets of a queue through the rules again, up to a number.
    fn repeat(&mut self, place: usize, up_to: u32) -> io::Result<()> {
        let Some(queue) = self.journal.queues().get(place) else { return Ok(()) };
        let message = nfqueue::repeat(*queue, up_to);
        let mut pauses = Pauses::short();
        loop {
            match self.transport.send_to(place, &[IoSlice::new(&message)]) {
                Err(error) if passing::is_passing(&error) && !pauses.are_enough() => {
                    passing::tell("send packets into the queue again", &error);
                    sys::nap(pauses.next());
                }
                outcome => return outcome,
            }
        }
    }

    /// A packet came: how many before it did not. After somebody else the first one shows which packets he had read and did not
    /// answer.
    #[inline]
    fn came(&mut self, place: usize, id: u32) -> io::Result<u64> {
        let gap = self.journal.came(place, id);
        if gap == 0 && self.orphans[place] == Orphans::None {
            return Ok(0);
        }
        self.after_a_gap(place, id, gap)
    }

    #[cold]
    fn after_a_gap(&mut self, place: usize, id: u32, gap: u64) -> io::Result<u64> {
        match self.orphans[place].gap(id, gap) {
            Gap::Lost(packets) => {
                self.journal.lost(place, packets);
                return Ok(packets);
            }
            // What was lost at the socket meanwhile is among them; the kernel's own count tells how many.
            Gap::Orphans(packets) => self.journal.repeated(place, packets),
            Gap::SendBack(packets, up_to) => {
                self.repeat(place, up_to)?;
                self.journal.repeated(place, packets);
            }
        }
        Ok(0)
    }

    /// Sends what is pending.
    fn flush(&mut self, turn: &mut Turn) -> io::Result<()> {
        if self.waiting == 0 {
            return Ok(());
        }
        // For all of them together, until one goes well: those that come after them wait, too.
        let (mut pauses, mut pauses_of_drops) = (Pauses::short(), Pauses::short());
        if !self.deliver(0..self.waiting, &mut pauses, turn)? {
            // One by one. A packet that cannot be sent back even so is dropped by a verdict that needs no room, because
            // unchanged it must not go on, and without a verdict it would stay in the kernel.
            for place in 0..self.waiting {
                if self.deliver(place..place + 1, &mut pauses, turn)? {
                    continue;
                }
                turn.refused += 1;
                let pending = &mut self.pending[place];
                let (queue, id) = pending.head.packet();
                pending.head.fill(queue, id, Verdict::Drop, Changes::default());
                pending.payload = 0..0;
                if !self.deliver(place..place + 1, &mut pauses_of_drops, turn)? {
                    // It waits on in the kernel.
                    self.pending[place].queue = None;
                }
            }
        }
        for pending in &self.pending[..self.waiting] {
            if let Some(queue) = pending.queue {
                self.journal.answered(queue);
            }
        }
        self.waiting = 0;
        Ok(())
    }

    /// Sends some of the pending verdicts as one datagram, again if what keeps it from that passes. False if that did not
    /// pass in time, or if less at once is more likely to go.
    fn deliver(&mut self, which: Range<usize>, pauses: &mut Pauses, turn: &mut Turn) -> io::Result<bool> {
        loop {
            let Err(error) = self.send(which.clone()) else {
                pauses.reset();
                return Ok(true);
            };
            if error.raw_os_error() == Some(libc::EMSGSIZE) {
                return Ok(false);
            }
            if !passing::is_passing(&error) {
                return Err(error);
            }
            turn.again += 1;
            passing::tell("send verdicts", &error);
            // The kernel wants memory in one piece for all of it.
            let too_much =
                matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS)) && which.len() > 1;
            if too_much || pauses.are_enough() {
                return Ok(false);
            }
            sys::nap(pauses.next());
        }
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

    fn turn(&mut self, decide: &mut dyn FnMut(&Packet<'_>) -> PacketVerdict) -> io::Result<Turn> {
        let mut turn = Turn::default();
        let count = match self.receive() {
            Ok(count) => count,
            Err(error) => return passed(&error, "receive packets", &mut self.pauses).ok_or(error),
        };
        self.pauses.reset();
        let mut envelope = Envelope::default();
        let mut to_send = 0;
        for slot in 0..count {
            let datagram = self.batch.datagram(slot);
            match nfqueue::read(datagram, &mut envelope) {
                Ok(Message::Packet(payload)) => {
                    turn.packets += 1;
                    let queue = self.journal.place(envelope.queue);
                    if let Some(place) = queue {
                        turn.lost += self.came(place, envelope.id)?;
                    }
                    self.journal.take_in_hand(slot);
                    let bytes = self.batch.bytes_mut(slot, payload.clone());
                    let Some(pending) = self.pending.get_mut(self.waiting) else { break };
                    (pending.queue, pending.slot) = (queue, slot);
                    pending.payload = write_verdict(&envelope, payload, bytes, decide, &mut pending.head);
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
        self.journal.put_down();
        self.flush(&mut turn)?;
        Ok(turn)
    }
}

/// Asks for the decision about a packet, changes the packet where it lies, and writes its verdict; tells what is to be sent back.
#[inline]
fn write_verdict(
    envelope: &Envelope,
    payload: Range<usize>,
    bytes: &mut [u8],
    decide: &mut dyn FnMut(&Packet<'_>) -> PacketVerdict,
    head: &mut Head,
) -> Range<usize> {
    let PacketVerdict { verdict, mark, ct_mark, patch } = decide(&Packet { envelope, bytes });
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

    fn rewrite(packet: &Packet<'_>) -> PacketVerdict {
        let view = View::parse(packet.bytes, packet.original_len()).unwrap();
        let rewrite = Rewrite::outer(Side::Destination, [10, 5, 5, 201].into());
        let patch = Patch::new(packet.bytes, &view, rewrite, packet.envelope.checksum).ok();
        PacketVerdict { verdict: Verdict::Accept, mark: Some(Mark(1)), ct_mark: None, patch }
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
        let recording = Playback::new(packets).0.transport;
        Batches::new(Kept { recording, sent: Vec::new(), refuse_over }, &[])
    }

    #[test]
    fn a_batch_goes_back_in_one_piece_whatever_the_lengths() {
        let packets: Vec<Waiting> = [0, 1, 2, 3, 4, 5, 999, 1472].map(waiting).to_vec();
        let mut queue = kept(&packets, usize::MAX);
        // Every third is only accepted, so that heads with and without packets follow each other.
        let mut decide = |packet: &Packet<'_>| match packet.envelope.id % 3 {
            0 => PacketVerdict { verdict: Verdict::Drop, mark: None, ct_mark: None, patch: None },
            _ => rewrite(packet),
        };
        assert_eq!(queue.turn(&mut decide).unwrap().packets, 8);
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

    /// What may pass.
    const PASSING: [i32; 6] =
        [libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS, libc::EINTR, libc::EMFILE, libc::ENFILE];
    /// What does not.
    const LASTING: [i32; 5] = [libc::EBADF, libc::EPERM, libc::ENOTSOCK, libc::ECONNREFUSED, libc::EINVAL];

    /// Says whether a call fails, and how: by its number, and by the datagram that is to be sent, if it sends.
    type Fault = Box<dyn FnMut(usize, Option<&[u8]>) -> Option<i32> + Send>;

    /// Fails as it is told to, and keeps what is sent.
    struct Faulty {
        recording: Recording,
        sent: Vec<Vec<u8>>,
        /// Calls that received, and calls that sent.
        calls: [usize; 2],
        fault: Fault,
    }

    impl Faulty {
        fn call(&mut self, datagram: Option<&[u8]>) -> io::Result<()> {
            let number = &mut self.calls[usize::from(datagram.is_some())];
            *number += 1;
            match (self.fault)(*number, datagram) {
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Ok(()),
            }
        }
    }

    impl Transport for Faulty {
        fn receive(&mut self, batch: &mut Batch) -> io::Result<usize> {
            self.call(None)?;
            self.recording.receive(batch)
        }

        fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
            let datagram: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            self.call(Some(&datagram))?;
            self.sent.push(datagram);
            Ok(())
        }
    }

    fn faulty(
        packets: &[Waiting],
        fault: impl FnMut(usize, Option<&[u8]>) -> Option<i32> + Send + 'static,
    ) -> Batches<Faulty> {
        let recording = Playback::new(packets).0.transport;
        let faulty = Faulty { recording, sent: Vec::new(), calls: [0; 2], fault: Box::new(fault) };
        Batches::new(faulty, &[])
    }

    impl Batches<Faulty> {
        fn verdicts(&self) -> Vec<(u32, u32)> {
            let sent = self.transport.sent.iter().flat_map(|sent| verdicts(sent));
            sent.map(|(id, verdict, _)| (id, verdict)).collect()
        }
    }

    #[test]
    fn what_keeps_packets_from_being_received_passes_or_ends_the_worker() {
        for errno in PASSING {
            let fails = move |call, sent: Option<&[u8]>| (sent.is_none() && call <= 4).then_some(errno);
            let mut queue = faulty(&[waiting(1)], fails);
            let mut again = 0;
            let began = std::time::Instant::now();
            let turn = loop {
                let turn = queue.turn(&mut rewrite).unwrap();
                again += turn.again;
                if turn.packets > 0 {
                    break turn;
                }
            };
            // An interruption is a wake-up, and no error.
            let (errors, pauses) = if errno == libc::EINTR { (0, 2 + 4 + 8) } else { (4, 1 + 2 + 4 + 8) };
            assert_eq!((turn.packets, again, queue.transport.calls[0]), (1, errors, 5), "errno {errno}");
            assert!(began.elapsed().as_millis() >= pauses, "it pauses, and longer each time");
        }
        for errno in LASTING {
            let mut queue = faulty(&[waiting(1)], move |_, _| Some(errno));
            assert_eq!(queue.turn(&mut rewrite).unwrap_err().raw_os_error(), Some(errno));
            assert_eq!(queue.transport.calls, [1, 0]);
        }
    }

    #[test]
    fn verdicts_that_cannot_be_sent_for_a_moment_are_sent_after_it() {
        let packets = [waiting(10), waiting(20), waiting(30)];
        for errno in PASSING {
            let fails = move |call, sent: Option<&[u8]>| (sent.is_some() && call <= 5).then_some(errno);
            let mut queue = faulty(&packets, fails);
            let turn = queue.turn(&mut rewrite).unwrap();
            assert_eq!((turn.packets, turn.refused, turn.again), (3, 0, 5), "errno {errno}");
            assert_eq!(queue.verdicts(), [(1, 1), (2, 1), (3, 1)], "each once, and as it was decided");
        }
        for errno in LASTING {
            let mut queue = faulty(&packets, move |_, sent| sent.map(|_| errno));
            assert_eq!(queue.turn(&mut rewrite).unwrap_err().raw_os_error(), Some(errno));
            assert_eq!(queue.transport.calls, [1, 1]);
        }
    }

    #[test]
    fn what_fails_every_other_time_loses_no_verdict() {
        let packets: Vec<Waiting> = (0..SLOTS).map(waiting).collect();
        for errno in PASSING {
            let mut queue = faulty(&packets, move |call, sent| sent.and((call % 2 == 1).then_some(errno)));
            assert_eq!(queue.turn(&mut rewrite).unwrap().refused, 0, "errno {errno}");
            assert!(queue.verdicts().into_iter().eq((1..).take(SLOTS).map(|id| (id, 1))));
        }
    }

    #[test]
    fn what_there_is_never_memory_for_is_dropped_also_if_that_takes_several_tries() {
        let packets = [waiting(10), waiting(1400), waiting(20)];
        for errno in [libc::ENOMEM, libc::ENOBUFS] {
            let mut drops = 0;
            let fails = move |_, sent: Option<&[u8]>| {
                let sent = sent?;
                let drop = sent.len() == 32;
                drops += u32::from(drop);
                (sent.len() > 600 || drop && drops <= 3).then_some(errno)
            };
            let mut queue = faulty(&packets, fails);
            let turn = queue.turn(&mut rewrite).unwrap();
            assert_eq!((turn.packets, turn.refused), (3, 1));
            assert_eq!(queue.verdicts(), [(1, 1), (2, 0), (3, 1)]);
        }
    }

    #[test]
    fn where_nothing_can_be_sent_a_turn_ends_all_the_same_and_the_next_may_go() {
        std::thread::scope(|scope| {
            for errno in PASSING {
                scope.spawn(move || {
                    let mut on = true;
                    let fails = move |call, sent: Option<&[u8]>| match sent {
                        None => {
                            on = call == 1;
                            None
                        }
                        Some(_) => on.then_some(errno),
                    };
                    let mut queue = faulty(&[waiting(10), waiting(20)], fails);
                    let began = std::time::Instant::now();
                    let turn = queue.turn(&mut rewrite).unwrap();
                    assert_eq!((turn.packets, turn.refused), (2, 2), "errno {errno}");
                    assert!(began.elapsed().as_secs() < 5 && turn.again < 50, "{turn:?}");
                    assert!(queue.transport.sent.is_empty());
                    assert_eq!(queue.turn(&mut rewrite).unwrap().refused, 0);
                    assert_eq!(queue.verdicts(), [(1, 1), (2, 1)]);
                });
            }
        });
    }

    #[test]
    fn a_worker_that_waits_for_better_times_is_woken() {
        use std::sync::atomic::{AtomicBool, Ordering};
        sys::allow_waking().unwrap();
        for sending in [false, true] {
            let ending = Arc::new(AtomicBool::new(false));
            let until = Arc::clone(&ending);
            let worker = std::thread::spawn(move || {
                let fails = move |_, sent: Option<&[u8]>| (sent.is_some() == sending).then_some(libc::ENOMEM);
                let mut queue = faulty(&[waiting(1)], fails);
                while !until.load(Ordering::Relaxed) {
                    queue.turn(&mut rewrite).unwrap();
                }
            });
            // By then its pauses are long.
            std::thread::sleep(std::time::Duration::from_millis(300));
            ending.store(true, Ordering::Relaxed);
            let woken = std::time::Instant::now();
            while !worker.is_finished() {
                sys::wake(&worker);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert!(woken.elapsed().as_millis() < 500, "{:?}", woken.elapsed());
            worker.join().unwrap();
        }
    }

    /// A datagram of the kernel for a packet of queue 100.
    fn of_queue(id: u32) -> Vec<u8> {
        let mut datagram = Vec::new();
        let described = Envelope { queue: 100, id, ..Envelope::default() };
        nfqueue::put_packet(&mut datagram, &described, &waiting(1).bytes);
        datagram
    }

    const LANE: QueueConfig =
        QueueConfig { queue: 100, gso: false, ct_mark: false, copy: 128, fail_open: false };

    /// The type of a message, its verdict and number.
    fn messages(sent: &[Vec<u8>]) -> Vec<(u16, u32, u32)> {
        let mut messages = Vec::new();
        for sent in sent {
            let mut at = 0;
            while at < sent.len() {
                let len = u32::from_ne_bytes(sent[at..at + 4].try_into().unwrap()) as usize;
                let number =
                    |from: usize| u32::from_be_bytes(sent[at + from..at + from + 4].try_into().unwrap());
                let kind = u16::from_ne_bytes(sent[at + 4..at + 6].try_into().unwrap());
                messages.push((kind & 0xff, number(24), number(28)));
                at += padded(len);
            }
        }
        messages
    }

    /// The one before read packets up to 4, and answered two of them.
    fn left_behind() -> Journal {
        let journal = Journal::alone(&[LANE]);
        (1..=4).for_each(|id| assert_eq!(journal.came(0, id), 0));
        (1..=2).for_each(|_| journal.answered(0));
        journal
    }

    const REPEAT: u32 = 4;

    #[test]
    fn what_somebody_before_had_in_hand_goes_through_the_rules_again_before_the_next_packet_is_answered() {
        // He had read 5 and 6, too, and could not say so any more.
        let recording = Recording { datagrams: vec![of_queue(7), of_queue(8)], sent: 0 };
        let transport = Kept { recording, sent: Vec::new(), refuse_over: usize::MAX };
        let mut queue = Batches::with(transport, left_behind(), Batch::new(SLOTS)).after_somebody();
        assert_eq!(queue.turn(&mut rewrite).unwrap(), Turn { packets: 2, ..Turn::default() });
        let sent = messages(&queue.transport.sent);
        assert_eq!(sent, [(3, REPEAT, 4), (3, REPEAT, 6), (1, 1, 7), (1, 1, 8)]);
        let of = queue.journal.of(0);
        assert_eq!((of.last, of.answered, of.lost, of.orphans), (8, 4, 0, 4));
        // From now on a gap is a loss, and nothing is repeated.
        queue.transport.recording.datagrams = vec![of_queue(11)];
        queue.transport.sent.clear();
        assert_eq!(queue.turn(&mut rewrite).unwrap().lost, 2);
        assert_eq!(messages(&queue.transport.sent), [(1, 1, 11)]);
        assert_eq!(queue.journal.of(0).lost, 2);
    }

    #[test]
    fn in_a_quiet_queue_all_that_waits_goes_through_the_rules_again() {
        let transport =
            |call: usize, sent: Option<&[u8]>| (sent.is_none() && call == 1).then_some(libc::EAGAIN);
        let faulty = Faulty {
            recording: Recording { datagrams: vec![of_queue(5)], sent: 0 },
            sent: Vec::new(),
            calls: [0; 2],
            fault: Box::new(transport),
        };
        let mut queue = Batches::with(faulty, left_behind(), Batch::new(SLOTS)).after_somebody();
        assert_eq!(queue.turn(&mut rewrite).unwrap().packets, 1);
        let sent = messages(&queue.transport.sent);
        assert_eq!(sent, [(3, REPEAT, 4), (3, REPEAT, 4 + (1 << 30)), (1, 1, 5)]);
        let of = queue.journal.of(0);
        assert_eq!((of.last, of.answered, of.lost, of.orphans), (5, 3, 0, 2));
    }

    /// Lanes with a socket each: what is in it, and what was sent to it.
    struct Several {
        sockets: Vec<Vec<Vec<u8>>>,
        sent: Vec<(usize, Vec<u8>)>,
        current: usize,
    }

    impl Transport for Several {
        fn receive(&mut self, batch: &mut Batch) -> io::Result<usize> {
            let place = self.sockets.iter().position(|socket| !socket.is_empty());
            self.receive_of(place.ok_or(io::ErrorKind::Interrupted)?, batch)
        }

        fn receive_of(&mut self, lane: usize, batch: &mut Batch) -> io::Result<usize> {
            self.current = lane;
            let count = self.sockets[lane].len().min(batch.slots());
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.sockets[lane].drain(..count).enumerate().for_each(|(slot, it)| batch.fill(slot, &it));
            Ok(count)
        }

        fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
            self.send_to(self.current, parts)
        }

        fn send_to(&mut self, lane: usize, parts: &[IoSlice<'_>]) -> io::Result<()> {
            self.sent.push((lane, parts.iter().flat_map(|part| part.iter().copied()).collect()));
            Ok(())
        }
    }

    #[test]
    fn each_lane_begins_by_itself_and_is_answered_by_its_own_socket() {
        let lanes = [100, 101, 102].map(|queue| QueueConfig { queue, ..LANE });
        let journal = Journal::alone(&lanes);
        for place in 0..3 {
            (1..=4).for_each(|id| assert_eq!(journal.came(place, id), 0));
            (1..=2).for_each(|_| journal.answered(place));
        }
        let packet = |queue, id| {
            let mut datagram = Vec::new();
            let described = Envelope { queue, id, ..Envelope::default() };
            nfqueue::put_packet(&mut datagram, &described, &waiting(1).bytes);
            datagram
        };
        // The first has more than a batch, the second nothing, the third a packet.
        let busy = (5..105).map(|id| packet(100, id)).collect();
        let sockets = vec![busy, Vec::new(), vec![packet(102, 7)]];
        let transport = Several { sockets, sent: Vec::new(), current: 0 };
        let mut queue = Batches::with(transport, journal, Batch::new(SLOTS)).after_somebody();
        let mut served = Vec::new();
        for _ in 0..3 {
            queue
                .turn(&mut |packet| {
                    served.push(packet.envelope.queue);
                    rewrite(packet)
                })
                .unwrap();
        }
        served.dedup();
        assert_eq!(served, [100, 102, 100], "none waits for the others to be quiet");
        let repeats: Vec<(usize, u32, u32)> = queue
            .transport
            .sent
            .iter()
            .flat_map(|(lane, sent)| messages(std::slice::from_ref(sent)).into_iter().map(|it| (*lane, it)))
            .filter(|(_, (kind, ..))| *kind == 3)
            .map(|(lane, (_, verdict, up_to))| (lane, verdict, up_to))
            .collect();
        let quiet = 4 + (1 << 30);
        let repeat = |lane, up_to| (lane, REPEAT, up_to);
        assert_eq!(
            repeats,
            [repeat(0, 4), repeat(0, 4), repeat(1, 4), repeat(1, quiet), repeat(2, 4), repeat(2, 6)]
        );
        assert!(
            queue
                .transport
                .sent
                .iter()
                .all(|(lane, sent)| sent[18..20] == (100 + *lane as u16).to_be_bytes())
        );
        let orphans: Vec<u64> = (0..3).map(|place| queue.journal.of(place).orphans).collect();
        assert_eq!(orphans, [2, 2, 4]);
    }

    #[test]
    fn the_packet_in_hand_is_there_for_others() {
        let lanes = [LANE];
        let at = 8 * Journal::words(1);
        let memory = Arc::new(Shared::for_others(at + BATCH_BYTES).unwrap());
        let journal = Journal::within(Arc::clone(&memory), 0, &lanes);
        let recording = Recording { datagrams: vec![of_queue(1), of_queue(2)], sent: 0 };
        let batch = Batch::within(Arc::clone(&memory), at, SLOTS);
        let mut queue = Batches::with(recording, journal, batch);
        let mut seen = Vec::new();
        queue
            .turn(&mut |packet| {
                let slot = Journal::within(Arc::clone(&memory), 0, &lanes).in_hand().unwrap();
                let (queue, id, bytes) = in_hand(&memory, at, slot).unwrap();
                assert_eq!(bytes, packet.bytes);
                seen.push((queue, id));
                PacketVerdict { verdict: Verdict::Accept, mark: None, ct_mark: None, patch: None }
            })
            .unwrap();
        assert_eq!(seen, [(100, 1), (100, 2)]);
        assert_eq!(queue.journal.in_hand(), None);
    }

    #[test]
    fn refusals_and_gaps_and_nonsense_are_counted() {
        let mut refused = 36u32.to_ne_bytes().to_vec();
        refused.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        refused.extend_from_slice(&(-libc::ENOENT).to_ne_bytes());
        refused.resize(36, 0);
        let mut nobody_waits = refused.clone();
        nobody_waits[8..12].copy_from_slice(&nfqueue::repeat(100, 1)[8..12]);
        let datagrams = vec![of_queue(1), of_queue(5), vec![1, 2, 3], refused, nobody_waits, of_queue(6)];
        let mut queue = Batches::new(Recording { datagrams, sent: 0 }, &[LANE]);
        let turn = queue.turn(&mut rewrite).unwrap();
        assert_eq!(turn, Turn { packets: 3, malformed: 1, refused: 1, lost: 3, again: 0 });
    }

    #[test]
    fn a_cut_packet_is_never_sent_back() {
        let mut datagram = Vec::new();
        let described = Envelope { id: 1, cut_from: Some(9000), ..Envelope::default() };
        nfqueue::put_packet(&mut datagram, &described, &waiting(100).bytes);
        let mut queue = Playback::of_datagrams(vec![datagram]);
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
            let mut queue = Playback::of_datagrams(datagrams.collect());
            let mut accept = |_: &Packet<'_>| PacketVerdict { verdict: Verdict::Accept, mark: None, ct_mark: None, patch: None };
            let turn = queue.turn(&mut accept).unwrap();
            prop_assert!(turn.packets + turn.malformed <= count);
        }
    }
}
