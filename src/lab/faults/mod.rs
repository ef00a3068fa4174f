//! What can be made wrong, to see whether it is found. Always on the node that the first guest lives on, or on that guest; all
//! other machines are right.
//!
//! `start` makes a fault: in the cluster file of the node, in the node before dunnat runs there, or behind its back. `stop`
//! undoes it. What undoes a fault is written down before the fault is made: so a start that fails is undone, too.

mod cluster_file;
mod conntrack;
mod evidence;
mod fault;
mod inject;

use std::path::PathBuf;

use super::{Error, Lab};
pub use cluster_file::cluster_file_of;
pub use evidence::reveal;
use fault::FILE;
pub use fault::{Fault, present};

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
    inject::before_start(lab, fault)
}

/// What is made wrong behind dunnat's back.
pub(crate) fn after_start(lab: &Lab, fault: Fault) -> Result<(), Error> {
    inject::after_start(lab, fault)
}

/// Makes right again what is not gone with what was started.
pub(crate) fn undo(lab: &Lab) -> Result<(), Error> {
    let undone = inject::undo(lab);
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

/// The longest name, to line up a list.
const WIDTH: usize = 14;

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
