//! What the kernel can do, found out by doing it where it harms nobody.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Reading;
use crate::kernel::tool::{self, Tool};
use crate::kernel::{self, Support};
use crate::netlink::conntrack;
use crate::netlink::nfqueue::{Config, FLAG_GSO};
use crate::netlink::socket::Socket;

/// Features that are tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Features {
    /// nft's `queue` statement.
    pub nft_queue: Support,
    /// The target NFQUEUE of x_tables.
    pub xt_nfqueue: Support,
    /// Queues at all: nfnetlink_queue.
    pub queues: Support,
    /// A queue with the flag `NFQA_CFG_F_GSO`.
    pub queue_gso: Support,
    /// Verdicts that set ct marks, and queues that show them.
    pub ct_mark_by_verdict: Support,
    /// Conntrack over netlink.
    pub ctnetlink: Support,
    /// The hook egress of nft's family netdev.
    pub netdev_egress: Support,
}

impl Features {
    /// Tries each in a network namespace of its own.
    ///
    /// Without the right to make one, `dunnat doctor --in-scratch-namespace`, of the executable `program`, is run in a user
    /// namespace. Without any namespace nothing is known.
    pub fn in_scratch_namespace(program: &Path) -> Self {
        Self::tried(program).unwrap_or_else(|why| Self::unknown(&why))
    }

    fn tried(program: &Path) -> Reading<Self> {
        let said = match kernel::in_scratch_namespace(Self::try_here) {
            Ok(features) => return Ok(features),
            Err(error) => error.to_string(),
        };
        let more = match kernel::in_scratch_user_namespace(program, &["doctor", "--in-scratch-namespace"]) {
            Err(error) => format!("unshare: {error}"),
            Ok(output) => match serde_json::from_slice(&output.stdout) {
                Ok(features) => return Ok(features),
                Err(_) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
            },
        };
        Err(format!("cannot make a network namespace for the test: {said}; {more}"))
    }

    /// Tries each here. Rules and queues that it makes stay: this is for a namespace that is thrown away.
    pub fn try_here() -> Self {
        let queues = queue(0);
        let nft_queue = kernel::nft_queue();
        Self {
            ct_mark_by_verdict: kernel::ct_mark_by_verdict(nft_queue == Support::Yes),
            nft_queue,
            xt_nfqueue: kernel::xt_nfqueue(),
            queue_gso: match &queues {
                Support::Yes => queue(FLAG_GSO),
                other => other.clone(),
            },
            queues,
            ctnetlink: ctnetlink(),
            netdev_egress: netdev_egress(),
        }
    }

    /// Nothing could be tried.
    pub(super) fn unknown(why: &str) -> Self {
        let unknown = || Support::Unknown(why.to_owned());
        Self {
            nft_queue: unknown(),
            xt_nfqueue: unknown(),
            queues: unknown(),
            queue_gso: unknown(),
            ct_mark_by_verdict: unknown(),
            ctnetlink: unknown(),
            netdev_egress: unknown(),
        }
    }

    /// As one line that [`in_scratch_namespace`](Self::in_scratch_namespace) reads.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

fn netdev_egress() -> Support {
    let check = |hook: &str| {
        let rules = format!(
            "table netdev dunnat-probe {{\n\tchain probe {{\n\t\ttype filter hook {hook} device lo priority \
             0\n\t}}\n}}\n"
        );
        tool::feed(Tool::Nft, &["--check", "--file", "-"], &rules)
    };
    Support::against(check("ingress"), check("egress"))
}

fn queue(flags: u32) -> Support {
    let config = Config { copy: 0, max_len: 1, flags };
    answered(Socket::small().and_then(|socket| socket.bind(0, config)))
}

fn ctnetlink() -> Support {
    answered(Socket::small().and_then(|socket| socket.ask(&conntrack::stats_request())))
}

/// nfnetlink answers EINVAL for a subsystem that is not there, and EOPNOTSUPP for what that does not know.
fn answered(answer: std::io::Result<()>) -> Support {
    match answer {
        Ok(()) => Support::Yes,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            Support::No(error.to_string())
        }
        Err(error) => Support::Unknown(error.to_string()),
    }
}
