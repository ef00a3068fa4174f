//! The messages of nf_conntrack_netlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h).

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_GET_STATS`.
const GET_STATS: u16 = 1 << 8 | 5;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;

/// Asks for the number of flows, and for an acknowledgement: the least there is to ask.
pub(crate) fn stats_request() -> Vec<u8> {
    let mut out = Vec::from(20u32.to_ne_bytes());
    out.extend_from_slice(&GET_STATS.to_ne_bytes());
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
    }
}
