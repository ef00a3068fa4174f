//! Which versions of traces there are.

use serde::{Deserialize, Serialize};

/// The version of an event's JSON. It changes when a field goes or means something else; a new field does not
/// change it.
pub const VERSION: u32 = 2;

/// The oldest version that is read. What it named otherwise is read by its old name: `about` is `entry`, and two
/// [reasons](crate::engine::Reason).
pub(super) const OLDEST: u32 = 1;

/// The number [`VERSION`]; earlier ones are read, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Version;

impl From<Version> for u32 {
    fn from(_: Version) -> Self {
        VERSION
    }
}

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            OLDEST..=VERSION => Ok(Self),
            _ => Err(format!("events of version {number}; this dunnat reads versions {OLDEST} to {VERSION}")),
        }
    }
}
