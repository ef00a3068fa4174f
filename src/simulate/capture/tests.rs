use std::io::Cursor;

use proptest::prelude::*;

use super::*;

/// A little-endian pcap file of that link type.
fn pcap(link: u32, packets: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([65_535, link].map(u32::to_le_bytes).concat());
    for (captured, original, bytes) in packets {
        file.extend([1, 2, *captured, *original].map(u32::to_le_bytes).concat());
        file.extend(*bytes);
    }
    file
}

/// A little-endian section with an interface, and then these blocks.
fn pcapng(link: u16, options: &[u8], blocks: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    let interface = [&link.to_le_bytes()[..], &[0; 6], options].concat();
    let mut file = Vec::new();
    for (kind, body) in [(0x0a0d_0d0a, section), (1, interface)].iter().chain(blocks) {
        let len = (12 + body.len() as u32).to_le_bytes();
        file.extend([&kind.to_le_bytes()[..], &len, body, &len].concat());
    }
    file
}

/// An Enhanced Packet Block of interface 0, for a packet of whole words.
fn enhanced(time: u64, bytes: &[u8], options: &[u8]) -> (u32, Vec<u8>) {
    let len = bytes.len() as u32;
    let numbers = [0, (time >> 32) as u32, time as u32, len, len].map(u32::to_le_bytes).concat();
    (6, [&numbers, bytes, options].concat())
}

fn frames(file: Vec<u8>) -> Vec<Frame> {
    let mut capture = Capture::new(Box::new(Cursor::new(file))).unwrap();
    std::iter::from_fn(|| capture.frame().unwrap()).collect()
}

fn packets(file: Vec<u8>) -> (Vec<Captured>, Counts) {
    let mut capture = Capture::new(Box::new(Cursor::new(file))).unwrap();
    let packets = std::iter::from_fn(|| capture.packet().unwrap()).collect();
    (packets, capture.counts)
}

/// An IPv4 packet of UDP with these lengths in its headers.
fn udp(len: u16) -> Vec<u8> {
    let [a, b] = len.to_be_bytes();
    let [c, d] = (len - 20).to_be_bytes();
    vec![0x45, 0, a, b, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, c, d, 0, 0]
}

#[test]
fn a_capture_is_known_by_how_it_begins() {
    for magic in [
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0xa1, 0xb2, 0xcd, 0x34],
        [0x34, 0xcd, 0xb2, 0xa1],
        [0x0a, 0x0d, 0x0d, 0x0a],
    ] {
        assert!(Capture::is_one(&magic) && Capture::is_one(&[&magic[..], &[2, 0]].concat()), "{magic:x?}");
    }
    assert!(Capture::is_one(&[0xd4, 0xc3]) && Capture::is_one(&[0xa1]), "cut");
    for other in [&b""[..], b"\n", b"\n\r\r", b"{\"v\":1}", &[0xd4, 0xc3, 0xb2, 0xa2], &[0; 4]] {
        assert!(!Capture::is_one(other), "{other:x?}");
    }
}

/// `LT_FCS_LENGTH` is in words of 16 bits; `if_fcslen` in bytes, or in bits; what a packet's flags say goes before that.
#[test]
fn a_frame_check_sequence_is_no_part_of_the_packet() {
    let frame = [1, 2, 3, 4, 5, 6, 7, 8, 0xfc, 0xfc, 0xfc, 0xfc];
    for (link, left) in [(0x2400_0001, 8), (0x1400_0001, 10), (0x0400_0001, 12), (0x3000_0001, 12)] {
        let found = frames(pcap(link, &[(12, 12, &frame)]));
        assert_eq!((&found[0].bytes[..], found[0].original_len), (&frame[..left], left), "{link:#x}");
        assert_eq!(found[0].link, LinkType::ETHERNET);
    }
    // Of what was cut off, it was the first.
    for (original, left) in [(14, 10), (16, 12), (100, 12)] {
        let found = frames(pcap(0x2400_0001, &[(12, original, &frame)]));
        assert_eq!((found[0].bytes.len(), found[0].original_len), (left, original as usize - 4));
    }
    let flags = [2, 0, 4, 0, 0x40, 0, 0, 0];
    let [bytes, bits] = [4, 32].map(|len| [13, 0, 1, 0, len, 0, 0, 0]);
    for (interface, packet, left) in
        [(&bytes[..], &[][..], 8), (&bits, &[], 8), (&[], &flags, 10), (&bytes, &flags, 10), (&[], &[], 12)]
    {
        let found = frames(pcapng(1, interface, &[enhanced(0, &frame, packet)]));
        assert_eq!(found[0].bytes.len(), left, "{interface:?} {packet:?}");
    }
}

