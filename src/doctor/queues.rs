//! Whether the queues are free that the node would take.

use super::host::{QueueInUse, SERVICE_MANAGER};
use super::{Fact, Host, Role, Section, Severity};

pub(super) fn judge(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let (first, last) = (role.queues.start(), role.queues.end());
    let fact = Fact::new(Section::Cluster, "queue-numbers", format!("the queues {first} to {last} are free"))
        .otherwise(
            Severity::Broken,
            "only one program can read a queue: stop the other program, or choose other numbers with \
             --queue-base",
        );
    let in_use = match &host.queues {
        Err(why) => return vec![fact.unknown(why)],
        Ok(in_use) => in_use,
    };
    let taken: Vec<_> = in_use.iter().filter(|queue| role.queues.contains(&queue.number)).collect();
    let Some(queue) = taken.first() else {
        let free = fact.yes(match in_use.len() {
            0 => "no queue is in use".to_owned(),
            others => format!("{others} others in use"),
        });
        return [free].into_iter().chain(for_a_reload(in_use, role)).collect();
    };
    // A node that serves already is not in its own way.
    let is_served = host
        .rules
        .as_ref()
        .is_ok_and(|rules| rules.comments.iter().any(|(table, _)| table == "inet dunnat-serving"));
    let is_its = queue.process.as_ref().is_none_or(|(_, name)| name == "dunnat");
    if is_served && is_its && taken.iter().all(|other| other.process == queue.process) {
        let process = queue.process.as_ref().map_or(String::new(), |(id, _)| format!(", process {id}"));
        return vec![fact.yes(format!("dunnat is serving here{process}"))];
    }
    vec![match &queue.process {
        // It has the sockets of a unit whose process is away: to end it would help nobody.
        Some((SERVICE_MANAGER, name)) => fact
            .no(format!("queue {} is kept by {name}, for a unit that is away", queue.number))
            .by_hand("systemctl stop 'dunnat@*'"),
        Some((id, name)) => fact
            .no(format!("queue {} is taken by process {id} ({name})", queue.number))
            .by_hand(format!("kill {id}")),
        None => fact.no(format!("queue {} is taken", queue.number)),
    }]
}

/// A node that is reloaded takes others: told only if somebody else has one of them.
fn for_a_reload(in_use: &[QueueInUse], role: &Role<'_>) -> Option<Fact> {
    let spare = role.spare.as_ref()?;
    let (first, last) = (spare.start(), spare.end());
    let is_node = |queue: &QueueInUse| queue.process.as_ref().is_none_or(|(_, name)| name == "dunnat");
    let taken = in_use.iter().find(|queue| spare.contains(&queue.number) && !is_node(queue))?;
    let who =
        taken.process.as_ref().map_or_else(String::new, |(id, name)| format!(" by process {id} ({name})"));
    let fact = Fact::new(
        Section::Cluster,
        "reload-queues",
        format!("the queues {first} to {last} are free, for a reload"),
    )
    .otherwise(
        Severity::GoodToKnow,
        "a node cannot be reloaded while another program reads one of these queues; --queue-base chooses other \
         numbers",
    );
    Some(fact.no(format!("queue {} is taken{who}", taken.number)))
}
