//! What a node has outlives its program: another one goes on with it.
//!
//! It is a [`State`], and descriptors by names: the sockets of the queues, the memory of the workers, the socket that owns the guard, the one that
//! the node listens on, the connections of clients. There are two ways from one program to the next. `dunnat upgrade` starts another
//! program in the same process ([`upgrade`](super::upgrade)), which finds the descriptors where they were. And a service manager keeps
//! them while the process is away ([`manager`](super::manager)).
//!
//! What was handed on stays open until the next program [has settled down](settle_down). Until then it can [go back](go_back) to the one before.

mod received;
mod state;
mod taken;

use std::ffi::OsString;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::manager::Store;
use crate::netlink::sys;
pub use received::receive;
use received::{By, Received};
pub(super) use state::milliseconds;
pub use state::{State, StateError};
pub(super) use taken::{Bundle, Parts, STATE, in_memory};
pub use taken::{TakenUp, take_up};

/// What this program has received; nothing any more when it serves.
static RECEIVED: Mutex<Option<Received>> = Mutex::new(None);

fn received() -> MutexGuard<'static, Option<Received>> {
    RECEIVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on this program goes on, and no other.
pub(super) fn settle_down() {
    drop(received().take());
}

/// Whether this program only tries whether it could go on.
pub fn is_trial() -> bool {
    received().as_ref().is_some_and(|it| matches!(it.by, By::Upgrade { is_trial: true, .. }))
}

/// Has the program before go on, if it is there, and this one has not settled down; returns only if not. What a service manager has kept is
/// given up, so that the next start is a usual one.
pub fn go_back(why: &str) {
    // What goes wrong here does not come here again.
    let descriptors = match received().take() {
        Some(Received { descriptors, by: By::Upgrade { is_trial: false, came_back: None } }) => descriptors,
        Some(Received { descriptors, by: By::Manager }) => {
            // Or the next start would end in the same way.
            return Store::give_up(descriptors.iter().map(|(name, _)| name.as_str()));
        }
        _ => return,
    };
    let Some(before) = descriptors.iter().find(|(name, _)| name == BEFORE) else { return };
    crate::messages::message!(WENT_BACK, "this program cannot go on: {why}; the one before does");
    let mut command = Command::new(format!("/proc/self/fd/{}", before.1.as_raw_fd()));
    with_arguments(&mut command, arguments(&descriptors).into_iter());
    command.env(received::CAME_BACK, why.replace('\0', " ").chars().take(LONGEST_WHY).collect::<String>());
    let error = start_instead(command, descriptors);
    crate::messages::message!(NOT_BACK, "the program before cannot be started either: {error}");
}

/// The name of the file of the program before.
const BEFORE: &str = "before";

/// How much of a reason is told, in characters.
const LONGEST_WHY: usize = 2000;

/// Those that the program before was started with: whatever was between may have changed them.
fn arguments(descriptors: &[(String, OwnedFd)]) -> Vec<OsString> {
    let mut bytes = Vec::new();
    if let Some((_, file)) = descriptors.iter().find(|(name, _)| name == taken::ARGUMENTS)
        && let Ok(file) = file.try_clone()
    {
        let mut file = std::fs::File::from(file);
        let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    }
    let words = bytes.strip_suffix(&[0]).unwrap_or_default().split(|byte| *byte == 0);
    words.map(|word| OsString::from_vec(word.to_vec())).collect()
}

fn with_arguments(command: &mut Command, mut arguments: impl Iterator<Item = OsString>) {
    // A list of processes shows it.
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
}

/// That program, with the arguments of this one.
pub(super) fn again(program: OsString) -> Command {
    let mut command = Command::new(program);
    with_arguments(&mut command, std::env::args_os());
    command
}

/// Starts it in this process, with those descriptors. Returns only if that cannot be.
pub(super) fn start_instead(mut command: Command, descriptors: Vec<(String, OwnedFd)>) -> std::io::Error {
    give(&mut command, descriptors);
    sys::let_signals_wait_in(&mut command);
    // If it fails the command has them still, and they are closed with it.
    command.exec()
}

/// A program that is to be tried gets those descriptors.
pub(super) fn give_to_trial(command: &mut Command, descriptors: Vec<(String, OwnedFd)>) {
    give(command, descriptors);
    command.env(received::TRIAL, "1");
}

/// A program that is started gets those descriptors, and is told their names.
fn give(command: &mut Command, descriptors: Vec<(String, OwnedFd)>) {
    let told = received::told(&descriptors);
    command.env(received::HANDED, told);
    sys::keep_open_in(command, descriptors.into_iter().map(|(_, descriptor)| descriptor).collect());
}