#[test]
fn times_are_what_the_interface_counts_in() {
    let resolution = |power: u8| vec![9, 0, 1, 0, power, 0, 0, 0];
    let offset = |seconds: i64| [&[14, 0, 8, 0][..], &seconds.to_le_bytes()].concat();
    for (options, count, time) in [
        (vec![], 1_500_000, "1970-01-01T00:00:01.5Z"),
        (resolution(0), 2, "1970-01-01T00:00:02Z"),
        (resolution(9), 1_500_000_001, "1970-01-01T00:00:01.500000001Z"),
        (resolution(12), 1_500_000_001_999, "1970-01-01T00:00:01.500000001Z"),
        (resolution(0x80 | 10), 1536, "1970-01-01T00:00:01.5Z"),
        (resolution(0x80 | 127), u64::MAX, "1970-01-01T00:00:00Z"),
        (resolution(127), u64::MAX, "1970-01-01T00:00:00Z"),
        ([resolution(9), offset(-1)].concat(), 1_500_000_000, "1970-01-01T00:00:00.5Z"),
        (offset(3600), 0, "1970-01-01T01:00:00Z"),
        ([resolution(0), offset(i64::MAX)].concat(), u64::MAX, "9999-12-30T22:00:00.999999999Z"),
        (offset(i64::MIN), 0, "-009999-01-02T01:59:59Z"),
        // As long as it should not be, it means nothing.
        (vec![9, 0, 2, 0, 9, 0, 0, 0], 1_500_000, "1970-01-01T00:00:01.5Z"),
    ] {
        let found = frames(pcapng(1, &options, &[enhanced(count, &[0; 4], &[])]));
        assert_eq!(found[0].time.to_string(), time, "{options:?} {count}");
    }
}

#[test]
fn names_are_shown_and_never_raw() {
    for (name, shown) in [
        (&b"eth1.100"[..], "eth1.100"),
        (b"eth0\0\0", "eth0"),
        (b"caf\xe9", "caf\\xe9"),
        ("caf\u{e9}".as_bytes(), "caf\u{e9}"),
        (b"a\x1b[31m", "a\\u{1b}[31m"),
        ("a\u{202e}b\u{9b}\n".as_bytes(), "a\\u{202e}b\\u{9b}\\u{a}"),
        (b"it's \"eth0\"", "it's \"eth0\""),
        (b"caf\\xe9", "caf\\xe9"),
        (b"", ""),
        (&[b'x'; 1000], &format!("{}…", "x".repeat(128))),
    ] {
        let len = (name.len() as u16).to_le_bytes();
        let mut options = [&[2, 0], &len[..], name].concat();
        options.resize(options.len().next_multiple_of(4), 0);
        let found = frames(pcapng(1, &options, &[enhanced(0, &[0; 4], &[])]));
        assert_eq!(found[0].interface.as_deref(), Some(shown));
    }
}

