//! A rehearsal for a person: what stops flows, each with the flows that it stops; then those that came through.

use std::fmt::Write as _;

use super::{Fate, Loss, Outcome, Packet, Rehearsal, RuleMet, Way};
use crate::cluster::{Cluster, NodeId};
use crate::text::{counted, escaped};

pub(super) fn render(rehearsal: &Rehearsal, cluster: &Cluster, node: NodeId) -> String {
    let Rehearsal { outcomes, not_copied, took } = rehearsal;
    let through = outcomes.iter().filter(|it| it.fate == Fate::Through).count();
    let mut out = format!(
        "{} on a copy of this host: {} tried in {:.1} s, {through} came through\n",
        cluster.node(node).name,
        counted(outcomes.len() as u64, "flow"),
        took.as_secs_f64()
    );
    for (cause, stopped) in rehearsal.causes() {
        out.push('\n');
        for line in &cause {
            let _ = writeln!(out, "{}", escaped(line));
        }
        for (outcome, packet) in &stopped {
            let Packet { number, of, what, .. } = *packet;
            let _ = writeln!(out, "  {}: {what} (packet {number} of {of})", name(outcome, cluster));
        }
        if let Some(advice) = advice(&stopped, cluster, node) {
            let _ = writeln!(out, "  {advice}");
        }
    }
    if through > 0 {
        out.push_str("\ncame through:\n");
        for outcome in outcomes.iter().filter(|it| it.fate == Fate::Through) {
            let _ = writeln!(out, "  {}", name(outcome, cluster));
        }
    }
    if !not_copied.is_empty() {
        out.push_str("\nnot in the copy, so that what it does could not be told:\n");
        for what in not_copied {
            let _ = writeln!(out, "  {}", escaped(what));
        }
    }
    out
}

/// Which flow it is: `IPv4 web (tcp port 80), entry node and home node`.
pub(super) fn name(outcome: &Outcome, cluster: &Cluster) -> String {
    let probe = &outcome.probe;
    let what = match probe.service {
        Some(id) => {
            let service = cluster.service(id);
            format!("{} ({})", service.name, service.wants())
        }
        None => "a guest's own connection".to_owned(),
    };
    let way = match probe.way {
        Way::Local => ", entry node and home node".to_owned(),
        Way::Entry => ", entry node".to_owned(),
        Way::Home(entry) => format!(", home node, entry node {}", cluster.node(entry).name),
        Way::Outbound => " to the public LAN".to_owned(),
    };
    format!("{} {what}{way}", probe.family)
}

/// What to do about rules that stop only flows which conntrack does not track.
pub(crate) fn advice(
    stopped: &[(&Outcome, &Packet)],
    cluster: &Cluster,
    node: NodeId,
) -> Option<&'static str> {
    let is_foreign = |(outcome, _): &(&Outcome, &Packet)| {
        let by_others = outcome.fate.rule().is_some_and(|rule| !rule.is_ours);
        outcome.probe.way == Way::Entry && by_others
    };
    (cluster.passes_foreign(node) && stopped.iter().all(is_foreign)).then_some(
        "only foreign flows, which conntrack does not track here: have that ruleset accept `ct state untracked`, or set foreign = \"track\" (dunnat help foreign)",
    )
}

/// A cause in lines, and the flows that it stops, each with the packet that is stopped.
type Stopped<'a> = (Vec<String>, Vec<(&'a Outcome, &'a Packet)>);

impl Rehearsal {
    /// What stopped flows.
    pub(crate) fn causes(&self) -> Vec<Stopped<'_>> {
        let mut all: Vec<Stopped<'_>> = Vec::new();
        for outcome in &self.outcomes {
            let Some((cause, packet)) = outcome.fate.cause() else { continue };
            match all.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, stopped)) => stopped.push((outcome, packet)),
                None => all.push((cause, vec![(outcome, packet)])),
            }
        }
        all
    }
}

impl Fate {
    fn cause(&self) -> Option<(Vec<String>, &Packet)> {
        match self {
            Self::Through => None,
            Self::Lost(packet, loss) => Some((loss.lines(), packet)),
            Self::Changed(packet, change) => {
                let mut lines = vec![format!("CHANGED: comes out by {} as {}", change.out, change.tuple)];
                lines.extend(change.by.iter().flat_map(after));
                Some((lines, packet))
            }
            Self::Unknown(packet, why) => Some((vec![format!("UNKNOWN: {why}")], packet)),
        }
    }
}

impl Loss {
    fn lines(&self) -> Vec<String> {
        let (first, by) = match self {
            Self::Rule { rule, before } => {
                let whose = if rule.is_ours { " (dunnat's own)" } else { "" };
                let dropped = format!("LOST: dropped by {}{whose}:\n    {}", rule.place(), rule.rule);
                (dropped, before.as_ref())
            }
            Self::Node { stage, reason, before } => {
                (format!("LOST: dropped by dunnat at {stage}, reason {reason}"), before.as_ref())
            }
            Self::Neighbours(rule) => {
                let place = rule.place();
                let what = "the next host is not found: its ARP or neighbour discovery is dropped by";
                (format!("LOST: {what} {place}:\n    {}", rule.rule), None)
            }
            Self::Gone { after } => {
                let what =
                    "LOST: does not come out, though no rule drops it; it may have come to this host itself";
                (what.to_owned(), Some(after))
            }
            Self::Kernel(counted) if counted.is_empty() => {
                ("LOST: does not come out, though no rule that nft can trace drops it".to_owned(), None)
            }
            Self::Kernel(counted) => (format!("LOST: {}", counted.join("; ")), None),
        };
        first.lines().map(str::to_owned).chain(by.into_iter().flat_map(after)).collect()
    }
}

fn after(rule: &RuleMet) -> [String; 2] {
    [format!("  after this by {}:", rule.place()), format!("    {}", rule.rule)]
}
