//! Netlink, as far as a node needs it: attributes, the messages of nfnetlink_queue, nf_tables and rtnetlink, and the socket.
//!
//! Messages are read from any bytes without a panic: a length that cannot be ends the reading, and what was read
//! before it counts. Attribute values are in network byte order, the headers around them in the host's
//! (include/uapi/linux/netlink.h, include/uapi/linux/netfilter/nfnetlink_queue.h).

pub(crate) mod attribute;
pub(crate) mod conntrack;
pub(crate) mod expression;
pub(crate) mod message;
pub(crate) mod neighbours;
pub(crate) mod nfqueue;
pub(crate) mod nftables;
pub(crate) mod passing;
pub(crate) mod route;
pub(crate) mod socket;
pub(crate) mod sys;
