//! The messages of nf_tables, as far as rules have to be read, and written where nft's language has no word for them
//! (include/uapi/linux/netfilter/nf_tables.h).
//!
//! Changes go in batches: the kernel does all of a batch or nothing of it (net/netfilter/nfnetlink.c,
//! `nfnetlink_rcv_batch()`).

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::attribute::{Attributes, NESTED, be32, be64, put_padded};
use super::message::{self, Message};
use super::socket::Socket;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const DEL_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DEL_RULE: u16 = 8;
const NEW_GENERATION: u16 = 15;
const NEW_OBJECT: u16 = 18;
const GET_OBJECT: u16 = 19;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_USERDATA: u16 = 6;
const TABLE_OWNER: u16 = 7;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const COUNTER_PACKETS: u16 = 2;
/// `NFT_OBJECT_COUNTER`
const COUNTER: u32 = 1;
const GENERATION_PROCESS: u16 = 2;
const GENERATION_NAME: u16 = 3;

/// The table belongs to the socket that made it: nobody else changes it, and it goes when the socket is closed. Since Linux
/// 5.12 (`NFT_TABLE_F_OWNER`).
pub(crate) const OWNED: u32 = 2;
/// An owned table stays when the socket is closed, and another may take it over. Since Linux 6.9 (`NFT_TABLE_F_PERSIST`).
pub(crate) const PERSISTS: u32 = 4;

/// The families of nf_tables that we use (`NFPROTO_*`, include/uapi/linux/netfilter.h).
pub(crate) const FAMILIES: [(u8, &str); 6] =
    [(1, "inet"), (2, "ip"), (3, "arp"), (5, "netdev"), (7, "bridge"), (10, "ip6")];

/// The number of a family by its name in rules.
pub(crate) fn family(name: &str) -> u8 {
    FAMILIES.iter().find(|(_, known)| *known == name).map_or(0, |(number, _)| *number)
}

/// The name in rules of a family.
pub(crate) fn family_name(number: u8) -> &'static str {
    FAMILIES.iter().find(|(known, _)| *known == number).map_or("?", |(_, name)| name)
}

/// A table that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) family: u8,
    pub(crate) name: String,
    /// What nft shows as its comment.
    pub(crate) comment: Option<String>,
    /// The port id of the socket that owns it, which mostly is the id of a process.
    pub(crate) owner: Option<u32>,
}

/// A chain that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// Of a base chain: the number of its hook, and its priority.
    pub(crate) hook: Option<(u32, i32)>,
}

/// A rule that the kernel has, by where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) handle: u64,
}

/// What somebody has just done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Something in that table changed.
    Changed { family: u8, table: String },
    /// What was told before was done by that process.
    By { process: u32, name: String },
}

/// Several changes that are made together.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// The sequence numbers of the first message and of the next.
    first: u32,
    next: u32,
    /// Where in the bytes the last change begins.
    last: usize,
}

/// Sequence numbers that no other request has: what is still said about an earlier one is known for that.
fn sequence() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    const ROOM: u32 = 1 << 16;
    NEXT.fetch_add(ROOM, Ordering::Relaxed)
}

