//! Values of the field: MAC addresses, marks, tuples, stages, verdicts.
//!
//! Every type here can be copied, compared, printed and, where a person types it, parsed; what is printed is
//! what nft would print or accept, so a value in a trace can be pasted into a rule. Nothing here does I/O.

mod envelope;
mod ifname;
mod mac;
mod mark;
mod stage;
mod tuple;
mod verdict;

pub use envelope::{Checksum, Envelope};
pub use ifname::{IfName, IfNameError};
pub use mac::{Mac, MacError, MacPrefix};
pub use mark::{Mark, MarkError};
pub use stage::{Stage, StageError};
pub use tuple::{Proto, ProtoError, Tuple, TupleError};
pub use verdict::Verdict;
