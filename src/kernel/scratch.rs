//! A network namespace to try things in: nobody else sees it, and it is gone afterwards.

use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use crate::netlink::sys;

/// Does something in a network namespace of its own, which a thread enters and which ends with it and with all that it has
/// started.
///
/// # Errors
/// There is no right to make one, or no thread to be had.
pub(crate) fn in_scratch_namespace<T: Send + 'static>(
    what: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let enter = || sys::enter_new_network().map(|()| what());
    let thread = thread::Builder::new().name("scratch".to_owned()).spawn(enter)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("it ended early")))
}

/// Runs a program in a user namespace and a network namespace of its own: so a user without rights can try things, where the
/// system allows that. It takes a program, by unshare(1), because only a process with one thread can enter a user
/// namespace (user_namespaces(7)).
///
/// # Errors
/// unshare cannot be started. What it and the program say is in the output.
pub(crate) fn in_scratch_user_namespace(program: &Path, arguments: &[&str]) -> io::Result<Output> {
    // A user's PATH often lacks the administrator's tools.
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", std::env::var("PATH").unwrap_or_default());
    Command::new("unshare")
        .args(["--map-root-user", "--net"])
        .arg(program)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
}
