//! What a message of ctnetlink tells of one flow (net/netfilter/nf_conntrack_netlink.c, `ctnetlink_fill_info()`).

use std::net::IpAddr;
use std::time::Duration;

use super::{CTA_MARK, CTA_TUPLE_ORIG, CTA_ZONE, DELETE, NEW};
use crate::net::{Mark, Proto, Tuple};
use crate::netlink::attribute::{Attributes, be32, be64};
use crate::netlink::message::{self, Raw};

/// Attributes (`enum ctattr_type`).
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ID: u16 = 12;
const CTA_TIMESTAMP: u16 = 20;
/// Of a tuple (`enum ctattr_tuple`), its addresses (`ctattr_ip`) and its protocol (`ctattr_l4proto`).
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_SRC: [u16; 2] = [1, 3];
const CTA_IP_DST: [u16; 2] = [2, 4];
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: [u16; 2] = [4, 7];
/// `enum ctattr_protoinfo`; the state is the first attribute of each.
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_DCCP: u16 = 2;
const CTA_PROTOINFO_SCTP: u16 = 3;
const CTA_PROTOINFO_STATE: u16 = 1;
/// `enum ctattr_counters`, `enum ctattr_tstamp`.
const CTA_COUNTERS_PACKETS: u16 = 1;
const CTA_COUNTERS_BYTES: u16 = 2;
const CTA_TIMESTAMP_START: u16 = 1;
/// A flow that is new, and not another state of one that was there (include/uapi/linux/netlink.h).
const NLM_F_CREATE: u16 = 0x400;

/// The names of states, as `conntrack -L` prints them, by their numbers (include/uapi/linux/netfilter/nf_conntrack_tcp.h, ..._sctp.h;
/// include/uapi/linux/netfilter/nf_conntrack_common.h has those of DCCP in kernels that still have it).
const TCP: [&str; 10] = [
    "none",
    "syn-sent",
    "syn-recv",
    "established",
    "fin-wait",
    "close-wait",
    "last-ack",
    "time-wait",
    "close",
    "syn-sent2",
];
const SCTP: [&str; 10] = [
    "none",
    "closed",
    "cookie-wait",
    "cookie-echoed",
    "established",
    "shutdown-sent",
    "shutdown-recd",
    "shutdown-ack-sent",
    "heartbeat-sent",
    "heartbeat-acked",
];
const DCCP: [&str; 10] = [
    "none",
    "request",
    "respond",
    "partopen",
    "open",
    "closereq",
    "closing",
    "time-wait",
    "ignore",
    "invalid",
];

/// A flow as conntrack has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The same as long as it lives; another one may get it later.
    pub(crate) id: Option<u32>,
    pub(crate) zone: Option<u16>,
    /// As conntrack saw the first packet.
    pub(crate) request: Tuple,
    /// As it expects replies.
    pub(crate) reply: Tuple,
    /// Of ICMP echo: what is instead of ports.
    pub(crate) icmp_id: Option<u16>,
    /// All bits.
    pub(crate) mark: Mark,
    /// `IPS_*`
    pub(crate) status: u32,
    pub(crate) state: Option<&'static str>,
    /// It is forgotten after that, if no packet comes.
    pub(crate) expires: Option<Duration>,
    /// Where they are counted (nf_conntrack_acct).
    pub(crate) requests: Option<Counts>,
    pub(crate) replies: Option<Counts>,
    /// When it began, since 1970; where that is written down (nf_conntrack_timestamp).
    pub(crate) began: Option<Duration>,
}

/// Packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) packets: u64,
    /// With their IP headers.
    pub(crate) bytes: u64,
}

/// What a message says of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// It began.
    New,
    /// It goes on, in another state or with another mark.
    Update,
    /// It has ended, or was forgotten.
    Destroy,
}

/// What a datagram tells of flows. Ends where the bytes do; what is no flow is passed over.
pub(crate) fn read_all(datagram: &[u8]) -> impl Iterator<Item = (Happened, Entry)> {
    message::raw(datagram).filter_map(|Raw { kind, flags, body, .. }| {
        let happened = match kind {
            NEW if flags & NLM_F_CREATE != 0 => Happened::New,
            NEW => Happened::Update,
            DELETE => Happened::Destroy,
            _ => return None,
        };
        let (head, attributes) = body.split_first_chunk::<4>()?;
        Some((happened, Entry::read(head[0], Attributes::new(attributes))?))
    })
}