/// What no packet can have is no length, whatever the format.
#[test]
fn a_length_is_believed_as_far_as_there_can_be_such_a_packet() {
    let packet = udp(28);
    let (len, longest) = (packet.len() as u32, LONGEST as u32);
    for (original, believed) in [(u32::MAX, 28), (longest + 1, 28), (longest, 28), (len, 28), (0, 28)] {
        let (found, _) = packets(pcap(101, &[(len, original, &packet)]));
        assert_eq!(found[0].original_len, believed, "{original}");
    }
    // A packet that the capture cut.
    let cut = udp(1000);
    for (original, believed) in [(1000, 1000), (1014, 1000), (longest, 1000)] {
        let (found, _) = packets(pcap(101, &[(len, original, &cut)]));
        assert_eq!((found[0].bytes.len(), found[0].original_len), (28, believed));
    }
    // Its own length is of one that is longer than what is left.
    for original in [longest + 1, u32::MAX, 28, 999] {
        let (found, _) = packets(pcap(101, &[(len, original, &cut)]));
        assert!(found[0].original_len <= 999, "{original}: {}", found[0].original_len);
    }
}

#[test]
fn what_is_too_short_to_be_judged_is_counted_and_what_is_wrong_is_judged() {
    let packet = udp(28);
    let (found, counts) =
        packets(pcap(101, &[(10, 28, &packet[..10]), (22, 28, &packet[..22]), (0, 28, &[])]));
    assert_eq!((found.len(), counts.too_short, counts.frames), (0, 3, 3));
    // All of it was captured, so nothing excuses it.
    let (found, counts) = packets(pcap(101, &[(22, 22, &packet[..22])]));
    assert_eq!((found.len(), counts.too_short), (1, 0));
}

#[test]
fn who_sent_a_frame_is_known_where_the_link_says_it() {
    let packet = udp(28);
    let sender = Some(Mac([2, 0, 0, 0, 0, 9]));
    let address = [2, 0, 0, 0, 0, 9, 0, 0];
    let sll = |len: u8| [&[0, 0, 0, 1, 0, len][..], &address, &[8, 0], &packet].concat();
    let sll2 = |len| [&[8, 0, 0, 0, 0, 0, 0, 7, 0, 1, 4, len][..], &address, &packet].concat();
    let payload = [&[32, 0, 9, 0], &packet[..]].concat();
    let nflog = [&[2, 0, 0, 5, 16, 0, 8, 0, 0, 6, 0, 0][..], &address, &payload].concat();
    for (link, frame, expected) in [
        (1, [&[0xff; 6], &address[..6], &[8, 0], &packet].concat(), sender),
        (113, sll(6), sender),
        (113, sll(8), None),
        (276, sll2(6), sender),
        (276, sll2(0), None),
        (239, nflog, sender),
        (101, packet.clone(), None),
    ] {
        let len = frame.len() as u32;
        let (found, _) = packets(pcap(link, &[(len, len, &frame)]));
        assert_eq!((&found[0].bytes, found[0].src_mac), (&packet, expected), "{link}");
    }
}

#[test]
fn what_is_no_ip_is_counted_as_what_it_is() {
    for (link, frame) in [
        (0, vec![7, 0, 0, 0, 1]),
        (1, [&[0; 12][..], &[0x08, 0x06], &[0; 28]].concat()),
        (1, [&[0; 12][..], &[0, 3, 0x42, 0x42, 3]].concat()),
        (1, [&[0; 12][..], &[0x88, 0x64, 0x11, 0xa7, 0, 0, 0, 0], &[0; 8]].concat()),
        (1, [&[0; 12][..], &[0x88, 0x47, 0, 1, 1, 64], &[0; 8]].concat()),
        (9, vec![0xff, 3, 0xc0, 0x21, 1, 1, 0, 4]),
        (101, vec![0x10; 40]),
        (113, [&[0, 0, 3, 0x38, 0, 0], &[0; 8][..], &[8, 0, 0x45]].concat()),
        (239, vec![2, 0, 0, 5, 8, 0, 10, 0, b'h', b'i', 0, 0]),
    ] {
        let len = frame.len() as u32;
        let (found, counts) = packets(pcap(link, &[(len, len, &frame)]));
        assert_eq!((found.len(), counts.not_ip), (0, 1), "{link} {frame:x?}");
    }
    // Of other links a file may have some, beside what is read; with nothing else it is refused.
    let wlan =
        pcapng(105, &[2, 0, 5, 0, b'w', b'l', b'a', b'n', b'0', 0, 0, 0], &[enhanced(0, &[0; 40], &[])]);
    let mut both = pcap_and(&wlan, pcapng(1, &[], &[enhanced(0, &[0; 40], &[])]));
    assert_eq!(both.packet().unwrap(), None);
    let words = ("link type 105 (802.11), of interface wlan0".to_owned(), 1);
    assert_eq!(both.counts().not_read_in_words(), [words]);
    let mut capture = Capture::new(Box::new(Cursor::new(wlan))).unwrap();
    let refused = capture.packet().unwrap_err().to_string();
    assert!(
        refused.contains("link type 105 (802.11), of interface wlan0; supported are Ethernet"),
        "{refused}"
    );
}

