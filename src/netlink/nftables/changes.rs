//! What somebody has changed, told as it happens.

use std::io;

use super::numbers::{GENERATION_NAME, GENERATION_PROCESS, NEW_GENERATION, SUBSYSTEM, TABLE_NAME};
use super::texts::text;
use crate::netlink::attribute::be32;
use crate::netlink::message::{self, Message};
use crate::netlink::socket::Socket;

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

    /// Whether somebody has changed anything since this was asked last. Does not wait; afterwards [`next`](Self::next) does not, either.
    pub(crate) fn any(&self) -> io::Result<bool> {
        self.socket.never_wait()?;
        let mut buffer = vec![0; 64 << 10];
        let mut any = false;
        loop {
            match self.socket.receive_one(&mut buffer) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                // More was changed than there was room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for changes.
    pub(crate) fn next(&self) -> io::Result<Vec<Event>> {
        let mut buffer = vec![0; 64 << 10];
        let len = self.socket.receive_one(&mut buffer)?;
        Ok(message::all(&buffer[..len]).filter_map(event).collect())
    }
}

/// What somebody has just done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Something in that table changed.
    Changed { family: u8, table: String },
    /// What was told before was done by that process.
    By { process: u32, name: String },
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

#[cfg(test)]
mod tests {
    use super::super::texts::read_comment;
    use super::*;

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
}