impl Entry {
    /// None where addresses or protocol are missing, or of two families.
    pub(crate) fn read(family: u8, attributes: Attributes<'_>) -> Option<Self> {
        let (mut request, mut reply) = (None, None);
        let (mut requests, mut replies, mut began) = (None, None, None);
        let (mut id, mut zone, mut status, mut expires, mut state) = (None, None, 0, None, None);
        let mut mark = Mark::ZERO;
        for (kind, value) in attributes {
            match kind {
                CTA_TUPLE_ORIG => request = Some(tuple(family, value)?),
                CTA_TUPLE_REPLY => reply = Some(tuple(family, value)?.0),
                CTA_STATUS => status = be32(value)?,
                CTA_PROTOINFO => state = state_of(value),
                CTA_TIMEOUT => expires = Some(Duration::from_secs(be32(value)?.into())),
                CTA_MARK => mark = Mark(be32(value)?),
                CTA_COUNTERS_ORIG => requests = counts(value),
                CTA_COUNTERS_REPLY => replies = counts(value),
                CTA_ID => id = Some(be32(value)?),
                CTA_ZONE => zone = be16(value),
                CTA_TIMESTAMP => began = find(value, CTA_TIMESTAMP_START).and_then(be64),
                _ => {}
            }
        }
        let ((request, icmp_id), reply) = (request?, reply?);
        let began = began.map(Duration::from_nanos);
        Some(Self {
            id,
            zone,
            request,
            reply,
            icmp_id,
            mark,
            status,
            state,
            expires,
            requests,
            replies,
            began,
        })
    }
}

fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes::new(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn be16(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn address(family: u8, attributes: &[u8], kinds: [u16; 2]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => find(attributes, kinds[0])?.first_chunk::<4>().map(|it| IpAddr::from(*it)),
        libc::AF_INET6 => find(attributes, kinds[1])?.first_chunk::<16>().map(|it| IpAddr::from(*it)),
        _ => None,
    }
}

/// A tuple, and its ICMP id. None, if it cannot be read.
fn tuple(family: u8, value: &[u8]) -> Option<(Tuple, Option<u16>)> {
    let ip = find(value, CTA_TUPLE_IP)?;
    let above = find(value, CTA_TUPLE_PROTO)?;
    let (src, dst) = (address(family, ip, CTA_IP_SRC)?, address(family, ip, CTA_IP_DST)?);
    let proto = Proto(*find(above, CTA_PROTO_NUM)?.first()?);
    let port = |kind| find(above, kind).and_then(be16);
    let ports = proto.has_ports().then(|| port(CTA_PROTO_SRC_PORT).zip(port(CTA_PROTO_DST_PORT))).flatten();
    let icmp_id = CTA_PROTO_ICMP_ID.into_iter().find_map(port);
    Some((Tuple { proto, src, dst, ports }, icmp_id))
}

fn state_of(value: &[u8]) -> Option<&'static str> {
    let (kind, inner) = Attributes::new(value).next()?;
    let names = match kind {
        CTA_PROTOINFO_TCP => &TCP,
        CTA_PROTOINFO_DCCP => &DCCP,
        CTA_PROTOINFO_SCTP => &SCTP,
        _ => return None,
    };
    let number = *find(inner, CTA_PROTOINFO_STATE)?.first()?;
    names.get(usize::from(number)).copied()
}

