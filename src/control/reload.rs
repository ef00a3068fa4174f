//! What a client asks of a node that is to go on with another cluster file, and what comes of it.

use serde::{Deserialize, Serialize};

/// Go on with this cluster file, and lose nothing on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// The text of the file: the node need not be able to read it.
    pub config: String,
    /// Its name, for messages.
    pub file: String,
    /// Another number of workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of it, or would come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reloaded {
    /// The node.
    pub node: String,
    /// After how many reloads this is, counted from 1; each event of a trace has it. The same as before if nothing changes.
    pub generation: u64,
    /// Which cluster file: the first 16 digits of its SHA-256.
    pub config: String,
    /// What is otherwise than before, each in a line.
    pub changes: Vec<String>,
    /// What one should know of it, each in a line.
    pub warnings: Vec<String>,
    /// Flows that have another tag now.
    pub retagged: u64,
    /// From the request to the last packet that was decided by the old file, in milliseconds.
    pub took_ms: u64,
    /// Of a dry run, the rules for nft, but for the chains of queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
}
