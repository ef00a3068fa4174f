//! Packets from a capture file: pcap or pcapng, as whoever has written it.
//!
//! No crate reads it. What programs write is not always what the formats say, tcpdump and tshark read it all the same, and
//! people expect that here. The crate that writes our packets (pcap-file) refuses a snaplen of 0, names that are not UTF-8
//! and link types with further bits; it leaves out obsolete blocks without a word, hands their length to the allocator,
//! and does not tell where in the file a fault is.
//!
//! What is here trusts no length, and leaves nothing out without counting it.

mod fault;
mod foreign;
mod input;
mod link;
mod pcap;
mod pcapng;

use std::collections::BTreeMap;
use std::io::BufRead;

use jiff::Timestamp;

pub use fault::{CaptureError, Cut, Piece, Place};
pub use foreign::Foreign;
pub use input::Order;
pub use link::LinkType;

use self::input::Input;
use self::link::Inside;
use self::pcap::Pcap;
use self::pcapng::Pcapng;
use crate::net::{Mac, Stage};
use crate::packet::{LONGEST, Malformed, View};

/// The most bytes of one packet that a capture has: `MAXIMUM_SNAPLEN` in libpcap's pcap-int.h. More is a damaged length.
const MAXIMUM_SNAPLEN: u32 = 262_144;

/// An IP packet that was captured.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::simulate::Captured;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let captured = Captured {
///     time: "2026-03-02T09:14:22Z".parse()?,
///     interface: Some("xenbr0".to_owned()),
///     src_mac: None,
///     bytes: vec![0x45, 0, 0],
///     original_len: 3,
/// };
/// assert_eq!(captured.arrival(&cluster, node1).bytes.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use dunnat::simulate::Capture;
///
/// let not_one = std::io::Cursor::new(b"this is no capture".to_vec());
/// assert!(Capture::new(Box::new(not_one)).is_err());
/// ```
pub struct Capture {
    input: Input,
    format: Format,
    counts: Counts,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// What became of the frames of a capture so far. Each is counted once here, and once in `frames`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub frames: u64,
    /// Those with an IP packet that was handed on.
    pub packets: u64,
    /// Those with another thing, such as ARP.
    pub not_ip: u64,
    /// Those of which the capture has so little that their headers are not all there.
    pub too_short: u64,
    /// Those whose link headers are not read, by the kind of link and the name of the interface.
    pub not_read: BTreeMap<(LinkType, Option<String>), u64>,
}

impl Capture {
    /// Whether what begins like this is a capture. Of one that was cut within its first four bytes this is said, too.
    pub fn is_one(beginning: &[u8]) -> bool {
        let little = pcap::MAGIC.map(|[a, b, c, d]| [d, c, b, a]);
        let mut known = pcap::MAGIC.into_iter().chain(little).chain([pcapng::MAGIC]);
        let beginning = &beginning[..beginning.len().min(4)];
        // A line feed begins that of pcapng, and may also be an empty line.
        !beginning.trim_ascii().is_empty() && known.any(|magic| magic.starts_with(beginning))
            || *beginning == pcapng::MAGIC
    }

    /// Reads a capture.
    ///
    /// # Errors
    /// It is none, or ends within its header.
    pub fn new(input: Box<dyn BufRead>) -> Result<Self, CaptureError> {
        let mut input = Input::new(input);
        let first = input.peek().map_err(|source| CaptureError::Io { at: 0, source })?;
        let format = if first == pcapng::MAGIC.first().copied() {
            Format::Pcapng(Pcapng::default())
        } else {
            Format::Pcap(Pcap::new(&mut input)?)
        };
        Ok(Self { input, format, counts: Counts::default() })
    }

    /// What became of the frames so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The next IP packet; none at the end of the file.
    ///
    /// # Errors
    /// The file is damaged, ends within a packet, or has only frames of links that are not read.
    pub fn packet(&mut self) -> Result<Option<Captured>, CaptureError> {
        loop {
            let Some(frame) = self.frame()? else {
                let not_read: u64 = self.counts.not_read.values().sum();
                if not_read > 0 && not_read == self.counts.frames {
                    let words = self.counts.not_read_in_words().into_iter().map(|(words, _)| words);
                    return Err(CaptureError::Links(words.collect::<Vec<_>>().join("; ")));
                }
                return Ok(None);
            };
            self.counts.frames += 1;
            match frame.packet() {
                Ok(packet) => {
                    self.counts.packets += 1;
                    return Ok(Some(packet));
                }
                Err(NoPacket::NotIp) => self.counts.not_ip += 1,
                Err(NoPacket::TooShort) => self.counts.too_short += 1,
                Err(NoPacket::NotRead(link, interface)) => self.counts.not_read(link, interface),
            }
        }
    }

