//! What rtnetlink tells of neighbours and of bridges' forwarding databases (rtnetlink(7), `RTM_NEWNEIGH`;
//! include/uapi/linux/neighbour.h). The kernel has one message for both: which address of Ethernet an address has, and by which port of a
//! bridge an address of Ethernet is reached.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::attribute::{Attributes, put_padded};
use super::message::{self, Raw};
use super::socket::Socket;
use crate::net::Mac;

const NEW_NEIGHBOUR: u16 = 28;
const GET_NEIGHBOUR: u16 = 30;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;

/// `RTNLGRP_NEIGH`
const GROUP: i32 = 3;

const DESTINATION: u16 = 1;
const LINK_ADDRESS: u16 = 2;
const MASTER: u16 = 9;

/// States in which the address of Ethernet is known: permanent, no ARP, reachable, probe, stale, delay (`NUD_VALID`).
const VALID: u16 = 0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08;
/// The kernel is to find out, as if it had a packet to send (`NTF_USE`).
const USE: u8 = 1;

/// struct ndmsg: family, padding, interface, state, flags, type.
const HEAD: usize = 12;

/// Something that is so now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Neighbour {
    /// A host on the link of that interface has that address of Ethernet.
    Host { interface: u32, address: IpAddr, mac: Mac },
    /// Frames to that address of Ethernet leave the bridge by that port.
    Port { bridge: u32, port: u32, mac: Mac },
}

/// Told of every change from now on.
pub(crate) struct Changes {
    socket: Socket,
}

impl Changes {
    /// `patience`: how long [`next`](Self::next) waits.
    pub(crate) fn watch(patience: Duration) -> io::Result<Self> {
        let socket = Socket::of_routes()?;
        socket.join(GROUP)?;
        socket.limit_waiting(patience)?;
        Ok(Self { socket })
    }

