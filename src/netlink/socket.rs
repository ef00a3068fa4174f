//! Where datagrams come from and go to: the socket of a worker, by libmnl, or a recording.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::net::{RecvFlags, SendFlags, SocketType, recv, send};

use super::nfqueue::{self, Config, Message};
use super::sys::{self, Batch};
use crate::net::Envelope;

/// Room in the kernel for packets on their way to us, in bytes of kernel memory; forced past net.core.rmem_max.
const RECEIVE_BUFFER: i32 = 32 << 20;

/// The largest datagram of verdicts that the kernel takes, in bytes; forced past net.core.wmem_max.
pub(crate) const SEND_BUFFER: i32 = 4 << 20;

/// Moves datagrams.
pub(crate) trait Transport: Send {
    /// Waits for one datagram at least, takes as many as are there and fit, and says how many.
    fn receive(&mut self, batch: &mut Batch) -> io::Result<usize>;

    /// The same of the lane at that place, without waiting: the error is `WouldBlock` if none is there.
    fn receive_of(&mut self, _lane: usize, batch: &mut Batch) -> io::Result<usize> {
        self.receive(batch)
    }

    /// Sends one datagram, gathered from its parts, to the lane that was received from.
    fn send(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<()>;

    /// The same to the lane at that place.
    fn send_to(&mut self, _lane: usize, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        self.send(parts)
    }
}

/// A netlink socket.
pub(crate) struct Socket {
    socket: Opened,
}

/// Who has opened it.
enum Opened {
    Here(sys::Owned<mnl::Socket>),
    /// The program that was this process before, or somebody who kept it.
    Before(OwnedFd),
}

impl AsRawFd for Opened {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Here(socket) => socket.get().as_raw_fd(),
            Self::Before(socket) => socket.as_raw_fd(),
        }
    }
}

