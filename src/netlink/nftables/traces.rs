//! What the kernel tells of packets that are traced (`meta nftrace set 1`), rule by rule (net/netfilter/nf_tables_trace.c).

use std::io;

use super::numbers::SUBSYSTEM;
use super::texts::text;
use crate::netlink::attribute::{Attributes, be32, be64};
use crate::netlink::message::{self, Message};
use crate::netlink::socket::Socket;

/// `NFT_MSG_TRACE`
const TRACE: u16 = 17;

// `NFTA_TRACE_*`
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const TYPE: u16 = 4;
const VERDICT: u16 = 5;
const ID: u16 = 6;
const NETWORK_HEADER: u16 = 8;
const TRANSPORT_HEADER: u16 = 9;
const IN: u16 = 10;
const OUT: u16 = 12;
const MARK: u16 = 14;
const POLICY: u16 = 16;
// `NFTA_VERDICT_*`
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// Told of every rule that a traced packet matches, in this network namespace.
pub(crate) struct Traces {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Traces {
    pub(crate) fn watch() -> io::Result<Self> {
        /// `NFNLGRP_NFTRACE`
        const GROUP: i32 = 9;
        let socket = Socket::small()?;
        socket.join(GROUP)?;
        socket.never_wait()?;
        Ok(Self { socket, buffer: vec![0; 16 << 10] })
    }

    /// What was told, or nothing if nothing was. Does not wait.
    ///
    /// # Errors
    /// The kernel had more to tell than there was room for (`ENOBUFS`), or the socket is broken.
    pub(crate) fn next(&mut self) -> io::Result<Vec<Traced>> {
        self.datagram().map(read)
    }

    /// The same as the kernel has sent it, empty if nothing was told.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(crate) fn datagram(&mut self) -> io::Result<&[u8]> {
        match self.socket.receive_one(&mut self.buffer) {
            Ok(len) => Ok(&self.buffer[..len]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(&[])
            }
            Err(error) => Err(error),
        }
    }
}

/// A traced packet has met a rule, or come to the end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traced {
    /// The packet's, as long as it is in the kernel.
    pub(crate) id: u32,
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) met: Met,
    pub(crate) then: Then,
    /// The packet mark; zero is not told.
    pub(crate) mark: u32,
    /// The interfaces that it came in by and leaves by, by their index, and the beginnings of its headers: of the first message
    /// alone of each base chain that it passes.
    pub(crate) by: [Option<u32>; 2],
    pub(crate) network: Vec<u8>,
    pub(crate) transport: Vec<u8>,
}

/// What a packet met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// A rule that it matched, by its handle.
    Rule(u64),
    /// The end of a chain, from which it goes back to where it came from.
    End,
    /// The policy of a base chain.
    Policy,
}

/// What becomes of it (include/uapi/linux/netfilter.h; nf_tables.h, `enum nft_verdicts`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Drop,
    Accept,
    Stolen,
    Queue(u16),
    Continue,
    Jump(String),
    Goto(String),
    Return,
    Other(i32),
}

impl Then {
    fn read(code: u32, chain: String) -> Self {
        match code.cast_signed() {
            -1 => Self::Continue,
            -3 => Self::Jump(chain),
            -4 => Self::Goto(chain),
            -5 => Self::Return,
            other if other < 0 => Self::Other(other),
            // The upper half of a verdict is the number of a queue, or the errno that a drop tells the sender.
            _ => match code & 0xff {
                0 => Self::Drop,
                1 => Self::Accept,
                2 => Self::Stolen,
                3 => Self::Queue((code >> 16) as u16),
                _ => Self::Other(code.cast_signed()),
            },
        }
    }
}

/// Reads a datagram of that group; what is not about traces is left out.
pub(crate) fn read(datagram: &[u8]) -> Vec<Traced> {
    message::all(datagram).filter_map(traced).collect()
}

fn traced(message: Message<'_>) -> Option<Traced> {
    let Message::Netfilter { kind, family, attributes } = message else { return None };
    if kind != SUBSYSTEM << 8 | TRACE {
        return None;
    }
    let mut it = Traced {
        id: 0,
        family,
        table: String::new(),
        chain: String::new(),
        met: Met::End,
        then: Then::Continue,
        mark: 0,
        by: [None; 2],
        network: Vec::new(),
        transport: Vec::new(),
    };
    let (mut kind, mut handle) = (0, 0);
    for (attribute, value) in attributes {
        match attribute {
            TABLE => it.table = text(value),
            CHAIN => it.chain = text(value),
            RULE_HANDLE => handle = be64(value)?,
            TYPE => kind = be32(value)?,
            ID => it.id = be32(value)?,
            NETWORK_HEADER => it.network = value.to_vec(),
            TRANSPORT_HEADER => it.transport = value.to_vec(),
            IN => it.by[0] = be32(value),
            OUT => it.by[1] = be32(value),
            MARK => it.mark = be32(value)?,
            POLICY => it.then = Then::read(be32(value)?, String::new()),
            VERDICT => {
                let (mut code, mut chain) = (None, String::new());
                for (attribute, value) in Attributes::new(value) {
                    match attribute {
                        VERDICT_CODE => code = be32(value),
                        VERDICT_CHAIN => chain = text(value),
                        _ => {}
                    }
                }
                it.then = Then::read(code?, chain);
            }
            _ => {}
        }
    }
    // `NFT_TRACETYPE_*`
    it.met = match kind {
        1 => Met::Policy,
        // A rule may say `return`. The end of a chain has no handle, by whatever way it is reached.
        2 | 3 if handle == 0 => Met::End,
        2 | 3 => Met::Rule(handle),
        _ => return None,
    };
    Some(it)
}

