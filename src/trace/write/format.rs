//! What a trace is written as.

use std::path::Path;
use std::str::FromStr;

/// What a trace is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A line for a person.
    Text,
    /// A line of JSON; see [`SCHEMA`](crate::trace::SCHEMA).
    Json,
    /// Packets, for Wireshark and tcpdump.
    Pcapng,
    /// A line of JSON that is a request of OTLP, for OpenTelemetry.
    Otlp,
}

/// How a line of OTLP begins.
const OTLP: &[u8] = b"{\"resourceSpans\"";

/// Why a text is not a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a format is one of text, json, pcapng, otlp")]
pub struct FormatError;

impl Format {
    /// The format that a file's name ends in: `.json`, `.jsonl` or `.ndjson`, `.pcapng`; text for all others.
    pub fn of_file(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json" | "jsonl" | "ndjson") => Self::Json,
            Some("pcapng") => Self::Pcapng,
            _ => Self::Text,
        }
    }

    /// Whether a trace of this format begins so.
    pub(super) fn begins(self, bytes: &[u8]) -> bool {
        match self {
            // A day, or that events were lost.
            Self::Text => {
                bytes.starts_with(b"# ")
                    || bytes.get(..11).is_some_and(|day| (day[4], day[7], day[10]) == (b'-', b'-', b'T'))
            }
            Self::Json => bytes.starts_with(b"{") && !bytes.starts_with(OTLP),
            Self::Otlp => bytes.starts_with(OTLP),
            Self::Pcapng => bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]),
        }
    }

    /// Whether events must have the bytes of their packets.
    pub fn needs_bytes(self) -> bool {
        self == Self::Pcapng
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "pcapng" => Ok(Self::Pcapng),
            "otlp" => Ok(Self::Otlp),
            _ => Err(FormatError),
        }
    }
}
