//! What the guard has dropped, told now and then.

use std::time::Duration;

use crate::netlink::nftables::Nftables;
use crate::ruleset::guard;
use crate::text::counted;

/// No more often than that it is told what the guard drops.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(10);

pub(super) fn guarded(nft: &Nftables) -> Vec<(&'static str, u64)> {
    let counters = nft
        .counters(|_, table| [guard::STAYS, guard::OWNED].contains(&table))
        .inspect_err(|error| log::debug!("cannot read the counters of the guard: {error}"))
        .unwrap_or_default();
    let sum = |name: &str| counters.iter().filter(|it| it.1 == name).map(|it| it.2.0).sum();
    guard::COUNTERS.into_iter().map(|(name, _)| (name, sum(name))).collect()
}

pub(super) fn tell_guarded(before: &[(&'static str, u64)], now: &[(&'static str, u64)]) {
    for ((name, now), (_, before)) in now.iter().zip(before) {
        // After a foreign flush it begins anew.
        let more = now.checked_sub(*before).unwrap_or(*now);
        if let Some((_, what)) = guard::COUNTERS.into_iter().find(|(its, _)| its == name)
            && more > 0
        {
            crate::messages::message!(
                GUARD_DROPPED[counter = name],
                "the guard dropped {}: {what} (counter {name})",
                counted(more, "packet")
            );
        }
    }
}
