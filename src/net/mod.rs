//! Values of the field: MAC addresses, marks, tuples, stages, verdicts.
//!
//! Every type here can be copied, compared, printed and, where a person types it, parsed; what is printed is
//! what nft would print or accept, so a value in a trace can be pasted into a rule. Nothing here does I/O.

mod community;
mod ct_mark;
mod ct_state;
mod dscp;
mod envelope;
mod family;
mod hex;
mod ifname;
mod mac;
mod mark;
mod ports;
mod stage;
mod text;
mod tuple;
mod typed;
mod verdict;

pub use community::{CommunityId, CommunityIdError};
pub use ct_mark::CtMark;
pub use ct_state::CtState;
pub use dscp::{Dscp, DscpError};
pub use envelope::{Checksum, Envelope};
pub(crate) use family::octets;
pub use family::{ByFamily, Family, OfFamily};
pub use hex::Hex;
pub use ifname::{IfName, IfNameError};
/// A network, of the crate ipnet: a policy needs it for conditions ([`Value::Network`](crate::engine::Value::Network)) and for
/// [laws](crate::policy::laws::nothing_inside_leaves()).
pub use ipnet::IpNet;
pub use mac::{Mac, MacError, MacPrefix};
pub use mark::{Mark, MarkError};
pub use ports::{Ports, PortsError};
pub use stage::{Hook, Stage, StageError};
pub(crate) use text::as_text;
pub use tuple::{Proto, ProtoError, Tuple, TupleError};
pub(crate) use typed::Words;
pub use typed::WrongWord;
pub use verdict::{Verdict, VerdictError};