/// However many there are, a few are told, and all are counted.
#[test]
fn what_is_not_read_is_told_briefly() {
    let all: Vec<u8> = (0..1000_u16)
        .flat_map(|number| {
            let name = [&[2, 0, 4, 0][..], format!("{number:04}").as_bytes()].concat();
            pcapng(1000 + number % 20, &name, &[enhanced(0, &[0; 40], &[])])
        })
        .collect();
    let mut capture = Capture::new(Box::new(Cursor::new(all))).unwrap();
    let refused = capture.packet().unwrap_err().to_string();
    assert!(refused.len() < 700 && refused.contains("; other link types; "), "{refused}");
    let told = capture.counts().not_read_in_words();
    assert_eq!((told.len(), told.iter().map(|(_, count)| count).sum::<u64>()), (TOLD + 1, 1000));
}

fn pcap_and(one: &[u8], two: Vec<u8>) -> Capture {
    Capture::new(Box::new(Cursor::new([one, &two].concat()))).unwrap()
}

/// A file that is damaged somewhere: right up to there, so that what is behind the headers is reached.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let packet = udp(28);
    let frame = [&[2; 12][..], &[8, 0], &packet, &[0; 2]].concat();
    let link = [frame.len() as u32; 2];
    let whole = prop::sample::select(vec![
        pcap(1, &[(link[0], link[1], &frame), (link[0], link[1], &frame)]),
        pcap(239, &[(32, 32, &[&[2, 0, 0, 5, 28, 0, 9, 0], &packet[..24]].concat())]),
        pcapng(
            1,
            &[2, 0, 4, 0, b'e', b't', b'h', b'0'],
            &[
                enhanced(5, &frame, &[1, 0, 2, 0, b'h', b'i', 0, 0, 0, 0, 0, 0]),
                (3, [&44_u32.to_le_bytes()[..], &frame].concat()),
                (2, enhanced(5, &frame, &[]).1),
                (0x8000_0001, vec![7; 16]),
            ],
        ),
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (whole, changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(mut file, changes, end, cut)| {
        for (place, byte) in changes {
            let place = place.index(file.len());
            file[place] = byte;
        }
        if cut {
            file.truncate(end.index(file.len()));
        }
        file
    })
}

proptest! {
    /// Any file has an end; each of its frames is counted once, and no more memory is taken than it has bytes.
    #[test]
    fn any_bytes_are_read_or_refused(file in prop_oneof![nearly_right(), prop::collection::vec(any::<u8>(), 0..300)]) {
        let len = file.len();
        if let Ok(mut capture) = Capture::new(Box::new(Cursor::new(file))) {
            while let Ok(Some(packet)) = capture.packet() {
                prop_assert!(packet.bytes.capacity() <= 2 * len + 64);
                prop_assert!(packet.bytes.len() <= packet.original_len && packet.original_len <= LONGEST);
            }
            let Counts { frames, packets, not_ip, too_short, not_read } = capture.counts();
            prop_assert_eq!(*frames, packets + not_ip + too_short + not_read.values().sum::<u64>());
        }
    }
}
