//! The messages of nf_conntrack_netlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h).

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_GET_STATS`.
const GET_STATS: u16 = 1 << 8 | 5;
/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_DELETE`; without a tuple it is about all flows of the network namespace
/// (net/netfilter/nf_conntrack_netlink.c, `ctnetlink_del_conntrack()`).
const DELETE: u16 = 1 << 8 | 2;
const NLM_F_REQUEST: u16 = 1;
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
}
