//! A policy of a test: a function of the facts.

use crate::engine::{Changes, Decide, Decision, Facts, Reason, Remembered, Witness};

/// Decides by that function, and asks nothing else.
pub(crate) struct By<F>(pub(crate) F);

impl<F: Fn(&Facts<'_>) -> Decision + Send + Sync> Decide for By<F> {
    fn name(&self) -> &'static str {
        "of-a-test"
    }

    fn reasons(&self) -> &[Reason] {
        &[]
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        _: &dyn Remembered,
        _: &mut Changes,
        _: &mut W,
    ) -> Decision {
        (self.0)(facts)
    }
}
