//! Which bytes of a packet are which field of a header, for who wants to look at them.

use std::net::IpAddr;
use std::ops::Range;

use super::tcp_flags::TcpFlags;
use super::transport::Fragment;
use super::view::View;
use crate::net::Proto;

/// Some bytes of a packet, and what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The header that they belong to, as in `ip` or `quoted tcp`.
    pub header: String,
    /// The name of the field in nft; `options` or `data` where there is no one field.
    pub name: &'static str,
    /// Where it is.
    pub at: Range<usize>,
    kind: FieldKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    Version4,
    FragOff,
    Number,
    Proto,
    Address,
    TcpLength,
    TcpFlags,
    /// Only the bytes themselves.
    Bytes,
}

use FieldKind::{Address, Bytes, FragOff, Number, TcpLength, Version4};

/// RFC 791 §3.1, RFC 8200 §3, RFC 9293 §3.1, RFC 768, RFC 792; in bytes.
const IPV4: [(&str, usize, FieldKind); 10] = [
    ("version, hdrlength", 1, Version4),
    ("dscp, ecn", 1, Bytes),
    ("length", 2, Number),
    ("id", 2, Number),
    ("frag-off", 2, FragOff),
    ("ttl", 1, Number),
    ("protocol", 1, FieldKind::Proto),
    ("checksum", 2, Bytes),
    ("saddr", 4, Address),
    ("daddr", 4, Address),
];
const IPV6: [(&str, usize, FieldKind); 6] = [
    ("version, dscp, flowlabel", 4, Bytes),
    ("length", 2, Number),
    ("nexthdr", 1, FieldKind::Proto),
    ("hoplimit", 1, Number),
    ("saddr", 16, Address),
    ("daddr", 16, Address),
];
const TCP: [(&str, usize, FieldKind); 9] = [
    ("sport", 2, Number),
    ("dport", 2, Number),
    ("sequence", 4, Number),
    ("ackseq", 4, Number),
    ("doff", 1, TcpLength),
    ("flags", 1, FieldKind::TcpFlags),
    ("window", 2, Number),
    ("checksum", 2, Bytes),
    ("urgptr", 2, Number),
];
const UDP: [(&str, usize, FieldKind); 4] =
    [("sport", 2, Number), ("dport", 2, Number), ("length", 2, Number), ("checksum", 2, Bytes)];
const ICMP: [(&str, usize, FieldKind); 4] =
    [("type", 1, Number), ("code", 1, Number), ("checksum", 2, Bytes), ("rest of header", 4, Bytes)];

/// The fields of a packet that `view` was read from, in the order of their bytes; all bytes belong to one. A packet that
/// cannot be read is data.
pub fn fields(packet: &[u8], view: Option<&View>) -> Vec<Field> {
    let mut out = Fields { out: Vec::new(), at: 0, end: packet.len() };
    if let Some(view) = view {
        out.end = view.len.min(packet.len());
        out.ip(packet, "");
        out.up_to(view.transport, "ip", "options");
        if view.fragment != Fragment::Later {
            out.transport(packet, view.tuple.proto, "");
            if let Some(error) = &view.error {
                out.ip(packet, "quoted ");
                if let Some(transport) = error.transport {
                    out.up_to(transport, "quoted ip", "options");
                    out.transport(packet, error.about.proto, "quoted ");
                }
            }
        }
    }
    out.end = packet.len();
    out.up_to(packet.len(), "", "data");
    out.out
}

struct Fields {
    out: Vec<Field>,
    at: usize,
    end: usize,
}

impl Fields {
    /// An IP header.
    fn ip(&mut self, packet: &[u8], prefix: &str) {
        let begin = self.at;
        let header = format!("{prefix}ip");
        let Some(first) = packet.get(begin) else { return };
        if first >> 4 == 4 {
            self.header(&header, &IPV4);
            self.up_to(begin + 4 * usize::from(first & 15), &header, "options");
        } else {
            self.header(&header, &IPV6);
        }
    }

    fn transport(&mut self, packet: &[u8], proto: Proto, prefix: &str) {
        let begin = self.at;
        let header = format!("{prefix}{proto}");
        match proto {
            Proto::TCP => {
                self.header(&header, &TCP);
                let len = packet.get(begin + 12).map_or(0, |byte| 4 * usize::from(byte >> 4));
                self.up_to(begin + len, &header, "options");
            }
            Proto::UDP => self.header(&header, &UDP),
            Proto::ICMP | Proto::ICMP6 => self.header(&header, &ICMP),
            _ => {}
        }
    }

