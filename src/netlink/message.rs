//! Netlink messages: the header, and what nfnetlink puts behind it (include/uapi/linux/netlink.h, nfnetlink.h).

use super::attribute::{Attributes, padded};

const HEADER: usize = 16;
/// `struct nfgenmsg`: family, version, and a number in network byte order.
const NETFILTER_HEADER: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A message from the kernel.
pub(crate) enum Message<'a> {
    /// The answer to the request of that sequence number: an errno, zero for "done".
    Answer { sequence: u32, errno: i32 },
    /// The end of a list: zero, or the errno for which it ends before its end (`netlink_dump_done()`, net/netlink/af_netlink.c).
    Done { errno: i32 },
    /// One of a subsystem of netfilter.
    Netfilter { kind: u16, family: u8, attributes: Attributes<'a> },
}

/// Appends a message of netfilter. `about` is the family and the resource id.
pub(crate) fn put(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    about: (u8, u16),
    attributes: &[u8],
) {
    let (family, resource) = about;
    let len = HEADER + NETFILTER_HEADER + attributes.len();
    out.extend_from_slice(&(len as u32).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    // The port id is the kernel's to fill in.
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[family, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
    out.extend_from_slice(attributes);
    out.resize(padded(out.len()), 0);
}

/// The messages in a datagram. Ends where the bytes do, or at a length that cannot be.
pub(crate) fn all(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    raw(datagram).filter_map(|Raw { kind, sequence, body, .. }| match kind {
        NLMSG_ERROR => {
            let errno = i32::from_ne_bytes(*body.first_chunk()?).wrapping_neg();
            Some(Message::Answer { sequence, errno })
        }
        NLMSG_DONE => Some(Message::Done { errno: done_for(body) }),
        _ => {
            let (netfilter, attributes) = body.split_first_chunk::<NETFILTER_HEADER>()?;
            Some(Message::Netfilter { kind, family: netfilter[0], attributes: Attributes::new(attributes) })
        }
    })
}

/// The errno in the body of the message that ends a list.
pub(crate) fn done_for(body: &[u8]) -> i32 {
    body.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno).wrapping_neg().max(0))
}

/// Whether something has changed while the list was made that the datagram is a part of, so that the list may lack anything
/// (`nl_dump_check_consistent()`, include/net/netlink.h). The kernel goes on with such a list.
pub(crate) fn is_interrupted(datagram: &[u8]) -> bool {
    raw(datagram).any(|message| message.flags & NLM_F_DUMP_INTR != 0)
}

/// A message of any family of netlink.
pub(crate) struct Raw<'a> {
    pub(crate) kind: u16,
    /// `NLM_F_*`
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// What is behind the header.
    pub(crate) body: &'a [u8],
}

/// The same, whatever is in them.
pub(crate) fn raw(datagram: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header: &[u8; HEADER] = rest.first_chunk()?;
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let len = u32::from_ne_bytes(word(0)) as usize;
        let [kind, flags] = [4, 6].map(|at| u16::from_ne_bytes([header[at], header[at + 1]]));
        let body = rest.get(HEADER..len)?;
        rest = rest.get(padded(len)..).unwrap_or_default();
        Some(Raw { kind, flags, sequence: u32::from_ne_bytes(word(8)), body })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_messages_of_a_datagram_are_read() {
        let mut bytes = Vec::new();
        put(&mut bytes, 0x0a03, 1, 7, (2, 0), &[5, 0, 1, 0, 9]);
        // struct nlmsgerr: -EEXIST, and the header of what was refused.
        bytes.extend_from_slice(&20u32.to_ne_bytes());
        bytes.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        bytes.extend_from_slice(&[0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&(-libc::EEXIST).to_ne_bytes());
        let [first, second] = &all(&bytes).collect::<Vec<_>>()[..] else { panic!("not two") };
        let Message::Netfilter { kind: 0x0a03, family: 2, attributes } = first else { panic!("not ours") };
        assert_eq!((*attributes).collect::<Vec<_>>(), [(1, &[9][..])]);
        assert!(matches!(second, Message::Answer { errno: libc::EEXIST, .. }));
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for message in all(&bytes) {
                if let Message::Netfilter { attributes, .. } = message {
                    prop_assert!(attributes.count() <= bytes.len());
                }
            }
        }
    }
}
