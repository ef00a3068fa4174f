//! The newer format: sections of blocks (draft-ietf-opsawg-pcapng, section numbers here are its).

use super::fault::{CaptureError, Cut, Piece, Place};
use super::input::{Input, Order};
use super::link::LinkType;
use super::{Frame, MAXIMUM_SNAPLEN, is_of_trace, time};
use crate::text::escaped;

/// Block types (§10.1).
mod block {
    /// The same in both orders: it comes before the order is known.
    pub(super) const SECTION: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    /// Obsolete, and still written and found (appendix A).
    pub(super) const PACKET: u32 = 2;
    pub(super) const SIMPLE_PACKET: u32 = 3;
    pub(super) const ENHANCED_PACKET: u32 = 6;
}

/// Option codes (§3.5, §4.2, §4.3).
mod option {
    pub(super) const END: u16 = 0;
    pub(super) const PACKET_FLAGS: u16 = 2;
    pub(super) const IF_NAME: u16 = 2;
    pub(super) const IF_TSRESOL: u16 = 9;
    pub(super) const IF_FCSLEN: u16 = 13;
    pub(super) const IF_TSOFFSET: u16 = 14;
}

/// How a file begins: with the type of its section header.
pub(super) const MAGIC: [u8; 4] = block::SECTION.to_be_bytes();
/// What tells the order of a section's numbers.
const ORDER: u32 = 0x1a2b_3c4d;
/// Type and length before what is in a block, and the length again behind it.
const AROUND: u32 = 12;

/// A file, and what its section has told so far.
#[derive(Debug, Default)]
pub(super) struct Pcapng {
    order: Option<Order>,
    interfaces: Vec<Interface>,
    packets: u64,
}

/// An interface that packets were captured on.
#[derive(Debug)]
struct Interface {
    link: LinkType,
    snaplen: u32,
    name: Option<String>,
    resolution: Resolution,
    /// Seconds that are added to each time.
    offset: i64,
    fcs: usize,
}

/// What a time is counted in: so many to a second.
#[derive(Clone, Copy, Debug)]
enum Resolution {
    PowerOfTen(u8),
    PowerOfTwo(u8),
}

/// The block that is being read.
struct Block<'a> {
    input: &'a mut Input,
    order: Order,
    place: Place,
    /// All of it, with what is around.
    len: u64,
}

impl Pcapng {
    /// The next frame; none at the end of the file.
    pub(super) fn frame(&mut self, input: &mut Input) -> Result<Option<Frame>, CaptureError> {
        loop {
            let Some((kind, mut block)) = self.block(input)? else { return Ok(None) };
            let frame = match kind {
                block::SECTION => {
                    block.version()?;
                    // What came before is of another section. How long this one is, is not needed to read it.
                    (self.order, self.interfaces) = (Some(block.order), Vec::new());
                    None
                }
                block::INTERFACE => {
                    self.interfaces.push(block.interface()?);
                    None
                }
                block::PACKET | block::ENHANCED_PACKET => Some(block.packet(kind, &self.interfaces)?),
                block::SIMPLE_PACKET => Some(block.simple_packet(&self.interfaces)?),
                // Names, statistics, secrets, and what is somebody's own.
                _ => None,
            };
            block.end()?;
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }

    /// Reads how the next block begins: its type and length, and what tells the order if it begins a section.
    fn block<'a>(&mut self, input: &'a mut Input) -> Result<Option<(u32, Block<'a>)>, CaptureError> {
        let piece = if self.order.is_some() { Piece::BlockHeader } else { Piece::FileHeader };
        let place = Place { piece, at: input.at() };
        let order = self.order.unwrap_or(Order::Little);
        let mut block = Block { input, order, place, len: u64::from(AROUND) };
        if self.order.is_some() && block.is_at_end()? {
            return Ok(None);
        }
        let [kind, len] = [block.bytes::<4>()?, block.bytes::<4>()?];
        let kind = if kind == MAGIC {
            // As short as it can be; its true length is told in an order that is not known yet.
            block.len = 28;
            let magic = block.bytes()?;
            block.order = match (Order::Big.u32(magic), Order::Little.u32(magic)) {
                (ORDER, _) => Order::Big,
                (_, ORDER) => Order::Little,
                _ => return Err(block.damaged(format!("{magic:02x?} is no byte-order magic of a section"))),
            };
            block::SECTION
        } else if self.order.is_some() {
            order.u32(kind)
        } else {
            return Err(block.damaged("it is no section header".to_owned()));
        };
        block.place.piece = match kind {
            block::PACKET | block::SIMPLE_PACKET | block::ENHANCED_PACKET => {
                self.packets += 1;
                Piece::Packet(self.packets)
            }
            _ if self.order.is_none() => Piece::FileHeader,
            other => Piece::Block(other),
        };
        let (least, len) = (block.len, block.order.u32(len));
        if u64::from(len) < least || len % 4 != 0 {
            let what = format!("its block length is {len}; it must be at least {least}, and a multiple of 4");
            return Err(block.damaged(what));
        }
        block.len = u64::from(len);
        Ok(Some((kind, block)))
    }
}

