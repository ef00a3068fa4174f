//! The names of the interfaces that packets pass, for policies that ask for them.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::names::Names;
use crate::engine::{Interface, Interfaces};
use crate::net::Envelope;
use crate::netlink::{passing, sys};

/// How long a name is taken for granted: an interface may be renamed, or its index be another's.
const FRESH: Duration = Duration::from_secs(5);

/// How many names are kept. A host may have more interfaces; then their names are asked for again.
const KEPT: usize = 1024;

/// Names of interfaces by their indexes, asked for when a policy wants one, and kept for a while.
pub(super) struct InterfaceNames {
    kept: RefCell<FxHashMap<u32, (Option<String>, Instant)>>,
    /// What tells the name of an interface.
    look_up: Box<dyn Fn(u32) -> io::Result<Option<String>> + Send>,
}

/// The interfaces that one packet passes.
pub(super) struct Passing<'a>(&'a InterfaceNames, &'a Envelope);

impl InterfaceNames {
    /// The kernel tells them.
    pub(super) fn new() -> Self {
        Self { kept: RefCell::default(), look_up: Box::new(sys::interface_name) }
    }

    /// The same with names that somebody else tells.
    pub(super) fn told(self, names: Option<Names>) -> Self {
        match names {
            Some(names) => Self { look_up: Box::new(move |index| names.get(index)), ..self },
            None => self,
        }
    }

    /// Those of a packet.
    pub(super) fn of<'a>(&'a self, envelope: &'a Envelope) -> Passing<'a> {
        Passing(self, envelope)
    }

    fn get(&self, index: u32) -> Option<String> {
        let mut kept = self.kept.borrow_mut();
        if let Some((name, since)) = kept.get(&index)
            && since.elapsed() < FRESH
        {
            return name.clone();
        }
        let name = match (self.look_up)(index) {
            Ok(name) => name,
            // Could not tell is not a no: the next packet asks again.
            Err(error) => {
                passing::tell("look up the name of an interface", &error);
                return None;
            }
        };
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(index, (name.clone(), Instant::now()));
        name
    }
}

impl Interfaces for Passing<'_> {
    fn name(&self, which: Interface) -> Option<String> {
        let Self(names, envelope) = self;
        let index = match which {
            Interface::In => envelope.in_if,
            Interface::Out => envelope.out_if,
            Interface::PortIn => envelope.phys_in,
            Interface::PortOut => envelope.phys_out,
        };
        names.get(index?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_name_is_asked_for_once_and_one_that_cannot_be_told_now_again() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let names = InterfaceNames {
            look_up: Box::new(move |index| {
                count.fetch_add(1, Ordering::Relaxed);
                match index {
                    1 => Ok(Some("xenbr0".to_owned())),
                    2 => Ok(None),
                    _ => Err(io::Error::from_raw_os_error(libc::EMFILE)),
                }
            }),
            ..InterfaceNames::new()
        };
        let envelope =
            Envelope { in_if: Some(1), phys_in: Some(2), phys_out: Some(3), ..Envelope::default() };
        let told = || {
            let passing = names.of(&envelope);
            [Interface::In, Interface::Out, Interface::PortIn, Interface::PortOut]
                .map(|which| passing.name(which))
        };
        assert_eq!(told(), [Some("xenbr0".to_owned()), None, None, None]);
        assert_eq!(asked.load(Ordering::Relaxed), 3, "of what there is not nobody asks");
        assert_eq!(told()[0].as_deref(), Some("xenbr0"));
        assert_eq!(asked.load(Ordering::Relaxed), 4);
        for index in 10..3000 {
            names.kept.borrow_mut().insert(index, (None, Instant::now()));
        }
        names.kept.borrow_mut().remove(&1);
        assert_eq!(told()[0].as_deref(), Some("xenbr0"));
        assert_eq!(names.kept.borrow().len(), 2, "they do not become more and more");
    }
}