    /// Waits for changes; none if nothing happens for some time. What expires is not told.
    ///
    /// # Errors
    /// `ENOBUFS`: some were missed, and all has to be read again.
    pub(crate) fn next(&self) -> io::Result<Vec<Neighbour>> {
        let mut buffer = vec![0; 64 << 10];
        match self.socket.receive_one(&mut buffer) {
            Ok(len) => Ok(message::raw(&buffer[..len]).filter_map(|it| read(&it)).collect()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// All hosts that are known.
pub(crate) fn hosts() -> io::Result<Vec<Neighbour>> {
    dump(libc::AF_UNSPEC)
}

/// The forwarding databases of all bridges.
pub(crate) fn ports() -> io::Result<Vec<Neighbour>> {
    dump(libc::AF_BRIDGE)
}

fn dump(family: i32) -> io::Result<Vec<Neighbour>> {
    let socket = Socket::of_routes()?;
    socket.limit_waiting(Duration::from_secs(5))?;
    let mut head = [0; HEAD];
    head[0] = family as u8;
    socket.send_one(&request(GET_NEIGHBOUR, DUMP, &head))?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let len = socket.receive_one(&mut buffer)?;
        for message in message::raw(&buffer[..len]) {
            match message.kind {
                DONE => match message::done_for(message.body) {
                    0 => return Ok(all),
                    errno => return Err(io::Error::from_raw_os_error(errno)),
                },
                ERROR => {
                    let errno = message.body.first_chunk().map_or(0, |it| i32::from_ne_bytes(*it));
                    return Err(io::Error::from_raw_os_error(errno.wrapping_neg()));
                }
                _ => all.extend(read(&message)),
            }
        }
    }
}

/// What the kernel is to find out.
pub(crate) struct Questions(Socket);

impl Questions {
    pub(crate) fn open() -> io::Result<Self> {
        Socket::of_routes().map(Self)
    }

    /// Has the kernel find out who has that address, by ARP or neighbour discovery. The answer comes as a change.
    pub(crate) fn who_has(&self, interface: u32, address: IpAddr) -> io::Result<()> {
        self.0.send_one(&question(interface, address))
    }
}

fn question(interface: u32, address: IpAddr) -> Vec<u8> {
    let mut head = [0; HEAD];
    head[0] = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    head[4..8].copy_from_slice(&interface.to_ne_bytes());
    head[10] = USE;
    let mut body = head.to_vec();
    match address {
        IpAddr::V4(four) => put_padded(&mut body, DESTINATION, &four.octets()),
        IpAddr::V6(six) => put_padded(&mut body, DESTINATION, &six.octets()),
    }
    request(NEW_NEIGHBOUR, CREATE, &body)
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut out = (16 + body.len() as u32).to_ne_bytes().to_vec();
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    // Sequence number and port id.
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(body);
    out
}

fn read(message: &Raw<'_>) -> Option<Neighbour> {
    if message.kind != NEW_NEIGHBOUR {
        return None;
    }
    let (head, attributes) = message.body.split_first_chunk::<HEAD>()?;
    let interface = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
    let state = u16::from_ne_bytes([head[8], head[9]]);
    let (mut address, mut mac, mut bridge) = (None, None, None);
    for (kind, value) in Attributes::new(attributes) {
        match kind {
            DESTINATION => {
                address = match value.len() {
                    4 => value.first_chunk::<4>().map(|it| IpAddr::from(*it)),
                    16 => value.first_chunk::<16>().map(|it| IpAddr::from(*it)),
                    _ => None,
                }
            }
            LINK_ADDRESS if value.len() == 6 => mac = value.first_chunk().map(|it| Mac(*it)),
            MASTER => bridge = value.first_chunk().map(|it| u32::from_ne_bytes(*it)),
            _ => {}
        }
    }
    match i32::from(head[0]) {
        // The address lists of interfaces have no bridge, and tell nothing of its ports.
        libc::AF_BRIDGE => Some(Neighbour::Port { bridge: bridge?, port: interface, mac: mac? }),
        libc::AF_INET | libc::AF_INET6 if state & VALID != 0 => {
            Some(Neighbour::Host { interface, address: address?, mac: mac? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: Mac = Mac([10, 0, 0, 0, 5, 1]);

    fn told(family: i32, state: u16, attributes: &[(u16, &[u8])]) -> Option<Neighbour> {
        let mut body = vec![family as u8, 0, 0, 0];
        body.extend_from_slice(&7u32.to_ne_bytes());
        body.extend_from_slice(&state.to_ne_bytes());
        body.extend_from_slice(&[0, 0]);
        for (kind, value) in attributes {
            put_padded(&mut body, *kind, value);
        }
        read(&Raw { kind: NEW_NEIGHBOUR, flags: 0, sequence: 0, body: &body })
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let four = [10, 5, 5, 201];
        let host = Some(Neighbour::Host { interface: 7, address: four.into(), mac: MAC });
        assert_eq!(told(libc::AF_INET, 4, &[(DESTINATION, &four), (LINK_ADDRESS, &MAC.0)]), host);
        let port = Some(Neighbour::Port { bridge: 3, port: 7, mac: MAC });
        let master = 3u32.to_ne_bytes();
        assert_eq!(told(libc::AF_BRIDGE, 2, &[(LINK_ADDRESS, &MAC.0), (MASTER, &master)]), port);
        // Failed, incomplete; an entry of an interface's own list; one of a tunnel.
        assert_eq!(told(libc::AF_INET, 0x20, &[(DESTINATION, &four), (LINK_ADDRESS, &MAC.0)]), None);
        assert_eq!(told(libc::AF_INET, 1, &[(DESTINATION, &four)]), None);
        assert_eq!(told(libc::AF_BRIDGE, 0x80, &[(LINK_ADDRESS, &MAC.0)]), None);
        assert_eq!(told(libc::AF_INET, 4, &[(DESTINATION, &four), (LINK_ADDRESS, &four)]), None);
    }

    #[test]
    fn golden_bytes_of_a_question() {
        let mut expected = 36u32.to_ne_bytes().to_vec();
        expected.extend_from_slice(&28u16.to_ne_bytes());
        expected.extend_from_slice(&0x401u16.to_ne_bytes());
        expected.extend_from_slice(&[0; 8]);
        expected.extend_from_slice(&[2, 0, 0, 0]);
        expected.extend_from_slice(&7u32.to_ne_bytes());
        expected.extend_from_slice(&[0, 0, 1, 0, 8, 0, 1, 0, 10, 5, 5, 201]);
        assert_eq!(question(7, [10, 5, 5, 201].into()), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(kind in 27u16..31, body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&Raw { kind, flags: 0, sequence: 0, body: &body });
        }
    }
}