fn counts(value: &[u8]) -> Option<Counts> {
    let number = |kind| find(value, kind).and_then(be64);
    Some(Counts { packets: number(CTA_COUNTERS_PACKETS)?, bytes: number(CTA_COUNTERS_BYTES)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute::{NESTED, put_padded};
    use proptest::prelude::*;

    /// A nested attribute.
    fn nest(kind: u16, parts: &[(u16, &[u8])]) -> Vec<u8> {
        let (mut inner, mut out) = (Vec::new(), Vec::new());
        parts.iter().for_each(|(kind, value)| put_padded(&mut inner, *kind, value));
        put_padded(&mut out, kind | NESTED, &inner);
        out
    }

    fn tuple_bytes(kind: u16, src: [u8; 4], dst: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
        let ip = nest(1, &[(1, &src), (2, &dst)]);
        let proto = nest(2, &[(1, &[6]), (2, &ports.0.to_be_bytes()), (3, &ports.1.to_be_bytes())]);
        let mut out = Vec::new();
        put_padded(&mut out, kind | NESTED, &[ip, proto].concat());
        out
    }

    /// As the kernel sends it (strace of conntrack -L -o id,timestamp with nf_conntrack_acct and nf_conntrack_timestamp).
    fn message() -> Vec<u8> {
        let (client, guest) = ([192, 168, 122, 1], [10, 5, 5, 201]);
        let mut about = [
            tuple_bytes(CTA_TUPLE_ORIG, client, guest, (40001, 80)),
            tuple_bytes(CTA_TUPLE_REPLY, guest, client, (80, 40001)),
            nest(CTA_PROTOINFO, &[(CTA_PROTOINFO_TCP | NESTED, &[5, 0, 1, 0, 3, 0, 0, 0])]),
        ]
        .concat();
        put_padded(&mut about, CTA_STATUS, &0x0eu32.to_be_bytes());
        put_padded(&mut about, CTA_TIMEOUT, &300u32.to_be_bytes());
        put_padded(&mut about, CTA_MARK, &2u32.to_be_bytes());
        put_padded(&mut about, CTA_ID, &77u32.to_be_bytes());
        put_padded(&mut about, CTA_ZONE, &9u16.to_be_bytes());
        let (five, many) = (5u64.to_be_bytes(), (1u64 << 40).to_be_bytes());
        about.extend(nest(CTA_COUNTERS_ORIG, &[(1, &five), (2, &many)]));
        about.extend(nest(CTA_TIMESTAMP, &[(1, &1_700_000_000_000_000_000u64.to_be_bytes())]));
        let mut out = Vec::new();
        message::put(&mut out, NEW, NLM_F_CREATE | 0x200, 0, (2, 0), &about);
        out
    }

    #[test]
    fn a_flow_is_read_with_all_that_belongs_to_it() {
        let told: Vec<_> = read_all(&message()).collect();
        let [(Happened::New, entry)] = &told[..] else { panic!("{told:?}") };
        let request: Tuple = "tcp 192.168.122.1:40001 > 10.5.5.201:80".parse().unwrap();
        assert_eq!((entry.request, entry.reply), (request, request.reversed()));
        assert_eq!((entry.mark, entry.status, entry.state), (Mark(2), 14, Some("established")));
        assert_eq!((entry.id, entry.zone, entry.icmp_id), (Some(77), Some(9), None));
        assert_eq!(entry.requests, Some(Counts { packets: 5, bytes: 1 << 40 }));
        assert_eq!(entry.replies, None, "not counted");
        assert_eq!(entry.expires, Some(Duration::from_secs(300)));
        assert_eq!(entry.began, Some(Duration::from_secs(1_700_000_000)));
    }

    #[test]
    fn begin_change_and_end_are_told_apart() {
        let told = |kind: u16, flags: u16| {
            let mut bytes = message();
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
            read_all(&bytes).next().map(|(happened, _)| happened)
        };
        assert_eq!(told(NEW, NLM_F_CREATE), Some(Happened::New));
        assert_eq!(told(NEW, 0), Some(Happened::Update));
        assert_eq!(told(DELETE, 0), Some(Happened::Destroy));
        assert_eq!(told(NEW | 1, 0), None, "that is the answer to something else");
    }

    #[test]
    fn what_has_no_addresses_is_no_flow() {
        let mut bytes = message();
        bytes[16] = 10;
        assert_eq!(read_all(&bytes).count(), 0, "IPv4 addresses in a message about IPv6");
        let half = tuple_bytes(CTA_TUPLE_ORIG, [1; 4], [2; 4], (1, 2));
        assert_eq!(Entry::read(2, Attributes::new(&half)), None, "no reply");
    }

    proptest! {
        #[test]
        fn any_damage_comes_to_an_end(at in 16usize..200, with in any::<u8>(), cut in 0usize..300) {
            let mut bytes = message();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            bytes.truncate(cut.max(20));
            for (_, entry) in read_all(&bytes) {
                prop_assert_eq!(entry.request.src.is_ipv4(), entry.reply.dst.is_ipv4());
            }
        }
    }
}
