//! What a process has from the program before it, and leaves to the program after it: descriptors, signals that wait, variables.

#![expect(unsafe_code, reason = "descriptors by their numbers, and what is done between fork and exec")]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Mutex;

use rustix::io::{FdFlags, fcntl_setfd};

/// The first number that is neither input, output nor errors.
const FIRST: RawFd = 3;

/// A descriptor that the process was started with, by its number. Programs that we start do not get it.
///
/// # Errors
/// There is none of that number, it is input, output or errors, or somebody has taken it already.
pub(crate) fn take_over(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if number < FIRST || taken.contains(&number) {
        return Err(io::Error::other(format!("the descriptor {number} is of somebody else")));
    }
    super::close_on_exec(number)?;
    taken.push(number);
    // SAFETY: it is open, and of this process since its start; nobody here made it, and nobody has it from here twice.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes variables out of the environment, so that programs that we start do not get them.
///
/// Does nothing if there is another thread, which might read the environment meanwhile.
pub(crate) fn forget_variables(names: &[&str]) {
    let is_alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    for name in names.iter().filter(|name| is_alone && std::env::var_os(name).is_some()) {
        // SAFETY: there is no other thread.
        unsafe { std::env::remove_var(name) };
    }
}

/// The variables by which a service manager says what it hands over (sd_listen_fds(3)).
pub(crate) const FROM_MANAGER: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// Those by which it says where it hears, and how often it wants to (sd_notify(3), sd_watchdog_enabled(3)).
const TO_MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A program that is started works for this one. It ends when the thread that starts it ends, however that happens (prctl(2),
/// `PR_SET_PDEATHSIG`), and signals come to it, whether they [wait](let_signals_wait) in that thread or not. To a service manager it
/// would look like this one, so it knows of none.
pub(crate) fn belongs_to_us(command: &mut Command) {
    for name in FROM_MANAGER.into_iter().chain(TO_MANAGER) {
        command.env_remove(name);
    }
    let ask = || {
        // SAFETY: takes numbers by value.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => let_signals_come(),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec there are system calls, and nothing that another thread could hold.
    unsafe { command.pre_exec(ask) };
}

/// A program that is started gets these descriptors, too, by the same numbers.
pub(crate) fn keep_open_in(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let keep =
        move || descriptors.iter().try_for_each(|descriptor| Ok(fcntl_setfd(descriptor, FdFlags::empty())?));
    // SAFETY: between fork and exec there are system calls, and nothing that another thread could hold.
    unsafe { command.pre_exec(keep) };
}

/// The signals that a node acts on. Whoever has no handler for them yet would end.
const ACTED_ON: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

/// A program that is started gets such signals when it [can](let_signals_come), and not before.
pub(crate) fn let_signals_wait_in(command: &mut Command) {
    // SAFETY: between fork and exec there are system calls, and nothing that another thread could hold.
    unsafe { command.pre_exec(|| mask(libc::SIG_BLOCK)) };
}

/// This thread, and those that it starts from now on, get no such signals. If no other thread does, they wait: for one that
/// [lets them come](let_signals_come), or for the next program of this process.
pub(crate) fn let_signals_wait() -> io::Result<()> {
    mask(libc::SIG_BLOCK)
}

/// This thread gets signals that have waited. There has to be somebody who acts on them.
pub(crate) fn let_signals_come() -> io::Result<()> {
    mask(libc::SIG_UNBLOCK)
}

fn mask(how: i32) -> io::Result<()> {
    // SAFETY: all-zero is a valid set of signals.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives here; numbers are by value.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in ACTED_ON {
            libc::sigaddset(&raw mut set, signal);
        }
    }
    // SAFETY: the set lives here, and changes the calling thread alone.
    match unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_program_gets_what_is_kept_open_and_nothing_else() {
        let open = || OwnedFd::from(File::open("/dev/null").unwrap());
        let (kept, other) = (open(), open());
        let numbers = [kept.as_raw_fd(), other.as_raw_fd()].map(|number| number.to_string());
        let mut command = Command::new("sh");
        let look = "for number in $0 $1; do [ -e /proc/self/fd/$number ] && echo $number; done";
        command.args(["-c", look]).args(&numbers).stdout(Stdio::piped());
        keep_open_in(&mut command, vec![kept]);
        let mut said = String::new();
        command.spawn().unwrap().stdout.unwrap().read_to_string(&mut said).unwrap();
        let has = |number: &String| said.lines().any(|line| line == number);
        assert_eq!(numbers.each_ref().map(has), [true, false], "{said}");
    }

    #[test]
    fn a_descriptor_is_taken_once_and_what_is_none_is_not() {
        let number = {
            use std::os::fd::IntoRawFd as _;
            File::open("/dev/null").unwrap().into_raw_fd()
        };
        for wrong in [-1, 0, 2, 100_000] {
            assert!(take_over(wrong).is_err(), "{wrong}");
        }
        let taken = take_over(number).unwrap();
        assert!(take_over(number).is_err());
        assert_eq!(taken.as_raw_fd(), number);
    }

    #[test]
    fn a_program_that_belongs_to_us_knows_of_no_service_manager() {
        let mut command = Command::new("env");
        let all = [FROM_MANAGER, TO_MANAGER].concat();
        command.envs(all.iter().map(|name| (name, "x"))).env("ANOTHER", "x");
        belongs_to_us(&mut command);
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let has = |name: &str| said.lines().any(|line| line == format!("{name}=x"));
        assert!(has("ANOTHER") && !all.iter().any(|name| has(name)), "{said}");
    }

    #[test]
    fn signals_come_to_a_program_that_belongs_to_us() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -s USR2 $$; echo went on"]);
        belongs_to_us(&mut command);
        let_signals_wait().unwrap();
        let said = command.output();
        let_signals_come().unwrap();
        assert_eq!(said.unwrap().stdout, b"");
    }

    #[test]
    fn signals_wait_in_a_program_that_is_started() {
        let waits = |wait: bool| {
            let mut command = Command::new("sh");
            command.args(["-c", "kill -s USR2 $$; echo went on"]).stdout(Stdio::piped());
            if wait {
                let_signals_wait_in(&mut command);
            }
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        assert_eq!((&*waits(true), &*waits(false)), ("went on\n", ""));
    }
}
