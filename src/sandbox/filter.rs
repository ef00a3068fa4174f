//! The filter of system calls (seccomp(2)): what is on a list may be called, and what is not meets its fate.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::calls::{Call, FOR_PACKETS, FOR_PROCESS};
use super::{Applied, Level};
use crate::netlink::sys;

/// What each system call is asked for; any of these rules lets it pass, and no rule, too.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A system call that fails without more: it is neither counted nor fatal.
struct Quiet {
    call: i64,
    /// When it is meant.
    rules: Vec<SeccompRule>,
    errno: i32,
}

/// Who is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// A thread that serves packets.
    Packets,
    /// A process that has some.
    Process,
}

/// Filters this thread, and all that it starts.
pub(super) fn allow(of: Of, level: Level, applied: &mut Applied) {
    let fate = match level {
        Level::Strict => Ok(SeccompAction::KillProcess),
        Level::Auto => match sys::refuse_what_is_trapped() {
            Ok(true) => Ok(SeccompAction::Trap),
            // Nobody can count there.
            Ok(false) => Ok(SeccompAction::Errno(libc::EPERM as u32)),
            Err(error) => Err(error.to_string()),
        },
        Level::Off(_) => return,
    };
    let said = |error: seccompiler::Error| error.to_string();
    match fate.and_then(|fate| put(of, fate).map_err(said)) {
        Ok(count) => applied.system_calls = Some(count),
        Err(error) => applied.lacks.push(format!("system calls are not limited ({error})")),
    }
}

/// Tells how many calls are on the list.
fn put(of: Of, fate: SeccompAction) -> seccompiler::Result<u64> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut allowed = Rules::new();
    let more: &[&[Call]] = if of == Of::Process { FOR_PROCESS } else { &[] };
    for (call, _) in FOR_PACKETS.iter().chain(more).copied().flatten() {
        allowed.insert(*call, conditions(*call)?);
    }
    let count = allowed.len() as u64;
    // -1, none at all: a tracer writes that in place of a call that it has fail (strace, `inject`), before filters are asked.
    allowed.insert(u32::MAX.into(), Vec::new());
    // Of several filters the hardest word counts, and an error is harder than to let pass. So the list lets it pass, and
    // another filter refuses it. That one comes first: after the list there can be no more.
    for Quiet { call, rules, errno } in quiet(of, &fate)? {
        let refused = Rules::from([(call, rules.clone())]);
        let errno = SeccompAction::Errno(errno as u32);
        let filter = SeccompFilter::new(refused, SeccompAction::Allow, errno, architecture)?;
        apply_filter(&BpfProgram::try_from(filter)?)?;
        match allowed.entry(call) {
            Entry::Vacant(entry) => _ = entry.insert(rules),
            // What is there has conditions.
            Entry::Occupied(mut entry) => entry.get_mut().extend(rules),
        }
    }
    let list = SeccompFilter::new(allowed, fate, SeccompAction::Allow, architecture)?;
    apply_filter(&BpfProgram::try_from(list)?)?;
    Ok(count)
}

/// What fails without more.
fn quiet(of: Of, fate: &SeccompAction) -> Result<Vec<Quiet>, BackendError> {
    let mut quiet = Vec::new();
    let mut add = |call, rules, errno| quiet.push(Quiet { call, rules, errno });
    match of {
        // malloc opens a file for reading, once a process, when it gives memory back to the system, and does without
        // (glibc, malloc/arena.c, `check_may_shrink_heap()`).
        Of::Packets => {
            let writing = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
            add(libc::SYS_openat, vec![SeccompRule::new(vec![masked(2, writing, 0)?])?], libc::EACCES);
        }
        // The newer call for threads, whose flags no filter can see. As on kernels without it, the C library then makes the
        // older one, which is allowed for threads alone.
        Of::Process => add(libc::SYS_clone3, Vec::new(), libc::ENOSYS),
    }
    // While it starts a thread or a program the C library blocks all signals. A call that is trapped then ends the process.
    if *fate == SeccompAction::Trap {
        match of {
            Of::Packets => {
                add(libc::SYS_clone, Vec::new(), libc::EPERM);
                add(libc::SYS_clone3, Vec::new(), libc::EPERM);
            }
            Of::Process => {
                let no_thread = SeccompRule::new(vec![masked(0, libc::CLONE_THREAD, 0)?])?;
                add(libc::SYS_clone, vec![no_thread], libc::EPERM);
            }
        }
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_fork, libc::SYS_vfork] {
            add(call, Vec::new(), libc::EPERM);
        }
    }
    Ok(quiet)
}

/// The rules for a call that is allowed for some purposes only.
fn conditions(call: i64) -> Result<Vec<SeccompRule>, BackendError> {
    /// Whatever may be shared with a thread, and nothing that is a namespace of its own.
    const NAMESPACES: i32 = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let rule = |condition: Result<_, BackendError>| SeccompRule::new(vec![condition?]);
    Ok(match call {
        // Memory that can be written to is never executed.
        libc::SYS_mmap | libc::SYS_mprotect => vec![rule(masked(2, libc::PROT_EXEC, 0))?],
        libc::SYS_clone => vec![rule(masked(0, libc::CLONE_THREAD | NAMESPACES, libc::CLONE_THREAD))?],
        libc::SYS_ioctl => {
            let asked = [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONBIO, libc::SIOCGIFNAME];
            asked.into_iter().map(|request| rule(masked(1, -1, request as i32))).collect::<Result<_, _>>()?
        }
        libc::SYS_socket => {
            // As the C library asks for names (if_indextoname()); the other bits are flags.
            let datagrams = masked(1, 0xf, libc::SOCK_DGRAM)?;
            vec![SeccompRule::new(vec![masked(0, -1, libc::AF_UNIX)?, datagrams])?]
        }
        _ => Vec::new(),
    })
}

/// Whether an argument has that value, as far as the mask goes. Flags of the C library are numbers of 32 bits.
fn masked(argument: u8, mask: i32, value: i32) -> Result<SeccompCondition, BackendError> {
    let (mask, value) = (u64::from(mask.cast_unsigned()), u64::from(value.cast_unsigned()));
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}
