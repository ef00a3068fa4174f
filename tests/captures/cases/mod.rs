//! Captures as programs write them, and as they are after something went wrong; each is one of a kind.

mod pcapng;

use super::build::Order::{Big, Little};
use super::build::{Pcap, ethernet, request, request_6};

/// A file, and what has to become of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) file: Vec<u8>,
    /// How many IP packets are read of it.
    pub(crate) packets: u64,
    pub(crate) end: End,
}

/// How reading it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// The file ends within something; what is said of it.
    Cut(&'static str),
    /// What is written there cannot be; what is said of it.
    Damaged(&'static str),
    /// It is told that it is not read, and why.
    Refused(&'static str),
}

use End::{Cut, Damaged, Refused, Whole};

fn pcap() -> Vec<Case> {
    let frame = ethernet(&[8, 0], &request());
    let len = frame.len() as u32;
    let case = |name, file, packets, end| Case { name, file, packets, end };
    let of = |order, magic| Pcap::new(order, magic, (2, 4), 262_144, 1).three(&frame);
    let [us, ns, kuznetzov] = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34];
    let version = |version| Pcap::new(Little, us, version, 262_144, 1);
    let snaplen = |snaplen| Pcap::new(Little, us, (2, 4), snaplen, 1).three(&frame);
    let three = Pcap::usual(1).three(&frame);
    let fcs = |link| {
        let frame = [&frame[..], &[0x11, 0x22, 0x33, 0x44]].concat();
        Pcap::usual(link).three(&frame)
    };
    let two = || Pcap::usual(1).packet(&frame).packet(&frame);
    vec![
        case("pcap, little-endian, µs", of(Little, us), 3, Whole),
        case("pcap, big-endian, µs", of(Big, us), 3, Whole),
        case("pcap, little-endian, ns", of(Little, ns), 3, Whole),
        case("pcap, big-endian, ns", of(Big, ns), 3, Whole),
        case("pcap, Kuznetzov's, little-endian", of(Little, kuznetzov), 3, Whole),
        case("pcap, Kuznetzov's, big-endian", of(Big, kuznetzov), 3, Whole),
        case("pcap, snaplen 0", snaplen(0), 3, Whole),
        case("pcap, snaplen less than the packets have", snaplen(58), 3, Whole),
        case("pcap, snaplen 4294967295", snaplen(u32::MAX), 3, Whole),
        case(
            "pcap, link type with bits about the FCS that is not there",
            Pcap::usual(0x3000_0001).three(&frame),
            3,
            Whole,
        ),
        case("pcap, link type with an FCS of 4 bytes", fcs(0x2400_0001), 3, Whole),
        case(
            "pcap 2.2, the original length first",
            version((2, 2)).with((len + 40, len), &frame).bytes,
            1,
            Whole,
        ),
        case(
            "pcap 2.3, either length first",
            version((2, 3)).with((len + 40, len), &frame).with((len, len + 40), &frame).bytes,
            2,
            Whole,
        ),
        case("pcap 543.0 of DG/UX", version((543, 0)).with((len + 40, len), &frame).bytes, 1, Whole),
        case(
            "pcap 2.5, which nobody has described",
            version((2, 5)).three(&frame),
            0,
            Damaged("version 2.5"),
        ),
        case("pcap 3.0", version((3, 0)).three(&frame), 0, Damaged("version 3.0")),
        case("pcap without packets", Pcap::usual(1).bytes, 0, Whole),
        case(
            "pcap, cut within a packet",
            three[..three.len() - 20].to_vec(),
            2,
            Cut("packet 3, which begins at byte 176: 56 of its 76 bytes"),
        ),
        case(
            "pcap, cut within a packet's header",
            three[..24 + 76 + 7].to_vec(),
            1,
            Cut("packet 2, which begins at byte 100: 7 of its 16 bytes"),
        ),
        case(
            "pcap, cut within the file header",
            three[..20].to_vec(),
            0,
            Cut("the file header, which begins at byte 0: 20 of its 24 bytes"),
        ),
        case(
            "pcap, cut within the magic",
            three[..2].to_vec(),
            0,
            Cut("the file header, which begins at byte 0: 2 of its 24 bytes"),
        ),
        case(
            "pcap, captured length 4294967295",
            two().with((u32::MAX, u32::MAX), &frame).bytes,
            2,
            Damaged("packet 3, which begins at byte 176: its captured length is 4294967295"),
        ),
        case(
            "pcap, captured length 262145, and all is there",
            two().with((262_145, 262_145), &vec![0; 262_145]).bytes,
            2,
            Damaged("captured length is 262145"),
        ),
        case("pcap, original length 4294967295", two().with((len, u32::MAX), &frame).bytes, 3, Whole),
        case("pcap, original length less than captured", two().with((len, 4), &frame).bytes, 3, Whole),
        case("pcap, a packet of no bytes", two().packet(&[]).bytes, 2, Whole),
        case("pcap, packets cut within their headers", two().with((30, len), &frame[..30]).bytes, 2, Whole),
    ]
}

fn links() -> Vec<Case> {
    let (request, request_6) = (request(), request_6());
    let case = |name, file, packets, end| Case { name, file, packets, end };
    let with = |link, header: &[u8], packet: &[u8]| Pcap::usual(link).three(&[header, packet].concat());
    let vlan = |kinds: &[u8]| Pcap::usual(1).three(&ethernet(kinds, &request));
    let sll = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0];
    let sll2 = [0, 0, 0, 0, 0, 7, 0, 1, 4, 6, 2, 0, 0, 0, 0, 9, 0, 0];
    let nflog = [&[2, 0, 0, 5, 8, 0, 5, 0, 0, 0, 0, 7][..], &[48, 0, 9, 0]].concat();
    let arp = ethernet(&[8, 6], &[0, 1, 8, 0, 6, 4, 0, 1]);
    vec![
        case("IPv6 in Ethernet", Pcap::usual(1).three(&ethernet(&[0x86, 0xdd], &request_6)), 3, Whole),
        case("802.1Q", vlan(&[0x81, 0, 0, 100, 8, 0]), 3, Whole),
        case("802.1ad and 802.1Q", vlan(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 100, 8, 0]), 3, Whole),
        case("0x9100 and 802.1Q", vlan(&[0x91, 0, 0, 1, 0x81, 0, 0, 100, 8, 0]), 3, Whole),
        case("PPPoE", vlan(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 46, 0, 0x21]), 3, Whole),
        case("MPLS, two labels", vlan(&[0x88, 0x47, 0, 1, 0x00, 64, 0, 2, 0x01, 64]), 3, Whole),
        case("802.3 with SNAP", vlan(&[0, 52, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]), 3, Whole),
        case(
            "Ethernet with ARP, and a request",
            Pcap::usual(1).packet(&arp).packet(&ethernet(&[8, 0], &request)).bytes,
            1,
            Whole,
        ),
        case("loopback (0), little-endian", with(0, &[2, 0, 0, 0], &request), 3, Whole),
        case(
            "loopback (0), big-endian",
            Pcap::new(Big, 0xa1b2_c3d4, (2, 4), 65_535, 0).three(&[&[0, 0, 0, 30], &request_6[..]].concat()),
            3,
            Whole,
        ),
        case("loopback (108)", with(108, &[0, 0, 0, 24], &request_6), 3, Whole),
        case(
            "raw IP (101)",
            Pcap::usual(101).packet(&request).packet(&request_6).packet(&request).bytes,
            3,
            Whole,
        ),
        case("raw IP (12)", with(12, &[], &request), 3, Whole),
        case("raw IP (14)", with(14, &[], &request), 3, Whole),
        case("IPv4 (228)", with(228, &[], &request), 3, Whole),
        case("IPv6 (229)", with(229, &[], &request_6), 3, Whole),
        case("Linux cooked (113)", with(113, &[&sll[..], &[8, 0]].concat(), &request), 3, Whole),
        case(
            "Linux cooked (113), 802.1Q",
            with(113, &[&sll[..], &[0x81, 0, 0, 100, 8, 0]].concat(), &request),
            3,
            Whole,
        ),
        case("Linux cooked 2 (276)", with(276, &[&[8, 0], &sll2[..]].concat(), &request), 3, Whole),
        case("PPP (9)", with(9, &[0, 0x21], &request), 3, Whole),
        case("PPP (9), with address and control", with(9, &[0xff, 3, 0, 0x57], &request_6), 3, Whole),
        case("PPP (9), short protocol", with(9, &[0xff, 3, 0x21], &request), 3, Whole),
        case("PPP in HDLC (50)", with(50, &[0xff, 3, 0, 0x21], &request), 3, Whole),
        case("Cisco HDLC by that number (50)", with(50, &[0x0f, 0, 8, 0], &request), 3, Whole),
        case("PPPoE (51)", with(51, &[0x11, 0, 0, 1, 0, 46, 0, 0x21], &request), 3, Whole),
        case("Cisco HDLC (104)", with(104, &[0x0f, 0, 8, 0], &request), 3, Whole),
        case("NFLOG (239)", with(239, &nflog, &request), 3, Whole),
        case(
            "802.11 (105)",
            with(
                105,
                &[
                    8, 0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0, 0, 0xaa, 0xaa, 3, 0,
                    0, 0, 8, 0,
                ],
                &request,
            ),
            0,
            Refused("link type 105 (802.11)"),
        ),
        case("USB (220)", with(220, &[0; 64], &request), 0, Refused("link type 220 (USB)")),
        case(
            "a link type that nobody has (65000)",
            with(65_000, &[], &request),
            0,
            Refused("link type 65000"),
        ),
    ]
}

