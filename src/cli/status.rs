use std::fmt::Write as _;

use clap::Args;
use dunnat::control::{Flows, Ledger, Queue, Status as Reported};
use dunnat::remote::Place;
use dunnat::text::{counted, escaped};
use jiff::Timestamp;

use super::many::{On, answers, say_missing};
use super::running::{RunningArgs, ask_status};
use super::{Failure, note, print, print_json};

/// Show what a running node says about itself: its packets and decisions, losses, guard, and rehearsal
///
/// Exit status: 0 if the node is well; 1 if something is amiss, or nobody answers.
#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    of: RunningArgs,
    #[command(flatten)]
    on: On,
    /// Print JSON: one object; with --on one line for each place, with its name and `status`, or why that is `missing`
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if let Some(places) = self.on.places() {
            return self.of_many(places);
        }
        let status = ask_status(&self.of.socket()?)?;
        if self.json {
            print_json(&status)?;
        } else {
            print(&as_text(&status))?;
        }
        match status.amiss.len() {
            0 => Ok(()),
            amiss => Err(Failure::Amiss(amiss)),
        }
    }

    /// Of nodes elsewhere, one after the other.
    fn of_many(&self, places: &[Place]) -> Result<(), Failure> {
        let answers = answers(places, "status", &["--json".to_owned()])?;
        let mut amiss = 0;
        for (place, answered) in &answers {
            let said = match answered {
                Ok(said) => said,
                Err(why) => {
                    self.print_missing(place, why)?;
                    continue;
                }
            };
            let status: Reported = match serde_json::from_slice(said) {
                Ok(status) => status,
                Err(error) => {
                    amiss += 1;
                    let why = format!("what it says is no status: {error}");
                    note(format_args!("{place}: {}", escaped(&why)))?;
                    self.print_missing(place, &why)?;
                    continue;
                }
            };
            amiss += status.amiss.len();
            if self.json {
                print_json(&serde_json::json!({ "place": place.to_string(), "status": status }))?;
            } else {
                print(&format!("place      {place}\n{}\n", as_text(&status)))?;
            }
        }
        amiss += say_missing(&answers)?;
        if amiss == 0 { Ok(()) } else { Err(Failure::Amiss(amiss)) }
    }

    /// A program gets a line for each place; a person is told at the end.
    fn print_missing(&self, place: &Place, why: &str) -> Result<(), Failure> {
        match self.json {
            true => print_json(&serde_json::json!({ "place": place.to_string(), "missing": why })),
            false => Ok(()),
        }
    }
}

/// Where the packets of all queues are.
fn ledger(queues: &[Queue]) -> String {
    let ledgers: Vec<&Ledger> = queues.iter().filter_map(|queue| queue.ledger.as_ref()).collect();
    if ledgers.is_empty() {
        return "not with --backend nfq".to_owned();
    }
    let sum = |of: fn(&Ledger) -> u64| ledgers.iter().map(|ledger| of(ledger)).sum::<u64>();
    let [numbered, answered, repeated] =
        [sum(|it| it.numbered), sum(|it| it.answered), sum(|it| it.repeated)];
    let waiting: u64 = queues.iter().map(|queue| queue.waiting).sum();
    let lost: u64 = queues.iter().map(|queue| queue.lost.socket_full).sum();
    let difference: i64 = ledgers.iter().map(|ledger| ledger.difference).sum();
    format!(
        "{numbered} numbered = {answered} answered + {repeated} repeated + {lost} lost in a socket + {waiting} \
         waiting, difference {difference}"
    )
}

/// What the kernel carried after a decision.
fn carried_after(flows: &[Flows]) -> String {
    let stages = flows.iter().filter(|it| it.flows + it.packets > 0);
    let stages: Vec<String> = stages
        .map(|it| format!("{} {} of {}", it.stage, counted(it.packets, "packet"), counted(it.flows, "flow")))
        .collect();
    match stages.is_empty() {
        true => "the kernel carried nothing yet".to_owned(),
        false => format!("the kernel carried: {}", stages.join(", ")),
    }
}

