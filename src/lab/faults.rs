//! What can be made wrong, to see whether it is found. Always on the node that the first guest lives on; the others are right.

use std::path::PathBuf;

use super::running::{right_cluster_file, wrong_cluster_file};
use super::{Error, Lab, Layout, Node};

/// A thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its cluster file has a wrong MAC prefix for the last node.
    Mac,
    /// Its cluster file has the MAC prefixes of the last two nodes swapped.
    Swap,
    /// What saves ct marks is taken out of its rules.
    Save,
    /// What asks dunnat about replies is taken out of its rules.
    Spoof,
}

impl Fault {
    /// All there are: name, and what is wrong.
    pub const ALL: [(Self, &str, &str); 4] = [
        (Self::Mac, "mac", "its cluster file has a wrong MAC prefix for the last node"),
        (Self::Swap, "swap", "its cluster file has the MAC prefixes of the last two nodes swapped"),
        (
            Self::Save,
            "save",
            "what saves ct marks is taken out of its rules (they must be set by rules: -- --force-fallback ctmark)",
        ),
        (Self::Spoof, "spoof", "what asks dunnat about replies is taken out of its rules"),
    ];

    /// What is wrong, in a clause.
    pub fn about(self) -> &'static str {
        Self::ALL.iter().find(|(fault, ..)| *fault == self).map_or("", |(.., about)| about)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(fault, ..)| *fault == self).map_or("", |(_, name, _)| name)
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

/// Keeps which it is, for `reveal` and for undoing it.
pub(crate) fn remember(lab: &Lab, fault: Fault) -> Result<(), Error> {
    lab.write(FILE, fault.name())
}

/// The fault that there is, if there is one.
pub fn present(lab: &Lab) -> Option<Fault> {
    std::fs::read_to_string(lab.file(FILE)).ok()?.trim().parse().ok()
}

/// What has to be wrong before anything starts.
pub(crate) fn before_start(_lab: &Lab, _fault: Fault) -> Result<(), Error> {
    Ok(())
}

/// What is made wrong behind dunnat's back, in what it has just installed. Chains stay, so that it can remove them.
pub(crate) fn after_start(lab: &Lab, fault: Fault) -> Result<(), Error> {
    let home = lab.on(&lab.layout.home().name);
    for family in lab.layout.families() {
        let ip = family.nft();
        match fault {
            Fault::Save => {
                let flush = format!("flush chain {ip} dunnat save-tag; flush chain {ip} dunnat save");
                home.must(&["nft", &flush]).map_err(|_| {
                    Error::refused(format!(
                        "the fault 'save' cannot be made: {} has no rules that save ct marks: verdicts do. Start with: -- \
                         --force-fallback ctmark",
                        home.name
                    ))
                })?;
            }
            Fault::Spoof => {
                let chain = ["chain", ip, "dunnat", "ask-spoof"];
                let has = home.output(&[&["nft", "list"], &chain[..]].concat())?.status.success();
                if has {
                    home.must(&[&["nft", "flush"], &chain[..]].concat())?;
                } else {
                    let iptables = if ip == "ip" { "iptables-nft" } else { "ip6tables-nft" };
                    home.must(&[iptables, "-t", "mangle", "-F", "dunnat-spoof"])?;
                }
            }
            Fault::Mac | Fault::Swap => {}
        }
    }
    Ok(())
}

/// Makes right again what is not gone with what was started.
pub(crate) fn undo(lab: &Lab) -> Result<(), Error> {
    let path = lab.file(FILE);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::File { path, source }),
        _ => Ok(()),
    }
}

/// The cluster file that a node is started with.
///
/// # Errors
/// The fault cannot be made in this lab, or the file cannot be written.
pub fn cluster_file_of(lab: &Lab, node: &Node, fault: Option<Fault>) -> Result<PathBuf, Error> {
    let is_home = node.name == lab.layout.home().name;
    let mut wrong: Layout = lab.layout.clone();
    let last = wrong.nodes.len() - 1;
    match fault {
        Some(Fault::Mac) if is_home => "fe:dc:ba:98:00:00/32".clone_into(&mut wrong.nodes[last].prefix),
        Some(Fault::Swap) if is_home => {
            let Some(before) = last.checked_sub(1) else {
                return Err(Error::refused("the fault 'swap' needs two nodes, and this lab has one"));
            };
            let prefix = wrong.nodes[last].prefix.clone();
            wrong.nodes[last].prefix = std::mem::replace(&mut wrong.nodes[before].prefix, prefix);
        }
        _ => return Ok(right_cluster_file(lab)),
    }
    wrong_cluster_file(lab, node, &wrong)
}

/// All of them, a line each.
pub fn list() -> String {
    Fault::ALL.iter().map(|(_, name, about)| format!("{name:<12} {about}\n")).collect()
}

/// One of them by chance.
///
/// # Errors
/// There is no randomness to be had.
pub fn random(_lab: &Lab) -> Result<Fault, Error> {
    let mut byte = [0];
    let path = PathBuf::from("/dev/urandom");
    std::fs::File::open(&path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut byte))
        .map_err(|source| Error::File { path, source })?;
    Ok(Fault::ALL[usize::from(byte[0]) % Fault::ALL.len()].0)
}

/// Which fault there is, and where it can be seen.
///
/// # Errors
/// There is none.
pub fn reveal(lab: &Lab) -> Result<String, Error> {
    let fault = present(lab).ok_or_else(|| {
        Error::refused("nothing was made wrong: 'dunnat lab start --fault random' does that")
    })?;
    Ok(format!("{}, on {}: {}\n", fault.name(), lab.layout.home().name, fault.about()))
}
