//! Whether the queues are free that the node would take.

use super::{Fact, Host, Role, Section, Severity};
use crate::ruleset::owned;

pub(super) fn judge(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let (first, last) = (role.queues.start(), role.queues.end());
    let fact = Fact::new(Section::Cluster, "queue-numbers", format!("the queues {first} to {last} are free"))
        .otherwise(
            Severity::Broken,
            "a queue has one listener: stop the other, or choose other numbers with --queue-base",
        );
    let in_use = match &host.queues {
        Err(why) => return vec![fact.unknown(why)],
        Ok(in_use) => in_use,
    };
    // A node that serves already is not in its own way.
    let serving = host.rules.as_ref().ok().and_then(|rules| {
        let (_, comment) =
            rules.comments.iter().find(|(table, _)| ["ip dunnat", "ip6 dunnat"].contains(&table.as_str()))?;
        owned(comment)
    });
    let taken: Vec<_> = in_use.iter().filter(|queue| role.queues.contains(&queue.number)).collect();
    let Some(queue) = taken.first() else {
        return vec![fact.yes(match in_use.len() {
            0 => "no queue is in use".to_owned(),
            others => format!("{others} others in use"),
        })];
    };
    if let Some((owner, range)) = serving
        && taken.iter().all(|queue| range.contains(&queue.number))
    {
        return vec![fact.yes(format!("{owner} is serving here"))];
    }
    vec![match &queue.process {
        Some((id, name)) => fact
            .no(format!("queue {} is taken by process {id} ({name})", queue.number))
            .fix(format!("kill {id}")),
        None => fact.no(format!("queue {} is taken", queue.number)),
    }]
}