/// A line, and what belongs to it, in two columns.
fn as_text(status: &Reported) -> String {
    let zone = jiff::tz::TimeZone::system();
    let when = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let mut out = String::new();
    let mut line = |what: &str, says: &str| {
        let _ = writeln!(out, "{what:10} {}", escaped(says));
    };
    line(
        "node",
        &format!(
            "{}, process {}, dunnat {}, since {}",
            status.node,
            status.process,
            status.dunnat,
            when(status.since)
        ),
    );
    if status.amiss.is_empty() {
        line("health", "well");
    }
    for amiss in &status.amiss {
        line("health", amiss);
    }
    line("works", &status.serving);
    line("config", &status.config);
    if let Some(reloaded) = status.reloaded {
        line("reloaded", &format!("generation {}, since {}", status.generation, when(reloaded)));
    }
    if let Some(upgraded) = status.upgraded {
        let times = counted(status.upgrades, "time");
        line("upgraded", &format!("{times}, the last one {}", when(upgraded)));
    }
    let lost = status.lost.queue_full + status.lost.socket_full;
    line(
        "packets",
        &format!(
            "{}, {} dropped by verdict, {lost} lost before dunnat saw them",
            status.packets, status.dropped
        ),
    );
    let mut stages: Vec<(&str, Vec<String>)> = Vec::new();
    for decided in &status.decisions {
        let counts = format!("{} {}", decided.reason, decided.packets);
        match stages.last_mut() {
            Some((stage, all)) if *stage == decided.stage => all.push(counts),
            _ => stages.push((&decided.stage, vec![counts])),
        }
    }
    for (stage, counts) in stages {
        line(&format!("  {stage}"), &counts.join(", "));
    }
    match &status.queues {
        None => line("queues", "the kernel does not tell"),
        Some(queues) => {
            let waiting: u64 = queues.iter().map(|queue| queue.waiting).sum();
            line("queues", &format!("{}, {} waiting", queues.len(), counted(waiting, "packet")));
            line("ledger", &ledger(queues));
            for queue in queues.iter().filter(|queue| queue.lost.queue_full + queue.lost.socket_full > 0) {
                let (full, socket) = (queue.lost.queue_full, queue.lost.socket_full);
                line(
                    &format!("  {}", queue.number),
                    &format!("lost: queue full {full}, socket full {socket}"),
                );
            }
        }
    }
    let guard: Vec<String> = status
        .guard
        .iter()
        .filter(|it| it.packets > 0)
        .map(|it| format!("{} {}", it.counter, it.packets))
        .collect();
    line(
        "guard",
        &if guard.is_empty() {
            "dropped nothing".to_owned()
        } else {
            format!("dropped: {}", guard.join(", "))
        },
    );
    if let Some(carried) = &status.carried {
        let stages: Vec<String> = carried
            .iter()
            .filter(|it| it.packets > 0)
            .map(|it| format!("{} {}", it.stage, it.packets))
            .collect();
        line(
            "stand-in",
            &if stages.is_empty() {
                "the kernel carried nothing".to_owned()
            } else {
                format!("the kernel carried: {}", stages.join(", "))
            },
        );
    }
    if let Some(flows) = &status.flows {
        line("flows", &carried_after(flows));
        for stage in flows.iter().filter(|it| it.no_room > 0) {
            let packets = counted(stage.no_room, "packet");
            line(&format!("  {}", stage.stage), &format!("no room for more flows: {packets} decided singly"));
        }
    }
    match &status.elsewhere {
        None => {}
        Some(guests) if guests.is_empty() => line("elsewhere", "no guest is known to live on another node"),
        Some(guests) => {
            let guests: Vec<String> = guests.iter().map(ToString::to_string).collect();
            line("elsewhere", &guests.join(", "));
        }
    }
    match &status.rehearsal {
        None => line("rehearsal", "none, or not at its end"),
        Some(found) => match &found.failed {
            Some(why) => line("rehearsal", why),
            None if found.stopped.is_empty() => {
                line("rehearsal", &format!("{}, none was stopped", counted(found.flows, "flow")));
            }
            None => {
                for stopped in &found.stopped {
                    line("rehearsal", stopped);
                }
            }
        },
    }
    if let Some(rights) = &status.rights {
        line("rights", &format!("of worker threads: {}", rights.applied));
        let refused: Vec<String> =
            rights.refused.iter().map(|it| format!("{} {}", it.call, it.times)).collect();
        if !refused.is_empty() {
            line("  refused", &refused.join(", "));
        }
    }
    line("traces", &counted(status.traces, "reader"));
    if status.restarts > 0 {
        line("restarts", &format!("{} took over from one that ended", counted(status.restarts, "worker")));
    }
    for poison in &status.poison {
        let bytes = poison.bytes.len() as u64 / 2;
        line(
            "poison",
            &format!(
                "a packet of {} in queue {} ended two workers and was dropped; --json has it",
                counted(bytes, "byte"),
                poison.queue
            ),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node as old as this program's first ones says nothing of flows.
    #[test]
    fn what_was_carried_after_a_decision_is_told() {
        let told = |flows: &str| {
            let json = format!(
                r#"{{"v":1,"node":"node1","dunnat":"0.2.0","process":7,"since":"2026-11-26T17:00:00Z","serving":"serving node1",
                "config":"abc","packets":0,"decisions":[],"dropped":0,"lost":{{"queue_full":0,"socket_full":0}},"queues":null,
                "guard":[],"elsewhere":null,"rehearsal":null,"rights":null,"traces":0{flows}}}"#
            );
            let told = as_text(&serde_json::from_str(&json).unwrap());
            told.lines()
                .filter(|line| line.starts_with("flows") || line.contains("room"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(told(""), "");
        let stage = |stage, flows, packets, no_room| {
            format!(r#"{{"stage":"{stage}","flows":{flows},"packets":{packets},"no_room":{no_room}}}"#)
        };
        assert_eq!(
            told(&format!(",\"flows\":[{}]", stage("dnat", 0, 0, 0))),
            "flows      the kernel carried nothing yet"
        );
        let both = [stage("dnat", 1, 40, 0), stage("spoof", 2, 1, 3)].join(",");
        insta::assert_snapshot!(told(&format!(",\"flows\":[{both}]")), @"
        flows      the kernel carried: dnat 40 packets of 1 flow, spoof 1 packet of 2 flows
          spoof    no room for more flows: 3 packets decided singly
        ");
    }

    #[test]
    fn what_workers_may_do_is_told() {
        let rights = r#"{"level":"auto","capabilities":["CAP_NET_ADMIN"],"system_calls":31,"landlock":null,
            "lacks":["files are not out of reach (this kernel has no Landlock)"],
            "refused":[{"call":"socket","times":3},{"call":"number 499","times":1}]}"#;
        let json = format!(
            r#"{{"v":1,"node":"node1","dunnat":"0.2.0","process":7,"since":"2026-11-26T17:00:00Z","serving":"serving node1",
            "config":"abc","packets":0,"decisions":[],"dropped":0,"lost":{{"queue_full":0,"socket_full":0}},"queues":null,
            "guard":[],"elsewhere":null,"rehearsal":null,"rights":{rights},"traces":0}}"#
        );
        let told = as_text(&serde_json::from_str(&json).unwrap());
        let told: Vec<&str> = told.lines().skip_while(|line| !line.starts_with("rights")).take(2).collect();
        insta::assert_snapshot!(told.join("\n"), @"
        rights     of worker threads: CAP_NET_ADMIN alone, 31 system calls, files as its user; any other system call fails, and is counted; files are not out of reach (this kernel has no Landlock)
          refused  socket 3, number 499 1
        ");
    }
}
