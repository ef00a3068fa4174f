//! Which rules, of anybody, the packets of chosen flows meet: the kernel tells, while it is asked to trace them.
//!
//! Rules of our own choose the packets (`rules.rs`), by what a [`Filter`] asks of addresses, ports and protocol, so many a second,
//! and for so long. Everybody who listens is then told of each rule that such a packet matches, and of each policy that it comes to
//! (net/netfilter/nf_tables_trace.c). What is told becomes a [`RuleEvent`], with the rule's text as nft lists it
//! ([`Packets`]); what of the filter the kernel cannot be asked is asked then. A [`Timeline`] puts rules and decisions of a node in
//! order.
//!
//! The tables come and go as `ruleset/install/tracing.rs` says: no packet is lost by it, and no rule of anybody is touched.
//!
//! What the kernel does not tell: rules that a packet did not match, rules of iptables-legacy, what drops a packet outside of nf_tables
//! (routing, a full neighbour table, a socket that is not there), and what a packet met before it became one that is asked for.

mod packets;
mod rules;
mod timeline;
mod told;

use std::io;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use crate::kernel::tool::{self, Tool};
use crate::netlink::nftables::{Batch, Changes, Traces};
use crate::netlink::sys;
use crate::ruleset::listed::UNLISTED;
use crate::ruleset::{InstallError, Tracing};
use crate::trace::{Filter, RuleEvent};
pub use packets::Packets;
use rules::{CHOSEN, FAMILIES, TRACED, Wanted};
pub(crate) use rules::{leading, over};
pub use timeline::{Happened, Timeline};

/// How long nft may take to list the rules.
const LIMIT: Duration = Duration::from_secs(10);
/// Rules are read again when they have changed, but not more often than that: with many it takes long.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Nor is it tried more often to find a rule that is not known.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// So many messages are read at once.
const MOST_AT_ONCE: u32 = 10_000;

/// What is to be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which packets.
    pub filter: Option<Filter>,
    /// Also if that is every packet of the host, or every one of a protocol.
    pub all: bool,
    /// Packets a second, at most.
    pub rate: u32,
    /// For so long, at most.
    pub time: Duration,
}

/// Why nothing is traced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untraced {
    /// It would be too much.
    #[error(
        "every packet of this host would be traced, because {0}: give addresses or ports, for example: host \
         192.168.122.1 and port 80; or add --all"
    )]
    Wide(&'static str),
    /// The rules could not be installed.
    #[error(transparent)]
    Rules(#[from] InstallError),
    /// The kernel does not tell.
    #[error("cannot hear from the kernel which rules packets meet: {0}")]
    Kernel(io::Error),
}

/// A trace that goes on.
pub struct KernelTrace {
    tracing: Tracing,
    traces: Traces,
    changes: Changes,
    packets: Packets,
    names: Vec<(u32, Option<String>)>,
    /// When the rules were read, and whether they have changed since then.
    read: Instant,
    is_stale: bool,
    is_lost: bool,
    lost: u64,
    /// What the counters said before.
    before: [u64; 2],
    is_over: bool,
}

/// What came of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that were asked for.
    pub chosen: u64,
    /// Those of them that were traced; the others were too many.
    pub traced: u64,
    /// How often the kernel had more to tell than there was room for.
    pub lost: u64,
}

impl Options {
    /// What the kernel is asked for.
    ///
    /// # Errors
    /// It would be too much, and nobody has said that this is meant.
    fn wanted(&self, now: SystemTime) -> Result<Wanted, Untraced> {
        let alternatives = self.filter.as_ref().map_or_else(|| vec![Vec::new()], Filter::asked);
        if !self.all && alternatives.iter().any(|all| !all.iter().any(|one| one.is_narrow())) {
            return Err(Untraced::Wide(match self.filter {
                None => "there is no filter",
                Some(_) => "the filter also selects packets of any address and port",
            }));
        }
        Ok(Wanted { alternatives, rate: self.rate, until: now + self.time })
    }

    /// Whether it would be too much.
    ///
    /// # Errors
    /// It would.
    pub fn check(&self) -> Result<(), Untraced> {
        self.wanted(SystemTime::UNIX_EPOCH).map(|_| ())
    }
}

