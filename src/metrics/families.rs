//! The metrics, family by family.

use std::fmt;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::Scraped;
use crate::control::{Histogram, Lost, Status};
use crate::engine::Reason;

/// What is encoded.
#[derive(Debug)]
pub(super) struct Nodes(pub(super) Vec<Scraped>);

/// Labels beside the node, and a number.
type Row = (Vec<(&'static str, String)>, f64);

/// A family: its name, without `_total`; its help; and what it has of a node.
struct Family {
    name: &'static str,
    help: String,
    kind: MetricType,
    rows: fn(&Status) -> Vec<Row>,
}

impl Collector for Nodes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut up = encoder.encode_descriptor(
            "dunnat_up",
            "Whether the node has answered: 1, or 0.",
            None,
            MetricType::Gauge,
        )?;
        for Scraped { node, status } in &self.0 {
            let is_up = f64::from(u8::from(status.is_some()));
            up.encode_family(&[("node", node.as_str())])?.encode_gauge(&is_up)?;
        }
        for Family { name, help, kind, rows } in families() {
            let told: Vec<(&str, Row)> = self
                .told()
                .flat_map(|(node, status)| rows(status).into_iter().map(move |row| (node, row)))
                .collect();
            // A family without any number has no place in the text.
            if told.is_empty() {
                continue;
            }
            let mut described = encoder.encode_descriptor(name, &help, None, kind)?;
            for (node, (labels, number)) in &told {
                let labels = labels.iter().map(|(name, value)| (*name, value.as_str()));
                let labels: Vec<(&str, &str)> = std::iter::once(("node", *node)).chain(labels).collect();
                let mut one = described.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => {
                        one.encode_counter::<[(&str, &str); 0], _, f64>(&(*number as u64), None)?;
                    }
                    _ => one.encode_gauge(number)?,
                }
            }
        }
        let deciding = "From the moment that a worker looks at a packet to its decision; of samples, the first packet of some batches.";
        self.histogram(&mut encoder, "dunnat_decision_duration_seconds", deciding, |status| {
            Some(&status.times.as_ref()?.deciding)
        })?;
        let waiting = "From a packet's reception to the moment that a worker looks at it; of samples, and only where the kernel stamps \
                       packets, which it does while something asks for it, such as a capture.";
        self.histogram(&mut encoder, "dunnat_wait_duration_seconds", waiting, |status| {
            Some(&status.times.as_ref()?.waiting)
        })
    }
}

impl Nodes {
    /// Those that have answered.
    fn told(&self) -> impl Iterator<Item = (&str, &Status)> {
        self.0.iter().filter_map(|it| Some((it.node.as_str(), it.status.as_deref()?)))
    }

    fn histogram(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &'static str,
        help: &str,
        of: fn(&Status) -> Option<&Histogram>,
    ) -> fmt::Result {
        let told: Vec<(&str, &Histogram)> =
            self.told().filter_map(|(node, status)| Some((node, of(status)?))).collect();
        if told.is_empty() {
            return Ok(());
        }
        let mut described = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (node, histogram) in told {
            let mut before = 0;
            let buckets: Vec<(f64, u64)> = histogram
                .bounds()
                .map(|(bound, sum)| (bound.as_secs_f64(), sum - std::mem::replace(&mut before, sum)))
                .collect();
            let sum = histogram.sum_ns as f64 / 1e9;
            let labels = [("node", node)];
            let mut one = described.encode_family(&labels)?;
            one.encode_histogram::<[(&str, &str); 0]>(sum, histogram.count, &buckets, None)?;
        }
        Ok(())
    }
}

fn one(number: f64) -> Vec<Row> {
    vec![(Vec::new(), number)]
}

