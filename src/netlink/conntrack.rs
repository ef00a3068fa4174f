//! The messages of nf_conntrack_netlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h).

mod entry;
mod events;

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use super::attribute::{Attributes, NESTED, be32, put_padded};
use super::message::{self, Message};
use super::socket::Socket;
use crate::net::Mark;
pub(crate) use entry::{Counts, Entry, Happened, read_all};
pub(crate) use events::Events;

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_NEW` and `IPCTNL_MSG_CT_GET`.
const NEW: u16 = 1 << 8;
const GET: u16 = 1 << 8 | 1;

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_GET_STATS`.
const GET_STATS: u16 = 1 << 8 | 5;
/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_DELETE`; without a tuple it is about all flows of the network namespace
/// (net/netfilter/nf_conntrack_netlink.c, `ctnetlink_del_conntrack()`).
const DELETE: u16 = 1 << 8 | 2;
/// Attributes (`enum ctattr_type`).
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_MARK: u16 = 8;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_ACK: u16 = 4;

/// Asks for the number of flows, and for an acknowledgement: the least there is to ask.
pub(crate) fn stats_request() -> Vec<u8> {
    request(GET_STATS)
}

/// Asks that all flows be forgotten, and for an acknowledgement.
pub(crate) fn flush_request() -> Vec<u8> {
    request(DELETE)
}

fn request(kind: u16) -> Vec<u8> {
    let mut out = Vec::from(20u32.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Sequence number and port id; then family, version and resource id, all zero.
    out.resize(20, 0);
    out
}

/// A flow, as far as it takes to change its mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    family: u8,
    /// Addresses and ports of the original direction, as the kernel wrote them.
    tuple: Vec<u8>,
    zone: Option<Vec<u8>>,
    /// All bits.
    pub(crate) mark: Mark,
}

impl Flow {
    fn read(family: u8, attributes: Attributes<'_>) -> Option<Self> {
        let (mut tuple, mut zone, mut mark) = (None, None, Mark::ZERO);
        for (kind, value) in attributes {
            match kind {
                CTA_TUPLE_ORIG => tuple = Some(value.to_vec()),
                CTA_ZONE => zone = Some(value.to_vec()),
                CTA_MARK => mark = Mark(be32(value)?),
                _ => {}
            }
        }
        Some(Self { family, tuple: tuple?, zone, mark })
    }

    /// Asks that the bits of `mask` of its mark become those of `mark` (`ctnetlink_change_mark()`).
    fn put_mark(&self, mark: Mark, mask: Mark) -> Vec<u8> {
        let mut about = Vec::new();
        put_padded(&mut about, CTA_TUPLE_ORIG | NESTED, &self.tuple);
        if let Some(zone) = &self.zone {
            put_padded(&mut about, CTA_ZONE, zone);
        }
        put_marked(&mut about, mark, mask);
        let mut out = Vec::new();
        message::put(&mut out, NEW, NLM_F_REQUEST | NLM_F_ACK, 0, (self.family, 0), &about);
        out
    }
}

fn put_marked(out: &mut Vec<u8>, mark: Mark, mask: Mark) {
    put_padded(out, CTA_MARK, &(mark & mask).0.to_be_bytes());
    put_padded(out, CTA_MARK_MASK, &mask.0.to_be_bytes());
}

/// A connection to conntrack.
pub(crate) struct Conntrack(Socket);

impl Conntrack {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::small()?;
        socket.limit_waiting(Duration::from_secs(30))?;
        Ok(Self(socket))
    }

    /// Shows each flow of this network namespace, until `shown` has seen enough. Flows come and go meanwhile: it may miss some.
    pub(crate) fn each(&self, mut shown: impl FnMut(Entry) -> ControlFlow<()>) -> io::Result<()> {
        self.dump(&[], |family, attributes| match Entry::read(family, attributes) {
            Some(entry) => shown(entry),
            None => ControlFlow::Continue(()),
        })
    }

    /// The flows of this network namespace whose marks have these bits. Flows come and go meanwhile: it may miss some.
    pub(crate) fn marked(&self, mark: Mark, mask: Mark) -> io::Result<Vec<Flow>> {
        let mut about = Vec::new();
        put_marked(&mut about, mark, mask);
        let mut flows = Vec::new();
        self.dump(&about, |family, attributes| {
            let flow = Flow::read(family, attributes);
            // A kernel that does not select tells all.
            flows.extend(flow.filter(|flow| flow.mark & mask == mark & mask));
            ControlFlow::Continue(())
        })?;
        Ok(flows)
    }

    /// Shows what the kernel tells of each flow: its family and attributes.
    fn dump(
        &self,
        about: &[u8],
        mut shown: impl FnMut(u8, Attributes<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut request = Vec::new();
        message::put(&mut request, GET, NLM_F_REQUEST | NLM_F_DUMP, 0, (0, 0), about);
        self.0.send_one(&request)?;
        let mut answer = vec![0; 64 << 10];
        loop {
            let len = match self.0.receive_one(&mut answer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            for message in message::all(&answer[..len]) {
                match message {
                    Message::Answer { errno: 0, .. } | Message::Done { errno: 0 } => return Ok(()),
                    Message::Answer { errno, .. } | Message::Done { errno } => {
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    Message::Netfilter { kind: NEW, family, attributes } => {
                        if shown(family, attributes).is_break() {
                            return Ok(());
                        }
                    }
                    Message::Netfilter { .. } => {}
                }
            }
        }
    }

    /// The bits of `mask` of a flow's mark become those of `mark`. Says whether there still was such a flow.
    pub(crate) fn set_mark(&self, flow: &Flow, mark: Mark, mask: Mark) -> io::Result<bool> {
        match self.0.ask(&flow.put_mark(mark, mask)) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_request() {
        let mut expected = Vec::from(20u32.to_ne_bytes());
        expected.extend_from_slice(&0x0105u16.to_ne_bytes());
        expected.extend_from_slice(&5u16.to_ne_bytes());
        expected.extend_from_slice(&[0; 12]);
        assert_eq!(stats_request(), expected);
        expected[4..6].copy_from_slice(&0x0102u16.to_ne_bytes());
        assert_eq!(flush_request(), expected);
    }

    #[test]
    fn golden_bytes_of_a_change_of_a_mark() {
        let mut tuple = Vec::new();
        put_padded(&mut tuple, 1 | NESTED, &[9; 8]);
        let mut about = Vec::new();
        put_padded(&mut about, CTA_TUPLE_ORIG | NESTED, &tuple);
        put_padded(&mut about, 2, &[7; 4]);
        put_padded(&mut about, CTA_MARK, &0x0302u32.to_be_bytes());
        let flow = Flow::read(10, Attributes::new(&about)).unwrap();
        assert_eq!(flow, Flow { family: 10, tuple, zone: None, mark: Mark(0x302) });
        let message = flow.put_mark(Mark(0x0507), Mark(0xff));
        let mut expected = Vec::from(52u32.to_ne_bytes());
        expected.extend_from_slice(&0x0100u16.to_ne_bytes());
        expected.extend_from_slice(&5u16.to_ne_bytes());
        expected.extend_from_slice(&[0; 8]);
        expected.extend_from_slice(&[10, 0, 0, 0]);
        for (kind, value) in
            [(CTA_TUPLE_ORIG | NESTED, &flow.tuple[..]), (8, &[0, 0, 0, 7]), (21, &[0, 0, 0, 255])]
        {
            put_padded(&mut expected, kind, value);
        }
        assert_eq!(message, expected);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_flow_or_none(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            if let Some(flow) = Flow::read(2, Attributes::new(&bytes)) {
                proptest::prop_assert!(flow.tuple.len() <= bytes.len());
            }
        }
    }
}
