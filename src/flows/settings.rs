//! What conntrack writes down is switched on by sysctls.

use std::fs;

/// The sysctls of conntrack that matter here, in the network namespace of this thread; none that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// `nf_conntrack_acct`: packets and bytes are counted.
    pub counts: Option<bool>,
    /// `nf_conntrack_timestamp`: when a flow begins is written down.
    pub times: Option<bool>,
    /// `nf_conntrack_events`: 0 no events; 1 of all flows; 2 of flows that began when somebody listened.
    pub events: Option<u8>,
}

const DIRECTORY: &str = "/proc/sys/net/netfilter";

impl Settings {
    /// As they are now.
    pub fn read() -> Self {
        let number = |name: &str| -> Option<u8> {
            fs::read_to_string(format!("{DIRECTORY}/{name}")).ok()?.trim().parse().ok()
        };
        let is_on = |name| number(name).map(|number| number != 0);
        Self {
            counts: is_on("nf_conntrack_acct"),
            times: is_on("nf_conntrack_timestamp"),
            events: number("nf_conntrack_events"),
        }
    }

    /// What is not told because of them, and the command that changes it.
    pub fn missing(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let counts = (self.counts == Some(false))
            .then_some(("packets and bytes are not counted", "sysctl -w net.netfilter.nf_conntrack_acct=1"));
        let times = (self.times == Some(false))
            .then_some(("the age of flows is not known", "sysctl -w net.netfilter.nf_conntrack_timestamp=1"));
        counts.into_iter().chain(times)
    }
}