    /// The next frame, whatever is in it; none at the end of the file.
    ///
    /// # Errors
    /// The file is damaged, or ends within a packet.
    pub fn frame(&mut self) -> Result<Option<Frame>, CaptureError> {
        match &mut self.format {
            Format::Pcap(pcap) => pcap.frame(&mut self.input),
            Format::Pcapng(pcapng) => pcapng.frame(&mut self.input),
        }
    }
}

/// How many kinds of frames that are not read are told one by one. A file may have any number.
const TOLD: usize = 8;

impl Counts {
    fn not_read(&mut self, link: LinkType, interface: Option<String>) {
        // Further interfaces are not told, so their names are not kept.
        let interface = interface.filter(|_| self.not_read.len() < TOLD);
        *self.not_read.entry((link, interface)).or_default() += 1;
    }

    /// The frames that are not read, in words such as `link type 105 (802.11), of interface wlan0`, and how many they are.
    pub fn not_read_in_words(&self) -> Vec<(String, u64)> {
        let words = |(link, interface): &(LinkType, Option<String>)| match interface {
            Some(name) => format!("link type {link}, of interface {name}"),
            None => format!("link type {link}"),
        };
        let mut told: Vec<_> =
            self.not_read.iter().take(TOLD).map(|(kind, count)| (words(kind), *count)).collect();
        let rest: u64 = self.not_read.values().skip(TOLD).sum();
        if rest > 0 {
            told.push(("other link types".to_owned(), rest));
        }
        told
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
    pub link: LinkType,
    /// Its length as the file tells it; more than `bytes` has if the capture cut it.
    pub original_len: usize,
    /// The frame, from its link header on.
    pub bytes: Vec<u8>,
    /// How some links write numbers: as the machine that has captured.
    order: Order,
}

/// Why there is no IP packet in a frame.
enum NoPacket {
    NotIp,
    TooShort,
    NotRead(LinkType, Option<String>),
}

impl Frame {
    /// The IP packet in it.
    fn packet(self) -> Result<Captured, NoPacket> {
        let (payload, src_mac) = match link::inside(self.link, self.order, &self.bytes) {
            Inside::Ip(payload, src_mac) => (payload, src_mac),
            Inside::NotIp => return Err(NoPacket::NotIp),
            Inside::TooShort => return Err(NoPacket::TooShort),
            Inside::NotRead => return Err(NoPacket::NotRead(self.link, self.interface)),
        };
        let header = self.bytes.len() - payload.len();
        let mut bytes = payload.to_vec();
        // No packet has so much; then what is there counts.
        let told = self.original_len.checked_sub(header).filter(|len| *len <= LONGEST);
        let mut original_len = told.unwrap_or_default().max(bytes.len());
        match View::parse(&bytes, original_len) {
            Ok(view) => {
                // What is behind the packet is padding of its frame.
                bytes.truncate(view.len);
                original_len = view.len;
            }
            Err(Malformed::NotIp | Malformed::IpLength) if !bytes.is_empty() => {}
            // What is missing may be what the capture has not.
            Err(_) if bytes.len() < original_len => return Err(NoPacket::TooShort),
            Err(_) => {}
        }
        Ok(Captured { time: self.time, interface: self.interface, src_mac, bytes, original_len })
    }

    /// Takes off the frame check sequence at its end, or what was captured of it.
    fn without_fcs(&mut self, len: usize) {
        self.original_len = self.original_len.max(self.bytes.len()).saturating_sub(len);
        self.bytes.truncate(self.original_len);
    }
}

/// A time in nanoseconds since 1970; what is beyond all calendars is their first or last moment.
fn time(nanoseconds: i128) -> Timestamp {
    let end = if nanoseconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_nanosecond(nanoseconds).unwrap_or(end)
}

/// Whether an interface is one that a trace has written: `node2 dnat before`.
fn is_of_trace(name: &str) -> bool {
    let words: Vec<&str> = name.split(' ').collect();
    matches!(words[..], [_, stage, "before" | "after"] if stage.parse::<Stage>().is_ok())
}

#[cfg(test)]
mod tests;
