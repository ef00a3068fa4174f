//! Rights, and the tools that rules are given to.

use super::{Fact, Host, Section, Severity};
use crate::kernel::tool::Tool;

pub(super) fn judge(host: &Host) -> Vec<Fact> {
    let mut facts = vec![rights(host.may_administer)];
    for (tool, version) in &host.tools {
        let (severity, meaning) = match tool {
            Tool::Nft => (Severity::Broken, "dunnat installs all rules with it"),
            _ => (Severity::Matters, "without it, interfaces cannot be checked"),
        };
        let fact = Fact::new(Section::Privileges, tool.name(), format!("{tool} is installed"))
            .otherwise(severity, meaning);
        facts.push(match version {
            Ok(version) => fact.yes(version),
            Err(failure) if failure.is_missing() => match host.beside_the_path.get(tool.name()) {
                Some(path) => fact
                    .no(format!("{path}, which is not in PATH"))
                    .fix("PATH=$PATH:/usr/sbin:/sbin; export PATH"),
                None => fact.no("no such program").fix(format!("apt install {}", tool.package())),
            },
            Err(failure) => fact.unknown(failure.to_string()),
        });
    }
    facts
}

/// The right to administer the network.
pub(crate) fn rights(may: bool) -> Fact {
    let fact = Fact::new(Section::Privileges, "cap-net-admin", "CAP_NET_ADMIN (network administration)")
        .otherwise(Severity::Broken, "run dunnat as root: it installs rules and opens queues");
    if may { fact.yes("") } else { fact.no("") }
}
