//! Capabilities: `CAP_NET_ADMIN` stays.

use std::fmt::Display;

use caps::{CapSet, Capability};

use super::Applied;

/// The one that is kept: the kernel asks for it with each verdict (net/netfilter/nfnetlink.c, `nfnetlink_rcv()`).
const KEPT: Capability = Capability::CAP_NET_ADMIN;

/// Keeps that one alone, in this thread.
pub(super) fn keep_one(applied: &mut Applied) {
    match keep() {
        Ok(kept) => applied.capabilities = Some(kept),
        Err(error) => applied.lacks.push(format!("capabilities are not given up ({error})")),
    }
}

fn keep() -> Result<Vec<String>, String> {
    let said = |error: &dyn Display| error.to_string();
    // Only who has CAP_SETPCAP may limit what programs can get; started as an own user one has not. It makes no difference: a
    // thread that can get no new privileges gets none by a program, either.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(|error| said(&error))? {
        caps::clear(None, CapSet::Bounding).map_err(|error| said(&error))?;
    }
    caps::clear(None, CapSet::Ambient).map_err(|error| said(&error))?;
    let mut kept = caps::read(None, CapSet::Permitted).map_err(|error| said(&error))?;
    kept.retain(|capability| *capability == KEPT);
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(|error| said(&error))?;
    }
    caps::clear(None, CapSet::Inheritable).map_err(|error| said(&error))?;
    Ok(kept.iter().map(ToString::to_string).collect())
}
