//! What rtnetlink tells of interfaces and routes (rtnetlink(7); include/uapi/linux/rtnetlink.h, if_link.h).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::attribute::Attributes;
use super::message::{self, Raw};
use super::socket::Socket;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ROUTE: u16 = 24;

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_ROUTE`
const GROUPS: [i32; 3] = [1, 7, 11];

const IFLA_NAME: u16 = 3;
const RTA_DESTINATION: u16 = 1;
const RTA_OUT_INTERFACE: u16 = 4;
const TABLE_LOCAL: u8 = 255;
const TYPE_UNICAST: u8 = 1;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An interface is there, by that name, up or not.
    Link { index: u32, name: String, up: bool },
    /// An interface is gone.
    Gone { index: u32, name: String },
    /// Packets to that network leave by that interface.
    Route { to: IpNet, by: u32 },
}

/// Told of every change of links and routes from now on.
pub(crate) struct Changes {
    socket: Socket,
}

impl Changes {
    pub(crate) fn watch() -> io::Result<Self> {
        let socket = Socket::of_routes()?;
        for group in GROUPS {
            socket.join(group)?;
        }
        Ok(Self { socket })
    }

    /// Waits for changes.
    pub(crate) fn next(&self) -> io::Result<Vec<Event>> {
        let mut buffer = vec![0; 64 << 10];
        let len = self.socket.receive_one(&mut buffer)?;
        Ok(read(&buffer[..len]))
    }
}

fn read(datagram: &[u8]) -> Vec<Event> {
    message::raw(datagram).filter_map(|message| event(&message)).collect()
}

fn event(message: &Raw<'_>) -> Option<Event> {
    match message.kind {
        NEW_LINK | DELETE_LINK => {
            // struct ifinfomsg: family, type, index, flags, which of them changed.
            let (head, attributes) = message.body.split_first_chunk::<16>()?;
            let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let (_, name) = Attributes::new(attributes).find(|(kind, _)| *kind == IFLA_NAME)?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            let index = word(4);
            // A port that leaves its bridge is told of by the same message, in the bridge's family.
            Some(match (message.kind, head[0]) {
                (DELETE_LINK, 0) => Event::Gone { index, name },
                (DELETE_LINK, _) => return None,
                _ => Event::Link { index, name, up: word(8) & libc::IFF_UP as u32 != 0 },
            })
        }
        NEW_ROUTE => {
            // struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
            let (head, attributes) = message.body.split_first_chunk::<12>()?;
            let &[family, len, _, _, table, _, _, kind, ..] = head;
            if table == TABLE_LOCAL || kind != TYPE_UNICAST {
                return None;
            }
            let (mut to, mut by) = (None, None);
            for (kind, value) in Attributes::new(attributes) {
                match kind {
                    RTA_DESTINATION => {
                        to = match value.len() {
                            4 => value.first_chunk::<4>().map(|it| IpAddr::from(*it)),
                            _ => value.first_chunk::<16>().map(|it| IpAddr::from(*it)),
                        }
                    }
                    RTA_OUT_INTERFACE => by = value.first_chunk().map(|it| u32::from_ne_bytes(*it)),
                    _ => {}
                }
            }
            // The route to everywhere has no destination.
            let everywhere = match i32::from(family) {
                libc::AF_INET => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                libc::AF_INET6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
                _ => return None,
            };
            Some(Event::Route { to: IpNet::new(to.unwrap_or(everywhere), len).ok()?, by: by? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute::put_padded;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut out = (16 + body.len() as u32).to_ne_bytes().to_vec();
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn links_and_routes_are_read() {
        let mut link = vec![0, 0, 1, 0];
        for word in [7u32, libc::IFF_UP as u32, 0] {
            link.extend_from_slice(&word.to_ne_bytes());
        }
        put_padded(&mut link, IFLA_NAME, b"eth0\0");
        let name = || "eth0".to_owned();
        assert_eq!(read(&message(NEW_LINK, &link)), [Event::Link { index: 7, name: name(), up: true }]);
        assert_eq!(read(&message(DELETE_LINK, &link)), [Event::Gone { index: 7, name: name() }]);
        let mut route = vec![libc::AF_INET as u8, 24, 0, 0, 254, 3, 0, TYPE_UNICAST, 0, 0, 0, 0];
        put_padded(&mut route, RTA_DESTINATION, &[10, 9, 0, 0]);
        put_padded(&mut route, RTA_OUT_INTERFACE, &7u32.to_ne_bytes());
        let event = |to: &str| Event::Route { to: to.parse().unwrap(), by: 7 };
        assert_eq!(read(&message(NEW_ROUTE, &route)), [event("10.9.0.0/24")]);
        let mut route = vec![libc::AF_INET6 as u8, 0, 0, 0, 254, 3, 0, TYPE_UNICAST, 0, 0, 0, 0];
        put_padded(&mut route, RTA_OUT_INTERFACE, &7u32.to_ne_bytes());
        assert_eq!(read(&message(NEW_ROUTE, &route)), [event("::/0")]);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(kind in 16u16..28, body in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&message(kind, &body)).len() <= 1);
        }
    }
}
