//! What is odd about a flow.

use serde::{Deserialize, Serialize};

/// What is odd about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Finding {
    /// The cluster's bits of its ct mark are the tag of no node.
    UnknownTag,
    /// It was begun to the public address of one node, and has the tag of another.
    OtherTag,
    /// It is from outside to a guest's service, and has no tag.
    Untagged,
    /// Somebody else translates it, too: the guest does not see the client.
    OtherNat,
}

impl Finding {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::UnknownTag, Self::OtherTag, Self::Untagged, Self::OtherNat];

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownTag => "unknown-tag",
            Self::OtherTag => "other-tag",
            Self::Untagged => "untagged",
            Self::OtherNat => "other-nat",
        }
    }

    /// What it means, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::UnknownTag => {
                "its ct mark is the tag of no node: replies are not translated. Another program may have changed the mark, or \
                 the cluster file has changed"
            }
            Self::OtherTag => {
                "it was begun to the public address of one node, and has the tag of another: replies come from the wrong address"
            }
            Self::Untagged => {
                "it has no node's tag: replies are not translated. It began before dunnat did, or another program changed the mark"
            }
            Self::OtherNat => {
                "another program translates it, too: the guest sees another address than the client's"
            }
        }
    }
}
