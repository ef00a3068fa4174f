//! What a service manager such as systemd is told, and what it keeps (`sd_notify(3)`, "File Descriptor Store" of systemd).
//!
//! It keeps the descriptors of a node while the node is away: so packets wait, and nobody else gets the queues, until the next program takes
//! them up. Everything here is for what systemd 252 knows. Without a service manager nothing of it does anything.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use sd_notify::NotifyState;

use super::handed::{Bundle, STATE, in_memory};

/// How long it is waited for until the service manager has done what it was told.
const PATIENCE: Duration = Duration::from_secs(2);

/// The service manager; or nobody.
#[derive(Default)]
pub(super) struct Manager {
    store: Option<Store>,
    /// How often it wants to hear that all is well, and when it did last.
    watchdog: Option<(Duration, Option<Instant>)>,
}

/// What it keeps.
pub(super) struct Store {
    /// What there is to know: the last whole line counts.
    state: File,
    names: BTreeSet<String>,
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::debug!("the service manager does not hear: {error}");
    }
}

impl Manager {
    /// Whether there is one.
    pub(super) fn is_there() -> bool {
        std::env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// The one that has started this process; `store` is what it has kept.
    pub(super) fn new(store: Option<Store>) -> Self {
        // Half of the time, so that one that is late is not too late.
        let watchdog = sd_notify::watchdog_enabled().map(|every| (every / 2, None));
        Self { store: store.filter(|_| Self::is_there()), watchdog }
    }

    /// Packets are answered.
    pub(super) fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The cluster file or the program becomes another one; then it is ready again.
    pub(super) fn reloading(&self) {
        // Later versions want to know when.
        let when = NotifyState::monotonic_usec_now().ok();
        tell(&[NotifyState::Reloading].into_iter().chain(when).collect::<Vec<_>>());
    }

    /// The node goes on: packets are answered, or none waits.
    pub(super) fn is_well(&mut self) {
        if let Some((every, told)) = &mut self.watchdog
            && told.is_none_or(|told| told.elapsed() >= *every)
        {
            *told = Some(Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// How long it may hear nothing.
    pub(super) fn patience(&self) -> Duration {
        self.watchdog.map_or(Duration::MAX, |(every, _)| every)
    }

    /// The node ends, and nobody is to go on with what it has.
    pub(super) fn stopping(&mut self) {
        tell(&[NotifyState::Stopping]);
        if let Some(store) = self.store.take() {
            Store::give_up(store.names.iter().map(String::as_str));
        }
    }

    /// Has it keep that, and nothing else. What cannot be kept is not: the node goes on without.
    pub(super) fn keep(&mut self, bundle: &Bundle) {
        if let Err(error) = self.try_to_keep(bundle) {
            crate::messages::message!(
                NOTHING_KEPT,
                "the service manager does not keep what the node has: {error}"
            );
        }
    }

    fn try_to_keep(&mut self, bundle: &Bundle) -> io::Result<()> {
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(Store { state: in_memory(STATE)?, names: BTreeSet::new() }),
        };
        let wanted: BTreeSet<String> = bundle.descriptors.iter().map(|(name, _)| name.clone()).collect();
        for (name, descriptor) in bundle.descriptors.iter().filter(|(name, _)| !store.names.contains(name)) {
            keep_one(name, descriptor.as_fd())?;
        }
        // From this moment on it is all that counts.
        write_last(&store.state, &bundle.state.write()?)?;
        if !store.names.contains(STATE) {
            keep_one(STATE, store.state.as_fd())?;
        }
        let gone: Vec<&String> =
            store.names.iter().filter(|name| *name != STATE && !wanted.contains(*name)).collect();
        for name in gone {
            forget_one(name)?;
        }
        store.names = wanted;
        store.names.insert(STATE.to_owned());
        // Queues of the rules before can be opened again only when it has closed them.
        wait_until_done()
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }
}

impl Store {
    /// One that was there before: its state is written to that file.
    pub(super) fn of(state: File, names: Vec<String>) -> Self {
        Self { state, names: names.into_iter().collect() }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }

    pub(super) fn file(&self) -> &File {
        &self.state
    }

    /// Nothing of these names is to be kept any more.
    pub(super) fn give_up<'a>(names: impl Iterator<Item = &'a str>) {
        let outcome = names.collect::<BTreeSet<_>>().into_iter().try_for_each(forget_one);
        if let Err(error) = outcome.and_then(|()| wait_until_done()) {
            crate::messages::message!(
                KEPT_TOO_LONG,
                "the service manager may keep what the node had: {error}"
            );
        }
    }
}

/// Has that line be the last one. Whenever this is killed there is one that is whole: this one, or the one before. The file does not grow with
/// what was written: where there is room before the last line, the next one goes there.
fn write_last(mut file: &File, line: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let behind_a_line = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    // What is behind was being written when somebody was killed.
    let end = behind_a_line(&bytes);
    let last = behind_a_line(&bytes[..end.saturating_sub(1)]);
    if line.len() <= last {
        file.write_all_at(line, 0)?;
        // In this moment it becomes the last one.
        return file.set_len(line.len() as u64);
    }
    file.set_len(end as u64)?;
    file.write_all_at(line, end as u64)
}

/// It does not close the descriptor when there is something to be read from it, or it is shut down.
fn keep_one(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let what = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
    sd_notify::notify_with_fds(&what, &[descriptor])
}

fn forget_one(name: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
}

/// Waits until all that was told before is done: then the service manager closes its end of a pipe (`sd_notify_barrier(3)`).
fn wait_until_done() -> io::Result<()> {
    if !Manager::is_there() {
        return Ok(());
    }
    let (mut ours, theirs) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    drop(theirs);
    // That it was closed is told without being asked for.
    let limit = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    if poll(&mut [PollFd::new(&ours, PollFlags::empty())], Some(&limit))? == 0 {
        return Err(io::Error::other("it does not answer"));
    }
    ours.read(&mut [0]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(mut file: &File) -> String {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_goes_before_the_last_one_or_behind_it_but_never_over_it() {
        let file = in_memory("test").unwrap();
        for (line, all) in [
            ("1111\n", "1111\n"),
            ("22\n", "1111\n22\n"),
            // One that does not fit before it.
            ("33333\n", "1111\n22\n33333\n"),
            ("4444444\n", "4444444\n"),
            ("5\n", "4444444\n5\n"),
            ("6666666\n", "6666666\n"),
        ] {
            write_last(&file, line.as_bytes()).unwrap();
            assert_eq!(text(&file), all);
        }
        for number in 0..10_000 {
            write_last(&file, format!("{number}\n").as_bytes()).unwrap();
            assert_eq!(text(&file).lines().next_back(), Some(&*number.to_string()));
        }
        assert!(text(&file).len() < 20, "{}", text(&file));
    }

    #[test]
    fn what_was_not_finished_is_cut_off() {
        let file = in_memory("test").unwrap();
        for (left, all) in [("", "3\n"), ("1", "3\n"), ("1\n2", "1\n3\n"), ("1\n2\n22", "3\n")] {
            file.set_len(0).unwrap();
            file.write_all_at(left.as_bytes(), 0).unwrap();
            write_last(&file, b"3\n").unwrap();
            assert_eq!(text(&file), all, "{left:?}");
        }
    }
}