    fn header(&mut self, header: &str, fields: &[(&'static str, usize, FieldKind)]) {
        for (name, len, kind) in fields {
            self.push(header, name, *len, *kind);
        }
    }

    fn up_to(&mut self, to: usize, header: &str, name: &'static str) {
        self.push(header, name, to.saturating_sub(self.at), Bytes);
    }

    /// As much of a field as is there.
    fn push(&mut self, header: &str, name: &'static str, len: usize, kind: FieldKind) {
        let to = (self.at + len).min(self.end);
        if to > self.at {
            let kind = if to - self.at == len { kind } else { Bytes };
            self.out.push(Field { header: header.to_owned(), name, at: self.at..to, kind });
            self.at = to;
        }
    }
}

impl Field {
    /// What the field says in these bytes, which are all of it; nothing where there are no words for it.
    pub fn says(&self, bytes: &[u8]) -> String {
        let number = || bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        match (self.kind, bytes) {
            (Number, _) => number().to_string(),
            (Version4, [byte]) => format!("{}, {} bytes", byte >> 4, 4 * (byte & 15)),
            (FragOff, _) => {
                let flags = [(0x4000, "don't fragment"), (0x2000, "more fragments")];
                let mut words: Vec<String> = flags
                    .iter()
                    .filter(|(flag, _)| number() & flag != 0)
                    .map(|(_, name)| (*name).to_owned())
                    .collect();
                if number() & 0x1fff != 0 {
                    words.push(format!("from byte {} on", 8 * (number() & 0x1fff)));
                }
                words.join(", ")
            }
            (FieldKind::Proto, [byte]) => Proto(*byte).to_string(),
            (Address, _) => match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
                (Ok(four), _) => IpAddr::from(four).to_string(),
                (_, Ok(six)) => IpAddr::from(six).to_string(),
                _ => String::new(),
            },
            (TcpLength, [byte]) => format!("{} bytes", 4 * (byte >> 4)),
            (FieldKind::TcpFlags, [byte]) => TcpFlags(*byte).names().collect::<Vec<_>>().join(","),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    fn told(packet: &[u8]) -> String {
        let view = View::parse(packet, packet.len()).ok();
        let fields = fields(packet, view.as_ref());
        let line = |field: Field| {
            let says = field.says(&packet[field.at.clone()]);
            format!("{:?} {} {}: {says}\n", field.at, field.header, field.name)
        };
        fields.into_iter().map(line).collect()
    }

    #[test]
    fn a_tcp_packet_has_the_fields_that_nft_names() {
        let mut bytes = Vec::new();
        let tcp = PacketBuilder::ipv4([192, 168, 122, 1], [10, 5, 5, 201], 64).tcp(40000, 80, 7, 1024);
        tcp.syn().options_raw(&[1, 1, 1, 1]).unwrap().write(&mut bytes, b"abc").unwrap();
        insta::assert_snapshot!(told(&bytes));
    }

    #[test]
    fn an_icmp_error_is_told_with_what_it_quotes() {
        let (mut quoted, mut bytes) = (Vec::new(), Vec::new());
        PacketBuilder::ipv4([10, 5, 5, 201], [192, 168, 122, 1], 64)
            .tcp(80, 40000, 7, 1024)
            .write(&mut quoted, &[])
            .unwrap();
        PacketBuilder::ipv4([192, 168, 122, 1], [192, 168, 122, 12], 64)
            .icmpv4_raw(3, 3, [0; 4])
            .write(&mut bytes, &quoted[..28])
            .unwrap();
        let told = told(&bytes);
        for line in [
            "40..44 quoted ip saddr: 10.5.5.201\n",
            "48..50 quoted tcp sport: 80\n",
            "52..56 quoted tcp sequence: 7\n",
        ] {
            assert!(told.contains(line), "{told}");
        }
    }

    /// An ICMP error about a packet, whose header has a word of options more than usual.
    fn about_options(change: impl Fn(&mut Vec<u8>)) -> String {
        let (mut quoted, mut bytes) = (Vec::new(), Vec::new());
        PacketBuilder::ipv4([10, 5, 5, 201], [192, 168, 122, 1], 64)
            .udp(53, 40000)
            .write(&mut quoted, b"x")
            .unwrap();
        quoted.splice(20..20, [1, 1, 1, 0]);
        (quoted[0], quoted[3]) = (0x46, quoted[3] + 4);
        change(&mut quoted);
        PacketBuilder::ipv4([192, 168, 122, 1], [192, 168, 122, 12], 64)
            .icmpv4_raw(3, 3, [0; 4])
            .write(&mut bytes, &quoted)
            .unwrap();
        told(&bytes)
    }

    #[test]
    fn a_quoted_header_may_have_options() {
        let told = about_options(|_| {});
        for lines in [
            "48..52 quoted ip options: \n52..54 quoted udp sport: 53\n",
            "56..58 quoted udp length: 9\n58..60 quoted udp checksum: \n60..61  data: \n",
        ] {
            assert!(told.contains(lines), "{told}");
        }
    }

    #[test]
    fn a_quoted_later_fragment_has_no_ports() {
        for (place, byte, says) in [(7, 1, "don't fragment, from byte 8 on"), (6, 1, "from byte 2048 on")] {
            let told = about_options(|quoted| quoted[place] = byte);
            assert!(told.contains(&format!("34..36 quoted ip frag-off: {says}\n")), "{told}");
            assert!(told.contains("48..52 quoted ip options: \n52..61  data: \n"), "{told}");
        }
    }

    #[test]
    fn ipv6_has_its_own_fields() {
        let (mut quoted, mut bytes) = (Vec::new(), Vec::new());
        PacketBuilder::ipv6([0x20; 16], [0x30; 16], 64).udp(53, 40000).write(&mut quoted, b"x").unwrap();
        PacketBuilder::ipv6([0x40; 16], [0x20; 16], 64)
            .icmpv6_raw(1, 4, [0; 4])
            .write(&mut bytes, &quoted)
            .unwrap();
        let told = told(&bytes);
        for line in [
            "6..7 ip nexthdr: ipv6-icmp\n",
            "8..24 ip saddr: 4040:4040:4040:4040:4040:4040:4040:4040\n",
            "40..41 ipv6-icmp type: 1\n",
            "54..55 quoted ip nexthdr: udp\n",
            "72..88 quoted ip daddr: 3030:3030:3030:3030:3030:3030:3030:3030\n",
            "88..90 quoted udp sport: 53\n",
        ] {
            assert!(told.contains(line), "{told}");
        }
    }

    #[test]
    fn a_quoted_header_may_have_extensions() {
        let (mut quoted, mut bytes) = (Vec::new(), Vec::new());
        PacketBuilder::ipv6([0x20; 16], [0x30; 16], 64).udp(53, 40000).write(&mut quoted, b"x").unwrap();
        quoted.splice(40..40, [17, 0, 1, 4, 0, 0, 0, 0]);
        (quoted[6], quoted[5]) = (60, quoted[5] + 8);
        PacketBuilder::ipv6([0x40; 16], [0x20; 16], 64)
            .icmpv6_raw(1, 4, [0; 4])
            .write(&mut bytes, &quoted)
            .unwrap();
        let told = told(&bytes);
        assert!(told.contains("88..96 quoted ip options: \n96..98 quoted udp sport: 53\n"), "{told}");
    }

    proptest! {
        #[test]
        fn every_byte_of_any_packet_belongs_to_one_field(mut bytes in prop::collection::vec(any::<u8>(), 0..120), four: bool, proto in prop::sample::select(vec![1u8, 6, 17, 47])) {
            if let Some(first) = bytes.first_mut() {
                *first = if four { 0x45 } else { 0x60 };
            }
            if let [_, _, high, low, id @ .., ] = &mut bytes[..] && four {
                (*high, *low) = (0, id.len() as u8 + 4);
                if let Some(byte) = id.get_mut(5) {
                    *byte = proto;
                }
            }
            let view = View::parse(&bytes, 1 << 16).ok();
            let mut next = 0;
            for field in fields(&bytes, view.as_ref()) {
                prop_assert_eq!(field.at.start, next);
                prop_assert!(!field.at.is_empty());
                field.says(&bytes[field.at.clone()]);
                next = field.at.end;
            }
            prop_assert_eq!(next, bytes.len());
        }
    }
}
