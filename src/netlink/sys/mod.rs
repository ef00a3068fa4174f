//! The only files with `unsafe` in them, this, `memory.rs` and `handing.rs`: thin wraps of C library calls, each safe to call with any argument.

#![expect(unsafe_code, reason = "calls into the C library; every other file is free of it")]

mod handing;
mod memory;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::thread::RawPthread;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use handing::{
    FROM_MANAGER, belongs_to_us, forget_variables, keep_open_in, let_signals_come, let_signals_wait,
    let_signals_wait_in, take_over,
};
pub(crate) use memory::{Batch, Shared};

/// The name of the interface with that index in this network namespace, if there is one.
pub(crate) fn interface_name(index: u32) -> io::Result<Option<String>> {
    let mut name = [0; libc::IFNAMSIZ];
    // SAFETY: the buffer has the IFNAMSIZ bytes that if_indextoname(3) asks for, and outlives the call.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        let error = io::Error::last_os_error();
        // The call opens a socket, which may fail for reasons that have nothing to do with the interface.
        return match error.raw_os_error() {
            Some(libc::ENXIO | libc::ENODEV) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: on success the call has written a name and its closing NUL into the buffer, which lives here.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Ok(Some(name.to_string_lossy().into_owned()))
}

/// The signal that makes a thread come back from a system call it waits in. Nobody sends it by hand, and where nothing
/// handles it, it does nothing.
const WAKE: libc::c_int = libc::SIGURG;

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
    // ended. The signal's handler was set by allow_waking; were it not, the signal would be ignored.
    unsafe { libc::pthread_kill(id, WAKE) };
}

