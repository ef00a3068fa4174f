//! Which system calls there are to be: two lists, and names.

/// A system call: its number on this processor, and its name.
pub(super) type Call = (i64, &'static str);

macro_rules! calls {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// For a thread that serves packets. Each was seen there (strace of nodes with traces, full rules, both backends), or is here for
/// the reason that is given.
pub(super) const FOR_PACKETS: &[&[Call]] = &[
    // Packets, and their verdicts; which lanes have any.
    calls! { SYS_recvmmsg SYS_writev SYS_epoll_pwait },
    // The same by the plain backend. Also the names of interfaces, by a pair of sockets.
    calls! { SYS_recvfrom SYS_sendto },
    // The log. What a worker process says to its keeper: that it cannot go on.
    calls! { SYS_write SYS_sendmsg },
    // To wait: for another thread, or for what passes. What a signal has interrupted goes on.
    calls! { SYS_futex SYS_sched_yield SYS_nanosleep SYS_clock_nanosleep SYS_restart_syscall SYS_rt_sigreturn },
    // The time, where the kernel does not tell it without a call (emulated clocks).
    calls! { SYS_clock_gettime },
    // Memory: malloc and free. mmap and mprotect only without the right to execute what is there.
    calls! { SYS_brk SYS_mmap SYS_mprotect SYS_munmap SYS_mremap SYS_madvise },
    // How many processors there are, for malloc; keys of hash tables.
    calls! { SYS_sched_getaffinity SYS_getrandom },
    // The end of a thread; its socket is closed by it. A program with debug assertions asks before whether it is open (F_GETFD).
    calls! { SYS_close SYS_fcntl SYS_sigaltstack SYS_exit SYS_exit_group },
    // A fault tells what it was, and aborts: the handler of SIGSEGV takes itself away, and the C library raises SIGABRT.
    calls! { SYS_rt_sigprocmask SYS_rt_sigaction SYS_gettid SYS_getpid SYS_tgkill },
];

/// What a process in which packets are served needs beside: threads that write traces, to files and to clients, and that come and
/// go; and threads that give up more than it has.
pub(super) const FOR_PROCESS: &[&[Call]] = &[
    // Threads; clone only for them.
    calls! { SYS_clone SYS_set_robust_list SYS_rseq SYS_prctl SYS_sched_setaffinity SYS_getcpu SYS_membarrier },
    // Sockets that it has, or gets.
    calls! { SYS_accept4 SYS_getsockopt SYS_setsockopt SYS_getsockname SYS_getpeername SYS_shutdown },
    calls! { SYS_socketpair SYS_sendmmsg },
    calls! { SYS_recvmsg },
    // Files, as far as Landlock lets it.
    calls! { SYS_openat SYS_newfstatat SYS_fstat SYS_statx SYS_lseek SYS_ftruncate SYS_fsync SYS_fdatasync },
    calls! { SYS_fchmod SYS_fchown SYS_renameat SYS_renameat2 SYS_unlinkat SYS_linkat SYS_readlinkat },
    calls! { SYS_getdents64 SYS_getcwd SYS_faccessat SYS_faccessat2 },
    calls! { SYS_read SYS_pread64 SYS_pwrite64 SYS_readv SYS_flock SYS_dup SYS_dup3 SYS_pipe2 SYS_eventfd2 },
    // Waiting for several.
    calls! { SYS_pselect6 SYS_ppoll SYS_epoll_create1 SYS_epoll_ctl },
    // What the C library may ask of the system by the way.
    calls! { SYS_gettimeofday },
    calls! { SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getppid SYS_uname SYS_sysinfo },
    calls! { SYS_prlimit64 SYS_getrusage },
    // Whether something is a terminal, and how wide; names of interfaces for traces, by a datagram socket of this host.
    calls! { SYS_ioctl SYS_socket },
    // What takes rights away, and gives none.
    calls! { SYS_capset SYS_capget SYS_seccomp },
    calls! { SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self },
    #[cfg(target_arch = "x86_64")]
    calls! { SYS_open SYS_stat SYS_lstat SYS_rename SYS_unlink SYS_link SYS_readlink SYS_access },
    #[cfg(target_arch = "x86_64")]
    calls! { SYS_poll SYS_select SYS_epoll_wait },
];

/// What who has taken over a thread would try first; only so that it has a name where it is told.
const TRIED: &[Call] = calls! {
    SYS_execve SYS_execveat SYS_connect SYS_bind SYS_listen SYS_clone3 SYS_ptrace SYS_kill SYS_tkill
    SYS_setuid SYS_setgid SYS_setresuid SYS_setresgid SYS_setgroups SYS_mount SYS_umount2 SYS_unshare
    SYS_setns SYS_bpf SYS_perf_event_open SYS_chroot
    SYS_pivot_root SYS_init_module SYS_finit_module SYS_process_vm_readv SYS_process_vm_writev
    SYS_pidfd_open SYS_pidfd_getfd
    SYS_memfd_create SYS_io_uring_setup SYS_userfaultfd SYS_keyctl SYS_add_key SYS_mkdirat
    SYS_wait4 SYS_waitid SYS_clock_settime
    SYS_personality
};

/// The name of a system call, or its number if it is none that is known here.
pub(super) fn name(number: usize) -> String {
    let all = FOR_PACKETS.iter().chain(FOR_PROCESS).copied().flatten().chain(TRIED);
    let name = all.filter(|(call, _)| usize::try_from(*call) == Ok(number)).map(|(_, name)| *name).next();
    name.map_or_else(|| format!("number {number}"), |name| name.trim_start_matches("SYS_").to_owned())
}
