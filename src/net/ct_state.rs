use std::fmt;

use serde::{Deserialize, Serialize};

/// What conntrack takes a packet for, named as in nft's `ct state`.
///
/// ```
/// use dunnat::net::CtState;
///
/// assert_eq!(CtState::from_number(2).map(|state| state.to_string()).as_deref(), Some("new"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CtState {
    /// The first of its flow.
    New,
    /// Of a flow that has packets in both directions, or a reply.
    Established,
    /// Not of the flow, but because of it: an ICMP error, an expected connection.
    Related,
    /// Not to be tracked.
    Untracked,
}

impl CtState {
    /// From the kernel's number (`enum ip_conntrack_info` in nf_conntrack_common.h).
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            0 | 3 => Some(Self::Established),
            1 | 4 => Some(Self::Related),
            2 => Some(Self::New),
            7 => Some(Self::Untracked),
            _ => None,
        }
    }
}

impl fmt::Display for CtState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Related => "related",
            Self::Untracked => "untracked",
        })
    }
}
