//! Files that are neither pcap nor pcapng, and known by how they begin: what they are, and what makes a capture of them.

use std::fmt;

/// A kind of file that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// Compressed; by what, and the program that writes it out unpacked.
    Compressed(&'static str, &'static str),
    /// A capture in another format, which Wireshark's editcap translates.
    Format(&'static str),
}

/// How they begin.
const BEGINNINGS: &[(&[u8], Foreign)] = &[
    (&[0x1f, 0x8b], Foreign::Compressed("gzip", "zcat")),
    (&[0x1f, 0x9d], Foreign::Compressed("compress", "zcat")),
    (&[0x28, 0xb5, 0x2f, 0xfd], Foreign::Compressed("zstd", "zstdcat")),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Foreign::Compressed("xz", "xzcat")),
    (&[0x5d, 0, 0], Foreign::Compressed("lzma", "xzcat")),
    (b"BZh", Foreign::Compressed("bzip2", "bzcat")),
    (&[0x04, 0x22, 0x4d, 0x18], Foreign::Compressed("lz4", "lz4cat")),
    (&[0x02, 0x21, 0x4c, 0x18], Foreign::Compressed("lz4", "lz4cat")),
    (b"LZIP", Foreign::Compressed("lzip", "lzip -dc")),
    (b"PK\x03\x04", Foreign::Compressed("zip", "unzip -p")),
    (b"7z\xbc\xaf\x27\x1c", Foreign::Compressed("7-Zip", "7z x -so")),
    (b"snoop\0\0\0", Foreign::Format("snoop's (RFC 1761)")),
    (b"RTSS", Foreign::Format("Network Monitor's, version 1")),
    (b"GMBU", Foreign::Format("Network Monitor's, version 2")),
    (b"XCP\0", Foreign::Format("NetXRay's")),
    (b"TRSNIFF data    ", Foreign::Format("DOS Sniffer's")),
    (b"iptrace ", Foreign::Format("AIX iptrace's")),
    (b"btsnoop\0", Foreign::Format("btsnoop's")),
    (b"ObserverPktBuffe", Foreign::Format("Network Instruments' Observer's")),
    (b"\x05VNF", Foreign::Format("Visual Networks'")),
    (&[0x1c, 0, 1, 0xac], Foreign::Format("Ixia's (lcap)")),
    (&[0x1c, 0, 1, 0xab], Foreign::Format("Ixia's (lcap)")),
];

impl Foreign {
    /// How much of a file tells its kind, in bytes.
    pub const BEGINNING: usize = 16;

    /// What begins like this, if it is known.
    pub fn of(beginning: &[u8]) -> Option<Self> {
        // Data of zstd may come behind a frame that is to be skipped (RFC 8878 §3.1.2).
        if matches!(beginning, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
            return Some(Self::Compressed("zstd or lz4", "zstdcat"));
        }
        BEGINNINGS.iter().find(|(magic, _)| beginning.starts_with(magic)).map(|(_, foreign)| *foreign)
    }

    /// What it is, and what to do, in words, about a file of that name; `-` is standard input.
    pub fn told<'a>(&'a self, name: &'a str) -> impl fmt::Display + 'a {
        let name = if name == "-" { "FILE" } else { name };
        fmt::from_fn(move |f| match self {
            Self::Compressed(by, unpack) => write!(
                f,
                "it is compressed with {by}; unpack it first: put {unpack} {name} | before the command, and \
                 - for the file"
            ),
            Self::Format(whose) => write!(
                f,
                "its format is {whose}; convert it with Wireshark's editcap: editcap -F pcapng {name} \
                 {name}.pcapng"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_known_by_how_it_begins_and_told_with_what_helps() {
        for (magic, foreign) in BEGINNINGS {
            assert!(magic.len() <= Foreign::BEGINNING);
            assert_eq!(Foreign::of(&[magic, &[1, 2, 3][..]].concat()), Some(*foreign));
            assert_eq!(Foreign::of(&magic[..magic.len() - 1]), None, "{magic:x?}");
            assert!(!super::super::Capture::is_one(magic));
        }
        assert!(Foreign::of(&[0x5a, 0x2a, 0x4d, 0x18, 0]).is_some());
        assert_eq!((Foreign::of(b""), Foreign::of(b"{\"v\":1}"), Foreign::of(b"\n")), (None, None, None));
        let told = |foreign: Foreign, name| foreign.told(name).to_string();
        assert!(
            told(BEGINNINGS[0].1, "x.gz").contains("put zcat x.gz | before the command, and - for the file")
        );
        assert!(told(BEGINNINGS[0].1, "-").contains("zcat FILE |"));
        assert!(told(Foreign::Format("snoop's"), "x").ends_with("editcap -F pcapng x x.pcapng"));
    }
}
