//! The parts of an acceptance, each of which can be asked for by itself. What is claimed of all that was sent is always judged.

use crate::lab::words;

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// A connection to each service and to each node's own port, through every node.
    Requests,
    /// What a guest begins: ping and HTTP.
    Outbound,
    /// Large files, both ways.
    Transfers,
    /// Many connections at once.
    Many,
    /// Datagrams of every length, with every sort of checksum, in fragments.
    Udp,
    /// ICMP errors: traceroute, path MTU, closed ports.
    Errors,
}

impl Part {
    /// All there are, with their names.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Requests, "requests"),
        (Self::Outbound, "outbound"),
        (Self::Transfers, "transfers"),
        (Self::Many, "many"),
        (Self::Udp, "udp"),
        (Self::Errors, "errors"),
    ];
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        words::value(text, &Self::ALL)
    }
}
