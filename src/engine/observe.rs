//! A policy that only looks on.

use super::policy::{Decide, Facts};
use super::remembered::{Changes, Remembered};
use super::{Decision, Reason, Witness};

/// Accepts every packet as it is: dunnat beside somebody else's NAT, as a tracer.
///
/// ```
/// use dunnat::engine::{Observe, Policy};
///
/// let policy: &dyn Policy = &Observe;
/// assert_eq!((policy.name(), policy.reasons()[0].name()), ("observe", "observed"));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Observe;

impl Decide for Observe {
    fn name(&self) -> &'static str {
        "observe"
    }

    fn reasons(&self) -> &[Reason] {
        Reason::OBSERVE
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        _: &dyn Remembered,
        _: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        match facts.packet {
            Ok(_) => Decision::leave(Reason::Observed),
            Err(malformed) => Decision::unreadable(malformed, witness),
        }
    }
}
