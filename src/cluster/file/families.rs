//! What there is once for each family that the guests have.

use std::fmt::Display;
use std::ops::Range;

use ipnet::IpNet;

use super::check::Check;
use super::raw::{Text, Texts};
use crate::net::{ByFamily, OfFamily};

/// A value, and where it stands.
pub(super) type Placed<T> = (T, Range<usize>);

impl Check {
    /// At most one of each family.
    pub(super) fn by_family<T: OfFamily + Display>(
        &mut self,
        raw: &Texts,
        read: impl Fn(&mut Self, &Text) -> Option<T>,
    ) -> Option<ByFamily<Placed<T>>> {
        let values: Vec<_> = raw.texts.iter().map(|text| Some((read(self, text)?, text.span()))).collect();
        let mut all = ByFamily::default();
        for (value, span) in values.into_iter().collect::<Option<Vec<_>>>()? {
            let family = value.family();
            let message = format!("{value} is a second value for {family}");
            if all.insert(family, (value, span.clone())).is_some() {
                self.say(span, message, "give at most one for each family");
                return None;
            }
        }
        if all.is_empty() {
            self.say(raw.span.clone(), "the list is empty", "give one for IPv4, one for IPv6, or both");
            return None;
        }
        Some(all)
    }

    /// Says so where a family that the guests have is missing.
    pub(super) fn complete<T>(
        &mut self,
        what: &str,
        given: &ByFamily<T>,
        network: &ByFamily<IpNet>,
        span: &Range<usize>,
        help: &str,
    ) {
        for family in network.families().filter(|family| given.get(*family).is_none()) {
            let message = format!("the guests' network is {network}, but {what} of {family} is missing");
            self.say(span.clone(), message, help);
        }
    }
}

/// Less the places.
pub(super) fn bare<T: Copy>(placed: &ByFamily<Placed<T>>) -> ByFamily<T> {
    placed.map(|(value, _)| *value)
}
