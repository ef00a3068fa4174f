//! The older format: a header, and then packets.
//!
//! It is that of libpcap's sf-pcap.c and of draft-ietf-opsawg-pcap, and what libpcap forgives is forgiven here.

use super::fault::{CaptureError, Cut, Piece, Place};
use super::input::{Input, Order};
use super::link::LinkType;
use super::{Frame, MAXIMUM_SNAPLEN, time};

/// How a file begins, in bytes of big-endian order; a little-endian one has them the other way round.
pub(super) const MAGIC: [[u8; 4]; 3] = [MICROSECONDS, NANOSECONDS, KUZNETZOV];
const MICROSECONDS: [u8; 4] = [0xa1, 0xb2, 0xc3, 0xd4];
const NANOSECONDS: [u8; 4] = [0xa1, 0xb2, 0x3c, 0x4d];
/// Of Alexey Kuznetzov's libpcap, once in many distributions: each packet has eight bytes more behind its lengths, the
/// interface's index, the protocol and the kind of packet (`pcap_sf_patched_pkthdr` in libpcap's sf-pcap.c).
const KUZNETZOV: [u8; 4] = [0xa1, 0xb2, 0xcd, 0x34];

const FILE_HEADER: usize = 24;

/// A file whose header is read.
#[derive(Debug)]
pub(super) struct Pcap {
    order: Order,
    nanoseconds: bool,
    /// How many bytes each packet has before its frame.
    header: usize,
    lengths: Lengths,
    link: LinkType,
    /// How many bytes of frame check sequence are at the end of each frame.
    fcs: usize,
    packets: u64,
}

/// Which length comes first. The captured one since version 2.3; but some files say 2.3 and have the other first.
#[derive(Clone, Copy, Debug)]
enum Lengths {
    CapturedFirst,
    OriginalFirst,
    /// The captured one is the smaller.
    Either,
}

impl Pcap {
    /// Reads the header of a file.
    pub(super) fn new(input: &mut Input) -> Result<Self, CaptureError> {
        let place = Place { piece: Piece::FileHeader, at: 0 };
        let damaged = |what| CaptureError::Damaged { place, what };
        let mut header = [0; FILE_HEADER];
        let there = input.fill(&mut header).map_err(|source| CaptureError::Io { at: input.at(), source })?;
        if there < FILE_HEADER {
            return Err(Cut { place, there: there as u64, of: FILE_HEADER as u64 }.into());
        }
        let [a, b, c, d, major @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = header;
        let magic = [a, b, c, d];
        let (order, magic) = match MAGIC.iter().find(|known| **known == magic) {
            Some(known) => (Order::Big, *known),
            None => (Order::Little, [d, c, b, a]),
        };
        if !MAGIC.contains(&magic) {
            return Err(damaged(format!("{magic:02x?} begins no pcap file")));
        }
        let minor = order.u16([header[6], header[7]]);
        let lengths = match (order.u16(major), minor) {
            (2, 0..=2) | (543, 0) => Lengths::OriginalFirst,
            (2, 3) => Lengths::Either,
            (2, 4) => Lengths::CapturedFirst,
            (major, minor) => {
                return Err(damaged(format!("its version {major}.{minor} is not supported; 2.0 to 2.4 are")));
            }
        };
        // Behind the version: time zone and accuracy, which nobody fills; the snaplen, which too many fill with 0 or with
        // less than their packets have.
        let [.., link] = order.words::<6>(&header);
        Ok(Self {
            order,
            nanoseconds: magic == NANOSECONDS,
            header: if magic == KUZNETZOV { 24 } else { 16 },
            lengths,
            link: LinkType(link & 0x03ff_ffff),
            // `LT_FCS_LENGTH` in libpcap's pcap-common.c: in words of 16 bits, where the bit says that it is known.
            fcs: if link & 0x0400_0000 == 0 { 0 } else { 2 * (link >> 28) as usize },
            packets: 0,
        })
    }

    /// The next frame; none at the end of the file.
    pub(super) fn frame(&mut self, input: &mut Input) -> Result<Option<Frame>, CaptureError> {
        let place = Place { piece: Piece::Packet(self.packets + 1), at: input.at() };
        let unread = |at| move |source| CaptureError::Io { at, source };
        let mut header = [0; 24];
        let header = &mut header[..self.header];
        let there = input.fill(header).map_err(unread(place.at))?;
        if there == 0 {
            return Ok(None);
        }
        if there < self.header {
            return Err(Cut { place, there: there as u64, of: self.header as u64 }.into());
        }
        self.packets += 1;
        let [seconds, fraction, first, second] = self.order.words(header);
        let (captured, original) = match self.lengths {
            Lengths::OriginalFirst => (second, first),
            Lengths::Either if first > second => (second, first),
            Lengths::CapturedFirst | Lengths::Either => (first, second),
        };
        if captured > MAXIMUM_SNAPLEN {
            let what = format!("its captured length is {captured}; the maximum is {MAXIMUM_SNAPLEN}");
            return Err(CaptureError::Damaged { place, what });
        }
        let mut bytes = Vec::new();
        let there = input.append(captured as usize, &mut bytes).map_err(unread(place.at))?;
        if there < captured as usize {
            let [there, of] = [there, captured as usize].map(|len| (len + self.header) as u64);
            return Err(Cut { place, there, of }.into());
        }
        let fraction = i128::from(fraction) * if self.nanoseconds { 1 } else { 1000 };
        let mut frame = Frame {
            time: time(i128::from(seconds) * 1_000_000_000 + fraction),
            interface: None,
            link: self.link,
            original_len: original as usize,
            bytes,
            order: self.order,
        };
        frame.without_fcs(self.fcs);
        Ok(Some(frame))
    }
}
