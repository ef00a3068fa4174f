//! pcapng: blocks, options, lengths.

use super::super::build::Order::{Big, Little};
use super::super::build::{Pcapng, ethernet, option, request};
use super::Case;
use super::End::{Cut, Damaged, Whole};

pub(super) fn all() -> Vec<Case> {
    let frame = ethernet(&[8, 0], &request());
    let len = frame.len() as u32;
    let case = |name, file, packets, end| Case { name, file, packets, end };
    let interface = |options: &[u8]| Pcapng::new(Little).interface(1, 262_144, options);
    let option = |code, value: &[u8]| option(Little, code, value);
    let usual = || Pcapng::usual(Little);
    let two = || usual().packet(&frame).packet(&frame);
    let three = usual().three(&frame);
    let obsolete = |order| Pcapng::usual(order).obsolete(&frame).obsolete(&frame).obsolete(&frame).bytes;
    let simple = |snaplen, frame: &[u8]| {
        Pcapng::new(Little).interface(1, snaplen, &[]).simple(len, frame).simple(len, frame).bytes
    };
    let sections = |order| two().section(order, u64::MAX).interface(1, 262_144, &[]).packet(&frame).bytes;
    vec![
        case("pcapng, little-endian", three.clone(), 3, Whole),
        case("pcapng, big-endian", Pcapng::usual(Big).three(&frame), 3, Whole),
        case("pcapng, two sections", sections(Little), 3, Whole),
        case("pcapng, two sections of two orders", sections(Big), 3, Whole),
        case(
            "pcapng, a section that says its length",
            Pcapng { order: Little, bytes: Vec::new() }
                .section(Little, 20 + 3 * (32 + 60))
                .interface(1, 262_144, &[])
                .three(&frame),
            3,
            Whole,
        ),
        case(
            "pcapng, a section of 1.2",
            {
                let mut file = three.clone();
                file[14] = 2;
                file
            },
            3,
            Whole,
        ),
        case(
            "pcapng, a section of 2.0",
            {
                let mut file = three.clone();
                file[12] = 2;
                file
            },
            0,
            Damaged("version 2.0"),
        ),
        case("pcapng, Packet Blocks", obsolete(Little), 3, Whole),
        case("pcapng, Packet Blocks, big-endian", obsolete(Big), 3, Whole),
        case("pcapng, Simple Packet Blocks", simple(0, &frame), 2, Whole),
        case("pcapng, Simple Packet Blocks, cut by the snaplen", simple(58, &frame[..58]), 2, Whole),
        case(
            "pcapng, packets of all three kinds",
            usual().packet(&frame).obsolete(&frame).simple(len, &frame).bytes,
            3,
            Whole,
        ),
        case(
            "pcapng, snaplen less than the packets have",
            Pcapng::new(Little).interface(1, 58, &[]).three(&frame),
            3,
            Whole,
        ),
        case("pcapng, times in ns", interface(&option(9, &[9])).three(&frame), 3, Whole),
        case("pcapng, times in 2^-20 s", interface(&option(9, &[0x80 | 20])).three(&frame), 3, Whole),
        case(
            "pcapng, times with an offset",
            interface(&option(14, &(-3600_i64).to_le_bytes())).three(&frame),
            3,
            Whole,
        ),
        case("pcapng, a name in Latin-1", interface(&option(2, b"caf\xe9")).three(&frame), 3, Whole),
        case(
            "pcapng, a comment that is not UTF-8",
            usual().enhanced(0, (len, len), &frame, &option(1, b"\xff\xfe")).bytes,
            1,
            Whole,
        ),
        case(
            "pcapng, options without an end",
            interface(&option(2, b"eth0")).enhanced(0, (len, len), &frame, &option(1, b"hi")).bytes,
            1,
            Whole,
        ),
        case(
            "pcapng, an option of a packet that is longer than the block",
            usual().enhanced(0, (len, len), &frame, &[1, 0, 0xff, 0xff]).bytes,
            1,
            Whole,
        ),
        case(
            "pcapng, an option of an interface that is longer than the block",
            interface(&[2, 0, 0xff, 0xff]).three(&frame),
            3,
            Whole,
        ),
        case(
            "pcapng, blocks of types that nobody knows",
            usual().packet(&frame).block(0x8000_0001, &[1; 40]).block(0x0bad, &[0; 8]).packet(&frame).bytes,
            2,
            Whole,
        ),
        case(
            "pcapng, names and statistics",
            usual().block(4, &[0; 4]).packet(&frame).block(5, &[0; 12]).bytes,
            1,
            Whole,
        ),
        case(
            "pcapng, interfaces of two link types",
            usual().interface(101, 262_144, &[]).packet(&frame).enhanced(1, (44, 44), &request(), &[]).bytes,
            2,
            Whole,
        ),
        case(
            "pcapng, one interface that is not read",
            usual()
                .interface(105, 262_144, &option(2, b"wlan0"))
                .packet(&frame)
                .enhanced(1, (len, len), &frame, &[])
                .bytes,
            1,
            Whole,
        ),
        case(
            "pcapng, original length 4294967295",
            two().enhanced(0, (len, u32::MAX), &frame, &[]).bytes,
            3,
            Whole,
        ),
        case("pcapng without packets", usual().bytes, 0, Whole),
        case(
            "pcapng, no interface for a packet",
            two().enhanced(7, (len, len), &frame, &[]).bytes,
            2,
            Damaged(
                "packet 3, which begins at byte 232: its interface number is 7, but the file describes only 1",
            ),
        ),
        case(
            "pcapng, no interface for a simple packet",
            Pcapng::new(Little).simple(len, &frame).bytes,
            0,
            Damaged("interface number is 0, but the file describes only 0"),
        ),
        case(
            "pcapng, cut within a packet",
            three[..three.len() - 20].to_vec(),
            2,
            Cut("packet 3, which begins at byte 232: 72 of its 92 bytes"),
        ),
        case(
            "pcapng, cut within a block's header",
            three[..three.len() - 92 + 5].to_vec(),
            2,
            Cut("the header of a block, which begins at byte 232: 5 of its 12 bytes"),
        ),
        case(
            "pcapng, cut within a block that nobody knows",
            two().raw(0x8000_0001, (0xffff_fff0, 0), &[1; 40]).bytes,
            2,
            Cut("a block of type 0x80000001, which begins at byte 232: 52 of its 4294967280 bytes"),
        ),
        case(
            "pcapng, cut within the section header",
            three[..20].to_vec(),
            0,
            Cut("the file header, which begins at byte 0: 20 of its 28 bytes"),
        ),
        case(
            "pcapng, cut within the byte-order magic",
            three[..10].to_vec(),
            0,
            Cut("the file header, which begins at byte 0: 10 of its 28 bytes"),
        ),
        case(
            "pcapng, no byte-order magic",
            [&[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0], &[0; 20][..]].concat(),
            0,
            Damaged("is no byte-order magic"),
        ),
        case(
            "pcapng, a block length that is no multiple of 4",
            two().raw(6, (93, 93), &[0; 80]).bytes,
            2,
            Damaged("packet 3, which begins at byte 232: its block length is 93"),
        ),
        case(
            "pcapng, a block length of 8",
            two().raw(5, (8, 8), &[]).bytes,
            2,
            Damaged("its block length is 8"),
        ),
        case(
            "pcapng, two lengths of one block",
            two().raw(5, (16, 20), &[0; 4]).bytes,
            2,
            Damaged("16 at its beginning, but 20 at its end"),
        ),
        case(
            "pcapng, captured length more than its block has",
            two().enhanced(0, (len + 8, len + 8), &frame, &[]).bytes,
            2,
            Damaged("its captured length is 68, but its block has only 60 bytes"),
        ),
        case(
            "pcapng, captured length 4294967295",
            two().enhanced(0, (u32::MAX, u32::MAX), &frame, &[]).bytes,
            2,
            Damaged("its captured length is 4294967295"),
        ),
    ]
}
