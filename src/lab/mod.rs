//! Clusters to try things on: network namespaces of this machine, real packets, real servers, nothing that reaches the outside.
//!
//! A [`Layout`] has every name and address; [`topology`] says what each machine of it is made of, and builds that; `servers.rs`
//! has nginx, and one end of a UDP service. [`running`] starts and stops what translates, and holds the rules of every node
//! against what they were before; from start to stop a sniffer watches the public LAN. [`faults`] makes one thing wrong.
//! [`accept`] proves that all works, from captures and conntrack.
//!
//! Everything is done by the tools that a person would use (ip, sysctl, nft, conntrack, dumpcap, curl), and a tool that fails is an
//! error. A lab has a name and a folder; several do not disturb each other.
//!
//! What is public here is what the verbs of `dunnat lab` use (`src/cli/lab`).

pub mod accept;
mod anchor;
mod by;
mod capture;
mod cluster_file;
pub mod faults;
mod interrupt;
mod layout;
mod machine;
mod pace;
mod picture;
pub mod running;
mod servers;
mod sniffer;
pub mod tools;
pub mod topology;
pub mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use anchor::{Anchor, home};
pub use capture::{Capture, Frame};
pub use cluster_file::cluster_file;
pub use interrupt::Interrupt;
pub use layout::{Addresses, Choice, Families, Guest, Layout, NODES_AT_MOST, NameSet, Node, Pipes};
pub use machine::{Machine, run};
pub use pace::Pace;

/// Why something cannot be done in a lab.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was typed is wrong.
    #[error("{0}")]
    Typed(String),
    /// It cannot be, and the sentence says what can.
    #[error("{0}")]
    Refused(String),
    /// A tool failed, or is not there.
    #[error("{command}: {said}")]
    Tool {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }
}

/// Where a lab is, whether or not there is one.
#[derive(Clone, Debug)]
pub struct Place {
    name: String,
    home: PathBuf,
}

impl Place {
    /// Where root's labs are.
    pub const HOME: &str = "/run/dunnat-lab";

    /// The place of a lab, by its name: letters, digits and `_`, so that one lab's namespaces are never taken for another's.
    ///
    /// # Errors
    /// The name is none.
    pub fn new(name: &str, home: &Path) -> Result<Self, Error> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        // The kernel's limit of 255 bytes for a file's name, less what is put around it.
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            return Err(Error::Typed(format!(
                "a lab's name is letters, digits and '_', at most 64, not '{name}'"
            )));
        }
        Ok(Self { name: name.to_owned(), home: home.to_owned() })
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The command that reaches it.
    pub fn invocation(&self) -> String {
        match self.name() {
            "lab" => "dunnat lab".to_owned(),
            name => format!("dunnat lab --lab {name}"),
        }
    }

    /// Its folder.
    pub fn dir(&self) -> PathBuf {
        self.home.join(&self.name)
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Removes its folder, if there is one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_dir(&self) -> Result<(), Error> {
        let path = self.dir();
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File { path, source }),
            _ => Ok(()),
        }
    }

    /// Whether there is such a lab, or what is left of one.
    ///
    /// # Errors
    /// The namespaces of this machine cannot be listed.
    pub fn is_taken(&self) -> Result<bool, Error> {
        Ok(self.dir().exists() || !self.namespaces()?.is_empty())
    }

    /// The network namespace of a machine.
    pub fn namespace(&self, machine: &str) -> String {
        format!("dunnat-{}-{machine}", self.name)
    }

    /// All namespaces of this lab, with or without a folder. No name of a lab or machine holds a `-`.
    pub(crate) fn namespaces(&self) -> Result<Vec<String>, Error> {
        let dir = Path::new("/run/netns");
        let prefix = self.namespace("");
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::File { path: dir.to_owned(), source }),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut ours: Vec<String> = names
            .filter(|name| name.strip_prefix(&prefix).is_some_and(|machine| !machine.contains('-')))
            .collect();
        ours.sort();
        Ok(ours)
    }
}

