//! What was on a wire: frames, read once from a capture file by the project's own reader.

use std::fs::File;
use std::io::BufReader;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use etherparse::{Ethernet2Slice, SingleVlanSlice};

use super::machine::{failed, signal};
use super::{Error, Machine, Pace};
use crate::net::{Mac, Tuple, octets};
use crate::packet::{IcmpError, TcpFlags, View};
use crate::simulate::Capture as Reader;

/// A frame, as it was on the wire; the capture has its beginning.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its number in the file, from 1 on, as tshark counts.
    pub number: usize,
    /// Who sent it.
    pub src: Mac,
    /// Who is to get it.
    pub dst: Mac,
    /// Its 802.1Q tags, the outer one first.
    pub vlans: Vec<u16>,
    /// The EtherType behind them.
    pub ether_type: u16,
    /// What is behind the link header.
    pub bytes: Vec<u8>,
    /// What that says, if it is IP and can be read.
    pub view: Option<View>,
}

/// All frames of a capture file.
#[derive(Clone, Debug)]
pub struct Capture {
    /// What was captured, for people: `lan`, `pipe node1-node2`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub frames: Vec<Frame>,
    /// Frames that the kernel had no room for, as the capturing program counted them.
    pub lost: u64,
}

/// A capture that is under way. If nobody ends it, it ends with this value.
pub(crate) struct Running {
    name: String,
    path: PathBuf,
    child: Child,
}

/// How much of each frame is kept: the headers of everything that the lab sends, and what ICMP errors quote.
const SNAPLEN: &str = "128";

impl Running {
    /// Starts one, and returns when it sees frames.
    pub(crate) fn start(
        machine: Machine<'_>,
        interface: &str,
        (name, path): (String, PathBuf),
        pace: Pace,
    ) -> Result<Self, Error> {
        let child = dumpcap(machine.command("dumpcap"), interface, &path, "")?;
        let mut running = Self { name, path, child };
        await_frames(&mut running.child, &running.path, pace)?;
        Ok(running)
    }

    /// Ends it, and reads what it has captured.
    pub(crate) fn end(mut self) -> Result<Capture, Error> {
        signal(self.child.id(), "INT")?;
        let status = self.child.wait().map_err(|source| Error::File { path: self.path.clone(), source })?;
        let said = said(&self.path.with_extension("log"));
        if !status.success() {
            return Err(Error::refused(format!(
                "capture {}: dumpcap ended with {status}: {said}",
                self.name
            )));
        }
        read(&self.name, &self.path, &said)
    }
}

