//! What a client asks of a node whose program is to be replaced, and what comes of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Go on as another program, and lose nothing on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// Its file, as an absolute path; none for the file that the node was started from, as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
}

/// What came of it. The new program says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Upgraded {
    /// The node.
    pub node: String,
    /// The version of the program before.
    pub from: String,
    /// The version of this program.
    pub to: String,
    /// The file of this program.
    pub program: PathBuf,
    /// The how manieth upgrade of the node this is.
    pub upgrades: u64,
    /// For how long no packet was decided about, in milliseconds.
    pub paused_ms: u64,
}
