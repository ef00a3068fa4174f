//! Least rights: what a thread that serves packets, or a process that does, gives up before it looks at what others have sent.
//!
//! A packet is the one thing here that anybody can write. So who reads packets keeps what that takes, and nothing else:
//!
//! | given up | by | for good |
//! |---|---|---|
//! | every capability but `CAP_NET_ADMIN`, which each verdict takes | capset(2), `PR_CAPBSET_DROP` | the thread |
//! | rights by starting a program | `PR_SET_NO_NEW_PRIVS` | the thread |
//! | all files, or all but some; TCP; signals to other processes | Landlock | the thread |
//! | system calls that are not on a list | seccomp(2) | the thread |
//!
//! All of that belongs to a thread, and those that it starts have it, too. [`Packets`] is for a thread that serves packets, and
//! [`Process`] for all threads of a process in which there are some. In a process that has more rights than its packet threads this
//! stops faults, and whoever can call what the program calls; whoever can write to its memory has what another thread has. So the
//! process should have no more rights than they.
//!
//! # A system call that is not on the list
//!
//! With [`Level::Strict`] it ends the process by the signal SIGSYS. With [`Level::Auto`] it fails with EPERM, and is counted
//! ([`refused()`]). A new C library may call what the list lacks; then the node goes on.
//!
//! A filter has several ways to refuse. To return an error (`SECCOMP_RET_ERRNO`) counts nothing. To notify somebody
//! (`SECCOMP_RET_USER_NOTIF`) lets the thread wait until that one has answered, and only one of several filters can do it. To log
//! (`SECCOMP_RET_LOG`) lets the call happen. So the filter traps it (`SECCOMP_RET_TRAP`): the thread gets SIGSYS, and the handler
//! counts, and has the call return EPERM. To start a thread or a program fails as well, and is not counted: the C library
//! blocks all signals for that time, and a signal that is forced on who blocks it ends the process.
//!
//! What a filter cannot tell apart stays allowed. A thread with `CAP_NET_ADMIN` and a socket of nfnetlink can send any message of
//! nfnetlink, also one that changes rules of nftables.

mod calls;
mod capabilities;
mod files;
mod filter;
mod packets;
mod process;
mod refused;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use packets::{Packets, tell_panics_plainly};
pub use process::{Paths, Process};
pub use refused::{Refused, Teller, add, refused};

/// How much is given up, and what becomes of a system call that is not on the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// All of it, or it is an error; the system call ends the process.
    Strict,
    /// What this kernel can, and what it cannot is told; the system call fails with EPERM, and is counted.
    #[default]
    Auto,
    /// Nothing.
    Off(WhyOff),
}

/// Why nothing is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyOff {
    /// Somebody wants it so.
    Wanted,
    /// A thread that serves packets starts a program: the policy.
    Program,
    /// A thread that serves packets shows them to a person.
    Shown,
}

impl Level {
    /// Its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Auto => "auto",
            Self::Off(_) => "off",
        }
    }
}

impl fmt::Display for WhyOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wanted => "--sandbox off",
            Self::Program => "the policy is a program, which worker threads start",
            Self::Shown => "worker threads show packets to a person",
        })
    }
}

/// What was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Applied {
    /// `strict`, `auto` or `off`.
    pub level: String,
    /// Why nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The capabilities that are kept; none if they are those that the node was started with.
    pub capabilities: Option<Vec<String>>,
    /// How many system calls are allowed; none if all are.
    pub system_calls: Option<u64>,
    /// By which version of Landlock files are out of reach; none if they are not.
    pub landlock: Option<u64>,
    /// What could not be given up, each with what the system said.
    pub lacks: Vec<String>,
}

/// Something could not be given up, and had to be.
#[derive(Debug, thiserror::Error)]
#[error("--sandbox strict: {0}; to go on without that: --sandbox auto")]
pub struct NotApplied(String);

impl Applied {
    fn new(level: Level) -> Self {
        Self { level: level.name().to_owned(), ..Self::default() }
    }

    fn off(why: WhyOff) -> Self {
        Self { because: Some(why.to_string()), ..Self::new(Level::Off(why)) }
    }

    /// With what was tried as far as it went; for [`Level::Strict`] it has to have gone all the way.
    fn judged(self, level: Level) -> Result<Self, NotApplied> {
        match (level, self.lacks.first()) {
            (Level::Strict, Some(_)) => Err(NotApplied(self.lacks.join("; "))),
            _ => Ok(self),
        }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(because) = &self.because {
            return write!(f, "those that dunnat was started with ({because})");
        }
        match &self.capabilities {
            Some(kept) if kept.is_empty() => f.write_str("no capability")?,
            Some(kept) => write!(f, "{} alone", kept.join(", "))?,
            None => f.write_str("all capabilities that dunnat was started with")?,
        }
        match self.system_calls {
            Some(count) => write!(f, ", {count} system calls")?,
            None => f.write_str(", all system calls")?,
        }
        match self.landlock {
            Some(version) => write!(f, ", files by Landlock {version}")?,
            None => f.write_str(", files as its user")?,
        }
        match (self.level.as_str(), self.system_calls) {
            ("strict", _) => f.write_str("; any other system call ends the process")?,
            (_, Some(_)) => f.write_str("; any other system call fails, and is counted")?,
            _ => {}
        }
        self.lacks.iter().try_for_each(|lack| write!(f, "; {lack}"))
    }
}

#[cfg(test)]
mod tests;
