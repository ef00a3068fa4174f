//! The messages of nf_tables, as far as rules have to be read, and written where nft's language has no word for them
//! (include/uapi/linux/netfilter/nf_tables.h).
//!
//! Changes go in batches: the kernel does all of a batch or nothing of it (net/netfilter/nfnetlink.c,
//! `nfnetlink_rcv_batch()`).

mod batch;
mod changes;
mod family;
mod numbers;
mod texts;
mod traces;

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use crate::netlink::attribute::{Attributes, be32, be64};
use crate::netlink::message::{self, Message};
use crate::netlink::socket::Socket;
pub(crate) use batch::{Batch, Hook};
use batch::{sequence, set_attributes};
pub(crate) use changes::{Changes, Event};
pub(crate) use family::{family, family_name};
pub(crate) use numbers::{ACCEPT, OWNED, PERSISTS};
use numbers::{
    BATCH_END, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, COUNTER_BYTES, COUNTER_PACKETS, DORMANT,
    ELEMENT_EXPRESSION, ELEMENT_KEY, ELEMENTS, EXPRESSION_DATA, EXPRESSION_NAME, GET_CHAIN, GET_ELEMENTS,
    GET_OBJECT, GET_RULE, GET_TABLE, HOOK_NUMBER, HOOK_PRIORITY, NLM_F_DUMP, NLM_F_REQUEST, OBJECT_DATA,
    OBJECT_NAME, OBJECT_TABLE, RULE_CHAIN, RULE_HANDLE, RULE_TABLE, SUBSYSTEM, TABLE_FLAGS, TABLE_NAME,
    TABLE_OWNER, TABLE_USERDATA, VALUE,
};
pub(crate) use texts::put_text;
use texts::{read_comment, text};
#[cfg(test)]
pub(crate) use traces::trace_message;
pub(crate) use traces::{Met, Then, Traced, Traces, read as read_traces};

/// A table that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) family: u8,
    pub(crate) name: String,
    /// What nft shows as its comment.
    pub(crate) comment: Option<String>,
    /// The port id of the socket that owns it, which mostly is the id of a process.
    pub(crate) owner: Option<u32>,
    /// None of its chains is at its hook.
    pub(crate) is_dormant: bool,
    /// It stays when its owner goes.
    pub(crate) persists: bool,
}

/// A chain that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// Of a base chain: the number of its hook, and its priority.
    pub(crate) hook: Option<(u32, i32)>,
    /// Of a base chain: the verdict (`NF_*`) for what comes to its end.
    pub(crate) policy: Option<u32>,
}

impl Table {
    /// How nft names it.
    pub(crate) fn place(&self) -> String {
        format!("{} {}", family_name(self.family), self.name)
    }
}

impl Chain {
    /// Whether it is one of that table.
    pub(crate) fn is_of(&self, table: &Table) -> bool {
        (self.family, &self.table) == (table.family, &table.name)
    }
}

/// A rule that the kernel has, by where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) handle: u64,
}

/// The attribute of that kind.
fn within<'a>(mut attributes: Attributes<'a>, wanted: u16) -> Option<&'a [u8]> {
    attributes.find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// What a counter says: packets and bytes.
pub(crate) type Count = (u64, u64);

/// Reads a counter.
fn counter(data: &[u8]) -> Option<(u64, u64)> {
    let number = |wanted| within(Attributes::new(data), wanted).and_then(be64);
    Some((number(COUNTER_PACKETS)?, number(COUNTER_BYTES)?))
}

/// The key of an element, and what its counter says.
fn counted_element(element: &[u8]) -> Option<(Vec<u8>, (u64, u64))> {
    let key = within(Attributes::new(element), ELEMENT_KEY)?;
    let key = within(Attributes::new(key), VALUE)?;
    let expression = within(Attributes::new(element), ELEMENT_EXPRESSION)?;
    let name = within(Attributes::new(expression), EXPRESSION_NAME)?;
    let data = within(Attributes::new(expression), EXPRESSION_DATA)?;
    (text(name) == "counter").then(|| counter(data)).flatten().map(|count| (key.to_vec(), count))
}

/// What is to be listed.
#[derive(Clone, Copy)]
struct Asked<'a> {
    kind: u16,
    /// 0 for all.
    family: u8,
    /// Attributes that say of what.
    about: &'a [u8],
}

/// A list that comes in several datagrams.
struct Listing {
    /// The request's sequence number.
    number: u32,
    is_interrupted: bool,
}

impl Listing {
    /// Takes what is in a datagram, and says how the list has ended when it has. It is read to its end also where it is of no use: before that
    /// the kernel makes no other one.
    fn take(
        &mut self,
        datagram: &[u8],
        mut take: impl FnMut(u8, Attributes<'_>),
    ) -> ControlFlow<io::Result<()>> {
        self.is_interrupted |= message::is_interrupted(datagram);
        for message in message::all(datagram) {
            match message {
                Message::Answer { sequence, .. } if sequence != self.number => {}
                Message::Answer { errno, .. } | Message::Done { errno } => {
                    return ControlFlow::Break(match (errno, self.is_interrupted) {
                        (0, false) => Ok(()),
                        (0, true) => Err(io::Error::from_raw_os_error(libc::EINTR)),
                        (errno, _) => Err(io::Error::from_raw_os_error(errno)),
                    });
                }
                Message::Netfilter { family, attributes, .. } => take(family, attributes),
            }
        }
        ControlFlow::Continue(())
    }
}

impl From<u16> for Asked<'_> {
    /// All of a kind.
    fn from(kind: u16) -> Self {
        Self { kind, family: 0, about: &[] }
    }
}

