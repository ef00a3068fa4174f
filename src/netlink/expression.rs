//! The expressions that rules of nf_tables are made of, as bytes (include/uapi/linux/netfilter/nf_tables.h).

use super::attribute::{NESTED, put_padded};
use super::nftables::put_text;

const LIST_ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;

/// The register that values go through.
const REGISTER: u32 = 1;

/// What is loaded of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Something about it (`NFT_META_*`).
    Meta(u32),
    /// Something about its route (`NFT_RT_*`).
    Route(u32),
    /// Something about its flow (`NFT_CT_*`).
    Conntrack(u32),
    /// Bytes of its network header: offset and length.
    Network(u32, u32),
    /// Bytes of its transport header.
    Transport(u32, u32),
}

/// `NFT_META_*`
pub(crate) mod meta {
    /// What is behind the frame's header, by its EtherType.
    pub(crate) const ETHER_TYPE: u32 = 1;
    pub(crate) const IN_NAME: u32 = 6;
    pub(crate) const OUT_NAME: u32 = 7;
    /// Whether the packet is traced; can only be set.
    pub(crate) const TRACED: u32 = 12;
    pub(crate) const FAMILY: u32 = 15;
    pub(crate) const PROTOCOL: u32 = 16;
    pub(crate) const CAME_BY_IPSEC: u32 = 25;
    /// Nanoseconds since 1970, in host byte order. Since Linux 5.4.
    pub(crate) const TIME: u32 = 30;
}

/// `NFT_RT_XFRM`
pub(crate) const GOES_BY_IPSEC: u32 = 4;

/// `NFT_CT_STATE`
pub(crate) const CT_STATE: u32 = 0;
/// The bit of a state that says that conntrack does not know what the packet is (`NF_CT_STATE_INVALID_BIT`).
pub(crate) const CT_STATE_INVALID: u32 = 1;

/// `NFT_CMP_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal = 0,
    Unequal = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// What a rule says in the end (include/uapi/linux/netfilter.h; nf_tables.h, `enum nft_verdicts`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    Drop = 0,
    Accept = 1,
    Continue = -1,
    Return = -5,
}

/// Expressions one after the other.
#[derive(Default)]
pub(crate) struct Expressions {
    bytes: Vec<u8>,
    sets: Vec<PortSet>,
}

/// Ports that a rule looks for in a set of its own, which comes and goes with the rule.
pub(crate) struct PortSet {
    /// In order; between two of them there is at least one port of neither.
    pub(crate) ranges: Vec<(u16, u16)>,
    /// Where in the bytes the kernel reads which set of the batch it is.
    number_at: usize,
}

