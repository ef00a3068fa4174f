//! What can be made wrong in a lab, and what of it is.

use crate::cluster::TagBy;
use crate::lab::{Lab, Layout};

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
        (Self::Save, "save", "its rules that save ct marks are removed"),
        (Self::Spoof, "spoof", "its rules that queue replies for dunnat are removed"),
        (Self::ForwardDrop, "forward-drop", "a foreign firewall drops every new flow in the forward hook"),
        (
            Self::InvalidDrop,
            "invalid-drop",
            "a foreign firewall drops packets of ct state invalid in the forward hook, and the cluster file has foreign = \"track\"",
        ),
        (
            Self::Mark,
            "mark",
            "a foreign rule sets the mark of packets that come in through the public \
                              interface",
        ),
        (Self::CtMark, "ct-mark", "a foreign rule sets the ct mark of every new flow in the forward hook"),
        (
            Self::ConntrackFull,
            "conntrack-full",
            "its conntrack table is full of flows that do not end, so new flows are dropped",
        ),
        (
            Self::BrNetfilter,
            "br-netfilter",
            "br_netfilter is off, so frames that its bridge forwards skip IP rules and conntrack",
        ),
        (Self::Mtu, "mtu", "its pipe to the next node has an MTU of 1280"),
        (Self::StaleMac, "stale-mac", "it has a stale MAC address for the gateway in its neighbour table"),
        (Self::Silent, "silent", "it silently drops packets to its web server and its echo server"),
        (
            Self::Reject,
            "reject",
            "it rejects packets to its web server and its echo server: TCP reset, port unreachable",
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
                "the fault '{name}' needs a cluster file with MAC prefixes, but in this lab nodes recognise \
                 each other by {tag_by}: build one with --tag-by mac"
            ));
        }
        let (least, words) = match self {
            // With two, one of the prefixes would be its own, and dunnat does not start with a wrong one.
            Self::Swap => (3, "three nodes"),
            Self::Mac | Self::Tags | Self::InvalidDrop | Self::BrNetfilter | Self::Mtu => (2, "two nodes"),
            _ => (1, "a node"),
        };
        let has = if nodes == 1 { "one".to_owned() } else { nodes.to_string() };
        (nodes < least).then(|| format!("the fault '{name}' needs {words}, but this lab has {has}"))
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

pub(super) const FILE: &str = "fault";

/// The fault that there is, if there is one.
pub fn present(lab: &Lab) -> Option<Fault> {
    std::fs::read_to_string(lab.file(FILE)).ok()?.trim().parse().ok()
}
