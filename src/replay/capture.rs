//! Packets from a capture file: pcap or pcapng, of what Linux captures.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use etherparse::{EtherType, Ethernet2Slice, LinuxSllProtocolType, LinuxSllSlice, SingleVlanSlice};
use jiff::Timestamp;
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::block_common::Block;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

use crate::net::{Mac, Stage};
use crate::packet::View;

/// An IP packet that was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When.
    pub time: Timestamp,
    /// The interface, where the file names it.
    pub interface: Option<String>,
    /// The source address of its frame.
    pub src_mac: Option<Mac>,
    /// The packet, from its IP header on, without padding.
    pub bytes: Vec<u8>,
    /// Its length; more than `bytes` has if the capture cut it.
    pub original_len: usize,
}

/// A capture file that is read.
pub struct Capture {
    kind: Kind,
    /// Frames without an IP packet, such as ARP.
    pub not_ip: u64,
}

enum Kind {
    Pcap(Box<PcapReader<Box<dyn Read>>>),
    Pcapng(Box<PcapNgReader<Box<dyn Read>>>),
}

/// Why a file cannot be read as a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is damaged, or of a kind that is not read.
    #[error("{0}")]
    Damaged(String),
    /// It shows packets before and after each stage, as `dunnat trace` writes them.
    #[error(
        "it is a trace that was written as packets, which has each of them several times and no marks; decisions are \
         made again from a trace in JSON"
    )]
    Trace,
    /// Its packets have link headers that are not read.
    #[error("packets of link type {0:?} are not read; Ethernet, raw IP and Linux cooked (sll, sll2) are")]
    Link(DataLink),
}

/// How a pcapng file begins: with the type of its section header.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// How a pcap file begins: microseconds or nanoseconds, in either byte order.
const PCAP: [[u8; 4]; 4] =
    [[0xa1, 0xb2, 0xc3, 0xd4], [0xd4, 0xc3, 0xb2, 0xa1], [0xa1, 0xb2, 0x3c, 0x4d], [0x4d, 0x3c, 0xb2, 0xa1]];

fn damaged(error: impl std::fmt::Display) -> CaptureError {
    CaptureError::Damaged(error.to_string())
}

impl Capture {
    /// Whether what begins like this is a capture.
    pub fn is_one(beginning: &[u8]) -> bool {
        beginning.first_chunk().is_some_and(|magic| *magic == PCAPNG || PCAP.contains(magic))
    }

    /// Reads a capture.
    ///
    /// # Errors
    /// It is none.
    pub fn new(mut input: Box<dyn BufRead>) -> Result<Self, CaptureError> {
        let is_new = input.fill_buf()?.starts_with(&PCAPNG);
        let input: Box<dyn Read> = Box::new(input);
        let kind = if is_new {
            Kind::Pcapng(Box::new(PcapNgReader::new(input).map_err(damaged)?))
        } else {
            Kind::Pcap(Box::new(PcapReader::new(input).map_err(damaged)?))
        };
        Ok(Self { kind, not_ip: 0 })
    }

    /// The next IP packet; none at the end of the file.
    ///
    /// # Errors
    /// The file is damaged, ends within a packet, or has packets that are not read.
    pub fn packet(&mut self) -> Result<Option<Captured>, CaptureError> {
        loop {
            let Some(frame) = self.frame()? else { return Ok(None) };
            match frame.packet()? {
                Some(packet) => return Ok(Some(packet)),
                None => self.not_ip += 1,
            }
        }
    }