impl Block<'_> {
    /// What a section header says behind the order.
    fn version(&mut self) -> Result<(), CaptureError> {
        let [major, minor] = [self.u16()?, self.u16()?];
        match (major, minor) {
            // 1.2 is the same, written by mistake (§4.1).
            (1, 0 | 2) => Ok(()),
            _ => Err(self.damaged(format!("its version {major}.{minor} is not supported; only 1.0 is"))),
        }
    }

    fn interface(&mut self) -> Result<Interface, CaptureError> {
        let [link, _reserved] = [self.u16()?, self.u16()?];
        let mut interface = Interface {
            link: LinkType(u32::from(link)),
            snaplen: self.u32()?,
            name: None,
            resolution: Resolution::PowerOfTen(6),
            offset: 0,
            fcs: 0,
        };
        while let Some((code, value)) = self.option()? {
            match (code, &value[..]) {
                (option::IF_NAME, name) if interface.name.is_none() => interface.name = Some(shown(name)),
                (option::IF_TSRESOL, &[power]) if power & 0x80 == 0 => {
                    interface.resolution = Resolution::PowerOfTen(power);
                }
                (option::IF_TSRESOL, &[power]) => interface.resolution = Resolution::PowerOfTwo(power & 0x7f),
                (option::IF_TSOFFSET, &[a, b, c, d, e, f, g, h]) => {
                    let offset = [a, b, c, d, e, f, g, h];
                    interface.offset = match self.order {
                        Order::Big => i64::from_be_bytes(offset),
                        Order::Little => i64::from_le_bytes(offset),
                    };
                }
                // In bits, says the draft; its own example and Wireshark have bytes. No sequence has 16 bytes.
                (option::IF_FCSLEN, &[len @ ..16]) => interface.fcs = usize::from(len),
                (option::IF_FCSLEN, &[bits]) => interface.fcs = usize::from(bits / 8),
                _ => {}
            }
        }
        Ok(interface)
    }

    /// A packet of either kind that says when and where it was captured.
    fn packet(&mut self, kind: u32, interfaces: &[Interface]) -> Result<Frame, CaptureError> {
        let interface = if kind == block::PACKET {
            let [interface, _drops] = [self.u16()?, self.u16()?];
            u32::from(interface)
        } else {
            self.u32()?
        };
        let [high, low, captured, original] = [self.u32()?, self.u32()?, self.u32()?, self.u32()?];
        let interface = self.of(interfaces, interface)?;
        let bytes = self.data(captured)?;
        let mut fcs = interface.fcs;
        while let Some((code, value)) = self.option()? {
            if let (option::PACKET_FLAGS, Some(flags)) = (code, value.first_chunk()) {
                // Bits 5 to 8 are the length of the frame check sequence, if it is known.
                fcs =
                    Some((self.order.u32(*flags) >> 5 & 0xf) as usize).filter(|len| *len > 0).unwrap_or(fcs);
            }
        }
        let mut frame = Frame {
            time: interface.time(u64::from(high) << 32 | u64::from(low)),
            interface: interface.name.clone(),
            link: interface.link,
            original_len: original as usize,
            bytes,
            order: self.order,
        };
        frame.without_fcs(fcs);
        Ok(frame)
    }

    /// A packet that says nothing but its length. It was captured on the first interface, and is as long as that lets it be.
    fn simple_packet(&mut self, interfaces: &[Interface]) -> Result<Frame, CaptureError> {
        let original = self.u32()?;
        let interface = self.of(interfaces, 0)?;
        let most = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let bytes = self.data(original.min(most))?;
        let mut frame = Frame {
            time: time(0),
            interface: interface.name.clone(),
            link: interface.link,
            original_len: original as usize,
            bytes,
            order: self.order,
        };
        frame.without_fcs(interface.fcs);
        Ok(frame)
    }

    /// The interface of that number.
    fn of<'i>(&self, interfaces: &'i [Interface], number: u32) -> Result<&'i Interface, CaptureError> {
        let interface = interfaces.get(number as usize).ok_or_else(|| {
            let what =
                format!("its interface number is {number}, but the file describes only {}", interfaces.len());
            self.damaged(what)
        })?;
        if interface.name.as_deref().is_some_and(is_of_trace) {
            return Err(CaptureError::Trace);
        }
        Ok(interface)
    }

    /// The bytes of a packet, and what fills them up.
    fn data(&mut self, captured: u32) -> Result<Vec<u8>, CaptureError> {
        if captured > MAXIMUM_SNAPLEN {
            let what = format!("its captured length is {captured}; the maximum is {MAXIMUM_SNAPLEN}");
            return Err(self.damaged(what));
        }
        if u64::from(captured) > self.left() {
            let what = format!(
                "its captured length is {captured}, but its block has only {} bytes for it",
                self.left()
            );
            return Err(self.damaged(what));
        }
        let mut bytes = Vec::new();
        let there = self.input.append(captured as usize, &mut bytes);
        self.is_all(u64::from(captured), there.map(|there| there as u64))?;
        self.skip(u64::from(captured.next_multiple_of(4) - captured))?;
        Ok(bytes)
    }

    /// The next option: its code and value. None at the end, and where it is no option that fits: then the rest means
    /// nothing, and is left out.
    fn option(&mut self) -> Result<Option<(u16, Vec<u8>)>, CaptureError> {
        if self.left() < 4 {
            return Ok(None);
        }
        let [code, len] = [self.u16()?, self.u16()?];
        if code == option::END || u64::from(len) > self.left() {
            return Ok(None);
        }
        let mut value = Vec::new();
        let there = self.input.append(usize::from(len), &mut value);
        self.is_all(u64::from(len), there.map(|there| there as u64))?;
        self.skip(u64::from(u32::from(len).next_multiple_of(4) - u32::from(len)))?;
        Ok(Some((code, value)))
    }

    /// Goes to the end of the block, where its length is again.
    fn end(&mut self) -> Result<(), CaptureError> {
        self.skip(u64::MAX)?;
        self.len += 4;
        let again = self.u32()?;
        self.len -= 4;
        if u64::from(again) != self.len {
            let what = format!("its block length is {} at its beginning, but {again} at its end", self.len);
            return Err(self.damaged(what));
        }
        Ok(())
    }

    fn is_at_end(&mut self) -> Result<bool, CaptureError> {
        let at = self.input.at();
        self.input.peek().map(|next| next.is_none()).map_err(|source| CaptureError::Io { at, source })
    }

    /// How many bytes it has before the length at its end.
    fn left(&self) -> u64 {
        (self.len - 4).saturating_sub(self.input.at() - self.place.at)
    }

    fn u16(&mut self) -> Result<u16, CaptureError> {
        self.bytes().map(|bytes| self.order.u16(bytes))
    }

    fn u32(&mut self) -> Result<u32, CaptureError> {
        self.bytes().map(|bytes| self.order.u32(bytes))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], CaptureError> {
        if self.left() < N as u64 {
            return Err(self.damaged(format!("its block length is {}, which is too short", self.len)));
        }
        let mut bytes = [0; N];
        let there = self.input.fill(&mut bytes);
        self.is_all(N as u64, there.map(|there| there as u64))?;
        Ok(bytes)
    }

    fn skip(&mut self, len: u64) -> Result<(), CaptureError> {
        let len = len.min(self.left());
        let there = self.input.skip(len);
        self.is_all(len, there)
    }

    /// Whether what was read is all that was to be read, or the file ends there.
    fn is_all(&self, wanted: u64, there: std::io::Result<u64>) -> Result<(), CaptureError> {
        let at = self.input.at();
        if there.map_err(|source| CaptureError::Io { at, source })? < wanted {
            return Err(Cut { place: self.place, there: at - self.place.at, of: self.len }.into());
        }
        Ok(())
    }

    fn damaged(&self, what: String) -> CaptureError {
        CaptureError::Damaged { place: self.place, what }
    }
}

impl Interface {
    /// What a time in a packet means.
    fn time(&self, count: u64) -> jiff::Timestamp {
        let count = u128::from(count) * 1_000_000_000;
        let nanoseconds = match self.resolution {
            Resolution::PowerOfTen(power) => {
                10_u128.checked_pow(u32::from(power)).map_or(0, |units| count / units)
            }
            Resolution::PowerOfTwo(power) => count >> power,
        };
        // At the most 2^94, so it is a positive number in 128 bits.
        time(nanoseconds as i128 + i128::from(self.offset) * 1_000_000_000)
    }
}

/// How much of an interface's name is kept, in bytes: Linux's have 15 at the most, Windows' some 50.
const NAME: usize = 128;

/// A name as text, with all that is not for a screen escaped. Some writers end it with a NUL, which is no part of it.
fn shown(name: &[u8]) -> String {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut text = String::new();
    for chunk in name[..name.len().min(NAME)].utf8_chunks() {
        text += &escaped(chunk.valid()).to_string();
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02x}"));
    }
    if name.len() > NAME {
        text.push('…');
    }
    text
}