/// Starts dumpcap, which takes the frames that `filter` selects (pcap-filter(7)), or all. What it says goes to a file beside the
/// capture.
pub(crate) fn dumpcap(
    mut command: Command,
    interface: &str,
    path: &Path,
    filter: &str,
) -> Result<Child, Error> {
    let log = path.with_extension("log");
    let stderr = File::create(&log).map_err(|source| Error::File { path: log, source })?;
    command.args(["-q", "-P", "-i", interface, "-s", SNAPLEN, "-B", "16", "-f", filter, "-w"]).arg(path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    command.spawn().map_err(|error| failed(&command, &error.to_string()))
}

/// Returns when it sees frames.
pub(crate) fn await_frames(dumpcap: &mut Child, path: &Path, pace: Pace) -> Result<(), Error> {
    let log = path.with_extension("log");
    let sees = || said(&log).contains("\nFile: ");
    let has_begun = || Ok::<_, Error>(sees() || dumpcap.try_wait().is_ok_and(|end| end.is_some()));
    pace.wait_for(10, has_begun)?;
    if sees() {
        return Ok(());
    }
    Err(Error::refused(format!("dumpcap does not start: {}", said(&log).trim())))
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|end| end.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn said(log: &Path) -> String {
    std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Reads a capture whose program has ended, and what that said of its losses.
pub(crate) fn read(name: &str, path: &Path, said: &str) -> Result<Capture, Error> {
    let lost = losses(said).ok_or_else(|| {
        Error::refused(format!(
            "capture {name}: dumpcap does not say how many frames it lost: {}",
            said.trim()
        ))
    })?;
    let frames = frames(path).map_err(|fault| Error::refused(format!("{}: {fault}", path.display())))?;
    Ok(Capture { name: name.to_owned(), path: path.to_owned(), frames, lost })
}

/// Of `Packets received/dropped on interface 'lan': 12/0 (pcap:0/...)` the second number.
fn losses(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.starts_with("Packets received/dropped on interface"))?;
    let counts = line.rsplit_once("': ")?.1.split(' ').next()?;
    counts.split_once('/')?.1.parse().ok()
}

fn frames(path: &Path) -> Result<Vec<Frame>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut reader = Reader::new(Box::new(BufReader::new(file))).map_err(|error| error.to_string())?;
    let mut frames = Vec::new();
    while let Some(raw) = reader.frame().map_err(|error| error.to_string())? {
        let number = frames.len() + 1;
        let frame = frame(number, &raw.bytes, raw.original_len);
        frames.push(frame.ok_or_else(|| format!("frame {number} is no Ethernet frame"))?);
    }
    Ok(frames)
}

fn frame(number: usize, bytes: &[u8], original_len: usize) -> Option<Frame> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(bytes).ok()?;
    let (mut kind, mut rest, mut vlans) = (ethernet.ether_type(), ethernet.payload_slice(), Vec::new());
    while matches!(kind.0, 0x8100 | 0x88a8) {
        let vlan = SingleVlanSlice::from_slice(rest).ok()?;
        vlans.push(vlan.vlan_identifier().value());
        (kind, rest) = (vlan.ether_type(), vlan.payload_slice());
    }
    let original_len = original_len.saturating_sub(bytes.len() - rest.len());
    let view = matches!(kind.0, 0x0800 | 0x86dd).then(|| View::parse(rest, original_len).ok()).flatten();
    Some(Frame {
        number,
        src: Mac(ethernet.source()),
        dst: Mac(ethernet.destination()),
        vlans,
        ether_type: kind.0,
        bytes: rest.to_vec(),
        view,
    })
}

impl Capture {
    /// How many frames are so.
    pub fn count(&self, is: impl Fn(&Frame) -> bool) -> usize {
        self.frames.iter().filter(|frame| is(frame)).count()
    }

    /// The first that is so.
    pub fn first(&self, is: impl Fn(&Frame) -> bool) -> Option<&Frame> {
        self.frames.iter().find(|frame| is(frame))
    }
}

impl Frame {
    /// Protocol, addresses and ports, if it is IP.
    pub fn tuple(&self) -> Option<&Tuple> {
        self.view.as_ref().map(|view| &view.tuple)
    }

    /// Whether it is of that IP protocol.
    pub fn is(&self, proto: crate::net::Proto) -> bool {
        self.tuple().is_some_and(|tuple| tuple.proto == proto)
    }

    /// Whether it comes from that address.
    pub fn from(&self, address: IpAddr) -> bool {
        self.tuple().is_some_and(|tuple| tuple.src == address)
    }

    /// Whether it goes to that address.
    pub fn to(&self, address: IpAddr) -> bool {
        self.tuple().is_some_and(|tuple| tuple.dst == address)
    }

    /// Whether one of its addresses is that.
    pub fn has(&self, address: IpAddr) -> bool {
        self.from(address) || self.to(address)
    }

    /// Its source port.
    pub fn sport(&self) -> Option<u16> {
        self.tuple()?.ports.map(|(from, _)| from)
    }

    /// Its destination port.
    pub fn dport(&self) -> Option<u16> {
        self.tuple()?.ports.map(|(_, to)| to)
    }

    /// Whether one of its ports is that.
    pub fn port(&self, port: u16) -> bool {
        self.sport() == Some(port) || self.dport() == Some(port)
    }

    /// Whether it is TCP with exactly these of SYN and ACK.
    pub fn syn(&self, ack: bool) -> bool {
        let wanted = if ack { 0x12 } else { 0x02 };
        self.view.and_then(|view| view.tcp).is_some_and(|TcpFlags(flags)| flags & 0x12 == wanted)
    }