impl PortSet {
    /// Says which set of the batch it is.
    pub(crate) fn set_number(&self, rule: &mut [u8], number: u32) {
        if let Some(at) = rule.get_mut(self.number_at..self.number_at + 4) {
            at.copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// The name of a set that gets a name of the kernel (net/netfilter/nf_tables_api.c, `nf_tables_set_alloc_name()`).
pub(crate) const SET_OF_A_RULE: &str = "__set%d";

impl Expressions {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn sets(&self) -> &[PortSet] {
        &self.sets
    }

    fn add(&mut self, name: &str, data: &[u8]) {
        let mut expression = Vec::new();
        put_text(&mut expression, NAME, name);
        put_padded(&mut expression, DATA | NESTED, data);
        put_padded(&mut self.bytes, LIST_ELEMENT | NESTED, &expression);
    }

    fn numbers(&mut self, name: &str, numbers: &[(u16, u32)]) {
        let mut data = Vec::new();
        for (kind, number) in numbers {
            put_padded(&mut data, *kind, &number.to_be_bytes());
        }
        self.add(name, &data);
    }

    /// Loads something of the packet into the register.
    pub(crate) fn load(&mut self, load: Load) {
        const NETWORK: u32 = 1;
        const TRANSPORT: u32 = 2;
        let payload = |base, offset, len| [(1, REGISTER), (2, base), (3, offset), (4, len)];
        match load {
            Load::Meta(key) => self.numbers("meta", &[(1, REGISTER), (2, key)]),
            Load::Route(key) => self.numbers("rt", &[(1, REGISTER), (2, key)]),
            Load::Conntrack(key) => self.numbers("ct", &[(1, REGISTER), (2, key)]),
            Load::Network(offset, len) => self.numbers("payload", &payload(NETWORK, offset, len)),
            Load::Transport(offset, len) => self.numbers("payload", &payload(TRANSPORT, offset, len)),
        }
    }

    /// Keeps the bits of the register that are in the mask.
    pub(crate) fn mask(&mut self, mask: &[u8]) {
        let mut data = Vec::new();
        put_padded(&mut data, 1, &REGISTER.to_be_bytes());
        put_padded(&mut data, 2, &REGISTER.to_be_bytes());
        put_padded(&mut data, 3, &(mask.len() as u32).to_be_bytes());
        put_padded(&mut data, 4 | NESTED, &value(mask));
        put_padded(&mut data, 5 | NESTED, &value(&vec![0; mask.len()]));
        self.add("bitwise", &data);
    }

    /// Turns eight bytes in the register from host byte order into network byte order, in which they can be compared.
    pub(crate) fn order_eight(&mut self) {
        const TO_NETWORK: u32 = 1;
        self.numbers("byteorder", &[(1, REGISTER), (2, REGISTER), (3, TO_NETWORK), (4, 8), (5, 8)]);
    }

    /// The rule goes on for so many packets a second, and for as many at once.
    pub(crate) fn limit(&mut self, packets: u32) {
        const SECOND: u64 = 1;
        let mut data = Vec::new();
        put_padded(&mut data, 1, &u64::from(packets).to_be_bytes());
        put_padded(&mut data, 2, &SECOND.to_be_bytes());
        put_padded(&mut data, 3, &packets.to_be_bytes());
        self.add("limit", &data);
    }

    /// The kernel tells from here on what rules the packet meets.
    pub(crate) fn trace(&mut self) {
        let mut yes = Vec::new();
        put_padded(&mut yes, 1, &REGISTER.to_be_bytes());
        put_padded(&mut yes, 2 | NESTED, &value(&[1]));
        self.add("immediate", &yes);
        self.numbers("meta", &[(2, meta::TRACED), (3, REGISTER)]);
    }

    /// The packet goes through another chain, and comes to the end of this one.
    pub(crate) fn go_to(&mut self, chain: &str) {
        const GOTO: i32 = -4;
        let mut verdict = Vec::new();
        put_padded(&mut verdict, 1, &GOTO.to_be_bytes());
        put_text(&mut verdict, 2, chain);
        self.end_with(&verdict);
    }

    /// The rule goes on only if the register is so.
    pub(crate) fn compare(&mut self, how: Compare, with: &[u8]) {
        let mut data = Vec::new();
        put_padded(&mut data, 1, &REGISTER.to_be_bytes());
        put_padded(&mut data, 2, &(how as u32).to_be_bytes());
        put_padded(&mut data, 3 | NESTED, &value(with));
        self.add("cmp", &data);
    }

    /// The port at that place of the transport header, in bytes, is one of these.
    pub(crate) fn port(&mut self, at: u32, (first, last): (u16, u16)) {
        self.load(Load::Transport(at, 2));
        if first == last {
            self.compare(Compare::Equal, &first.to_be_bytes());
        } else {
            self.compare(Compare::AtLeast, &first.to_be_bytes());
            self.compare(Compare::AtMost, &last.to_be_bytes());
        }
    }

    /// The port at that place is in one of these ranges, of which there are many: a set is looked into in as many steps as a number of
    /// ranges has binary digits.
    pub(crate) fn port_in(&mut self, at: u32, ranges: Vec<(u16, u16)>) {
        self.load(Load::Transport(at, 2));
        let mut data = Vec::new();
        put_text(&mut data, 1, SET_OF_A_RULE);
        put_padded(&mut data, 2, &REGISTER.to_be_bytes());
        put_padded(&mut data, 4, &0u32.to_be_bytes());
        self.add("lookup", &data);
        self.sets.push(PortSet { ranges, number_at: self.bytes.len() - 4 });
    }

    /// Counts in the counter of that name.
    pub(crate) fn count(&mut self, counter: &str) {
        let mut data = Vec::new();
        put_padded(&mut data, 1, &1u32.to_be_bytes());
        put_text(&mut data, 2, counter);
        self.add("objref", &data);
    }

    /// The verdict.
    pub(crate) fn say(&mut self, verdict: Say) {
        let mut code = Vec::new();
        put_padded(&mut code, 1, &(verdict as i32).to_be_bytes());
        self.end_with(&code);
    }

    fn end_with(&mut self, verdict: &[u8]) {
        let mut of_verdict = Vec::new();
        put_padded(&mut of_verdict, 2 | NESTED, verdict);
        let mut data = Vec::new();
        put_padded(&mut data, 1, &0u32.to_be_bytes());
        put_padded(&mut data, 2 | NESTED, &of_verdict);
        self.add("immediate", &data);
    }

    /// nft's own `queue`.
    pub(crate) fn queue(&mut self, number: u16) {
        let mut data = Vec::new();
        put_padded(&mut data, 1, &number.to_be_bytes());
        put_padded(&mut data, 2, &1u16.to_be_bytes());
        self.add("queue", &data);
    }

    /// The target NFQUEUE of x_tables, by nft_compat (include/uapi/linux/netfilter/xt_NFQUEUE.h, `struct
    /// xt_NFQ_info_v3`): with `bypass` a queue without a listener is passed.
    pub(crate) fn target_nfqueue(&mut self, number: u16, bypass: bool) {
        const REVISION: u32 = 3;
        const BYPASS: u16 = 1;
        let mut info = Vec::new();
        for half in [number, 1, if bypass { BYPASS } else { 0 }, 0] {
            info.extend_from_slice(&half.to_ne_bytes());
        }
        let mut data = Vec::new();
        put_text(&mut data, 1, "NFQUEUE");
        put_padded(&mut data, 2, &REVISION.to_be_bytes());
        put_padded(&mut data, 3, &info);
        self.add("target", &data);
    }
}

/// `NFTA_DATA_VALUE`
fn value(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_padded(&mut out, 1, bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute::Attributes;

    #[test]
    fn golden_bytes_of_the_target() {
        let mut it = Expressions::default();
        it.target_nfqueue(100, true);
        let (kind, element) = Attributes::new(it.bytes()).next().unwrap();
        assert_eq!(kind, LIST_ELEMENT);
        let parts: Vec<_> = Attributes::new(element).collect();
        assert_eq!(parts[0], (NAME, &b"target\0"[..]));
        let data: Vec<_> = Attributes::new(parts[1].1).collect();
        assert_eq!(data[0], (1, &b"NFQUEUE\0"[..]));
        assert_eq!(data[1], (2, &[0, 0, 0, 3][..]));
        let mut info = Vec::new();
        for half in [100u16, 1, 1, 0] {
            info.extend_from_slice(&half.to_ne_bytes());
        }
        assert_eq!(data[2], (3, &info[..]));
    }
}
