//! Which flows clients want to see packet by packet, where the kernel carries most of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::protocol::Trace;
use crate::trace::Filter;

/// A client sees its flows packet by packet for so long at the most.
const LONGEST: Duration = Duration::from_secs(3600);

/// What clients want that are there.
#[derive(Clone, Debug)]
pub struct Zooms(Option<Arc<Shared>>);

/// The number of the last client, and of each that is there its filter, and since when.
type Wanted = (u64, BTreeMap<u64, (String, Instant)>);

#[derive(Debug)]
struct Shared {
    wanted: Mutex<Wanted>,
    /// It is another choice now.
    change: (Sender<()>, Receiver<()>),
}

/// A client that is there.
#[derive(Debug)]
pub struct Zoomed(Arc<Shared>, u64);

impl Zooms {
    /// Of a node that decides once a flow, or of one that decides about every packet anyway.
    pub fn new(is_once: bool) -> Self {
        Self(is_once.then(|| Arc::new(Shared { wanted: Mutex::default(), change: bounded(1) })))
    }

    /// A client wants that, until what is returned goes; none if it is nothing of the kind.
    ///
    /// # Errors
    /// It cannot be; why, in a sentence.
    pub fn begin(&self, trace: &Trace) -> Result<Option<Zoomed>, String> {
        if !trace.packets {
            return Ok(None);
        }
        let Some(shared) = &self.0 else {
            return Err(
                "this node decides about every packet, so a trace has them all: leave --packets out. \
                        It is for run --decide flow"
                    .to_owned(),
            );
        };
        let filter = trace.filter.as_deref().unwrap_or_default();
        is_narrow(filter)?;
        let mut wanted = shared.lock();
        wanted.0 += 1;
        let number = wanted.0;
        wanted.1.insert(number, (filter.to_owned(), Instant::now()));
        drop(wanted);
        shared.changed();
        Ok(Some(Zoomed(Arc::clone(shared), number)))
    }

    /// The filters of all.
    pub fn wanted(&self) -> Vec<String> {
        let Some(shared) = &self.0 else { return Vec::new() };
        let wanted = shared.lock();
        let now = wanted.1.values().filter(|(_, since)| since.elapsed() < LONGEST);
        now.map(|(filter, _)| filter.clone()).collect()
    }

    /// Tells when it is another choice.
    pub fn changes(&self) -> Receiver<()> {
        self.0.as_ref().map_or_else(crossbeam_channel::never, |shared| shared.change.1.clone())
    }
}

/// Whether a filter says which flows; without that all of them would come packet by packet.
///
/// # Errors
/// It does not; what to do, in a sentence.
pub fn is_narrow(filter: &str) -> Result<(), String> {
    let wide = "every flow would come packet by packet, because the filter also selects packets of any address and port: \
                give addresses or ports, for example: host 192.168.122.1 and port 80";
    let filter = Some(filter).filter(|text| !text.trim().is_empty()).ok_or(wide)?;
    let filter: Filter = filter.parse().map_err(|error: crate::trace::FilterError| error.to_string())?;
    let is_wide = filter.asked().iter().any(|all| !all.iter().any(|one| one.is_narrow()));
    if is_wide { Err(wide.to_owned()) } else { Ok(()) }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        // If it is full, it is told already.
        let _ = self.change.0.try_send(());
    }
}

impl Drop for Zoomed {
    fn drop(&mut self) {
        self.0.lock().1.remove(&self.1);
        self.0.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zoom(filter: &str) -> Trace {
        Trace { filter: Some(filter.to_owned()), packets: true, ..Trace::default() }
    }

    #[test]
    fn what_is_wanted_ends_with_who_wants_it() {
        let zooms = Zooms::new(true);
        assert!(zooms.begin(&Trace::default()).unwrap().is_none());
        let [one, two] = ["host 192.0.2.1", "port 80"].map(|filter| zooms.begin(&zoom(filter)).unwrap());
        assert_eq!(zooms.wanted(), ["host 192.0.2.1", "port 80"]);
        assert!(zooms.changes().try_recv().is_ok());
        drop(one);
        assert!(zooms.changes().try_recv().is_ok());
        assert_eq!(zooms.wanted(), ["port 80"]);
        drop(two);
        assert!(zooms.wanted().is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_in_a_sentence() {
        let said = |zooms: Zooms, filter: &str| zooms.begin(&zoom(filter)).unwrap_err();
        assert!(said(Zooms::new(false), "port 80").starts_with("this node decides about every packet"));
        for wide in ["", "tcp", "stage spoof", "port 80 or verdict drop", "net 0.0.0.0/0"] {
            assert!(
                said(Zooms::new(true), wide).starts_with("every flow would come packet by packet"),
                "{wide}"
            );
        }
        assert!(said(Zooms::new(true), "hots 1").contains("the filter is wrong"));
    }
}
