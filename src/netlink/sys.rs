//! The only file with `unsafe` in it: thin wraps of C library calls, each safe to call with any argument.

#![expect(unsafe_code, reason = "calls into the C library; every other file is free of it")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::thread::RawPthread;

/// The name of the interface with that index in this network namespace.
pub(crate) fn interface_name(index: u32) -> Option<String> {
    let mut name = [0; libc::IFNAMSIZ];
    // SAFETY: the buffer has the IFNAMSIZ bytes that if_indextoname(3) asks for, and outlives the call.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        return None;
    }
    // SAFETY: on success the call has written a name and its closing NUL into the buffer, which lives here.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Some(name.to_string_lossy().into_owned())
}

/// The index of the interface with that name in this network namespace.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the argument is a string with a closing NUL that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The signal that makes a thread come back from a system call it waits in.
const WAKE: libc::c_int = libc::SIGUSR1;

/// Lets [`wake`] interrupt system calls: the signal gets a handler that does nothing, and without `SA_RESTART`
/// the call that it interrupts fails with EINTR.
pub(crate) fn allow_waking() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: all-zero is a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the action is filled in, its handler does nothing and so is async-signal-safe; the old action is
    // not asked for.
    match unsafe { libc::sigaction(WAKE, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a thread come back from the system call that it waits in, if it does.
///
/// `thread` must not have been joined: its id could be another thread's by then. A JoinHandle that still exists
/// gives such an id, which is why the caller passes it by way of one.
pub(crate) fn wake<T>(thread: &std::thread::JoinHandle<T>) {
    use std::os::unix::thread::JoinHandleExt as _;
    let id: RawPthread = thread.as_pthread_t();
    // SAFETY: the handle exists, so the thread was not joined or detached and its id is valid, even if it has
    // ended. The signal's handler was set by allow_waking; were it not, the process would end, unharmed memory.
    unsafe { libc::pthread_kill(id, WAKE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_have_names_and_indexes() {
        let index = interface_index("lo").unwrap();
        assert_eq!(interface_name(index).as_deref(), Some("lo"));
        assert_eq!(interface_index("no\0such"), None);
        assert_eq!(interface_index("nosuch0"), None);
        assert_eq!(interface_name(u32::MAX), None);
    }

    #[test]
    fn a_waiting_thread_is_woken() {
        allow_waking().unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            ready.send(()).unwrap();
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.recv(&mut [0; 1]).unwrap_err().kind()
        });
        is_ready.recv().unwrap();
        // The thread may not wait yet when it is woken the first time.
        while !thread.is_finished() {
            wake(&thread);
            std::thread::yield_now();
        }
        assert_eq!(thread.join().unwrap(), io::ErrorKind::Interrupted);
    }
}
