//! What can be made wrong, to see whether it is found. Always on the node that the first guest lives on, or on that guest; all
//! other machines are right.
//!
//! `start` makes a fault: in the cluster file of the node, in the node before dunnat runs there, or behind its back. `stop`
//! undoes it. Each deed is written down with what undoes it, before it is done: so a start that fails is undone, too.

mod cluster_file;
mod conntrack;
mod deeds;
mod evidence;

use std::path::PathBuf;

pub use cluster_file::cluster_file_of;
pub use evidence::reveal;

use super::{Error, Lab, Layout};
use crate::cluster::TagBy;

/// A thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Its cluster file has a wrong MAC prefix for the last node.
    Mac,
    /// Its cluster file has the MAC prefixes of the last two nodes swapped.
    Swap,
    /// Its cluster file has the tags in another order.
    Tags,
    /// Its cluster file lacks the first guest's web service.
    Service,
    /// What saves ct marks is taken out of its rules.
    Save,
    /// What asks dunnat about replies is taken out of its rules.
    Spoof,
    /// Others' rules drop what is forwarded.
    ForwardDrop,
    /// Others' rules drop what is invalid for conntrack.
    InvalidDrop,
    /// Others' rules set the mark.
    Mark,
    /// Others' rules set the ct mark.
    CtMark,
    /// Its conntrack table is full.
    ConntrackFull,
    /// Bridged frames meet no IP rules.
    BrNetfilter,
    /// A pipe carries less than the others.
    Mtu,
    /// The guest has a wrong MAC address for the gateway.
    StaleMac,
    /// The guest drops requests.
    Silent,
    /// The guest rejects requests.
    Reject,
}

/// The longest name, to line up a list.
const WIDTH: usize = 14;

impl Fault {
    /// Whether it takes rules out of dunnat's own chains, which dunnat would put back.
    pub(crate) fn empties_chains(self) -> bool {
        matches!(self, Self::Save | Self::Spoof)
    }

    /// All there are: name, and what is wrong.
    pub const ALL: [(Self, &str, &str); 16] = [
        (Self::Mac, "mac", "its cluster file has a wrong MAC prefix for the last node"),
        (Self::Swap, "swap", "its cluster file has the MAC prefixes of the last two nodes swapped"),
        (
            Self::Tags,
            "tags",
            "its cluster file has the nodes' tags in another order (requests still work: a tag means something only on its own node)",
        ),
        (Self::Service, "service", "its cluster file lacks the web service of its guest"),
        (Self::Save, "save", "what saves ct marks is taken out of its rules"),
        (Self::Spoof, "spoof", "what asks dunnat about replies is taken out of its rules"),
        (Self::ForwardDrop, "forward-drop", "a foreign firewall drops every new flow in the forward hook"),
        (
            Self::InvalidDrop,
            "invalid-drop",
            "a foreign firewall drops what is ct state invalid in the forward hook",
        ),
        (Self::Mark, "mark", "a foreign rule sets the mark of packets that come in by the public interface"),
        (Self::CtMark, "ct-mark", "a foreign rule sets the ct mark of every new flow in the forward hook"),
        (
            Self::ConntrackFull,
            "conntrack-full",
            "its conntrack table is full of flows that do not end, so new flows are dropped",
        ),
        (
            Self::BrNetfilter,
            "br-netfilter",
            "br_netfilter is off, so frames that its bridge forwards meet no IP rule and no conntrack",
        ),
        (Self::Mtu, "mtu", "its pipe to the next node has an MTU of 1280"),
        (Self::StaleMac, "stale-mac", "it has a stale MAC address for the gateway in its neighbour table"),
        (
            Self::Silent,
            "silent",
            "it drops what is sent to its web server and its echo server, without a word",
        ),
        (
            Self::Reject,
            "reject",
            "it rejects what is sent to its web server and its echo server: TCP reset, port unreachable",
        ),
    ];