/// A connection to nf_tables. Tables that are owned by it go when it does.
pub(crate) struct Nftables {
    socket: Socket,
}

impl Nftables {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::small()?;
        // Should an answer be lost, that is said, and nobody waits for ever.
        socket.limit_waiting(std::time::Duration::from_secs(30))?;
        Ok(Self { socket })
    }

    /// One that was opened before, and may own tables.
    pub(crate) fn opened_before(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: Socket::opened_before(socket)? })
    }

    /// The same connection by another descriptor: what it owns stays as long as one of them.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.socket.descriptor()
    }

    /// Makes all changes of a batch, or none of them.
    pub(crate) fn commit(&self, mut batch: Batch) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let last = batch.acknowledged();
        batch.marker(BATCH_END);
        self.send(&batch, last)
    }

    /// Has the kernel look at a batch as if it were to be made, and makes nothing of it.
    pub(crate) fn try_out(&self, mut batch: Batch) -> io::Result<()> {
        // Without an end it is taken back.
        let last = batch.acknowledged();
        self.send(&batch, last)
    }

    /// Sends a batch and waits for the first refusal, or the answer to its last change.
    fn send(&self, batch: &Batch, last: u32) -> io::Result<()> {
        self.socket.send_one(&batch.bytes)?;
        let mut answer = vec![0; 32 << 10];
        loop {
            let len = self.receive(&mut answer)?;
            for message in message::all(&answer[..len]) {
                match message {
                    // Of an earlier batch.
                    Message::Answer { sequence, .. } if !(batch.first..batch.next).contains(&sequence) => {}
                    Message::Answer { errno, .. } if errno != 0 => {
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    Message::Answer { sequence, .. } if sequence == last => return Ok(()),
                    _ => {}
                }
            }
        }
    }

    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.receive_one(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Everything that is asked for, each given to `take` with its family and attributes.
    fn dump(&self, asked: Asked<'_>, mut take: impl FnMut(u8, Attributes<'_>)) -> io::Result<()> {
        let (mut request, number) = (Vec::new(), sequence());
        let Asked { kind, family, about } = asked;
        message::put(
            &mut request,
            SUBSYSTEM << 8 | kind,
            NLM_F_REQUEST | NLM_F_DUMP,
            number,
            (family, 0),
            about,
        );
        self.socket.send_one(&request)?;
        let mut listing = Listing { number, is_interrupted: false };
        let mut answer = vec![0; 64 << 10];
        loop {
            let len = self.receive(&mut answer)?;
            if let ControlFlow::Break(ended) = listing.take(&answer[..len], &mut take) {
                return ended;
            }
        }
    }

    /// Reads again if somebody changed something meanwhile.
    fn dump_whole<'a, T>(
        &self,
        asked: impl Into<Asked<'a>>,
        read: impl Fn(u8, Attributes<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let asked = asked.into();
        const ATTEMPTS: u32 = 100;
        for _ in 1..ATTEMPTS {
            let mut all = Vec::new();
            match self.dump(asked, |family, attributes| all.extend(read(family, attributes))) {
                Ok(()) => return Ok(all),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINTR))
    }

    /// All tables.
    pub(crate) fn tables(&self) -> io::Result<Vec<Table>> {
        self.dump_whole(GET_TABLE, |family, attributes| {
            let mut table = Table { family, ..Table::default() };
            for (kind, value) in attributes {
                match kind {
                    TABLE_NAME => table.name = text(value),
                    TABLE_USERDATA => table.comment = read_comment(value),
                    TABLE_OWNER => table.owner = be32(value),
                    TABLE_FLAGS => {
                        let flags = be32(value).unwrap_or_default();
                        table.is_dormant = flags & DORMANT != 0;
                        table.persists = flags & PERSISTS != 0;
                    }
                    _ => {}
                }
            }
            Some(table)
        })
    }

    /// The chains of the tables that `wanted` selects by family and name.
    pub(crate) fn chains(&self, wanted: impl Fn(u8, &str) -> bool) -> io::Result<Vec<Chain>> {
        self.dump_whole(GET_CHAIN, |family, attributes| {
            let mut chain = Chain { family, ..Chain::default() };
            for (kind, value) in attributes {
                match kind {
                    CHAIN_TABLE => chain.table = text(value),
                    CHAIN_NAME => chain.name = text(value),
                    CHAIN_POLICY => chain.policy = be32(value),
                    CHAIN_HOOK => {
                        let number = |wanted| {
                            Attributes::new(value).find(|(kind, _)| *kind == wanted).and_then(|it| be32(it.1))
                        };
                        let priority = number(HOOK_PRIORITY).unwrap_or(0).cast_signed();
                        chain.hook = number(HOOK_NUMBER).map(|hook| (hook, priority));
                    }
                    _ => {}
                }
            }
            wanted(family, &chain.table).then_some(chain)
        })
    }

    /// The rules of the tables that `wanted` selects by family and name, in the order of their chains.
    pub(crate) fn rules(&self, wanted: impl Fn(u8, &str) -> bool) -> io::Result<Vec<Rule>> {
        self.dump_whole(GET_RULE, |family, attributes| {
            let mut rule = Rule { family, ..Rule::default() };
            for (kind, value) in attributes {
                match kind {
                    RULE_TABLE => rule.table = text(value),
                    RULE_CHAIN => rule.chain = text(value),
                    RULE_HANDLE => rule.handle = be64(value)?,
                    _ => {}
                }
            }
            wanted(family, &rule.table).then_some(rule)
        })
    }

    /// The keys of a set's elements.
    pub(crate) fn elements(&self, family: u8, table: &str, set: &str) -> io::Result<Vec<Vec<u8>>> {
        let about = set_attributes(table, set);
        let all = self.dump_whole(Asked { kind: GET_ELEMENTS, family, about: &about }, |_, attributes| {
            let list = Attributes::new(within(attributes, ELEMENTS)?);
            let key = |element| {
                let key = within(Attributes::new(element), ELEMENT_KEY)?;
                within(Attributes::new(key), VALUE).map(<[u8]>::to_vec)
            };
            Some(list.filter_map(|(_, element)| key(element)).collect::<Vec<_>>())
        })?;
        Ok(all.concat())
    }

    /// The keys of a set's elements, each with what its counter says: packets and bytes.
    pub(crate) fn counted_elements(
        &self,
        family: u8,
        table: &str,
        set: &str,
    ) -> io::Result<Vec<(Vec<u8>, Count)>> {
        let about = set_attributes(table, set);
        let all = self.dump_whole(Asked { kind: GET_ELEMENTS, family, about: &about }, |_, attributes| {
            let list = Attributes::new(within(attributes, ELEMENTS)?);
            Some(list.filter_map(|(_, element)| counted_element(element)).collect::<Vec<_>>())
        })?;
        Ok(all.concat())
    }

    /// The counters with names of the tables that `wanted` selects by family and name: table, name, packets and bytes.
    pub(crate) fn counters(
        &self,
        wanted: impl Fn(u8, &str) -> bool,
    ) -> io::Result<Vec<(String, String, Count)>> {
        self.dump_whole(GET_OBJECT, |family, attributes| {
            let (mut table, mut name, mut packets) = (String::new(), String::new(), None);
            for (kind, value) in attributes {
                match kind {
                    OBJECT_TABLE => table = text(value),
                    OBJECT_NAME => name = text(value),
                    OBJECT_DATA => {
                        packets = counter(value);
                    }
                    _ => {}
                }
            }
            let packets = packets.filter(|_| wanted(family, &table))?;
            Some((table, name, packets))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A datagram with a table's message of that sequence number, and the end of the list with an errno.
    fn datagram(flags: u16, number: u32, errno: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        message::put(&mut bytes, SUBSYSTEM << 8, flags, number, (2, 0), &[5, 0, 1, 0, b'd', 0, 0, 0]);
        bytes.extend_from_slice(&20u32.to_ne_bytes());
        bytes.extend_from_slice(&[3, 0, 2, 0]);
        bytes.extend_from_slice(&number.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(-errno).to_ne_bytes());
        bytes
    }

    /// The kernel goes on with a list that has been changed meanwhile, and only says so; nor is an error at its end an error message.
    #[test]
    fn a_list_that_was_interrupted_is_none() {
        let ended = |flags, errno| {
            let mut listing = Listing { number: 7, is_interrupted: false };
            let (mut tables, bytes) = (0, datagram(flags, 7, errno));
            let ControlFlow::Break(ended) = listing.take(&bytes, |_, _| tables += 1) else {
                panic!("no end")
            };
            assert_eq!(tables, 1);
            ended.map_err(|error| error.raw_os_error().unwrap())
        };
        assert_eq!(ended(2, 0), Ok(()));
        assert_eq!(ended(2 | 0x10, 0), Err(libc::EINTR));
        assert_eq!(ended(2, libc::ENOENT), Err(libc::ENOENT));
        assert_eq!(ended(2 | 0x10, libc::ENOENT), Err(libc::ENOENT));
    }

    /// It is said once, of any datagram, and the list is read to its end.
    #[test]
    fn that_a_list_was_interrupted_is_remembered() {
        let mut listing = Listing { number: 7, is_interrupted: false };
        let whole = datagram(2, 7, 0);
        let mut first = datagram(0x12, 7, 0);
        first.truncate(first.len() - 20);
        assert!(listing.take(&first, |_, _| {}).is_continue());
        let ControlFlow::Break(ended) = listing.take(&whole, |_, _| {}) else { panic!("no end") };
        assert_eq!(ended.unwrap_err().raw_os_error(), Some(libc::EINTR));
    }
}
