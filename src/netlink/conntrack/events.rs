//! What happens to flows, told as it happens.

use std::io;
use std::time::Duration;

use super::entry::{Entry, Happened, read_all};
use crate::netlink::socket::Socket;

/// `NFNLGRP_CONNTRACK_NEW`, `_UPDATE` and `_DESTROY` (include/uapi/linux/netfilter/nfnetlink.h).
const GROUPS: [i32; 3] = [1, 2, 3];

/// Told of what happens to flows from now on.
///
/// With `nf_conntrack_events=2`, which is the default since kernel 5.19, the kernel tells only of flows that began when somebody
/// listened already (net/netfilter/nf_conntrack_ecache.c, `nf_ct_ecache_ext_add()`).
pub(crate) struct Events {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Events {
    /// `patience`: how long [`next`](Self::next) waits.
    pub(crate) fn watch(patience: Duration) -> io::Result<Self> {
        let socket = Socket::small()?;
        for group in GROUPS {
            socket.join(group)?;
        }
        socket.limit_waiting(patience)?;
        Ok(Self { socket, buffer: vec![0; 64 << 10] })
    }

    /// Waits for events; none if nothing happens for some time.
    ///
    /// # Errors
    /// `ENOBUFS`: some were missed.
    pub(crate) fn next(&mut self) -> io::Result<Vec<(Happened, Entry)>> {
        match self.socket.receive_one(&mut self.buffer) {
            Ok(len) => Ok(read_all(&self.buffer[..len]).collect()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}