    /// What is wrong, in a clause.
    pub fn about(self) -> &'static str {
        Self::ALL.iter().find(|(fault, ..)| *fault == self).map_or("", |(.., about)| about)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(fault, ..)| *fault == self).map_or("", |(_, name, _)| name)
    }

    /// The machine on which it is.
    pub fn machine(self, layout: &Layout) -> &str {
        match self {
            Self::StaleMac | Self::Silent | Self::Reject => &layout.guests[0].name,
            _ => &layout.home().name,
        }
    }

    /// Why it cannot be made in such a lab, a sentence. None if it can.
    pub fn needs(self, layout: &Layout) -> Option<String> {
        let (nodes, tag_by) = (layout.nodes.len(), layout.choice.tag_by);
        let name = self.name();
        if matches!(self, Self::Mac | Self::Swap) && tag_by != TagBy::Mac {
            return Some(format!(
                "the fault '{name}' needs a cluster file with MAC prefixes, and in this lab nodes know each other by {tag_by}: \
                 build one with --tag-by mac"
            ));
        }
        let (least, words) = match self {
            // With two, one of the prefixes would be its own, and dunnat does not start with a wrong one.
            Self::Swap => (3, "three nodes"),
            Self::Mac | Self::Tags | Self::InvalidDrop | Self::BrNetfilter | Self::Mtu => (2, "two nodes"),
            _ => (1, "a node"),
        };
        let has = if nodes == 1 { "one".to_owned() } else { nodes.to_string() };
        (nodes < least).then(|| format!("the fault '{name}' needs {words}, and this lab has {has}"))
    }
}

impl std::str::FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(_, name, _)| *name == text).map(|(fault, ..)| *fault);
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(_, name, _)| *name).collect();
            format!("give one of {}", names.join(", "))
        })
    }
}

const FILE: &str = "fault";

/// The fault that there is, if there is one.
pub fn present(lab: &Lab) -> Option<Fault> {
    std::fs::read_to_string(lab.file(FILE)).ok()?.trim().parse().ok()
}

/// Refuses a fault that cannot be made here, before anything is started.
pub(crate) fn check(lab: &Lab, fault: Fault) -> Result<(), Error> {
    match fault.needs(&lab.layout) {
        Some(why) => Err(Error::refused(why)),
        None if fault == Fault::ConntrackFull => conntrack::check(lab).map(drop),
        None => Ok(()),
    }
}

/// What has to be wrong before anything starts. From here on `reveal` tells it, and [`undo`] undoes it.
pub(crate) fn before_start(lab: &Lab, fault: Fault) -> Result<(), Error> {
    lab.write(FILE, fault.name())?;
    deeds::before_start(lab, fault)
}

/// What is made wrong behind dunnat's back.
pub(crate) fn after_start(lab: &Lab, fault: Fault) -> Result<(), Error> {
    deeds::after_start(lab, fault)
}

/// Makes right again what is not gone with what was started.
pub(crate) fn undo(lab: &Lab) -> Result<(), Error> {
    let undone = deeds::undo(lab);
    for path in [lab.file(FILE), cluster_file::path(lab)] {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { path, source });
            }
            _ => {}
        }
    }
    undone
}

/// All of them, a line each.
pub fn list() -> String {
    Fault::ALL.iter().map(|(_, name, about)| format!("{name:<WIDTH$} {about}\n")).collect()
}

/// One of those that can be made in this lab, by chance.
///
/// # Errors
/// There is no randomness to be had.
pub fn random(lab: &Lab) -> Result<Fault, Error> {
    let mut bytes = [0; 2];
    let path = PathBuf::from("/dev/urandom");
    std::fs::File::open(&path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .map_err(|source| Error::File { path, source })?;
    let all = Fault::ALL.iter().map(|(fault, ..)| *fault);
    let possible: Vec<Fault> = all.filter(|fault| check(lab, *fault).is_ok()).collect();
    Ok(possible[usize::from(u16::from_le_bytes(bytes)) % possible.len()])
}

#[cfg(test)]
mod tests;
