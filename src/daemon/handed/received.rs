//! What a program is given when it starts: descriptors, each with its name.

use std::fmt::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::netlink::sys;

/// The variables by which a program is told, and forgets it at once, so that nobody whom it starts is.
pub(super) const HANDED: &str = "DUNNAT_HANDED";
pub(super) const TRIAL: &str = "DUNNAT_TRIAL";
pub(super) const CAME_BACK: &str = "DUNNAT_CAME_BACK";

/// Descriptors, and who has given them.
pub(super) struct Received {
    pub(super) descriptors: Vec<(String, OwnedFd)>,
    pub(super) by: By,
}

/// Who has given them.
pub(super) enum By {
    /// The program that was this process, or that wants to know whether this one could go on.
    Upgrade {
        is_trial: bool,
        /// Why another program could not go on.
        came_back: Option<String>,
    },
    /// The service manager has kept them.
    Manager,
}

/// Takes what this program was given. To be called first of all, as long as there is one thread.
pub fn receive() {
    let received = from_before().or_else(from_manager);
    sys::forget_variables(&[HANDED, TRIAL, CAME_BACK]);
    sys::forget_variables(&sys::FROM_MANAGER);
    *super::received() = received;
}

fn from_before() -> Option<Received> {
    let told = std::env::var(HANDED).ok()?;
    let is_trial = std::env::var_os(TRIAL).is_some();
    let came_back = std::env::var(CAME_BACK).ok();
    Some(Received { descriptors: take(numbers(&told)), by: By::Upgrade { is_trial, came_back } })
}

fn from_manager() -> Option<Received> {
    let listed = sd_notify::listen_fds_with_names().ok()?;
    let descriptors = take(listed.map(|(number, name)| (name, number)));
    (!descriptors.is_empty()).then_some(Received { descriptors, by: By::Manager })
}

/// Those that are open.
fn take(numbers: impl Iterator<Item = (String, i32)>) -> Vec<(String, OwnedFd)> {
    numbers.filter_map(|(name, number)| Some((name, sys::take_over(number).ok()?))).collect()
}

/// `state=7 config-1=8`.
pub(super) fn told(descriptors: &[(String, OwnedFd)]) -> String {
    let mut told = String::new();
    for (name, descriptor) in descriptors {
        let _ = write!(told, "{}{name}={}", if told.is_empty() { "" } else { " " }, descriptor.as_raw_fd());
    }
    told
}

fn numbers(told: &str) -> impl Iterator<Item = (String, i32)> {
    told.split(' ').filter_map(|one| {
        let (name, number) = one.split_once('=')?;
        Some((name.to_owned(), number.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_told() {
        let open = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let descriptors = vec![("state".to_owned(), open()), ("queues-1-0".to_owned(), open())];
        let expected: Vec<_> = descriptors.iter().map(|(name, it)| (name.clone(), it.as_raw_fd())).collect();
        assert_eq!(numbers(&told(&descriptors)).collect::<Vec<_>>(), expected);
        assert_eq!(numbers("").count() + numbers("x").count() + numbers("x=y z=").count(), 0);
    }
}
