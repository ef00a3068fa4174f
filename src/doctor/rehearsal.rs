//! What the rehearsal found: a fact for each thing that stops packets.

use super::{Fact, Host, Role, Section, Severity};
use crate::rehearse::{Outcome, Packet, Rehearsal, Way, advice};
use crate::text::counted;

pub(super) fn judge(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let Some(rehearsal) = &host.rehearsal else { return Vec::new() };
    let fact = || {
        Fact::new(Section::Others, "rehearsal", "packets come through a copy of this host")
            .otherwise(Severity::Matters, "rules that nobody has tried may stop them; try: dunnat rehearse")
    };
    let found = match rehearsal {
        Ok(found) => found,
        Err(why) => return vec![fact().unknown(why)],
    };
    let untried = found.untried(role.cluster);
    let mut facts: Vec<Fact> =
        found.causes().into_iter().map(|(cause, stopped)| stops(&cause, &stopped, role)).collect();
    if let Some(why) = untried {
        facts.push(fact().unknown(why));
    } else if facts.is_empty() {
        let tried = counted(found.outcomes.len() as u64, "flow");
        facts.push(fact().yes(format!("{tried} in {:.1} s", found.took.as_secs_f64())));
    }
    facts.extend(found.not_copied.iter().map(|what| {
        Fact::new(Section::Others, "copy", "the copy is like this host")
            .otherwise(Severity::GoodToKnow, "what that does to packets was not tried")
            .no(what)
    }));
    facts
}

/// What stops these flows.
fn stops(cause: &[String], stopped: &[(&Outcome, &Packet)], role: &Role<'_>) -> Fact {
    let is_unknown = !stopped.iter().any(|(outcome, _)| outcome.is_fault());
    // An error that is lost makes connections slow or hang, and some not at all.
    let is_vital =
        |(outcome, packet): &(&Outcome, &Packet)| outcome.probe.way != Way::Outbound && !packet.is_error;
    let severity = if stopped.iter().any(is_vital) { Severity::Broken } else { Severity::Matters };
    let first = stopped.first().map_or_else(String::new, |(outcome, packet)| {
        format!("{}: {}", outcome.name(role.cluster), packet.what)
    });
    let more = match stopped.len() {
        0 | 1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    let advice = advice(stopped, role.cluster, role.node).map_or_else(String::new, |it| format!("; {it}"));
    let found: Vec<&str> = cause.iter().map(|line| line.trim()).collect();
    let fact = Fact::new(Section::Others, "rehearsal", "packets come through a copy of this host")
        .about(found.first().copied().unwrap_or_default().trim_end_matches(':'))
        .otherwise(severity, format!("that is so for {first}{more}{advice}; all of them: dunnat rehearse"));
    if is_unknown { fact.unknown(found.join(" ")) } else { fact.no(found.join(" ")) }
}

impl Rehearsal {
    /// Whether that chain, as in `inet fw forward`, stops a flow.
    pub(super) fn is_stopped_by(&self, chain: &str) -> bool {
        self.outcomes
            .iter()
            .any(|it| it.fate.rule().is_some_and(|rule| format!("{} {}", rule.table, rule.chain) == chain))
    }
}
