//! Capture files, made byte by byte: also such as no library writes.

/// The order of the bytes in numbers.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Big,
    Little,
}

use Order::{Big, Little};

impl Order {
    pub(crate) fn u16(self, number: u16) -> [u8; 2] {
        match self {
            Big => number.to_be_bytes(),
            Little => number.to_le_bytes(),
        }
    }

    pub(crate) fn u32(self, number: u32) -> [u8; 4] {
        match self {
            Big => number.to_be_bytes(),
            Little => number.to_le_bytes(),
        }
    }
}

/// A pcap file under way.
#[derive(Clone)]
pub(crate) struct Pcap {
    order: Order,
    /// What each packet has behind its lengths.
    more: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Pcap {
    pub(crate) fn new(order: Order, magic: u32, version: (u16, u16), snaplen: u32, link: u32) -> Self {
        let mut bytes = order.u32(magic).to_vec();
        bytes.extend([order.u16(version.0), order.u16(version.1)].concat());
        bytes.extend([[0; 4], [0; 4], order.u32(snaplen), order.u32(link)].concat());
        Self { order, more: if magic == 0xa1b2_cd34 { 8 } else { 0 }, bytes }
    }

    /// As tcpdump writes it.
    pub(crate) fn usual(link: u32) -> Self {
        Self::new(Little, 0xa1b2_c3d4, (2, 4), 262_144, link)
    }

    /// A packet with these two lengths, in their order in the file.
    pub(crate) fn with(mut self, lengths: (u32, u32), frame: &[u8]) -> Self {
        for number in [1_790_000_000, 250_000, lengths.0, lengths.1] {
            self.bytes.extend(self.order.u32(number));
        }
        self.bytes.extend(vec![0; self.more]);
        self.bytes.extend(frame);
        self
    }

    /// A packet that was captured whole.
    pub(crate) fn packet(self, frame: &[u8]) -> Self {
        self.with((frame.len() as u32, frame.len() as u32), frame)
    }

    /// The same three times.
    pub(crate) fn three(self, frame: &[u8]) -> Vec<u8> {
        self.packet(frame).packet(frame).packet(frame).bytes
    }
}

/// A pcapng file under way.
#[derive(Clone)]
pub(crate) struct Pcapng {
    pub(crate) order: Order,
    pub(crate) bytes: Vec<u8>,
}

impl Pcapng {
    /// With a section header.
    pub(crate) fn new(order: Order) -> Self {
        Self { order, bytes: Vec::new() }.section(order, u64::MAX)
    }

    /// With one Ethernet interface beside.
    pub(crate) fn usual(order: Order) -> Self {
        Self::new(order).interface(1, 262_144, &[])
    }

    pub(crate) fn section(mut self, order: Order, len: u64) -> Self {
        self.order = order;
        let len = match order {
            Big => len.to_be_bytes(),
            Little => len.to_le_bytes(),
        };
        let body = [&order.u32(0x1a2b_3c4d)[..], &order.u16(1), &order.u16(0), &len].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    pub(crate) fn interface(self, link: u16, snaplen: u32, options: &[u8]) -> Self {
        let order = self.order;
        self.block(1, &[&order.u16(link)[..], &[0, 0], &order.u32(snaplen), options].concat())
    }

    pub(crate) fn block(self, kind: u32, body: &[u8]) -> Self {
        let len = 12 + body.len().next_multiple_of(4) as u32;
        self.raw(kind, (len, len), body)
    }

    /// A block with these lengths at its beginning and end.
    pub(crate) fn raw(mut self, kind: u32, lengths: (u32, u32), body: &[u8]) -> Self {
        self.bytes.extend(self.order.u32(kind));
        self.bytes.extend(self.order.u32(lengths.0));
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend(self.order.u32(lengths.1));
        self
    }

    /// An Enhanced Packet Block.
    pub(crate) fn enhanced(self, interface: u32, lengths: (u32, u32), frame: &[u8], options: &[u8]) -> Self {
        let time = 1_790_000_000_250_000_u64;
        let order = self.order;
        let numbers = [interface, (time >> 32) as u32, time as u32, lengths.0, lengths.1];
        let mut body: Vec<u8> = numbers.iter().flat_map(|number| order.u32(*number)).collect();
        body.extend(frame);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(options);
        self.block(6, &body)
    }

    pub(crate) fn packet(self, frame: &[u8]) -> Self {
        let len = frame.len() as u32;
        self.enhanced(0, (len, len), frame, &[])
    }

    /// An obsolete Packet Block.
    pub(crate) fn obsolete(self, frame: &[u8]) -> Self {
        let (order, len) = (self.order, frame.len() as u32);
        let mut body = [order.u16(0), order.u16(0xffff)].concat();
        body.extend([0x0006_5bff, 0x55aa_0000, len, len].iter().flat_map(|number| order.u32(*number)));
        body.extend(frame);
        self.block(2, &body)
    }

    /// A Simple Packet Block.
    pub(crate) fn simple(self, original: u32, frame: &[u8]) -> Self {
        let order = self.order;
        self.block(3, &[&order.u32(original)[..], frame].concat())
    }

    pub(crate) fn three(self, frame: &[u8]) -> Vec<u8> {
        self.packet(frame).packet(frame).packet(frame).bytes
    }
}

/// An option of a block.
pub(crate) fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [order.u16(code), order.u16(value.len() as u16)].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A request to the service web, as a node has it on its public interface.
pub(crate) fn request() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 44, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 168, 122, 1, 192, 168, 122, 12];
    packet
        .extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
    packet
}

/// The same in IPv6, to an address of nobody.
pub(crate) fn request_6() -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 24, 6, 64];
    packet.extend(
        [[0xfd, 0, 1, 0x22, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], {
            [0xfd, 0, 1, 0x22, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12]
        }]
        .concat(),
    );
    packet.extend_from_slice(&request()[20..]);
    packet
}

/// In an Ethernet frame with this between the addresses and the packet.
pub(crate) fn ethernet(kind: &[u8], packet: &[u8]) -> Vec<u8> {
    let mut frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9], kind, packet].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}
