//! A plan in words: what was chosen, and why.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use super::{Backend, CtMarkBy, Deciding, Plan, QueueBy, RewriteBy, StandIn, Traffic};
use crate::cluster::Cluster;
use crate::kernel::{Capabilities, Support};
use crate::net::Stage;

/// One choice between ways of doing something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What there was to choose.
    pub about: &'static str,
    /// What was chosen.
    pub chosen: &'static str,
    /// Why.
    pub because: String,
    /// It is not what a kernel that has everything would get, and nobody asked for it.
    pub fallback: bool,
}

impl Plan {
    /// The choices of a plan that was made for that kernel, with their reasons.
    pub fn choices(&self, kernel: &Capabilities) -> Vec<Choice> {
        let (chosen, because) = match self.queue_by {
            QueueBy::Nft => ("nft queue", "this kernel has it".to_owned()),
            QueueBy::Xt => ("the target NFQUEUE", reason("nft queue", &kernel.nft_queue)),
        };
        let queue = Choice {
            about: "queueing",
            chosen,
            because,
            fallback: self.queue_by == QueueBy::Xt && !is_wish(&kernel.nft_queue),
        };
        let (chosen, because) = match (self.ct_mark_by, self.backend) {
            (CtMarkBy::Verdict, _) => ("by the verdict", "this kernel does it (tested)".to_owned()),
            (CtMarkBy::Rules, Backend::Nfq) => {
                ("by rules", "the nfq crate neither shows nor sets them".to_owned())
            }
            (CtMarkBy::Rules, Backend::Netlink) => {
                ("by rules", reason("ct marks by verdict", &kernel.ct_mark_by_verdict))
            }
        };
        let ct_mark = Choice {
            about: "ct marks",
            chosen,
            because,
            fallback: self.ct_mark_by == CtMarkBy::Rules
                && self.backend == Backend::Netlink
                && !is_wish(&kernel.ct_mark_by_verdict),
        };
        let asked = |about, chosen, because: &str| Choice {
            about,
            chosen,
            because: because.to_owned(),
            fallback: false,
        };
        vec![
            queue,
            ct_mark,
            match self.rewrite_by {
                RewriteBy::Kernel if self.decides_once() => asked(
                    "addresses",
                    "by rules",
                    "--decide flow: what follows a decision is rewritten in the kernel",
                ),
                RewriteBy::Userspace => {
                    asked("addresses", "by the worker", "the worker sends the changed packet back")
                }
                RewriteBy::Kernel => asked(
                    "addresses",
                    "by rules",
                    "--rewrite kernel: the worker only sets the mark, but rewrites ICMP errors itself",
                ),
            },
            match self.full {
                false if self.translator.is_some() => asked(
                    "which packets",
                    "those of a translator",
                    "the policy gives ports to guests: what comes to these, and all that guests send out",
                ),
                _ if self.deciding == Deciding::OnceAFlow => asked(
                    "which packets",
                    "once a flow",
                    "--decide flow: rules remember what was decided, and carry what follows",
                ),
                false if self.sees_all(Stage::Tag) => asked(
                    "which packets",
                    "all at tag and save",
                    "[marks] on_conflict: a flow with a tag may get a packet with another tag",
                ),
                false => asked(
                    "which packets",
                    "lean rules",
                    "tag and save see only packets of flows without a tag",
                ),
                true => asked("which packets", "full rules", "--full: every packet visits every stage"),
            },
            match self.backend {
                Backend::Netlink => asked("backend", "netlink", "many packets per system call"),
                Backend::Nfq => asked("backend", "nfq", "--backend nfq: one packet per system call"),
            },
            match self.stand_in {
                StandIn::None => asked(
                    "stand-in",
                    "none",
                    "a packet that no worker takes is dropped; --stand-in kernel has the kernel translate it",
                ),
                StandIn::Kernel => asked(
                    "stand-in",
                    "kernel",
                    "--stand-in kernel: rules translate what no worker takes, but not ICMP errors and DCCP",
                ),
            },
        ]
    }

    /// All of it as a text to read.
    pub fn explain(&self, cluster: &Cluster, kernel: &Capabilities) -> String {
        let mut out = format!("{}\n\n", self.summary(cluster));
        for Choice { about, chosen, because, .. } in self.choices(kernel) {
            let _ = writeln!(out, "{about:<15} {chosen:<21} {because}");
        }
        let _ =
            writeln!(out, "\n{:<15} {:<6} {:<12} {:<19} content", "queues", "stage", "packets", "ct mark");
        for stage in Stage::ALL {
            for (lane, queues) in self.queues_of(stage) {
                let traffic = match lane.traffic {
                    Traffic::Any => "all",
                    Traffic::Tcp => "tcp",
                    Traffic::NotTcp => "all but tcp",
                    Traffic::Errors => "icmp errors",
                };
                let ct_mark = lane.ct_mark;
                let range = format!("{}-{}", queues.start(), queues.end());
                let _ = writeln!(
                    out,
                    "{range:<15} {:<6} {traffic:<12} {ct_mark:<19} {}",
                    stage.name(),
                    match (self.gso(lane), self.rewrites(lane)) {
                        (true, true) => "whole packet, up to 64 KiB of segments at once",
                        (false, _) => "whole packet, one segment at a time",
                        (true, false) => "headers only",
                    }
                );
            }
        }
        let range = |queues: &RangeInclusive<u16>| format!("{}-{}", queues.start(), queues.end());
        match self.spare() {
            Some(spare) => {
                let (now, spare) = (range(&self.queues()), range(&spare));
                let _ = writeln!(out, "{spare:<15} for the next reload; the one after it takes {now} again");
            }
            None => out.push_str("no numbers are left for a reload: choose a lower --queue-base\n"),
        }
        out
    }

    /// In a few words: whose it is, and its workers and queues.
    pub(crate) fn summary(&self, cluster: &Cluster) -> String {
        self.layout.summary(&cluster.node(self.node).name)
    }
}

/// Why a feature is done without.
fn reason(feature: &str, support: &Support) -> String {
    match support {
        // Not a plan for that kernel.
        Support::Yes => format!("this kernel has {feature}"),
        Support::No(said) if is_wish(support) => said.clone(),
        Support::No(said) => format!("this kernel has no {feature} ({said})"),
        Support::Unknown(said) => {
            format!(
                "cannot find out whether this kernel has {feature} ({said}); this choice works on every \
                     kernel"
            )
        }
    }
}

/// Whether somebody wanted the feature left alone.
fn is_wish(support: &Support) -> bool {
    *support == Support::unwanted()
}