fn row<const N: usize>(labels: [(&'static str, &str); N], number: u64) -> Row {
    (labels.map(|(name, value)| (name, value.to_owned())).into(), number as f64)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

fn causes(lost: Lost) -> [(&'static str, u64); 2] {
    [("queue_full", lost.queue_full), ("socket_full", lost.socket_full)]
}

/// What the reasons mean, as the policies say it.
fn reasons() -> String {
    Reason::ALL
        .into_iter()
        .filter_map(|reason| Some(format!("{}: {}", reason.name(), reason.row()?.about)))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Numbers of each queue.
fn queues(status: &Status, number: fn(&crate::control::Queue) -> Option<f64>) -> Vec<Row> {
    let queues = status.queues.iter().flatten();
    queues.filter_map(|queue| Some((vec![("queue", queue.number.to_string())], number(queue)?))).collect()
}

fn families() -> Vec<Family> {
    let family = |name, kind, help: &str, rows| Family { name, help: help.to_owned(), kind, rows };
    let (counter, gauge) = (MetricType::Counter, MetricType::Gauge);
    vec![
        family(
            "dunnat_node_info",
            gauge,
            "Which program and cluster file (the first 16 digits of its SHA-256) the node uses; always 1.",
            |it| vec![row([("version", &it.dunnat), ("config", &it.config)], 1)],
        ),
        family(
            "dunnat_start_time_seconds",
            gauge,
            "When the node began to serve, in seconds since 1970.",
            |it| one(seconds(it.since)),
        ),
        family(
            "dunnat_generation",
            gauge,
            "After how many reloads the cluster file is, counted from 1.",
            |it| one(it.generation as f64),
        ),
        family(
            "dunnat_reload_time_seconds",
            gauge,
            "When the node was last reloaded, in seconds since 1970; left out if it was not.",
            |it| it.reloaded.map(|at| one(seconds(at))).unwrap_or_default(),
        ),
        family("dunnat_amiss", gauge, "How many things are amiss now; dunnat status says which.", |it| {
            one(it.amiss.len() as f64)
        }),
        family("dunnat_packets", counter, "Packets that were decided about.", |it| one(it.packets as f64)),
        Family {
            name: "dunnat_decisions",
            help: format!("Decisions by stage, reason, family and verdict. Reasons: {}", reasons()),
            kind: counter,
            rows: decisions,
        },
        family(
            "dunnat_service_packets",
            counter,
            "Requests that got a service's guest; (others) has those of services behind the 256th in the cluster file.",
            |it| it.services.iter().map(|it| row([("service", &it.service)], it.packets)).collect(),
        ),
        family("dunnat_dropped_packets", counter, "Packets with the verdict drop.", |it| {
            one(it.dropped as f64)
        }),
        family(
            "dunnat_lost_packets",
            counter,
            "Packets that the kernel dropped before the node saw them: its workers were too slow.",
            |it| causes(it.lost).into_iter().map(|(cause, count)| row([("cause", cause)], count)).collect(),
        ),
        family("dunnat_queue_waiting_packets", gauge, "Packets that wait in a queue now.", |it| {
            queues(it, |queue| Some(queue.waiting as f64))
        }),
        family(
            "dunnat_queue_lost_packets",
            counter,
            "Packets that the kernel dropped at a queue; it counts anew after a reload, which has other queues.",
            |it| {
                let all = it.queues.iter().flatten();
                all.flat_map(|queue| {
                    let number = queue.number.to_string();
                    causes(queue.lost)
                        .map(|(cause, count)| row([("queue", &number), ("cause", cause)], count))
                })
                .collect()
            },
        ),
        family(
            "dunnat_queue_numbered_packets",
            counter,
            "Packets that the kernel has put into a queue.",
            |it| queues(it, |queue| queue.ledger.map(|ledger| ledger.numbered as f64)),
        ),
        family("dunnat_queue_answered_packets", counter, "Packets of a queue that got a verdict.", |it| {
            queues(it, |queue| queue.ledger.map(|ledger| ledger.answered as f64))
        }),
        family(
            "dunnat_queue_repeated_packets",
            counter,
            "Packets that a worker had in hand when it ended, and that went through the rules again.",
            |it| queues(it, |queue| queue.ledger.map(|ledger| ledger.repeated as f64)),
        ),
        family(
            "dunnat_queue_difference_packets",
            gauge,
            "Packets of a queue that nobody knows about: numbered - answered - repeated - lost - waiting. Zero at rest; while packets come some may be on their way.",
            |it| queues(it, |queue| queue.ledger.map(|ledger| ledger.difference as f64)),
        ),
        family(
            "dunnat_guard_dropped_packets",
            counter,
            "Packets that the guard dropped, by its counter: what would have shown an inside address, and requests that nobody has translated.",
            |it| it.guard.iter().map(|it| row([("counter", &it.counter)], it.packets)).collect(),
        ),
        family(
            "dunnat_stand_in_packets",
            counter,
            "Packets that the kernel carried because no worker took them, by stage.",
            |it| it.carried.iter().flatten().map(|it| row([("stage", &it.stage)], it.packets)).collect(),
        ),
        family(
            "dunnat_rules_repaired",
            counter,
            "How often rules of the node were put back that somebody had changed or flushed.",
            |it| one(it.repairs as f64),
        ),
        family(
            "dunnat_worker_restarts",
            counter,
            "How often a worker took over from one that ended.",
            |it| one(it.restarts as f64),
        ),
        family(
            "dunnat_trace_readers",
            gauge,
            "How many read the decisions: clients, and the file of run --trace.",
            |it| one(it.traces as f64),
        ),
        family(
            "dunnat_trace_lost_events",
            counter,
            "Decisions that readers of traces did not get, because they were too slow.",
            |it| one(it.traces_lost as f64),
        ),
        family(
            "dunnat_guests_elsewhere",
            gauge,
            "Guests that are known to live on other nodes; left out if foreign flows are tracked.",
            |it| it.elsewhere.as_ref().map(|guests| one(guests.len() as f64)).unwrap_or_default(),
        ),
        family(
            "dunnat_rehearsal_flows",
            gauge,
            "Flows of the last rehearsal; left out if there was none.",
            |it| it.rehearsal.as_ref().map(|it| one(it.flows as f64)).unwrap_or_default(),
        ),
        family(
            "dunnat_rehearsal_stopped_flows",
            gauge,
            "Flows of the last rehearsal that rules of this host stop; left out if there was none.",
            |it| it.rehearsal.as_ref().map(|it| one(it.stopped.len() as f64)).unwrap_or_default(),
        ),
        family(
            "dunnat_refused_system_calls",
            counter,
            "System calls that worker threads have tried, and may not make.",
            |it| {
                let refused = it.rights.iter().flat_map(|rights| &rights.refused);
                refused.map(|it| row([("call", &it.call)], it.times)).collect()
            },
        ),
    ]
}

/// As the node counts them: one that is older does not tell family and verdict.
fn decisions(status: &Status) -> Vec<Row> {
    if status.kinds.is_empty() {
        let all = status.decisions.iter();
        return all.map(|it| row([("stage", &it.stage), ("reason", &it.reason)], it.packets)).collect();
    }
    let all = status.kinds.iter().map(|it| {
        let family = it.family.as_deref().unwrap_or("unknown");
        let labels =
            [("stage", &*it.stage), ("reason", &*it.reason), ("family", family), ("verdict", &*it.verdict)];
        row(labels, it.packets)
    });
    all.collect()
}

/// The names, as Prometheus has them.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = String> {
    families().into_iter().map(|family| match family.kind {
        MetricType::Counter => format!("{}_total", family.name),
        _ => family.name.to_owned(),
    })
}
