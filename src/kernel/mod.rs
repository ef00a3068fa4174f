//! What this kernel can do, found out by asking it.
//!
//! An answer is [`Support::Yes`] or [`Support::No`] only if the kernel has said so; anything else that went wrong
//! is [`Support::Unknown`], with what was said, and is never taken for a no.

mod capabilities;
mod ct_mark;
mod losses;
mod scratch;
pub mod tool;

use std::fmt;
use std::fs;
use std::io;

pub use capabilities::{Capabilities, Feature};
pub use ct_mark::ct_mark_by_verdict;
pub use losses::Losses;
pub(crate) use scratch::{in_scratch_namespace, in_scratch_user_namespace};
use tool::Failure;

use crate::netlink::expression::{Expressions, Say};
use crate::netlink::nftables::{self, Batch, Nftables};

/// Whether the kernel has a feature.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Support {
    /// It has, and showed it.
    Yes,
    /// It has not, by its own word.
    No(String),
    /// It could not be asked, or its answer was about something else.
    Unknown(String),
}

/// Whether nft rules can hand packets to a queue (`CONFIG_NFT_QUEUE`, kernel module nft_queue).
pub fn nft_queue() -> Support {
    rule_with(|rule| rule.queue(0))
}

/// Whether rules can have the target NFQUEUE of x_tables (kernel modules xt_NFQUEUE and nft_compat).
pub fn xt_nfqueue() -> Support {
    rule_with(|rule| rule.target_nfqueue(0, false))
}

/// Lets the kernel look at a rule, and take it back again: in a chain without a hook, so that nothing else notices (a check of
/// a base chain by `nft --check` registers its hook for a moment, and drops all packets that wait in queues). Only if the
/// same without it passes is it what is missing.
fn rule_with(expression: impl Fn(&mut Expressions)) -> Support {
    const TABLE: &str = "dunnat-probe";
    let attempt = |with: bool| {
        let mut rule = Expressions::default();
        if with {
            expression(&mut rule);
        } else {
            rule.say(Say::Accept);
        }
        let ip = nftables::family("ip");
        let mut batch = Batch::new();
        batch.table(ip, TABLE, 0, "");
        batch.chain(ip, TABLE, "probe", None);
        batch.rule(ip, TABLE, "probe", &rule);
        Nftables::open()?.try_out(batch)
    };
    match (attempt(false), attempt(true)) {
        (Ok(()), Ok(())) => Support::Yes,
        (Ok(()), Err(error)) if error.raw_os_error() == Some(libc::ENOENT) => Support::No(error.to_string()),
        (Ok(()), Err(error)) | (Err(error), _) => Support::Unknown(error.to_string()),
    }
}

/// The numbers of all queues that a process listens on in this network namespace.
///
/// # Errors
/// `/proc/net/netfilter/nfnetlink_queue` cannot be read: the kernel has no NFQUEUE (yet: the module comes with
/// the first use), or we are not root.
pub fn queues_in_use() -> io::Result<Vec<u16>> {
    Ok(queue_listeners()?.into_iter().map(|(number, _)| number).collect())
}

/// As [`queues_in_use`], each with the port id of the netlink socket that listens.
///
/// # Errors
/// As [`queues_in_use`].
pub fn queue_listeners() -> io::Result<Vec<(u16, u32)>> {
    Ok(queue_table()?.into_iter().map(|queue| (queue.number, queue.port)).collect())
}

/// How many packets wait in the queues that `ours` selects.
///
/// # Errors
/// As [`queues_in_use`].
pub fn packets_waiting(ours: impl Fn(u16) -> bool) -> io::Result<u64> {
    Ok(queue_table()?.into_iter().filter(|queue| ours(queue.number)).map(|queue| queue.waiting).sum())
}

/// The numbers of the queues in which packets wait.
///
/// # Errors
/// As [`queues_in_use`].
pub fn queues_with_packets() -> io::Result<Vec<u16>> {
    Ok(queue_table()?.into_iter().filter(|queue| queue.waiting > 0).map(|queue| queue.number).collect())
}

/// A queue that somebody has taken, as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queue {
    /// Its number.
    pub number: u16,
    /// The port id of the socket that it belongs to.
    pub(crate) port: u32,
    /// Packets in it that have no verdict yet.
    pub waiting: u64,
    /// What it has lost since it was taken.
    pub losses: Losses,
    /// The number of the last packet that was queued; it counts with 32 bits.
    pub last: u32,
}

/// All queues of this network namespace.
///
/// # Errors
/// As [`queues_in_use`].
pub fn queue_table() -> io::Result<Vec<Queue>> {
    Ok(parse_queue_table(&fs::read_to_string("/proc/net/netfilter/nfnetlink_queue")?))
}

/// Each line: queue number, port id of its socket, packets waiting, copy mode, copy range, `queue_dropped`,
/// `queue_user_dropped`, `id_sequence`, and 1 (net/netfilter/nfnetlink_queue.c, `seq_show()`).
fn parse_queue_table(text: &str) -> Vec<Queue> {
    text.lines()
        .filter_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let number = columns.next()?.parse().ok()?;
            let port = columns.next()?.parse().ok()?;
            let waiting = columns.next()?.parse().ok()?;
            let queue_full = columns.nth(2)?.parse().ok()?;
            let socket_full = columns.next()?.parse().ok()?;
            let last = columns.next()?.parse().ok()?;
            Some(Queue { number, port, waiting, losses: Losses { queue_full, socket_full }, last })
        })
        .collect()
}

/// Whether this process may administer the network of its namespace: `CAP_NET_ADMIN` among the effective
/// capabilities (capabilities(7)).
pub fn may_administer() -> bool {
    const CAP_NET_ADMIN: u32 = 12;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|capabilities| capabilities >> CAP_NET_ADMIN & 1 == 1)
}

impl Support {
    /// From what a tool said to the same with the feature and without: a no counts only if without it is a yes.
    pub(crate) fn against(without: Result<String, Failure>, with: Result<String, Failure>) -> Self {
        match (without, with) {
            (Ok(_), Ok(_)) => Self::Yes,
            (Ok(_), Err(failure)) => {
                // nft begins with the place in what it was given.
                let said = failure.first_line();
                Self::No(said.rsplit_once("Error: ").map_or(said.as_str(), |(_, said)| said).to_owned())
            }
            (Err(failure), _) => Self::Unknown(failure.to_string()),
        }
    }

    /// Of a feature that somebody wants to do without: `--force-fallback`.
    pub fn unwanted() -> Self {
        Self::No("--force-fallback".to_owned())
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::No(reason) => write!(f, "no ({reason})"),
            Self::Unknown(reason) => write!(f, "could not tell ({reason})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_queues_is_read() {
        // Two lines as 6.18 printed them, one of them in use, then what is not a line of it.
        let text = "    7  31337     3 2 65531     0     0       12  1\n  100   4711     0 2 65531     0     0        0  1\n\nx\n";
        let losses = Losses::default();
        let queue = |number, port, waiting, last| Queue { number, port, waiting, losses, last };
        assert_eq!(parse_queue_table(text), [queue(7, 31337, 3, 12), queue(100, 4711, 0, 0)]);
    }
}
