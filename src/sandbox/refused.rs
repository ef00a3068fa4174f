//! System calls that were refused: counted, and told once.

use serde::{Deserialize, Serialize};

use super::calls;
use crate::netlink::sys;

/// A system call that a thread may not make, and tried to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// Its name, or its number.
    pub call: String,
    /// How often.
    pub times: u64,
}

/// What threads of this process have tried with [`Level::Auto`](super::Level::Auto), and may not do.
pub fn refused() -> Vec<Refused> {
    let times = (0..sys::CALLS).map(|number| (number, sys::trapped(number)));
    let tried = times.filter(|(_, times)| *times > 0);
    tried.map(|(number, times)| Refused { call: calls::name(number), times }).collect()
}

/// Tells of each such call once.
#[derive(Debug, Default)]
pub struct Teller {
    told: Vec<String>,
}

impl Teller {
    /// Tells in the log of those that are new.
    pub fn tell(&mut self) {
        for call in self.untold() {
            log::warn!(
                "a worker thread tried the system call {call}, and may not: it failed with EPERM. Further ones are counted (dunnat \
                 status). This is a bug, or a library is newer than this dunnat; to go on without limits: --sandbox off"
            );
        }
    }

    /// Those that were not told until now.
    pub(super) fn untold(&mut self) -> Vec<String> {
        let new = refused().into_iter().map(|refused| refused.call);
        let new: Vec<String> = new.filter(|call| !self.told.contains(call)).collect();
        self.told.extend_from_slice(&new);
        new
    }
}