fn others() -> Vec<Case> {
    let case = |name, file: &[u8], end| Case { name, file: file.to_vec(), packets: 0, end };
    vec![
        case(
            "gzip",
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0],
            Refused("compressed with gzip; unpack it first: put zcat"),
        ),
        case(
            "zstd",
            &[0x28, 0xb5, 0x2f, 0xfd, 0, 0],
            Refused("compressed with zstd; unpack it first: put zstdcat"),
        ),
        case("xz", b"\xfd7zXZ\0\0\x04", Refused("compressed with xz; unpack it first: put xzcat")),
        case("bzip2", b"BZh91AY&SY", Refused("compressed with bzip2; unpack it first: put bzcat")),
        case(
            "lz4",
            &[0x04, 0x22, 0x4d, 0x18, 0x64],
            Refused("compressed with lz4; unpack it first: put lz4cat"),
        ),
        case(
            "snoop",
            b"snoop\0\0\0\0\0\0\x02\0\0\0\x04",
            Refused("snoop's (RFC 1761); convert it with Wireshark's editcap"),
        ),
        case("Network Monitor", b"GMBU\0\x02\x01\0", Refused("Network Monitor's, version 2")),
        case("another thing", b"hello", Refused("neither a capture (pcap, pcapng) nor a trace")),
    ]
}

pub(crate) fn all() -> Vec<Case> {
    [pcap(), links(), pcapng::all(), others()].into_iter().flatten().collect()
}
