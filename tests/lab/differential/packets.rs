//! Packets of every sort, the same at each run, and what routers and the engine make of them.

use std::net::IpAddr;

use dunnat::engine::{Meta, Tables, decide};
use dunnat::net::{Checksum, CtMark, Mark, Proto, Stage};
use dunnat::packet::{Difference, Patch, View, full};

use super::Ends;

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => four.octets().into(),
        IpAddr::V6(six) => six.octets().into(),
    }
}

/// Numbers that look like chance and are the same every time (xorshift64*, Vigna 2016).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.next() >> 33) as usize % count
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 40) as u8).collect()
    }
}

pub(super) fn field(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A packet of that protocol and number, of any options, TTL, TOS and length; and its transport checksum is right, or
/// wrong, or one of the values on which arithmetic trips.
pub(super) fn packet(
    chance: &mut Chance,
    ends: &Ends,
    (src, dst): (IpAddr, IpAddr),
    protocol: u8,
    ports: (u16, u16),
    number: u16,
) -> Vec<u8> {
    let len = [chance.below(40), chance.below(1340)][chance.below(2)];
    let payload = chance.bytes(len);
    let (from, to) = (ports.0.to_be_bytes(), ports.1.to_be_bytes());
    let (mut transport, at) = match protocol {
        6 => {
            let words = chance.below(11);
            let head = [
                &from[..],
                &to,
                &chance.bytes(8),
                &[(5 + words as u8) << 4, [0x02, 0x10, 0x18][chance.below(3)]],
            ];
            ([&head.concat()[..], &chance.bytes(2), &[0; 4], &vec![1; 4 * words]].concat(), 16)
        }
        1 => ([&[8, 0, 0, 0][..], &from, &to].concat(), 2),
        58 => ([&[128, 0, 0, 0][..], &from, &to].concat(), 2),
        _ => ([&from[..], &to, &((8 + len) as u16).to_be_bytes(), &[0, 0]].concat(), 6),
    };
    transport.extend(payload);
    let addresses = [octets(src), octets(dst)].concat();
    let pseudo = [&addresses[..], &[0, protocol], &(transport.len() as u16).to_be_bytes()].concat();
    let right = full(&[if protocol == 1 { &[] } else { &pseudo }, &transport]);
    let right = if right == 0 && protocol == 17 { 0xffff } else { right };
    let (old, new) = if src == ends.guest1 { (src, ends.public2) } else { (dst, ends.guest1) };
    let sum = match chance.below(8) {
        0 => chance.next() as u16,
        // UDP-Lite has no "none": conntrack does not know such packets, so the kernel leaves them as they are.
        1 if protocol != 136 => 0,
        2 => 0xffff,
        3 => right.wrapping_add(1),
        4 => [1, 0xfffe, 0x00ff, 0xff00, 0x8000][chance.below(5)],
        // It comes out as zero.
        5 => between(new, old).apply(0),
        _ => right,
    };
    // By chance, too.
    let sum = if protocol == 136 && sum == 0 { 0xffff } else { sum };
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut ip = if src.is_ipv4() {
        header_v4(chance, protocol, number, &addresses, transport.len())
    } else {
        header_v6(chance, protocol, number, &addresses, transport.len())
    };
    ip.extend(transport);
    ip
}

fn between(old: IpAddr, new: IpAddr) -> Difference {
    match (old, new) {
        (IpAddr::V4(old), IpAddr::V4(new)) => Difference::between_v4(old, new),
        (IpAddr::V6(old), IpAddr::V6(new)) => Difference::between_v6(old, new),
        _ => panic!("{old} and {new}"),
    }
}

fn header_v4(chance: &mut Chance, protocol: u8, number: u16, addresses: &[u8], len: usize) -> Vec<u8> {
    let words = if chance.below(3) == 0 { chance.below(11) } else { 0 };
    let mut options = vec![1; 4 * words];
    if words > 1 {
        // One that routers know nothing of and leave alone (RFC 791: copied, control, number 30).
        let len = 2 + chance.below(4 * words - 2);
        options[..2].copy_from_slice(&[0x9e, len as u8]);
    }
    let mut ip = vec![0x40 + 5 + words as u8, (chance.next() as u8) & 0xfc];
    ip.extend(((20 + options.len() + len) as u16).to_be_bytes());
    ip.extend(number.to_be_bytes());
    ip.extend([[0, 0x40][chance.below(2)], 0, 3 + chance.below(253) as u8, protocol, 0, 0]);
    ip.extend(addresses);
    ip.extend(options);
    let sum = full(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip
}

/// With options for the destination, and some for every hop, now and then.
fn header_v6(chance: &mut Chance, protocol: u8, number: u16, addresses: &[u8], len: usize) -> Vec<u8> {
    let mut kinds = Vec::new();
    if chance.below(4) == 0 {
        kinds.push(0);
    }
    if chance.below(4) == 0 {
        kinds.push(60);
    }
    let mut extensions = Vec::new();
    for place in 0..kinds.len() {
        let next = kinds.get(place + 1).copied().unwrap_or(protocol);
        let words = chance.below(1 + 2 * usize::from(kinds[place] == 60));
        let mut options = vec![0; 8 + 8 * words];
        // Padding, as one option (RFC 8200 §4.2).
        options[..4].copy_from_slice(&[next, words as u8, 1, (4 + 8 * words) as u8]);
        extensions.extend(options);
    }
    let class = (chance.next() as u8) & 0xfc;
    let mut ip = vec![0x60 | class >> 4, class << 4];
    ip.extend(number.to_be_bytes());
    ip.extend(((extensions.len() + len) as u16).to_be_bytes());
    ip.extend([kinds.first().copied().unwrap_or(protocol), 3 + chance.below(253) as u8]);
    ip.extend(addresses);
    ip.extend(extensions);
    ip
}

pub(super) fn is_v4(bytes: &[u8]) -> bool {
    bytes[0] >> 4 == 4
}

/// The number that a packet was given.
pub(super) fn number_of(bytes: &[u8]) -> u16 {
    field(bytes, number_at(bytes))
}

fn number_at(bytes: &[u8]) -> usize {
    if is_v4(bytes) { 4 } else { 2 }
}

/// The same with another number.
pub(super) fn numbered(mut bytes: Vec<u8>, number: u16) -> Vec<u8> {
    let at = number_at(&bytes);
    bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
    if is_v4(&bytes) {
        let len = usize::from(bytes[0] & 15) * 4;
        bytes[10..12].copy_from_slice(&[0, 0]);
        let sum = full(&[&bytes[..len]]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// As a router does: TTL less one, the checksum with it.
pub(super) fn forwarded(bytes: &mut [u8]) {
    if !is_v4(bytes) {
        bytes[7] -= 1;
        return;
    }
    bytes[8] -= 1;
    let sum = u32::from(field(bytes, 10)) + 0x0100;
    let sum = (sum + u32::from(sum >= 0xffff)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

pub(super) fn translated(tables: &Tables, stage: Stage, bytes: &mut [u8]) {
    let ct_mark = if stage == Stage::Spoof { Mark(2) } else { Mark::ZERO };
    let view = View::parse(bytes, bytes.len()).unwrap();
    let decision =
        decide(tables, stage, Ok(&view), &Meta { ct_mark: CtMark::Is(ct_mark), ..Meta::default() });
    let rewrite = decision.rewrite.unwrap_or_else(|| panic!("{}: {}", view.tuple, decision.reason));
    Patch::new(bytes, &view, rewrite, Checksum::Ready).unwrap().apply(bytes);
}

pub(super) fn proto(bytes: &[u8]) -> Proto {
    View::parse(bytes, bytes.len()).unwrap().tuple.proto
}