impl KernelTrace {
    /// Begins to trace, in this network namespace.
    ///
    /// # Errors
    /// It would be too much; another trace goes on; or the kernel refuses.
    pub fn begin(options: &Options) -> Result<Self, Untraced> {
        options.check()?;
        let traces = Traces::watch().map_err(Untraced::Kernel)?;
        let changes = Changes::watch().map_err(Untraced::Kernel)?;
        let mut packets = Packets::new(options.filter.clone());
        list(&mut packets);
        let read = Instant::now();
        // Before the first rule is there: the time for it begins.
        let wanted = options.wanted(SystemTime::now())?;
        let put = |batch: &mut Batch, family, flags, comment: &str| {
            rules::put(batch, family, &wanted, flags, comment);
        };
        let before = Tracing::counted([CHOSEN, TRACED]);
        let tracing = Tracing::begin(&FAMILIES, put)?;
        Ok(Self {
            tracing,
            traces,
            changes,
            packets,
            names: Vec::new(),
            read,
            is_stale: false,
            is_lost: false,
            lost: 0,
            before,
            is_over: false,
        })
    }

    /// The rules that packets have met since this was asked last. Does not wait.
    ///
    /// # Errors
    /// The kernel cannot be heard any more.
    pub fn told(&mut self) -> io::Result<Vec<RuleEvent>> {
        let mut all = Vec::new();
        self.is_stale |= self.changes.any()?;
        if self.is_stale && self.read.elapsed() >= READ_AGAIN_AFTER {
            self.list();
        }
        // Others may have far more traced, and who is asked has to answer.
        for _ in 0..MOST_AT_ONCE {
            let datagram = match self.traces.datagram() {
                Ok([]) => break,
                Ok(datagram) => datagram,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    (self.is_lost, self.lost) = (true, self.lost + 1);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let names = &mut self.names;
            let now = Timestamp::now();
            all.extend(self.packets.read(datagram, now, |index| name(names, index)));
        }
        if all.iter().any(|event| event.rule == UNLISTED) && self.read.elapsed() >= LOOK_AGAIN_AFTER {
            self.list();
            for event in all.iter_mut().filter(|event| event.rule == UNLISTED) {
                if let Some(text) = self.packets.text(event) {
                    event.rule = text;
                }
            }
        }
        if let Some(first) = all.first_mut() {
            first.lost = std::mem::take(&mut self.is_lost);
        }
        Ok(all)
    }

    fn list(&mut self) {
        list(&mut self.packets);
        (self.read, self.is_stale) = (Instant::now(), false);
    }

    /// Ends it, and says what came of it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn end(mut self) -> Result<Counts, InstallError> {
        let now = Tracing::counted([CHOSEN, TRACED]);
        self.is_over = true;
        self.tracing.end()?;
        let [chosen, traced] = [0, 1].map(|at: usize| now[at].saturating_sub(self.before[at]));
        Ok(Counts { chosen, traced, lost: self.lost })
    }
}

/// However it ends.
impl Drop for KernelTrace {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.tracing.end()
        {
            crate::messages::message!(KERNEL_TRACE_STAYS, "{error}");
        }
    }
}

/// Reads the rules. Where that fails, rules are told without their texts.
fn list(packets: &mut Packets) {
    match tool::run_within(LIMIT, Tool::Nft, &["-a", "-s", "list", "ruleset"]) {
        Ok(listing) => packets.learn(&listing),
        Err(failure) => {
            crate::messages::message!(RULES_WITHOUT_TEXT, "rules are shown without their texts: {failure}");
        }
    }
}

/// The name of an interface, which is asked for once.
fn name(names: &mut Vec<(u32, Option<String>)>, index: u32) -> Option<String> {
    if let Some((_, name)) = names.iter().find(|(known, _)| *known == index) {
        return name.clone();
    }
    let name = sys::interface_name(index).ok().flatten();
    names.push((index, name.clone()));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(filter: &str, all: bool) -> Options {
        Options { filter: filter.parse().ok(), all, rate: 100, time: Duration::from_secs(60) }
    }

    #[test]
    fn what_would_be_every_packet_is_refused() {
        for wide in
            ["", "tcp", "stage dnat", "net 0.0.0.0/0", "port 0-65535", "port 80 or icmp", "not host 10.0.0.1"]
        {
            let error = options(wide, false).check().unwrap_err().to_string();
            assert!(
                error.contains("every packet of this host") && error.contains("--all"),
                "{wide}: {error}"
            );
            assert!(options(wide, true).check().is_ok());
        }
        for narrow in ["host 10.0.0.1", "port 80", "net fd00::/8 and tcp", "stage dnat and dst port 80-90"] {
            assert!(options(narrow, false).check().is_ok(), "{narrow}");
        }
    }
}