impl Socket {
    /// One for packets in bulk, with large buffers.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Self::small()?;
        let fd = socket.socket.as_raw_fd();
        buffer(fd, (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), RECEIVE_BUFFER)?;
        buffer(fd, (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF), SEND_BUFFER)?;
        Ok(socket)
    }

    /// One that takes no more memory than any other, for which a user namespace's rights are enough.
    pub(crate) fn small() -> io::Result<Self> {
        Self::on(mnl::Bus::Netfilter)
    }

    /// One of rtnetlink.
    pub(crate) fn of_routes() -> io::Result<Self> {
        Self::on(mnl::Bus::Route)
    }

    fn on(bus: mnl::Bus) -> io::Result<Self> {
        let socket = mnl::Socket::new(bus)?;
        let fd = socket.as_raw_fd();
        sys::close_on_exec(fd)?;
        // Without NO_ENOBUFS one overrun stops all delivery until the buffer is empty; the loss shows as a gap in
        // the packets' numbers. With CAP_ACK an error does not bring the whole refused message back.
        sys::set_option(fd, libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 1)?;
        sys::set_option(fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        Ok(Self { socket: Opened::Here(sys::Owned::new(socket)) })
    }

    /// One that was opened before, as [`small`](Self::small) does. Answers that nobody has read are passed over.
    pub(crate) fn opened_before(socket: OwnedFd) -> io::Result<Self> {
        let mut bytes = [0; 1 << 10];
        // The kernel goes on with a list when what there is of it was read, so this goes to its end.
        while let Ok(1..) =
            recv(&socket, &mut bytes, RecvFlags::DONTWAIT | RecvFlags::TRUNC).map(|(_, len)| len)
        {}
        match rustix::net::sockopt::socket_type(&socket) {
            Ok(SocketType::RAW) => Ok(Self { socket: Opened::Before(socket) }),
            _ => Err(io::Error::other("this is no netlink socket")),
        }
    }

    /// The same socket by another descriptor.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        sys::duplicate(self.socket.as_raw_fd())
    }

    /// Whoever receives waits no longer than that, and then gets the error `WouldBlock`.
    pub(crate) fn limit_waiting(&self, limit: Duration) -> io::Result<()> {
        sys::limit_waiting(self.socket.as_raw_fd(), limit)
    }

    /// Whoever receives gets the error `WouldBlock` if nothing is there.
    pub(crate) fn never_wait(&self) -> io::Result<()> {
        sys::never_wait(self.socket.as_raw_fd())
    }

    /// Gets what the kernel tells all who are in that group (`NFNLGRP_*`), with room for a storm of it.
    pub(crate) fn join(&self, group: i32) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        buffer(fd, (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), 4 << 20)?;
        // Here a loss must not go unnoticed.
        sys::set_option(fd, libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 0)?;
        sys::set_option(fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Sends one datagram.
    pub(crate) fn send_one(&self, bytes: &[u8]) -> io::Result<()> {
        match self.send_as_it_is(bytes) {
            // Longer than what a socket may have on its way (`netlink_sendmsg()` in net/netlink/af_netlink.c): rules of thousands of services.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                let room = i32::try_from(bytes.len()).map_err(|_| error)?;
                buffer(self.socket.as_raw_fd(), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF), room)?;
                self.send_as_it_is(bytes)
            }
            sent => sent,
        }
    }

    fn send_as_it_is(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.socket {
            Opened::Here(socket) => socket.get().send(bytes).map(|_| ()),
            Opened::Before(socket) => send(socket, bytes, SendFlags::empty()).map(|_| ()).map_err(Into::into),
        }
    }

    /// Waits for one datagram; it is cut if it does not fit.
    pub(crate) fn receive_one(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match &self.socket {
            Opened::Here(socket) => socket.get().recv_raw(bytes),
            Opened::Before(socket) => {
                let (_, len) = recv(socket, &mut *bytes, RecvFlags::TRUNC)?;
                // As libmnl says it.
                if len > bytes.len() { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(len) }
            }
        }
    }

    /// Takes a queue and waits for the kernel's answer. No rule may fill a queue of this socket yet: a packet that
    /// came before the answer would be lost here.
    pub(crate) fn bind(&self, queue: u16, config: Config) -> io::Result<()> {
        let mut message = Vec::new();
        nfqueue::put_bind(&mut message, queue, config);
        self.ask(&message)
    }

    /// Sends a message that wants an acknowledgement, and waits for it.
    pub(crate) fn ask(&self, message: &[u8]) -> io::Result<()> {
        match &self.socket {
            Opened::Here(socket) => ask(socket.get(), message),
            Opened::Before(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Asks for a large buffer. In a user namespace of its own nobody may have more than the machine gives to everybody
/// (`net.core.rmem_max`, `wmem_max`; net/core/sock.c, `sk_setsockopt()`): then that is what there is.
fn buffer(fd: RawFd, (forced, usual): (i32, i32), bytes: i32) -> io::Result<()> {
    match sys::set_option(fd, libc::SOL_SOCKET, forced, bytes) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            log::debug!(
                "no right to socket buffers of {bytes} bytes: using the largest size that this machine \
                 allows everybody"
            );
            sys::set_option(fd, libc::SOL_SOCKET, usual, bytes)
        }
        other => other,
    }
}

/// The acknowledgement is netlink's own, the same for all its families.
fn ask(socket: &mnl::Socket, message: &[u8]) -> io::Result<()> {
    socket.send(message)?;
    let mut answer = [0u64; 512];
    let bytes = sys::as_bytes(&mut answer);
    loop {
        let len = socket.recv_raw(bytes)?;
        match nfqueue::read(&bytes[..len], &mut Envelope::default()) {
            Ok(Message::Answer(0)) => return Ok(()),
            Ok(Message::Answer(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            _ => {}
        }
    }
}

/// Sets the loopback interface of this thread's network namespace up (rtnetlink(7), `RTM_NEWLINK`).
pub(crate) fn set_loopback_up() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    /// Every network namespace begins with it.
    const LOOPBACK: i32 = 1;
    let up = libc::IFF_UP as u32;
    let mut message = Vec::new();
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    // Sequence number, port id; then struct ifinfomsg: family and type unspecified, index, flags, which of them.
    message.extend_from_slice(&[0; 12]);
    message.extend_from_slice(&LOOPBACK.to_ne_bytes());
    message.extend_from_slice(&up.to_ne_bytes());
    message.extend_from_slice(&up.to_ne_bytes());
    ask(&mnl::Socket::new(mnl::Bus::Route)?, &message)
}

/// The netlink sockets of some lanes by their descriptors, wherever those were opened: queues belong to a socket, and not to a process.
///
/// Each lane has a socket of its own, so that its packets do not stand behind those of another. They are read in turn, a batch of each
/// that has packets. While several have some, batches are small, and after each round it is asked which have any: so a packet waits for
/// a small batch of each other lane at the most. A lane that is alone is read in large batches, and the others are asked seldom.
pub(crate) struct Lanes {
    sockets: Vec<Arc<OwnedFd>>,
    /// Of each socket whether it has something to read, by its place: what asking costs does not grow with the sockets.
    watch: OwnedFd,
    /// Which may have packets.
    ready: Vec<bool>,
    /// The one that was received from.
    current: usize,
    /// How many batches may be read before it is asked again which have packets.
    left: usize,
    /// How often in a row it was asked, and no more than one had any.
    alone: u32,
}

/// How many packets a batch has at the most while several lanes have packets.
const SMALL: usize = 32;
/// So often in a row only one lane has packets before it counts as alone.
const ALONE: u32 = 256;
/// How many batches of a lane that is alone are read before the others are asked. So it costs a system call more in so many batches.
const BATCHES: usize = 8;
/// How many lanes that have packets are told at once; if more have some, the rest are told the next time (epoll(7)).
const AT_ONCE: usize = 16;

impl Lanes {
    /// In the order of the lanes.
    pub(crate) fn new(sockets: Vec<Arc<OwnedFd>>) -> io::Result<Self> {
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (socket, place) in sockets.iter().zip(0..) {
            epoll::add(&watch, socket, epoll::EventData::new_u64(place), epoll::EventFlags::IN)?;
        }
        let ready = vec![false; sockets.len()];
        Ok(Self { sockets, watch, ready, current: 0, left: 0, alone: 0 })
    }

    /// Asks which have packets, and how many do. Waits until one has, if that is wanted. One that has an error counts, too: whoever
    /// reads gets it.
    fn ask(&mut self, waits: bool) -> io::Result<usize> {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut room = [MaybeUninit::uninit(); AT_ONCE];
        let (said, _) = epoll::wait(&self.watch, &mut room, (!waits).then_some(&NOW))?;
        self.ready.fill(false);
        for socket in &*said {
            let place = usize::try_from(socket.data.u64()).ok();
            if let Some(ready) = place.and_then(|place| self.ready.get_mut(place)) {
                *ready = true;
            }
        }
        Ok(said.len())
    }

    /// The next after the last one that may have packets.
    fn next(&self) -> Option<usize> {
        let (before, after) = self.ready.split_at((self.current + 1).min(self.ready.len()));
        let place = after.iter().position(|ready| *ready).map(|place| before.len() + place);
        place.or_else(|| before.iter().position(|ready| *ready))
    }

    fn is_alone(&self) -> bool {
        self.alone >= ALONE
    }

    fn socket(&self, lane: usize) -> io::Result<RawFd> {
        self.sockets.get(lane).map(|socket| socket.as_raw_fd()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Transport for Lanes {
    fn receive(&mut self, batch: &mut Batch) -> io::Result<usize> {
        loop {
            let next = self.next();
            let Some(place) = next.filter(|_| self.left > 0) else {
                let count = self.ask(next.is_none())?;
                self.alone = if count > 1 { 0 } else { self.alone.saturating_add(1) };
                self.left = if self.is_alone() { BATCHES } else { count };
                continue;
            };
            match self.receive_of(place, batch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => {
                    self.left -= 1;
                    return received;
                }
            }
        }
    }

    fn receive_of(&mut self, lane: usize, batch: &mut Batch) -> io::Result<usize> {
        self.current = lane;
        let most = if self.is_alone() { batch.slots() } else { batch.slots().min(SMALL) };
        let received = batch.receive_now(self.socket(lane)?, most);
        if let Some(ready) = self.ready.get_mut(lane) {
            // If there was room for more, nothing is left.
            *ready = received.as_ref().is_ok_and(|count| *count == most);
        }
        received
    }

    fn send(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        self.send_to(self.current, parts)
    }

    fn send_to(&mut self, lane: usize, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        sys::send_gathered(self.socket(lane)?, parts)
    }
}

/// Datagrams as the kernel might have sent them, handed out again and again; what is sent is counted.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) datagrams: Vec<Vec<u8>>,
    pub(crate) sent: u64,
}

impl Transport for Recording {
    fn receive(&mut self, batch: &mut Batch) -> io::Result<usize> {
        let count = self.datagrams.len().min(batch.slots());
        for (slot, datagram) in self.datagrams.iter().take(count).enumerate() {
            batch.fill(slot, datagram);
        }
        Ok(count)
    }

    fn send(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        self.sent += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// Lanes, and where to put packets into each; batches of so many.
    fn lanes(count: usize, slots: usize) -> (Lanes, Vec<UnixDatagram>, Batch) {
        let (ours, theirs) =
            (0..count).map(|_| UnixDatagram::pair().unwrap()).unzip::<_, _, Vec<_>, Vec<_>>();
        let lanes = Lanes::new(ours.into_iter().map(|it| Arc::new(it.into())).collect()).unwrap();
        theirs.iter().for_each(|it| it.set_nonblocking(true).unwrap());
        (lanes, theirs, Batch::new(slots))
    }

    /// Which lanes the next batches are of, by what is in them.
    fn order(lanes: &mut Lanes, batch: &mut Batch, count: usize) -> Vec<(u8, usize)> {
        let mut next = || {
            let count = lanes.receive(batch).unwrap();
            (batch.datagram(0)[0], count)
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_lane_never_waits_for_more_than_a_few_batches_of_another() {
        let (mut lanes, put, mut batch) = lanes(3, 4);
        // As many as find room.
        let more = |lane: u8, count: u32| (0..count).for_each(|_| drop(put[usize::from(lane)].send(&[lane])));
        // The other lane gets a packet after so many batches of this one, which has always more.
        for (after, at_the_most) in
            [(0, 1), (1, 1), (2, 1), (3, 1), (9, 1), (ALONE as usize + 9, BATCHES), (1, 1)]
        {
            for _ in 0..after {
                more(1, 8);
                assert_eq!(order(&mut lanes, &mut batch, 1), [(1, 4)]);
            }
            more(2, 1);
            let waits = (0..).position(|_| {
                more(1, 8);
                order(&mut lanes, &mut batch, 1) == [(2, 1)]
            });
            assert!(waits.unwrap() <= at_the_most, "{waits:?} after {after}");
        }
    }

    #[test]
    fn lanes_that_have_packets_are_read_in_turn() {
        let (mut lanes, put, mut batch) = lanes(3, 4);
        (0..3).for_each(|lane: u8| (0..9).for_each(|_| drop(put[usize::from(lane)].send(&[lane]))));
        let order = order(&mut lanes, &mut batch, 9);
        assert_eq!(order, [(1, 4), (2, 4), (0, 4), (1, 4), (2, 4), (0, 4), (1, 1), (2, 1), (0, 1)]);
        // It waits until there are more.
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            put[1].send(&[1]).unwrap();
            put
        });
        assert_eq!(lanes.receive(&mut batch).unwrap(), 1);
        let put = late.join().unwrap();
        assert_eq!(lanes.receive_of(0, &mut batch).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(lanes.receive_of(7, &mut batch).is_err());
        lanes.send_to(2, &[io::IoSlice::new(b"to"), io::IoSlice::new(b"gether")]).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(put[2].recv(&mut bytes).unwrap(), 8);
    }
}
