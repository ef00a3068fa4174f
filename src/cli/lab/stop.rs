//! `lab stop` and `lab down`: what runs is stopped, and judged.

use dunnat::lab::running::{self, Stopped};
use dunnat::lab::{self, Error, Pace, Place, topology};

use crate::cli::{Failure, note, print};

pub(super) fn stop(lab: &lab::Lab) -> Result<(), Failure> {
    let Some(Stopped { by, faults, .. }) = running::stop(lab)? else {
        return print(&format!("nothing runs in the lab '{}'\n", lab.place.name()));
    };
    if !faults.is_empty() {
        tell(&faults)?;
        return Err(Error::Refused("stopped, but there were errors: see above".to_owned()).into());
    }
    let nodes: Vec<&str> = lab.layout.nodes.iter().map(|node| &*node.name).collect();
    print(&format!("{} stopped on: {}. The rules of every node are as before\n", by.name(), nodes.join(" ")))
}

pub(super) fn down(place: &Place, pace: Pace) -> Result<(), Failure> {
    if !place.is_taken()? {
        return print(&format!("there is no lab '{}'\n", place.name()));
    }
    // A node may have things outside of its namespace to put away (its socket): let it end in good order.
    let stopped = match lab::Lab::open(place.clone(), pace) {
        Ok(lab) => running::stop(&lab),
        Err(_) => Ok(None),
    };
    topology::tear_down(place, pace)?;
    print(&format!("the lab '{}' is removed\n", place.name()))?;
    let faults = match stopped {
        Ok(stopped) => stopped.map(|stopped| stopped.faults).unwrap_or_default(),
        Err(error) => vec![error.to_string()],
    };
    tell(&faults)?;
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::Refused("but there were errors: see above".to_owned()).into())
}

/// A message of the log has one line; what belongs to it, such as what differs, stands below.
fn tell(faults: &[String]) -> Result<(), Failure> {
    for fault in faults {
        let (first, more) = fault.split_once('\n').unwrap_or((fault.as_str(), ""));
        dunnat::messages::message!(LAB_FAULT, "{first}");
        note(more)?;
    }
    Ok(())
}
