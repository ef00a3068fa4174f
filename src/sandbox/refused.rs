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

/// Adds what has come to what was known.
pub fn add(known: &mut Vec<Refused>, more: Vec<Refused>) {
    for more in more {
        match known.iter_mut().find(|it| it.call == more.call) {
            Some(it) => it.times += more.times,
            None => known.push(more),
        }
    }
}

/// Tells of each such call once.
#[derive(Debug, Default)]
pub struct Teller {
    known: Vec<Refused>,
}

impl Teller {
    /// What has come since this was last asked. Of a call that is new the log has a line.
    pub fn news(&mut self) -> Vec<Refused> {
        let mut news = refused();
        for new in &mut news {
            match self.known.iter().find(|it| it.call == new.call) {
                Some(it) => new.times -= it.times,
                None => crate::messages::message!(
                    CALL_REFUSED,
                    "a worker thread tried the system call {}, and may not: it failed with EPERM. Further ones are counted (dunnat \
                     status). This is a bug, or a library is newer than this dunnat; to go on without limits: --sandbox off",
                    new.call
                ),
            }
        }
        news.retain(|new| new.times > 0);
        add(&mut self.known, news.clone());
        news
    }
}