/// Where a base chain is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// `filter` and the like.
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let first = sequence();
        let mut batch = Self { bytes: Vec::new(), first, next: first, last: 0 };
        batch.marker(BATCH_BEGIN);
        batch
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.last == 0
    }

    fn marker(&mut self, kind: u16) {
        // The resource id is the subsystem that the batch is for.
        message::put(&mut self.bytes, kind, NLM_F_REQUEST, self.next, (0, SUBSYSTEM), &[]);
        self.next += 1;
    }

    /// Asks for an answer to the last change; its sequence number. To ask for one to each would fill the socket, and what finds no
    /// room is lost. What is refused is answered anyway.
    fn acknowledged(&mut self) -> u32 {
        if let Some(flags) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            let asked = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
            flags.copy_from_slice(&asked.to_ne_bytes());
        }
        self.next - 1
    }

    fn add(&mut self, kind: u16, flags: u16, family: u8, attributes: &[u8]) {
        self.last = self.bytes.len();
        let flags = NLM_F_REQUEST | flags;
        message::put(&mut self.bytes, SUBSYSTEM << 8 | kind, flags, self.next, (family, 0), attributes);
        self.next += 1;
    }

    /// A table, unless there is one of that name with these flags.
    pub(crate) fn table(&mut self, family: u8, name: &str, flags: u32, comment: &str) {
        let mut out = Vec::new();
        put_text(&mut out, TABLE_NAME, name);
        put_padded(&mut out, TABLE_FLAGS, &flags.to_be_bytes());
        put_padded(&mut out, TABLE_USERDATA, &comment_data(comment));
        self.add(NEW_TABLE, NLM_F_CREATE, family, &out);
    }

    /// The table goes, with all that is in it.
    pub(crate) fn delete_table(&mut self, family: u8, name: &str) {
        let mut out = Vec::new();
        put_text(&mut out, TABLE_NAME, name);
        self.add(DEL_TABLE, 0, family, &out);
    }

    /// A chain, unless there is one of that name.
    pub(crate) fn chain(&mut self, family: u8, table: &str, name: &str, hook: Option<Hook>) {
        let mut out = Vec::new();
        put_text(&mut out, CHAIN_TABLE, table);
        put_text(&mut out, CHAIN_NAME, name);
        if let Some(Hook { kind, number, priority }) = hook {
            let mut place = Vec::new();
            put_padded(&mut place, HOOK_NUMBER, &number.to_be_bytes());
            put_padded(&mut place, HOOK_PRIORITY, &priority.to_be_bytes());
            put_padded(&mut out, CHAIN_HOOK | NESTED, &place);
            put_text(&mut out, CHAIN_TYPE, kind);
            const ACCEPT: u32 = 1;
            put_padded(&mut out, CHAIN_POLICY, &ACCEPT.to_be_bytes());
        }
        self.add(NEW_CHAIN, NLM_F_CREATE, family, &out);
    }

    /// The chain goes. It has to be empty, and no rule may lead to it.
    pub(crate) fn delete_chain(&mut self, family: u8, table: &str, name: &str) {
        let mut out = Vec::new();
        put_text(&mut out, CHAIN_TABLE, table);
        put_text(&mut out, CHAIN_NAME, name);
        self.add(DEL_CHAIN, 0, family, &out);
    }

    /// All rules of a chain go; the chain stays.
    pub(crate) fn flush_chain(&mut self, family: u8, table: &str, chain: &str) {
        let mut out = Vec::new();
        put_text(&mut out, RULE_TABLE, table);
        put_text(&mut out, RULE_CHAIN, chain);
        self.add(DEL_RULE, 0, family, &out);
    }

    /// A rule at the end of a chain, made of expressions.
    pub(crate) fn rule(&mut self, family: u8, table: &str, chain: &str, expressions: &[u8]) {
        let mut out = Vec::new();
        put_text(&mut out, RULE_TABLE, table);
        put_text(&mut out, RULE_CHAIN, chain);
        put_padded(&mut out, RULE_EXPRESSIONS | NESTED, expressions);
        self.add(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, family, &out);
    }

    /// A counter with a name, unless there is one.
    pub(crate) fn counter(&mut self, family: u8, table: &str, name: &str) {
        let mut out = Vec::new();
        put_text(&mut out, OBJECT_TABLE, table);
        put_text(&mut out, OBJECT_NAME, name);
        put_padded(&mut out, OBJECT_TYPE, &COUNTER.to_be_bytes());
        put_padded(&mut out, OBJECT_DATA | NESTED, &[]);
        self.add(NEW_OBJECT, NLM_F_CREATE, family, &out);
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

    /// Everything of a kind, of all families and tables, each given to `take` with its family and attributes.
    fn dump(&self, kind: u16, mut take: impl FnMut(u8, Attributes<'_>)) -> io::Result<()> {
        let (mut request, number) = (Vec::new(), sequence());
        message::put(&mut request, SUBSYSTEM << 8 | kind, NLM_F_REQUEST | NLM_F_DUMP, number, (0, 0), &[]);
        self.socket.send_one(&request)?;
        let mut answer = vec![0; 64 << 10];
        loop {
            let len = self.receive(&mut answer)?;
            for message in message::all(&answer[..len]) {
                match message {
                    Message::Answer { sequence, .. } if sequence != number => {}
                    Message::Answer { errno: 0, .. } | Message::Done => return Ok(()),
                    Message::Answer { errno, .. } => return Err(io::Error::from_raw_os_error(errno)),
                    Message::Netfilter { family, attributes, .. } => take(family, attributes),
                }
            }
        }
    }

    /// Reads again if somebody changed something meanwhile.
    fn dump_whole<T>(&self, kind: u16, read: impl Fn(u8, Attributes<'_>) -> Option<T>) -> io::Result<Vec<T>> {
        const ATTEMPTS: u32 = 100;
        for _ in 1..ATTEMPTS {
            let mut all = Vec::new();
            match self.dump(kind, |family, attributes| all.extend(read(family, attributes))) {
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

    /// The counters with names of the tables that `wanted` selects by family and name: table, name, packets.
    pub(crate) fn counters(
        &self,
        wanted: impl Fn(u8, &str) -> bool,
    ) -> io::Result<Vec<(String, String, u64)>> {
        self.dump_whole(GET_OBJECT, |family, attributes| {
            let (mut table, mut name, mut packets) = (String::new(), String::new(), None);
            for (kind, value) in attributes {
                match kind {
                    OBJECT_TABLE => table = text(value),
                    OBJECT_NAME => name = text(value),
                    OBJECT_DATA => {
                        let of = Attributes::new(value).find(|(kind, _)| *kind == COUNTER_PACKETS);
                        packets = of.and_then(|(_, value)| be64(value));
                    }
                    _ => {}
                }
            }
            let packets = packets.filter(|_| wanted(family, &table))?;
            Some((table, name, packets))
        })
    }
}

/// Told of every change of rules from now on.
pub(crate) struct Changes {
    socket: Socket,
}

impl Changes {
    pub(crate) fn watch() -> io::Result<Self> {
        /// `NFNLGRP_NFTABLES`
        const GROUP: i32 = 7;
        let socket = Socket::small()?;
        socket.join(GROUP)?;
        Ok(Self { socket })
    }

    /// Waits for changes.
    pub(crate) fn next(&self) -> io::Result<Vec<Event>> {
        let mut buffer = vec![0; 64 << 10];
        let len = self.socket.receive_one(&mut buffer)?;
        Ok(message::all(&buffer[..len]).filter_map(event).collect())
    }
}

fn event(message: Message<'_>) -> Option<Event> {
    let Message::Netfilter { kind, family, attributes } = message else { return None };
    if kind >> 8 != SUBSYSTEM {
        return None;
    }
    if kind & 0xff == NEW_GENERATION {
        let (mut process, mut name) = (0, String::new());
        for (kind, value) in attributes {
            match kind {
                GENERATION_PROCESS => process = be32(value)?,
                GENERATION_NAME => name = text(value),
                _ => {}
            }
        }
        return Some(Event::By { process, name });
    }
    // Tables, chains, rules, sets and objects all have the name of their table as their first attribute.
    let table = attributes.into_iter().find(|(kind, _)| *kind == TABLE_NAME).map(|(_, value)| text(value))?;
    Some(Event::Changed { family, table })
}

/// A text as attributes have it, with a closing zero.
pub(crate) fn put_text(out: &mut Vec<u8>, kind: u16, text: &str) {
    put_padded(out, kind, &[text.as_bytes(), &[0]].concat());
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// What nft makes of a comment (libnftnl, include/udata.h: type, length, value; the comment of a table has type 0).
fn comment_data(comment: &str) -> Vec<u8> {
    let comment = &comment.as_bytes()[..comment.len().min(254)];
    [&[0, comment.len() as u8 + 1], comment, &[0]].concat()
}

fn read_comment(mut data: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *kind == 0 {
            return Some(text(value));
        }
        data = &rest[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_read_as_it_was_written() {
        assert_eq!(read_comment(&comment_data("dunnat node1")).as_deref(), Some("dunnat node1"));
        // Behind something else, and cut.
        assert_eq!(read_comment(&[7, 1, 9, 0, 3, b'a', b'b', 0]).as_deref(), Some("ab"));
        assert_eq!(read_comment(&[0, 200, b'a']), None);
        assert_eq!(read_comment(&[0]), None);
        assert_eq!(comment_data(&"x".repeat(400)).len(), 257);
    }

    #[test]
    fn a_batch_is_a_beginning_and_its_changes() {
        let mut batch = Batch::new();
        assert!(batch.is_empty());
        batch.table(family("ip"), "t", OWNED, "c");
        batch.delete_chain(family("ip"), "t", "c");
        assert!(!batch.is_empty());
        let kinds: Vec<u16> = message::all(&batch.bytes)
            .map(|message| match message {
                Message::Netfilter { kind, .. } => kind,
                _ => 0,
            })
            .collect();
        assert_eq!(kinds, [BATCH_BEGIN, 0x0a00, 0x0a05]);
    }

    proptest::proptest! {
        #[test]
        fn any_message_and_any_comment_come_to_an_end(
            kind in 0u16..30,
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            let mut datagram = Vec::new();
            message::put(&mut datagram, SUBSYSTEM << 8 | kind, 0, 0, (2, 0), &body);
            proptest::prop_assert!(message::all(&datagram).filter_map(event).count() <= 1);
            let _ = read_comment(&body);
        }
    }

    #[test]
    fn families_have_names() {
        for (number, name) in FAMILIES {
            assert_eq!((family(name), family_name(number)), (number, name));
        }
        assert_eq!(family_name(99), "?");
    }
}
