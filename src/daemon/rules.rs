//! The rules of a node that serves: put back where others change them, and out at the end.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::Error;
use super::watch;
use crate::ruleset::{InstallError, Installed};

/// How often the counters of the guard are looked at.
pub(super) const GUARD_EVERY: Duration = Duration::from_secs(1);

/// Puts our rules back by `restore` if somebody has changed them, and says so; who it was, if that did not work. `torn` is that of the last
/// time.
pub(super) fn put_back(
    installed: &mut Installed,
    by: impl Iterator<Item = watch::By>,
    torn: Option<watch::By>,
    restore: impl FnOnce(&mut Installed) -> Result<(), InstallError>,
    mut repaired: impl FnMut(),
) -> Option<watch::By> {
    // Of those with this name, one alone serves here.
    let is_ours = |by: &watch::By| matches!(by, watch::By::Process(id, name) if installed.is_our_process(*id) || name == "dunnat");
    let others = by.filter(|by| !is_ours(by));
    let by = match (others.last(), torn) {
        (Some(by), _) => by,
        // What did not work has changed something, too: to that one would answer for ever. It is tried again after a while.
        (None, Some(torn)) => return Some(torn),
        (None, None) => watch::By::Unknown,
    };
    match installed.is_whole() {
        Ok(true) => return None,
        Ok(false) => {}
        Err(error) => log::debug!("cannot read our rules: {error}"),
    }
    match restore(installed) {
        Ok(()) => {
            crate::messages::message!(
                RULES_CHANGED[by = by],
                "our rules were changed by {by}; they are restored"
            );
            repaired();
            None
        }
        Err(error) => {
            crate::messages::message!(
                RULES_NOT_RESTORED[by = by],
                "our rules were changed by {by}, and could not be restored: {error}; trying again"
            );
            Some(by)
        }
    }
}

/// What came of [`stop_asking`].
#[derive(Default)]
pub(super) struct Stopped {
    error: Option<InstallError>,
    /// Packets wait, and get no verdict any more.
    pub(super) is_left: bool,
}

/// Has the rules queue no more packets. If somebody serves the queues, packets get their verdicts; for some time they are waited for.
pub(super) fn stop_asking(installed: &Installed, queues: &RangeInclusive<u16>, is_served: bool) -> Stopped {
    let error = installed.stop_asking().err();
    let is_left = !is_served || !Installed::wait_until_empty(queues, Duration::from_secs(1));
    if is_left && is_served {
        crate::messages::message!(
            WAITING_PACKETS_DROPPED,
            "packets were still waiting in the queues; the kernel drops them now"
        );
    }
    Stopped { error, is_left }
}

/// Takes the rules out. No packet may wait any more, or some of them stay.
pub(super) fn remove(installed: Installed, stopped: Stopped) -> Result<(), Error> {
    installed.tell_guarded_at_the_end();
    let mut errors: Vec<InstallError> = stopped.error.into_iter().collect();
    errors.extend(installed.remove().err());
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Remove(errors.iter().map(|error| format!("\n  {error}")).collect()))
}