    /// Whether it is TCP that ends a direction.
    pub fn fin(&self) -> bool {
        self.view.and_then(|view| view.tcp).is_some_and(|TcpFlags(flags)| flags & 0x01 != 0)
    }

    /// What it quotes, if it is an ICMP error.
    pub fn error(&self) -> Option<IcmpError> {
        self.view.and_then(|view| view.error)
    }

    /// The first two bytes behind the IP header: type and code, if it is ICMP.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        let view = self.view?;
        let is_icmp = matches!(view.tuple.proto.0, 1 | 58);
        let [kind, code] = *self.bytes.get(view.transport_at()..)?.first_chunk()?;
        is_icmp.then_some((kind, code))
    }

    /// Its transport checksum, if that covers the addresses and was captured.
    pub fn checksum(&self) -> Option<u16> {
        let at = self.view?.checksum_at()?;
        Some(u16::from_be_bytes(*self.bytes.get(at..)?.first_chunk()?))
    }
}

impl Frame {
    /// Whether its transport checksum is right, if it covers the addresses and all that it covers was captured. UDP may have none.
    pub fn checksum_is_right(&self) -> Option<bool> {
        let view = self.view?;
        let (tuple, sum) = (view.tuple, self.checksum()?);
        if view.cut || view.fragment != crate::packet::Fragment::None || (sum == 0 && tuple.proto.0 == 17) {
            return None;
        }
        let segment = self.bytes.get(view.transport_at()..view.len)?;
        let len = u16::try_from(segment.len()).ok()?.to_be_bytes();
        // The pseudo headers of both families hold the same words (RFC 9293 §3.1, RFC 8200 §8.1).
        let parts = [&*octets(tuple.src), &octets(tuple.dst), &[0, tuple.proto.0], &len, segment];
        Some(crate::packet::full(&parts) == 0)
    }
}

/// In a line: card, packet.
impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} > {} ", self.src, self.dst)?;
        match &self.view {
            Some(view) => {
                write!(f, "{}", view.tuple)?;
                match view.tcp {
                    Some(flags) => write!(f, " {flags}"),
                    None => Ok(()),
                }
            }
            None => write!(f, "ethertype {:#06x}", self.ether_type),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_verified() {
        let builder =
            etherparse::PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9);
        let mut bytes = Vec::new();
        builder.udp(5, 6).write(&mut bytes, b"odd").unwrap();
        let len = bytes.len();
        assert_eq!(frame(1, &bytes, len).unwrap().checksum_is_right(), Some(true));
        assert_eq!(frame(1, &bytes[..len - 1], len).unwrap().checksum_is_right(), None, "not all is there");
        bytes[len - 1] ^= 1;
        assert_eq!(frame(1, &bytes, len).unwrap().checksum_is_right(), Some(false));
    }

    #[test]
    fn losses_are_read_from_what_dumpcap_says() {
        let said = "Capturing on 'lan'\nFile: /x\nPackets captured: 12\nPackets received/dropped on interface 'lan': 12/3 \
                    (pcap:3/dumpcap:0/flushed:0/ps_ifdrop:0) (80.0%)\n";
        assert_eq!(losses(said), Some(3));
        assert_eq!(losses("Capturing on 'lan'\n"), None);
    }

    /// A capture that cannot be read is a fault, and never one without frames.
    #[test]
    fn a_capture_that_is_not_all_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcap");
        let said = "Packets received/dropped on interface 'lan': 1/0 (pcap:0)\n";
        assert!(read("lan", &path, said).is_err(), "there is no such file");
        std::fs::write(&path, [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4]).unwrap();
        assert!(read("lan", &path, said).is_err(), "its head is cut");
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        file.extend([0; 8]);
        file.extend(65535_u32.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        std::fs::write(&path, &file).unwrap();
        assert_eq!(read("lan", &path, said).unwrap().frames.len(), 0);
        assert!(read("lan", &path, "").is_err(), "nobody says what was lost");
        file.extend([0, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 1, 2]);
        std::fs::write(&path, &file).unwrap();
        assert!(read("lan", &path, said).is_err(), "a frame is cut");
    }
}
