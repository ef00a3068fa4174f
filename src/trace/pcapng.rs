//! Events as packets, for Wireshark and tcpdump.
//!
//! Each stage of each node is two interfaces, `node2 dnat before` and `node2 dnat after`: one shows the packet as it
//! came, the other as it goes on, if it does. The two share a packet id (`epb_packetid`), and both have the decision
//! as comment. Packets get an Ethernet header with the frame's source address as far as that is known, because
//! libpcap reads files only where all interfaces are of one kind, and cannot read two of the kind "raw IP".

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::opt_common::{CommonOption, UnknownOption};

use super::carried::{Carried, Counted};
use super::event::Event;
use super::shared::Name;
use super::text;
use crate::net::{Mac, Stage, Verdict};

const ETHERNET: usize = 14;
/// As tcpdump's, more than any packet has. libpcap takes no two of them in one file.
const SNAPLEN: u32 = 262_144;
/// `epb_packetid`: a number of 64 bits.
const PACKET_ID: u16 = 5;
/// The most bytes of an option: its length has 16 bits.
const LONGEST: usize = u16::MAX as usize;

/// Writes a file, piece by piece, into a buffer that is taken away.
pub(super) struct Pcapng {
    writer: PcapNgWriter<Vec<u8>>,
    /// Each has two interfaces: its place here twice, and the one behind.
    places: Vec<(Name, Stage)>,
}

impl Pcapng {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { writer: PcapNgWriter::new(Vec::new()).map_err(io::Error::other)?, places: Vec::new() })
    }

    /// Moves what is written to `out`.
    pub(super) fn take(&mut self, out: &mut Vec<u8>) {
        out.append(self.writer.get_mut());
    }

    /// Writes an event whose packet begins with the bytes `before`, and goes on with `after`.
    pub(super) fn event(&mut self, event: &Event, before: &[u8], after: Option<&[u8]>) -> io::Result<()> {
        let place = self.place_of(&event.node, event.stage)?;
        let comment = text::decision(event);
        let id = ((place as u64) << 48 | event.seq & 0xffff_ffff_ffff).to_ne_bytes();
        let decided = Duration::from_nanos(event.time.as_nanosecond().try_into().unwrap_or(0));
        let came = decided.saturating_sub(Duration::from_nanos(event.deciding_ns));
        let goes_on = (event.verdict == Verdict::Accept).then_some(after.unwrap_or(before));
        for (image, bytes, timestamp) in [(0, Some(before), came), (1, goes_on, decided)] {
            let Some(bytes) = bytes else { continue };
            let mut options = vec![
                EnhancedPacketOption::Common(CommonOption::Comment(fitting(&comment))),
                EnhancedPacketOption::Common(CommonOption::Unknown(UnknownOption::new(PACKET_ID, &id))),
            ];
            if image == 0 && event.lost > 0 {
                options.push(EnhancedPacketOption::DropCount(event.lost));
            }
            let data = frame(event, bytes);
            self.writer
                .write_pcapng_block(EnhancedPacketBlock {
                    interface_id: 2 * place as u32 + image,
                    timestamp,
                    original_len: (event.len as usize + ETHERNET).max(data.len()) as u32,
                    data: data.into(),
                    options,
                })
                .map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Writes what the kernel has carried: statistics of the interface that has the packets as they come to the stage, and no packet.
    pub(super) fn carried(&mut self, carried: &Carried) -> io::Result<()> {
        let Counted { stage, since, until, packets, .. } = carried.counted;
        let place = self.place_of(&carried.node, stage)?;
        let at = |time: Timestamp| Duration::from_nanos(time.as_nanosecond().try_into().unwrap_or(0));
        let comment = text::carried(carried);
        let mut options = vec![
            InterfaceStatisticsOption::Common(CommonOption::Comment(fitting(&comment))),
            InterfaceStatisticsOption::IsbEndTime(at(until)),
            InterfaceStatisticsOption::IsbIfRecv(packets),
            InterfaceStatisticsOption::IsbUsrDeliv(0),
        ];
        options.extend(since.map(|since| InterfaceStatisticsOption::IsbStartTime(at(since))));
        let statistics =
            InterfaceStatisticsBlock { interface_id: 2 * place as u32, timestamp: at(until), options };
        self.writer.write_pcapng_block(statistics).map(drop).map_err(io::Error::other)
    }

    /// The place of the event's node and stage; its interfaces are written when it is first seen.
    fn place_of(&mut self, node: &Name, stage: Stage) -> io::Result<usize> {
        let known = self.places.iter().position(|(its, at)| its == node && *at == stage);
        if let Some(place) = known {
            return Ok(place);
        }
        for (image, told) in [("before", "as it came"), ("after", "as it goes on")] {
            let name = format!("{node} {stage} {image}");
            let description =
                format!("the packet {told}, {stage} of dunnat on {node}, hook {}", stage.hook());
            let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, SNAPLEN);
            interface.options = vec![
                InterfaceDescriptionOption::IfName(fitting(&name)),
                InterfaceDescriptionOption::IfDescription(fitting(&description)),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ];
            self.writer.write_pcapng_block(interface).map_err(io::Error::other)?;
        }
        self.places.push((Name::clone(node), stage));
        Ok(self.places.len() - 1)
    }
}

/// What an option has room for. Names in a trace that others wrote may be longer.
fn fitting(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(&text[..text.floor_char_boundary(LONGEST)])
}

/// The packet in an Ethernet frame.
fn frame(event: &Event, bytes: &[u8]) -> Vec<u8> {
    let source = event.mac.as_ref().map_or(Mac([0; 6]), |mac| mac.address);
    let kind: u16 = if bytes.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x0800 };
    [&[0; 6][..], &source.0, &kind.to_be_bytes(), bytes].concat()
}
