//! What the kernel can do, and what it is known to do wrong.

use super::fault::{FAULTS, Has, Version};
use super::{Fact, Host, Role, Section, Severity, features::Features};
use crate::kernel::Support;

pub(super) fn judge(host: &Host, role: Option<&Role<'_>>) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(features) = &host.features {
        facts.extend(tried(features));
    }
    facts.push(br_netfilter(host, role));
    if let Some(kernel) = &host.kernel {
        facts.extend(faults(kernel));
    }
    facts
}

fn tried(features: &Features) -> Vec<Fact> {
    use Severity::{Broken, GoodToKnow};
    let fact = |name, claim: &str, support: &Support, severity, meaning: &str| {
        Fact::new(Section::Kernel, name, claim).otherwise(severity, meaning).supported(support)
    };
    let by_xt = matches!(features.xt_nfqueue, Support::Yes);
    let by_nft = matches!(features.nft_queue, Support::Yes);
    let only_way = |other_is_there| if other_is_there { GoodToKnow } else { Broken };
    vec![
        fact(
            "nft-queue",
            "nft has the statement `queue`",
            &features.nft_queue,
            only_way(by_xt),
            if by_xt { "rules use the target NFQUEUE instead" } else { "no packet can be queued" },
        ),
        fact(
            "xt-nfqueue",
            "rules can use the target NFQUEUE",
            &features.xt_nfqueue,
            only_way(by_nft),
            if by_nft { "not needed: nft has `queue`" } else { "no packet can be queued" },
        ),
        fact(
            "nfnetlink-queue",
            "queues can be read (nfnetlink_queue)",
            &features.queues,
            Broken,
            "no program can send verdicts: the kernel needs CONFIG_NETFILTER_NETLINK_QUEUE",
        ),
        fact(
            "queue-gso",
            "queues leave GSO packets whole (F_GSO)",
            &features.queue_gso,
            Broken,
            "dunnat needs it; kernels since 3.10 have it",
        ),
        fact(
            "ct-mark-by-verdict",
            "a verdict sets the ct mark (NFQA_CT)",
            &features.ct_mark_by_verdict,
            GoodToKnow,
            "rules before and after the queues copy it instead",
        ),
        fact(
            "ctnetlink",
            "conntrack over netlink (ctnetlink)",
            &features.ctnetlink,
            GoodToKnow,
            "conntrack -L shows nothing, so ct marks are not visible",
        ),
        fact(
            "netdev-egress",
            "nft has the netdev hook egress",
            &features.netdev_egress,
            GoodToKnow,
            "only the rules of `rules --kernel` need it; `run` does not",
        ),
    ]
}

impl Fact {
    fn supported(self, support: &Support) -> Self {
        match support {
            Support::Yes => self.yes("tested"),
            Support::No(said) => self.no(said),
            Support::Unknown(why) => self.undecided(why),
        }
    }
}

fn br_netfilter(host: &Host, role: Option<&Role<'_>>) -> Fact {
    let needed = role.is_none_or(|role| !role.cluster.pipes(role.node).is_empty());
    Fact::new(Section::Kernel, "br-netfilter", "the module br_netfilter is loaded")
        .otherwise(
            if needed { Severity::Broken } else { Severity::GoodToKnow },
            "frames from other nodes cannot be tagged, so their clients get replies from the wrong address",
        )
        .fix("modprobe br_netfilter")
        .from(&host.has_br_netfilter(), |has| (*has, if *has { "" } else { "not loaded" }.to_owned()))
}

fn faults(kernel: &super::Reading<(String, String)>) -> Vec<Fact> {
    let fact = || Fact::new(Section::Kernel, "nfqueue-faults", "no known fault in nfnetlink_queue");
    let (release, version) = match kernel {
        Ok((release, version)) => (release, Version::read(release, version)),
        Err(why) => return vec![fact().unknown(why)],
    };
    let Some(version) = version else {
        return vec![
            fact()
                .otherwise(Severity::GoodToKnow, "see your distribution's announcements")
                .unknown(format!("{release} does not name its kernel.org release")),
        ];
    };
    let mut facts = Vec::new();
    for fault in &FAULTS {
        let severe = fault.name == "queue-rhashtable";
        let severity = if severe { Severity::Matters } else { Severity::GoodToKnow };
        let about = || {
            let meaning = format!("{}; install a newer kernel of the same series", fault.what);
            fact().about(fault.name).otherwise(severity, meaning)
        };
        match fault.is_in(version) {
            Has::No => {}
            Has::Yes => facts.push(about().no(format!("{version} has {}", fault.name))),
            Has::Perhaps => {
                facts.push(about().unknown(format!("{version} may have {}", fault.name)));
            }
        }
    }
    if facts.is_empty() { vec![fact().yes(version.to_string())] } else { facts }
}
