//! Why rules could not be installed, or not removed.

use std::io;

use crate::kernel::tool::Failure;

/// Why rules could not be installed, or not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// A tool is missing or said no.
    #[error(transparent)]
    Tool(#[from] Failure),
    /// Another dunnat serves in this network namespace.
    #[error("{0} is serving in this network namespace already; stop it first")]
    Serving(String),
    /// Another node than the one that was named.
    #[error("{serves} serves in this network namespace, not {asked}")]
    Other {
        /// The node that serves.
        serves: String,
        /// The one that was named.
        asked: String,
    },
    /// A shadow serves, and what does the work is its own.
    #[error(
        "{0} is a shadow, and the pure ruleset that does the work ends with it; end the shadow first (Ctrl-C or SIGTERM), then \
         run this again"
    )]
    Shadow(String),
    /// A table of the pure ruleset is not there, or would not stay.
    #[error(
        "the pure ruleset cannot do the work alone: its table {0} is not there, or belongs to a node; nothing was ended. See \
         `nft list ruleset`, remove the other tables of the pure ruleset, and run this again"
    )]
    NotPure(String),
    /// Another dunnat traces the packets of this network namespace.
    #[error(
        "`dunnat trace --kernel` is running in this network namespace already (process {0}); stop it first"
    )]
    Tracing(u32),
    /// Our name is in use by something that is not ours.
    #[error("{0}")]
    NameTaken(String),
    /// The tool said yes, and the kernel does not have what was asked for.
    #[error(
        "nft accepted the rules, but the kernel has different ones: {0}. This is a bug in nft or dunnat; \
         please report it"
    )]
    Differs(String),
    /// The kernel said no.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// A base chain would have to go while packets wait that it would drop.
    #[error(
        "packets wait in the queues {0} of this network namespace, and the kernel would drop them if dunnat \
         removed a chain now. Let the program that reads these queues finish, or stop it; then try again"
    )]
    Waiting(String),
}

pub(super) fn cannot(what: &'static str) -> impl Fn(io::Error) -> InstallError {
    move |source| InstallError::Kernel { what, source }
}