/// A lab that is up.
#[derive(Clone, Debug)]
pub struct Lab {
    /// Where it is.
    pub place: Place,
    /// What it is made of.
    pub layout: Layout,
    /// How much patience this machine needs.
    pub pace: Pace,
}

impl Lab {
    /// Builds a lab: machines, servers, cluster file. What was built is taken down again if something fails.
    ///
    /// # Errors
    /// There is one already, a tool is missing or fails, or the kernel cannot.
    pub fn up(place: Place, choice: Choice, pace: Pace) -> Result<Self, Error> {
        if place.is_taken()? {
            return Err(Error::refused(format!(
                "the lab '{}' is up already: '{} down' removes it",
                place.name,
                place.invocation()
            )));
        }
        let lab = Self { place, layout: Layout::new(choice), pace };
        if let Err(error) = lab.build() {
            // What this says is of less interest than why the lab could not be built.
            let _ = topology::tear_down(&lab.place, lab.pace);
            return Err(error);
        }
        Ok(lab)
    }

    fn build(&self) -> Result<(), Error> {
        let dir = self.place.dir();
        fs::create_dir_all(&dir).map_err(|source| Error::File { path: dir, source })?;
        topology::build(self)?;
        servers::start(self)?;
        self.write("cluster.toml", &cluster_file(&self.layout))?;
        self.write("lab", &format!("{}\n", self.layout.choice))
    }

    /// The lab that is there.
    ///
    /// # Errors
    /// There is none.
    pub fn open(place: Place, pace: Pace) -> Result<Self, Error> {
        let path = place.file("lab");
        let text = fs::read_to_string(&path).map_err(|_| {
            let here = place.invocation();
            Error::refused(format!("there is no lab '{}': build it with '{here} up'", place.name))
        })?;
        let choice = text.parse().map_err(|fault| {
            let here = place.invocation();
            Error::refused(format!("{}: {fault}: '{here} down' removes it", path.display()))
        })?;
        Ok(Self { place, layout: Layout::new(choice), pace })
    }

    /// A machine of it.
    pub fn on<'a>(&'a self, name: &'a str) -> Machine<'a> {
        Machine::new(&self.place, name)
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.place.file(name)
    }

    /// The cluster file that is right, as the lab wrote it.
    pub(crate) fn right_cluster_file(&self) -> PathBuf {
        self.file("cluster.toml")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.file(name);
        fs::write(&path, text).map_err(|source| Error::File { path, source })
    }

    pub(crate) fn read(&self, name: &str) -> Result<String, Error> {
        let path = self.file(name);
        fs::read_to_string(&path).map_err(|source| Error::File { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever does as is said does it to this lab, and to no other one.
    #[test]
    fn what_is_advised_names_the_lab() {
        let home = tempfile::tempdir().unwrap();
        let place = |name: &str| Place::new(name, home.path()).unwrap();
        let pace = Pace::new(1).unwrap();
        let said = |name: &str| Lab::open(place(name), pace).unwrap_err().to_string();
        assert_eq!(said("lab"), "there is no lab 'lab': build it with 'dunnat lab up'");
        assert_eq!(said("two"), "there is no lab 'two': build it with 'dunnat lab --lab two up'");
        fs::create_dir(place("two").dir()).unwrap();
        fs::write(place("two").file("lab"), "no choice").unwrap();
        assert!(said("two").ends_with(": 'dunnat lab --lab two down' removes it"), "{}", said("two"));
        let choice = Choice {
            nodes: 1,
            names: NameSet::Plain,
            families: Families::Both,
            tag_by: crate::cluster::TagBy::Mac,
            pipes: Pipes::Veth,
        };
        let up = Lab::up(place("two"), choice, pace).unwrap_err().to_string();
        assert_eq!(up, "the lab 'two' is up already: 'dunnat lab --lab two down' removes it");
    }
}