/// What the kernel would send, for tests.
#[cfg(test)]
pub(crate) fn trace_message(traced: &Traced) -> Vec<u8> {
    use super::texts::put_text;
    use crate::netlink::attribute::{NESTED, put_padded};
    let (code, chain) = match &traced.then {
        Then::Drop => (0, ""),
        Then::Accept => (1, ""),
        Then::Stolen => (2, ""),
        Then::Queue(number) => (i32::from(*number) << 16 | 3, ""),
        Then::Continue => (-1, ""),
        Then::Jump(chain) => (-3, chain.as_str()),
        Then::Goto(chain) => (-4, chain.as_str()),
        Then::Return => (-5, ""),
        Then::Other(code) => (*code, ""),
    };
    let mut verdict = Vec::new();
    put_padded(&mut verdict, VERDICT_CODE, &code.to_be_bytes());
    put_text(&mut verdict, VERDICT_CHAIN, chain);
    let (kind, handle) = match traced.met {
        Met::Policy => (1u32, 0),
        Met::End => (2, 0),
        Met::Rule(handle) => (3, handle),
    };
    let mut body = Vec::new();
    put_padded(&mut body, TYPE, &kind.to_be_bytes());
    put_padded(&mut body, ID, &traced.id.to_be_bytes());
    put_text(&mut body, TABLE, &traced.table);
    put_text(&mut body, CHAIN, &traced.chain);
    put_padded(&mut body, RULE_HANDLE, &handle.to_be_bytes());
    if kind == 1 {
        put_padded(&mut body, POLICY, &code.to_be_bytes());
    } else {
        put_padded(&mut body, VERDICT | NESTED, &verdict);
    }
    put_padded(&mut body, MARK, &traced.mark.to_be_bytes());
    for (kind, index) in [(IN, traced.by[0]), (OUT, traced.by[1])] {
        index.into_iter().for_each(|index| put_padded(&mut body, kind, &index.to_be_bytes()));
    }
    for (kind, header) in [(NETWORK_HEADER, &traced.network), (TRANSPORT_HEADER, &traced.transport)] {
        if !header.is_empty() {
            put_padded(&mut body, kind, header);
        }
    }
    let mut out = Vec::new();
    message::put(&mut out, SUBSYSTEM << 8 | TRACE, 0, 0, (traced.family, 0), &body);
    out
}

#[cfg(test)]
mod tests {
    use super::super::family::family;
    use super::super::texts::put_text;
    use super::*;
    use crate::netlink::attribute::{NESTED, put_padded};

    fn datagram(kind: u32, code: u32) -> Vec<u8> {
        let mut verdict = Vec::new();
        put_padded(&mut verdict, VERDICT_CODE, &code.to_be_bytes());
        put_text(&mut verdict, VERDICT_CHAIN, "next");
        let mut body = Vec::new();
        put_padded(&mut body, ID, &7u32.to_be_bytes());
        // The fourth is the second without a rule.
        put_padded(&mut body, TYPE, &if kind == 4 { 2u32 } else { kind }.to_be_bytes());
        if kind != 4 {
            put_padded(&mut body, RULE_HANDLE, &12u64.to_be_bytes());
        }
        put_text(&mut body, TABLE, "fw");
        put_text(&mut body, CHAIN, "forward");
        put_padded(&mut body, VERDICT | NESTED, &verdict);
        put_padded(&mut body, NETWORK_HEADER, &[0x45]);
        put_padded(&mut body, IN, &3u32.to_be_bytes());
        put_padded(&mut body, MARK, &2u32.to_be_bytes());
        let mut out = Vec::new();
        message::put(&mut out, SUBSYSTEM << 8 | TRACE, 0, 0, (family("inet"), 0), &body);
        out
    }

    #[test]
    fn what_a_packet_met_is_read() {
        let next = || "next".to_owned();
        for (code, then) in [
            (0u32, Then::Drop),
            // `ip drop` with an errno, as reject has it.
            (0xffff_0000 & (111 << 16), Then::Drop),
            (1, Then::Accept),
            (100 << 16 | 3, Then::Queue(100)),
            (0x0000_8003 | 7 << 16, Then::Queue(7)),
            (u32::MAX, Then::Continue),
            (u32::MAX - 2, Then::Jump(next())),
            (u32::MAX - 3, Then::Goto(next())),
            (u32::MAX - 4, Then::Return),
        ] {
            let [it] = &read(&datagram(3, code))[..] else { panic!("not one") };
            assert_eq!((it.id, it.met, &it.then), (7, Met::Rule(12), &then), "{code:#x}");
            assert_eq!((&*it.table, &*it.chain, &it.network[..]), ("fw", "forward", &[0x45][..]));
            assert_eq!((it.mark, it.by), (2, [Some(3), None]));
        }
        assert_eq!(read(&datagram(1, 0))[0].met, Met::Policy);
        assert_eq!(read(&datagram(2, u32::MAX - 4))[0].met, Met::Rule(12));
        assert_eq!(read(&datagram(4, u32::MAX))[0].met, Met::End);
        assert_eq!(read(&datagram(9, 0)), []);
    }

    proptest::proptest! {
        #[test]
        fn any_message_comes_to_an_end(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut datagram = Vec::new();
            message::put(&mut datagram, SUBSYSTEM << 8 | TRACE, 0, 0, (2, 0), &body);
            proptest::prop_assert!(read(&datagram).len() <= 1);
        }
    }
}
