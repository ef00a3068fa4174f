//! The only file with `unsafe` in it: thin wraps of C library calls, each safe to call with any argument.

#![expect(unsafe_code, reason = "calls into the C library; every other file is free of it")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::thread::RawPthread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// Ends a program when the thread that starts it ends, however that happens (prctl(2), `PR_SET_PDEATHSIG`).
pub(crate) fn ends_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let ask = || {
        // SAFETY: takes numbers by value.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec there is one system call, and nothing that another thread could hold.
    unsafe { command.pre_exec(ask) };
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

/// What one datagram may have: a packet of 64 KiB with all that is said of it. Not a multiple of a page, so that the
/// beginnings of the slots, which are all that is read of small packets, do not all fall into one set of the
/// processor's cache.
const SLOT_BYTES: usize = (64 << 10) + (8 << 10) + 64 * 5;

/// Memory that another process may have, too; zero at first.
///
/// Numbers in it are atomic, so that who reads them while another one writes gets one of its values.
pub(crate) struct Shared {
    base: std::ptr::NonNull<u8>,
    len: usize,
    /// The file of it; none if it is of this process alone.
    file: Option<OwnedFd>,
}

// SAFETY: the memory belongs to this value alone, and is bound to no thread.
unsafe impl Send for Shared {}
// SAFETY: what a shared reference gives are atomic numbers and copies; slots of a Batch are written by that Batch alone.
unsafe impl Sync for Shared {}

impl Shared {
    /// Where memory of this process alone is aligned.
    const ALIGN: usize = 64;

    /// Memory of this process alone.
    pub(crate) fn alone(len: usize) -> Self {
        let len = len.max(8);
        let layout = std::alloc::Layout::from_size_align(len, Self::ALIGN);
        let layout = layout.unwrap_or(std::alloc::Layout::new::<u64>());
        // SAFETY: the layout has a size above zero.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(base) = std::ptr::NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
        Self { base, len: layout.size(), file: None }
    }

    /// Memory that a process gets by its descriptor (memfd_create(2)). Nobody can make it smaller, so that no access fails.
    pub(crate) fn for_others(len: usize) -> io::Result<Self> {
        // SAFETY: the name ends with a NUL and outlives the call.
        let fd =
            unsafe { libc::memfd_create(c"dunnat".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: takes numbers by value.
        let is_sized = unsafe { libc::ftruncate(fd, len as libc::off_t) } == 0;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        // SAFETY: as above.
        let is_sealed = is_sized && unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } == 0;
        if !is_sealed {
            return Err(io::Error::last_os_error());
        }
        Self::of(file)
    }

    /// The memory of a descriptor that [`for_others`](Self::for_others) made, maybe in another process.
    pub(crate) fn of(file: OwnedFd) -> io::Result<Self> {
        let fd = file.as_raw_fd();
        // SAFETY: takes numbers by value; a descriptor that is no such file is an error.
        let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
        if seals < 0 {
            return Err(io::Error::last_os_error());
        }
        if seals & libc::F_SEAL_SHRINK == 0 {
            return Err(io::Error::other("memory that could be taken away"));
        }
        // SAFETY: all-zero is a valid stat.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the value is a stat, which lives here.
        if unsafe { libc::fstat(fd, &raw mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let len = stat.st_size as usize;
        // SAFETY: a new mapping, at a place that the kernel chooses; the file has that length, and keeps it.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        match std::ptr::NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Self { base, len, file: Some(file) })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The descriptor by which another process gets it; none if it is of this process alone.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(OwnedFd::as_fd)
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The numbers in `count` words of 64 bits from the word `from` on; none beyond the end.
    #[inline]
    pub(crate) fn numbers(&self, from: usize, count: usize) -> &[AtomicU64] {
        let words = self.len / size_of::<u64>();
        let from = from.min(words);
        let count = count.min(words - from);
        // SAFETY: the words are within the memory, which lives as long as this value, is aligned to pages or to ALIGN, and any
        // bits are a valid number. Whoever else has it changes it as such numbers, or, where a Batch lies, not while it is read.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast::<AtomicU64>().add(from), count) }
    }

    /// A copy of the bytes in that range, as far as they are there.
    pub(crate) fn copy(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        let end = range.end.min(self.len);
        let len = end.saturating_sub(range.start);
        let mut bytes = vec![0; len];
        if len > 0 {
            // SAFETY: the range is within the memory, and the bytes were just made, of that length.
            unsafe {
                std::ptr::copy_nonoverlapping(self.base.as_ptr().add(range.start), bytes.as_mut_ptr(), len);
            }
        }
        bytes
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        match self.file {
            // SAFETY: mapped with that length, and nobody has a reference into it any more.
            Some(_) => unsafe {
                libc::munmap(self.base.as_ptr().cast(), self.len);
            },
            None => {
                if let Ok(layout) = std::alloc::Layout::from_size_align(self.len, Self::ALIGN) {
                    // SAFETY: taken with that layout, and nobody has a reference into it any more.
                    unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) };
                }
            }
        }
    }
}

/// Slots of memory that one system call fills with many datagrams.
pub(crate) struct Batch {
    memory: Arc<Shared>,
    /// Where in the memory the slots begin.
    at: usize,
    headers: Vec<libc::mmsghdr>,
    /// Pointed to by `headers`.
    _iovecs: Vec<libc::iovec>,
}

// SAFETY: the pointers in `headers` and `_iovecs` lead to memory that this value owns, and that does not move
// when it does.
unsafe impl Send for Batch {}

impl Batch {
    /// How many bytes of memory that many datagrams need.
    pub(crate) const fn bytes_for(count: usize) -> usize {
        count * SLOT_BYTES
    }

    /// Room for that many datagrams, in memory of its own.
    pub(crate) fn new(count: usize) -> Self {
        Self::within(Arc::new(Shared::alone(Self::bytes_for(count))), 0, count)
    }

    /// Room for datagrams in that memory, where nobody else writes: as many as fit.
    pub(crate) fn within(memory: Arc<Shared>, at: usize, count: usize) -> Self {
        let at = at.next_multiple_of(8).min(memory.len());
        let count = count.min((memory.len() - at) / SLOT_BYTES);
        let mut iovecs: Vec<libc::iovec> = (0..count)
            .map(|slot| libc::iovec {
                // SAFETY: all slots are within the memory.
                iov_base: unsafe { memory.base.as_ptr().add(at + slot * SLOT_BYTES).cast() },
                iov_len: SLOT_BYTES,
            })
            .collect();
        let headers = iovecs
            .iter_mut()
            .map(|iovec| {
                // SAFETY: all-zero is a valid mmsghdr: null pointers with lengths of zero.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = iovec;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self { memory, at, headers, _iovecs: iovecs }
    }

    /// Waits for one datagram at least, takes as many as are there and fit, and says how many.
    pub(crate) fn receive(&mut self, fd: RawFd) -> io::Result<usize> {
        self.receive_as(fd, libc::MSG_WAITFORONE)
    }

    /// The same without waiting: the error is `WouldBlock` if none is there.
    pub(crate) fn receive_now(&mut self, fd: RawFd) -> io::Result<usize> {
        self.receive_as(fd, libc::MSG_DONTWAIT)
    }

    fn receive_as(&mut self, fd: RawFd, flags: i32) -> io::Result<usize> {
        let slots = self.headers.len() as libc::c_uint;
        // SAFETY: each header leads to an iovec, and that to a slot of the memory, which nobody else writes; self is borrowed
        // mutably, so no reference into the slots lives. Names and control data are not asked for.
        let count =
            unsafe { libc::recvmmsg(fd, self.headers.as_mut_ptr(), slots, flags, std::ptr::null_mut()) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        self.headers.len()
    }

    /// A slot.
    #[inline]
    fn slot_mut(&mut self, slot: usize) -> &mut [u8] {
        assert!(slot < self.headers.len());
        // SAFETY: the slot is within the memory, and of this value alone, which is borrowed mutably.
        unsafe {
            let start = self.memory.base.as_ptr().add(self.at + slot * SLOT_BYTES);
            std::slice::from_raw_parts_mut(start, SLOT_BYTES)
        }
    }

    /// Puts a datagram into a slot, as if it had been received.
    pub(crate) fn fill(&mut self, slot: usize, datagram: &[u8]) {
        let fits = self.slot_mut(slot).get_mut(..datagram.len()).map(|bytes| bytes.copy_from_slice(datagram));
        let header = &mut self.headers[slot];
        header.msg_len = datagram.len() as libc::c_uint;
        header.msg_hdr.msg_flags = if fits.is_some() { 0 } else { libc::MSG_TRUNC };
    }

    /// The datagram in a slot, as of the last [`receive`](Self::receive); empty if it did not fit.
    #[inline]
    pub(crate) fn datagram(&mut self, slot: usize) -> &mut [u8] {
        let header = &self.headers[slot];
        let fits = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        let len = if fits { header.msg_len as usize } else { 0 };
        self.slot_mut(slot).get_mut(..len).unwrap_or_default()
    }

    /// Some bytes of the datagram in a slot.
    #[inline]
    pub(crate) fn bytes(&self, slot: usize, range: std::ops::Range<usize>) -> &[u8] {
        assert!(slot < self.headers.len());
        // SAFETY: the slot is within the memory, and of this value alone, which is borrowed.
        let bytes = unsafe {
            let start = self.memory.base.as_ptr().add(self.at + slot * SLOT_BYTES);
            std::slice::from_raw_parts(start, SLOT_BYTES)
        };
        bytes.get(range).unwrap_or_default()
    }
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
