//! What keeper and worker say to each other: messages of JSON, each with the descriptors that it speaks of.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::control::Trace;
use crate::kernel::Capabilities;
use crate::sandbox::Refused;
use crate::trace::Counted;

/// How long a message may be, in bytes. A filter is the longest thing in one.
const LONGEST: usize = 80 << 10;
/// How many descriptors go with one datagram (`SCM_MAX_FD`, include/net/scm.h).
const DESCRIPTORS: usize = 253;
/// A datagram that is no message, and has descriptors of the one that follows: a node with many workers has more queues than that.
const MORE_FOLLOWS: &[u8] = b" ";

/// What a keeper says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorker {
    /// Begin. With it come: the text of the cluster file, the memory, and the socket of each queue.
    Begin(Begin),
    /// Only try whether you could begin, and say so. With it comes the same as with [`Begin`](Self::Begin).
    Try(Begin),
    /// Serve the queues of one more generation, too. With it come the same as with [`Begin`](Self::Begin).
    Also(Also),
    /// Serve the queues of that generation no longer: no packet comes to them any more.
    Leave(u64),
    /// Serve a client that wants to see decisions; with it comes its stream.
    Follow {
        /// What it wants.
        trace: Trace,
        /// It was served before, by somebody who is gone.
        resumed: bool,
    },
    /// Tell those who see decisions what the kernel has carried.
    Carried(Vec<Counted>),
    /// End: no packet comes any more.
    End,
    /// End: another worker goes on with the packets, and with the clients.
    HandOn,
}

/// What a worker has to know beside what is in its arguments.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) kernel: Capabilities,
    pub(super) first: Also,
}

/// The queues of a generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Also {
    pub(super) place: Place,
    /// Somebody served these queues before.
    pub(super) has_predecessor: bool,
}

/// What a generation has otherwise than a worker's arguments and the cluster file say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) generation: u64,
    /// Its first queue.
    pub(super) first: u16,
    /// How many threads serve it.
    pub(super) workers: u16,
    /// Tags of the file before: the number, and the place of its node in this file.
    pub(super) former: Vec<(u32, u32)>,
    /// While flows have such tags, a flow keeps the tag that it has.
    pub(super) keeps_tags: bool,
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    /// It serves.
    Ready,
    /// It cannot begin, for this reason.
    Cannot(String),
    /// It serves that generation, too.
    Serves(u64),
    /// It cannot serve that generation, for this reason.
    CannotServe(u64, String),
    /// It serves that generation no longer.
    Left(u64),
    /// It cannot go on, and another one could not either.
    Failed(String),
    /// Its threads have tried these system calls since it last said so, and may not.
    Refused(Vec<Refused>),
    /// It has ended as it was asked to.
    Ended(Ended),
}

/// What came of a worker's trace.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ended {
    /// Events that could not be written, and why.
    pub(super) unwritten: Option<(u64, String)>,
    /// Calls that failed for a reason that passed.
    pub(super) again: u64,
}

/// One end.
#[derive(Debug)]
pub(super) struct Wire(OwnedFd);

impl Wire {
    /// Both ends: messages come whole, and in order.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(own), other))
    }

    /// The end that a process was started with as its standard input.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn of_standard_input() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        match rustix::net::sockopt::socket_type(&input) {
            Ok(SocketType::SEQPACKET) => Ok(Self(input)),
            _ => Err(io::Error::other("standard input is not from a keeper")),
        }
    }

    /// Sends a message. Never waits: who does not read has stopped.
    pub(super) fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > LONGEST {
            return Err(io::Error::other("too much for one message"));
        }
        let last = descriptors.len().saturating_sub(1) / DESCRIPTORS * DESCRIPTORS;
        let (before, last) = descriptors.split_at(last);
        let sent = before.chunks(DESCRIPTORS).try_for_each(|some| self.send_datagram(MORE_FOLLOWS, some));
        let sent = sent.and_then(|()| self.send_datagram(&bytes, last));
        if sent.is_err() && !before.is_empty() {
            // What was sent already would be taken for a part of the next message.
            let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
        }
        sent
    }

    fn send_datagram(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, flags)?;
        Ok(())
    }

    /// Waits for a message; none if the other end is gone.
    pub(super) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut descriptors = Vec::new();
        loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut bytes)];
            let received = match recvmsg(&self.0, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(error) if error == rustix::io::Errno::INTR => continue,
                Err(error) if error == rustix::io::Errno::CONNRESET => return Ok(None),
                outcome => outcome?,
            };
            if received.bytes == 0 {
                return Ok(None);
            }
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            let message = bytes.get(..received.bytes).unwrap_or_default();
            if message != MORE_FOLLOWS {
                return Ok(Some((serde_json::from_slice(message)?, descriptors)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    #[test]
    fn messages_come_whole_with_their_descriptors() {
        let (keeper, worker) = Wire::pair().unwrap();
        let worker = Wire(worker);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"the cluster file").unwrap();
        file.rewind().unwrap();
        let trace = Trace { filter: Some("verdict drop".to_owned()), ..Trace::default() };
        keeper.send(&ToWorker::Follow { trace, resumed: true }, &[file.as_fd(), file.as_fd()]).unwrap();
        keeper.send(&ToWorker::End, &[]).unwrap();
        let (message, mut descriptors) = worker.receive::<ToWorker>().unwrap().unwrap();
        let ToWorker::Follow { trace, resumed: true } = message else { panic!("{message:?}") };
        assert_eq!(trace.filter.as_deref(), Some("verdict drop"));
        assert_eq!(descriptors.len(), 2);
        let mut text = String::new();
        File::from(descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "the cluster file");
        assert!(matches!(worker.receive().unwrap(), Some((ToWorker::End, none)) if none.is_empty()));
        drop(keeper);
        assert!(worker.receive::<ToWorker>().unwrap().is_none());
    }

    #[test]
    fn a_message_has_as_many_descriptors_as_it_takes() {
        let (keeper, worker) = Wire::pair().unwrap();
        let worker = Wire(worker);
        let file = tempfile::tempfile().unwrap();
        for count in [0, 1, DESCRIPTORS, DESCRIPTORS + 1, 2 * DESCRIPTORS, 400] {
            keeper.send(&ToWorker::Leave(count as u64), &vec![file.as_fd(); count]).unwrap();
            keeper.send(&ToWorker::End, &[]).unwrap();
            let (message, descriptors) = worker.receive::<ToWorker>().unwrap().unwrap();
            assert!(matches!(message, ToWorker::Leave(of) if of == count as u64));
            assert_eq!(descriptors.len(), count);
            assert!(matches!(worker.receive().unwrap(), Some((ToWorker::End, none)) if none.is_empty()));
        }
        // What was begun and cannot be ended is the last that the other one hears.
        while keeper.send(&ToWorker::End, &[]).is_ok() {}
        worker.receive::<ToWorker>().unwrap();
        let outcome = (0..).find_map(|_| keeper.send(&ToWorker::End, &vec![file.as_fd(); 600]).err());
        assert_eq!(outcome.unwrap().kind(), io::ErrorKind::WouldBlock);
        while worker.receive::<ToWorker>().unwrap().is_some() {}
    }

    #[test]
    fn who_does_not_read_is_not_waited_for() {
        let (keeper, _worker) = Wire::pair().unwrap();
        let outcome = (0..100_000).find_map(|_| keeper.send(&ToWorker::End, &[]).err());
        assert_eq!(outcome.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