    /// The next frame, whatever is in it; none at the end of the file.
    ///
    /// # Errors
    /// The file is damaged, or ends within a packet.
    pub fn frame(&mut self) -> Result<Option<Frame>, CaptureError> {
        match &mut self.kind {
            Kind::Pcap(reader) => {
                let link = reader.header().datalink;
                let Some(packet) = reader.next_packet().transpose().map_err(damaged)? else {
                    return Ok(None);
                };
                Ok(Some(Frame {
                    time: time(packet.timestamp()),
                    interface: None,
                    link,
                    original_len: packet.orig_len() as usize,
                    bytes: packet.data().to_vec(),
                }))
            }
            Kind::Pcapng(reader) => loop {
                let Some(next) = reader.next_block() else { return Ok(None) };
                let (block, state) = next.map_err(damaged)?;
                let (interface, timestamp, original_len, bytes) = match block {
                    Block::EnhancedPacket(packet) => (
                        packet.interface_id as usize,
                        packet.timestamp,
                        packet.original_len,
                        packet.data.into_owned(),
                    ),
                    Block::SimplePacket(packet) => {
                        (0, Duration::ZERO, packet.original_len, packet.data.into_owned())
                    }
                    _ => continue,
                };
                let Some(interface) = state.interfaces().get(interface) else {
                    return Err(damaged("a packet of an interface that is not described"));
                };
                let name = name(interface);
                if name.as_deref().is_some_and(is_of_trace) {
                    return Err(CaptureError::Trace);
                }
                let link = interface.linktype;
                let original_len = original_len as usize;
                return Ok(Some(Frame { time: time(timestamp), interface: name, link, original_len, bytes }));
            },
        }
    }
}

/// A frame that was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When.
    pub time: Timestamp,
    /// The interface, where the file names it.
    pub interface: Option<String>,
    /// What it begins with.
    pub link: DataLink,
    /// Its length; more than `bytes` has if the capture cut it.
    pub original_len: usize,
    /// The frame, from its link header on.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The IP packet in it.
    fn packet(self) -> Result<Option<Captured>, CaptureError> {
        let Some((payload, src_mac)) = payload(self.link, &self.bytes)? else { return Ok(None) };
        let header = self.bytes.len() - payload.len();
        let mut bytes = payload.to_vec();
        let mut original_len = self.original_len.saturating_sub(header).max(bytes.len());
        if let Ok(view) = View::parse(&bytes, original_len) {
            // What is behind the packet is padding of its frame.
            bytes.truncate(view.len);
            original_len = view.len;
        }
        Ok(Some(Captured { time: self.time, interface: self.interface, src_mac, bytes, original_len }))
    }
}

/// An IP packet, and who sent its frame.
type Inside<'a> = (&'a [u8], Option<Mac>);

/// The IP packet in a frame. None if there is another thing in it, or it is too short.
fn payload(link: DataLink, frame: &[u8]) -> Result<Option<Inside<'_>>, CaptureError> {
    let is_ip = |kind: EtherType| matches!(kind, EtherType::IPV4 | EtherType::IPV6);
    Ok(match link {
        DataLink::ETHERNET => Ethernet2Slice::from_slice_without_fcs(frame).ok().and_then(|ethernet| {
            let (mut kind, mut rest) = (ethernet.ether_type(), ethernet.payload_slice());
            while let EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING = kind {
                let vlan = SingleVlanSlice::from_slice(rest).ok()?;
                (kind, rest) = (vlan.ether_type(), vlan.payload_slice());
            }
            is_ip(kind).then(|| (rest, Some(Mac(ethernet.source()))))
        }),
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => Some((frame, None)),
        DataLink::LINUX_SLL => LinuxSllSlice::from_slice(frame).ok().and_then(|cooked| {
            let LinuxSllProtocolType::EtherType(kind) = cooked.protocol_type() else { return None };
            is_ip(kind).then(|| (cooked.payload_slice(), mac(cooked.sender_address())))
        }),
        // https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html: protocol, ..., length and bytes of the address.
        DataLink::LINUX_SLL2 => frame.split_at_checked(20).and_then(|(header, rest)| {
            let kind = EtherType(u16::from_be_bytes([header[0], header[1]]));
            let address = header[12..].get(..usize::from(header[11])).unwrap_or_default();
            is_ip(kind).then(|| (rest, mac(address)))
        }),
        other => return Err(CaptureError::Link(other)),
    })
}

fn mac(address: &[u8]) -> Option<Mac> {
    address.try_into().ok().map(Mac)
}

fn time(since: Duration) -> Timestamp {
    Timestamp::UNIX_EPOCH.saturating_add(since).unwrap_or_default()
}

/// Whether an interface is one that a trace has written: `node2 dnat before`.
fn is_of_trace(name: &str) -> bool {
    let words: Vec<&str> = name.split(' ').collect();
    matches!(words[..], [_, stage, "before" | "after"] if stage.parse::<Stage>().is_ok())
}

fn name(interface: &InterfaceDescriptionBlock<'_>) -> Option<String> {
    interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
        _ => None,
    })
}