/// Keeps this thread to one processor: the one at that place among those it may use, counted round.
pub(crate) fn pin_to_processor(place: usize) -> io::Result<()> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: all-zero is a valid, empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the call, and the size is its own; 0 is this thread.
    if unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every number is below CPU_SETSIZE, the number of bits in a set.
    let processors: Vec<usize> =
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &allowed) }).collect();
    let Some(cpu) = processors.get(place % processors.len().max(1)) else { return Ok(()) };
    // SAFETY: as above; the number is one of the set's.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::CPU_SET(*cpu, &mut one) };
    // SAFETY: as for sched_getaffinity.
    match unsafe { libc::sched_setaffinity(0, size, &raw const one) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A value of the mnl crate that may go to another thread with its owner.
pub(crate) struct Owned<T>(T);

impl<T> Owned<T> {
    pub(crate) fn get(&self) -> &T {
        &self.0
    }
}

impl Owned<mnl::Socket> {
    pub(crate) fn new(socket: mnl::Socket) -> Self {
        Self(socket)
    }
}

// SAFETY: mnl::Socket is not Send because it holds a pointer to libmnl's struct mnl_socket (src/socket.c): a file
// descriptor and an address, owned by this value alone and bound to no thread.
unsafe impl Send for Owned<mnl::Socket> {}

/// Whoever reads from a descriptor gets the error `WouldBlock` if nothing is there.
pub(crate) fn never_wait(fd: RawFd) -> io::Result<()> {
    // SAFETY: reads and sets flags of a descriptor by value; a wrong one is an error.
    match unsafe { libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The index of the interface of that name in this network namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name).map_err(io::Error::other)?;
    // SAFETY: the name ends with a NUL and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Another descriptor of the same, kept from the programs that we start.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers by value; a wrong descriptor is an error.
    match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the descriptor is new, and nobody else has it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Keeps a descriptor from the programs that we start.
pub(crate) fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: sets a flag of a descriptor by value; a wrong one is an error.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The user whose process is at the other end of a Unix socket.
pub(crate) fn peer_user(fd: RawFd) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: the option's value is a ucred, which lives here, and the length is its own.
    match unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut len)
    } {
        0 => Ok(peer.uid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The groups of whoever connected to a Unix socket, as they were then: its effective one, and the others (unix(7),
/// `SO_PEERCRED` and `SO_PEERGROUPS`; the latter since Linux 4.13).
pub(crate) fn peer_groups(fd: RawFd) -> io::Result<Vec<u32>> {
    /// The most that a process may be in (`NGROUPS_MAX`).
    const MOST: usize = 65_536;
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: the option's value is a ucred, which lives here, and the length is its own.
    if unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut len)
    } != 0
    {
        return Err(io::Error::last_os_error());
    }
    let mut groups = vec![0_u32; 64];
    loop {
        let mut len = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        let value = groups.as_mut_ptr().cast();
        // SAFETY: the option's value is as many gid_t as the length has room for, and they live here.
        let outcome =
            unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERGROUPS, value, &raw mut len) };
        if outcome == 0 {
            groups.truncate(len as usize / size_of::<u32>());
            groups.push(peer.gid);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // The length is now the one that it takes.
        let needed = len as usize / size_of::<u32>();
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() || needed > MOST {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

/// The number of the group of that name, if there is one (getgrnam_r(3)).
pub(crate) fn group_named(name: &str) -> io::Result<Option<u32>> {
    /// A group with thousands of members needs more than the usual KiB.
    const MOST: usize = 1 << 20;
    let name = std::ffi::CString::new(name).map_err(io::Error::other)?;
    let mut room: Vec<libc::c_char> = vec![0; 1024];
    loop {
        // SAFETY: all-zero is a valid group: null pointers, and a number.
        let mut group: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: the name ends with a NUL; the group, the room with its own length and the pointer live here. Of what is
        // found only the number is read, which is in the group itself.
        let error = unsafe {
            let (room, len) = (room.as_mut_ptr(), room.len());
            libc::getgrnam_r(name.as_ptr(), &raw mut group, room, len, &raw mut found)
        };
        match error {
            0 => return Ok((!found.is_null()).then_some(group.gr_gid)),
            // getgrnam_r(3): some of these mean that there is none.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            libc::ERANGE if room.len() < MOST => room.resize(room.len() * 4, 0),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// How many system calls are told apart when they are counted; the last place is for all numbers above.
pub(crate) const CALLS: usize = 512;

/// How often a filter (seccomp(2)) has trapped a system call, by its number.
static TRAPPED: [AtomicU64; CALLS] = [const { AtomicU64::new(0) }; CALLS];

/// How often filters have trapped each system call.
pub(crate) fn trapped(call: usize) -> u64 {
    TRAPPED.get(call).map_or(0, |times| times.load(Ordering::Relaxed))
}

/// Has a system call that a filter traps (`SECCOMP_RET_TRAP`) be counted, and fail with EPERM, in every thread of this process.
/// False for a processor whose registers are not known here: then the signal would end the process.
pub(crate) fn refuse_what_is_trapped() -> io::Result<bool> {
    /// Of a signal that comes from a filter (sigaction(2), `si_code`).
    const SYS_SECCOMP: libc::c_int = 1;

    extern "C" fn refuse(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t.
        if unsafe { (*info).si_code } != SYS_SECCOMP {
            return;
        }
        // SAFETY: with SA_SIGINFO the third argument is a ucontext_t, which is this handler's until it returns. The registers
        // are those of the system call as it was begun: they have its number, and get what it returns.
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        let call = unsafe {
            let context = context.cast::<libc::ucontext_t>();
            #[cfg(target_arch = "x86_64")]
            let (number, outcome) = {
                let registers = &raw mut (*context).uc_mcontext.gregs;
                let register = (&raw mut (*registers)[libc::REG_RAX as usize]).cast::<u64>();
                (register, register)
            };
            #[cfg(target_arch = "aarch64")]
            let (number, outcome) = {
                let registers = &raw mut (*context).uc_mcontext.regs;
                ((&raw mut (*registers)[8]).cast::<u64>(), (&raw mut (*registers)[0]).cast::<u64>())
            };
            let call = *number;
            *outcome = i64::from(-libc::EPERM).cast_unsigned();
            call
        };
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let call = {
            let _ = context;
            u64::MAX
        };
        let place = usize::try_from(call).map_or(CALLS - 1, |call| call.min(CALLS - 1));
        TRAPPED[place].fetch_add(1, Ordering::Relaxed);
    }

    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return Ok(false);
    }
    // SAFETY: all-zero is a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = refuse;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the action is filled in; its handler reads and writes what it was passed, and an atomic number, which is
    // async-signal-safe. The old action is not asked for.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The user that this process acts for.
pub(crate) fn user() -> u32 {
    // SAFETY: takes nothing and always succeeds.
    unsafe { libc::geteuid() }
}

/// Kills a child that was not waited for, and all of its process group, which it leads.
pub(crate) fn kill_group(child: &std::process::Child) {
    // SAFETY: only sends a signal. The child was not waited for, so its number is nobody else's.
    unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
}

/// Asks a process to end (SIGTERM).
pub(crate) fn terminate(process: u32) -> io::Result<()> {
    // 0 would be this process's own group.
    let id = libc::pid_t::try_from(process).ok().filter(|id| *id > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: only sends a signal.
    match unsafe { libc::kill(id, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets an option of a socket that is an int.
pub(crate) fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value is an int that outlives the call, and the length is its own.
    match unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets no read of a socket wait longer than that.
pub(crate) fn limit_waiting(fd: RawFd, limit: Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(limit.subsec_micros()),
    };
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value is a timeval that outlives the call, and the length is its own.
    match unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const value).cast(), len) }
    {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Frames of an interface: what is read came in by it or left by it, and what is written leaves by it, each with its Ethernet
/// header (packet(7)). Reading does not wait.
pub(crate) fn frames_of(index: u32) -> io::Result<std::fs::File> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let all = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: takes numbers by value.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = all;
    address.sll_ifindex = index.cast_signed();
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address outlives the call, and the length is its own.
    match unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) } {
        0 => Ok(fd.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts this thread into a network namespace of its own, which is gone when the thread and all that it has started are.
pub(crate) fn enter_new_network() -> io::Result<()> {
    // SAFETY: takes flags by value, and changes the calling thread's namespaces alone.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends one datagram, gathered from its parts; at most 1024 of them (`UIO_MAXIOV`).
pub(crate) fn send_gathered(fd: RawFd, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
    // SAFETY: IoSlice has the layout of iovec by its documentation, and each borrows what it points to.
    let sent = unsafe { libc::writev(fd, parts.as_ptr().cast(), parts.len() as libc::c_int) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits that long, or until [`wake`] ends it.
pub(crate) fn nap(time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos() as libc::c_long,
    };
    // SAFETY: the time lives here, and what is left of it is not asked for. std's sleep would go on after a signal.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}

/// Has memory that is taken in one piece of 128 KiB or more go back to the system when it is freed. By itself the C library
/// keeps pieces as large as those that were freed before (mallopt(3), `M_MMAP_THRESHOLD`: the threshold is dynamic).
pub(crate) fn give_back_large_memory() {
    // SAFETY: takes numbers by value; where it has no effect, memory is kept as before.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Waits until every processor has finished what it was doing with data that the kernel reads without locks (RCU): a packet that met
/// rules before this call has left them when it returns (membarrier(2), `MEMBARRIER_CMD_GLOBAL`: `synchronize_rcu()`).
pub(crate) fn wait_for_readers() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes numbers, and touches no memory of ours.
    match unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many descriptors this process may have (`RLIMIT_NOFILE`).
pub(crate) fn descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the value is an rlimit, which lives here.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(limit.rlim_cur),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Words as the bytes that they are made of.
pub(crate) fn as_bytes(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: the same memory for the same lifetime; bytes need no alignment, and any value is a valid byte and
    // leaves a valid u64 behind.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

/// Words as the bytes that they are made of, in host byte order.
#[inline]
pub(crate) fn words_as_bytes(words: &[u32]) -> &[u8] {
    // SAFETY: the same memory for the same lifetime, only read; bytes need no alignment.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_have_names() {
        // The loopback device is the first of every network namespace.
        assert_eq!(interface_name(1).unwrap().as_deref(), Some("lo"));
        assert_eq!(interface_name(u32::MAX).unwrap(), None);
    }

    #[test]
    fn groups_have_numbers() {
        assert_eq!(group_named("root").unwrap(), Some(0));
        assert_eq!(group_named("no-such-group-here").unwrap(), None);
        assert!(group_named("ro\0ot").is_err());
    }

    #[test]
    fn a_peer_has_its_groups() {
        use std::os::fd::AsRawFd as _;
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(|number| number.parse().unwrap()).collect::<Vec<u32>>()
        };
        let mut ours = line("Groups:");
        ours.push(line("Gid:")[1]);
        assert_eq!(peer_groups(one.as_raw_fd()).unwrap(), ours);
        assert!(peer_groups(-1).is_err());
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
