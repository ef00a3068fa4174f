//! The flows of conntrack on this host, by the names of the cluster.
//!
//! Conntrack has the only state of flows: dunnat keeps none. An entry there has a mark, and its bits in the cluster's mask are the tag
//! of the entry node. [`Names`] knows what that means: which node and service was asked for, and by which address. [`Flow`] is
//! what is told of an entry. [`list`] shows those that there are, and [`Follower`] what happens to them.
//!
//! A node does not track foreign flows that only pass it: these are seen at the guest's home node.

mod finding;
mod flow;
mod names;
mod select;
mod settings;
mod text;

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;

use crate::netlink::conntrack::{Conntrack, Events};
pub use finding::Finding;
pub use flow::{Counted, Flow, Happened, SCHEMA, Way};
pub use names::Names;
pub use select::{NotOfFlows, Wanted};
pub use settings::Settings;
pub use text::line;

/// Why conntrack tells nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unseen {
    /// No right.
    #[error("only root may see the flows of conntrack (CAP_NET_ADMIN): try sudo")]
    Rights,
    /// Something else.
    #[error(
        "cannot read the flows of conntrack: {0}. The kernel may lack nf_conntrack_netlink; try: modprobe \
         nf_conntrack_netlink"
    )]
    Failed(io::Error),
}

impl Unseen {
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Rights,
            _ => Self::Failed(error),
        }
    }
}

/// Shows each flow of this network namespace, as the kernel has them in its table, until `shown` has seen enough. Flows come and go
/// meanwhile: it may miss some.
///
/// # Errors
/// Conntrack cannot be asked.
pub fn list(names: &Names, mut shown: impl FnMut(Flow) -> ControlFlow<()>) -> Result<(), Unseen> {
    let conntrack = Conntrack::open().map_err(Unseen::of)?;
    let now = Timestamp::now();
    conntrack.each(|entry| shown(names.flow(&entry, None, now))).map_err(Unseen::of)
}

/// Told of what happens to flows of this network namespace, from when it was made.
pub struct Follower {
    events: Events,
}

impl Follower {
    /// `patience`: how long [`next`](Self::next) waits.
    ///
    /// # Errors
    /// Conntrack cannot be asked.
    pub fn new(patience: Duration) -> Result<Self, Unseen> {
        Events::watch(patience).map(|events| Self { events }).map_err(Unseen::of)
    }

    /// Waits for what happens; nothing, if nothing happens for some time. None, if more happened than there was room for: some
    /// of it was missed.
    ///
    /// # Errors
    /// Conntrack cannot be asked any more.
    pub fn next(&mut self, names: &Names) -> Result<Option<Vec<Flow>>, Unseen> {
        match self.events.next() {
            Ok(told) => {
                let now = Timestamp::now();
                let named =
                    told.iter().map(|(happened, entry)| names.flow(entry, Some((*happened).into()), now));
                Ok(Some(named.collect()))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(None),
            Err(error) => Err(Unseen::of(error)),
        }
    }
}

#[cfg(test)]
pub(crate) use tests::of as sample;
#[cfg(test)]
mod tests;
