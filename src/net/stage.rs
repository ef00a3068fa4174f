use std::fmt;
use std::str::FromStr;

/// One of the four places where a packet is decided about, in the order a connection meets them.
///
/// ```
/// use dunnat::net::{Hook, Stage};
///
/// assert_eq!(Stage::ALL.map(Stage::name), ["dnat", "tag", "save", "spoof"]);
/// assert_eq!(Stage::Spoof.hook(), Hook::Postrouting);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The entry node turns the public destination address into the guest's and marks the packet with its tag.
    Dnat,
    /// The guest's node recognises, by source MAC address, the node that sent a frame through a pipe.
    Tag,
    /// On the way to the guest the mark of the packet becomes the ct mark of the flow.
    Save,
    /// A guest's reply gets the entry node's public address as its source.
    Spoof,
}

/// A place in the kernel's IP stack where rules see packets.
///
/// ```
/// use dunnat::net::{Hook, Stage};
///
/// assert_eq!((Stage::Dnat.hook(), Hook::Prerouting.to_string()), (Hook::Prerouting, "prerouting".to_owned()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// After routing.
    Postrouting,
}

/// Why a text is not a stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stage is one of dnat, tag, save, spoof")]
pub struct StageError;

impl Stage {
    /// All stages; a stage's place here is its [`index`](Self::index).
    pub const ALL: [Self; 4] = [Self::Dnat, Self::Tag, Self::Save, Self::Spoof];

    /// The place of the stage in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        self as usize
    }

    /// The hook, of the ip family, at which the stage sees packets.
    pub fn hook(self) -> Hook {
        match self {
            Self::Dnat | Self::Tag => Hook::Prerouting,
            Self::Save | Self::Spoof => Hook::Postrouting,
        }
    }

    /// The stage's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dnat => "dnat",
            Self::Tag => "tag",
            Self::Save => "save",
            Self::Spoof => "spoof",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prerouting => "prerouting",
            Self::Postrouting => "postrouting",
        })
    }
}

impl FromStr for Stage {
    type Err = StageError;

    fn from_str(text: &str) -> Result<Self, StageError> {
        Self::ALL.into_iter().find(|stage| stage.name() == text).ok_or(StageError)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_parses_back_and_the_index_is_the_place() {
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage.to_string().parse(), Ok(stage));
            assert_eq!(stage.index(), place);
        }
        assert_eq!("snat".parse::<Stage>(), Err(StageError));
    }
}
