//! What a cluster file may choose between.

use std::fmt;
use std::str::FromStr;

/// What becomes of a packet that came through one node while its flow has the tag of another: one client has connected to one
/// guest through two nodes, from one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnConflict {
    /// It goes on, and the flow keeps its tag: the replies have the original destination of the first request.
    #[default]
    Keep,
    /// It is dropped: the connection that came first goes on undisturbed.
    Drop,
    /// It goes on, and the flow gets its tag: the replies have the original destination of the last request.
    Take,
}

impl OnConflict {
    const NAMES: [(Self, &'static str); 3] =
        [(Self::Keep, "keep"), (Self::Drop, "drop"), (Self::Take, "take")];
}

impl FromStr for OnConflict {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::NAMES.iter().find(|(_, name)| *name == text);
        known.map(|(value, _)| *value).ok_or("give \"keep\", \"drop\" or \"take\"")
    }
}

impl fmt::Display for OnConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(value, _)| value == self);
        f.pad(name.map_or("keep", |(_, name)| name))
    }
}

/// What conntrack does about foreign flows on nodes that they only pass: their guest lives on another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Foreign {
    /// It does not track them. It would see the requests alone, take them for invalid, and a rule of somebody else that drops
    /// what is invalid would stop them.
    #[default]
    NoTrack,
    /// It tracks them, for rules of others that let pass only what conntrack knows.
    Track,
}

impl Foreign {
    const NAMES: [(Self, &'static str); 2] = [(Self::NoTrack, "notrack"), (Self::Track, "track")];
}

impl FromStr for Foreign {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::NAMES.iter().find(|(_, name)| *name == text);
        known.map(|(value, _)| *value).ok_or("give \"notrack\" or \"track\"")
    }
}

/// By what a node knows which other node has sent it a packet for a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TagBy {
    /// The source address of the frame. It is right whatever way the frame took.
    #[default]
    Mac,
    /// The pipe that it came in by: each leads to one node, and what comes by it entered the cluster there.
    Pipe,
    /// A code point that the node of entry writes and the guest's node takes away: for pipes where a frame does not
    /// keep its source address.
    Dscp,
}

impl TagBy {
    /// All there are, with their names in the cluster file.
    pub const ALL: [(Self, &str); 3] = [(Self::Mac, "mac"), (Self::Pipe, "pipe"), (Self::Dscp, "dscp")];
}

impl fmt::Display for TagBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|(by, _)| by == self).map_or("", |(_, name)| name))
    }
}
