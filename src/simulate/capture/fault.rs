//! Why a file cannot be read as a capture, or no further, and where in it.

use std::fmt;
use std::io;

/// Where in a file something is: what, and at which byte it begins. The first byte is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What is there.
    pub piece: Piece,
    /// Its first byte.
    pub at: u64,
}

/// What a capture file consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Piece {
    /// What it begins with.
    FileHeader,
    /// A packet, by its number from 1 on, as tshark counts.
    Packet(u64),
    /// A block of a pcapng file that has no packet, by its type.
    Block(u32),
    /// What begins a block of a pcapng file: its type is not known yet.
    BlockHeader,
}

/// Why a file cannot be read as a capture, or no further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The system says no.
    #[error("{source}, after byte {at}")]
    Io {
        /// How much of the file had been read, in bytes.
        at: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file ends too early: it was cut, or is still being written. What came before is whole.
    #[error(transparent)]
    Cut(#[from] Cut),
    /// What is written there cannot be. What came before is whole.
    #[error("{place}: {what}")]
    Damaged {
        /// Where it is.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// It shows packets before and after each stage, as `dunnat trace` writes them.
    #[error(
        "it is a trace that was written as packets: it has each packet several times, and no marks. \
         Decisions can be repeated from a trace in JSON only"
    )]
    Trace,
    /// No packet of it has a link header that is read.
    #[error(
        "the link headers of its packets are not supported: {0}; supported are Ethernet, Linux cooked (sll, \
         sll2), raw IP, PPP, Cisco HDLC, loopback and NFLOG"
    )]
    Links(String),
}

/// A file ends within something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file ends inside {place}: {there} of its {of} bytes are present")]
pub struct Cut {
    /// What it ends within.
    pub place: Place,
    /// How many bytes of that are there.
    pub there: u64,
    /// How many there would be; at least, where not even its length is there.
    pub of: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.piece {
            Piece::FileHeader => write!(f, "the file header"),
            Piece::Packet(number) => write!(f, "packet {number}"),
            Piece::Block(kind) => write!(f, "a block of type {kind:#x}"),
            Piece::BlockHeader => write!(f, "the header of a block"),
        }?;
        write!(f, ", which begins at byte {}", self.at)
    }
}
