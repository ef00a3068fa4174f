//! Who decides: policies by name, and what holds any policy to what it may.
//!
//! A policy is code that somebody wrote, perhaps yesterday. [`Supervised`] asks it, and whatever it does costs at most the packet:
//! a panic, or an answer that cannot be carried out, becomes a drop with a reason of its own. It also keeps what the policy
//! remembers ([`Notes`]), as a policy has no lock and no clock.
//!
//! # A policy of your own
//!
//! Implement [`Decide`](crate::engine::Decide). Each condition goes through the witness, which gives back whether it holds: so
//! `explain` and `step` show it, and a worker, which has no witness, pays nothing. Whoever takes a
//! [`Policy`](crate::engine::Policy) takes it: [`daemon::Options`](crate::daemon::Options),
//! [`SimulatedNode`](crate::simulate::SimulatedNode), [`Replay`](crate::replay::Replay).
//!
//! | you want to | look at |
//! |---|---|
//! | know what there is to decide by | [`Facts`](crate::engine::Facts), [`View`](crate::packet::View), [`Meta`](crate::engine::Meta) |
//! | look at payload, or at names of interfaces | [`Decide::decide_whole`](crate::engine::Decide::decide_whole), [`Whole`](crate::engine::Whole) |
//! | change an address, a port, what an ICMP error quotes | [`Rewrite`](crate::packet::Rewrite), [`Layers`](crate::packet::Layers) |
//! | say why | [`Reason::declare`](crate::engine::Reason::declare) |
//! | ask conditions that `explain` shows | [`Witness`](crate::engine::Witness), [`Subject`](crate::engine::Subject), [`Value`](crate::engine::Value) |
//! | remember something, until a time | [`Change`](crate::engine::Change), [`Remembered`](crate::engine::Remembered), [`Time`](crate::engine::Time) |
//! | begin with what the cluster file says | [`ClusterNat`](crate::engine::ClusterNat), as [`maglev`] does |
//! | make packets for tests | [`PacketSpec`](crate::simulate::PacketSpec); fragments, payload, ICMP errors: [`made`](crate::simulate::made()) |
//! | lead packets through a whole node | [`SimulatedNode`](crate::simulate::SimulatedNode) |
//! | hold it to what any NAT has to keep | [`laws`] |
//!
//! # What a policy cannot do
//!
//! It is asked at four places ([`Stage`](crate::net::Stage)), and only there: at dnat about what comes in by the public interface, at spoof about
//! what leaves by it, at tag and save about what comes and goes by the guests' bridge. An address can be changed at dnat (mostly the
//! destination) and at spoof (mostly the source). So a packet from one guest to the public address of another is not led back
//! (no hairpinning), and a policy makes no packets of its own. On a node the rules choose which packets are queued: by default
//! those that the cluster's policy needs, with `--full` all of those places. What a policy says holds for one packet; the
//! next one of the flow is asked about again.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use dunnat::cluster::Cluster;
//! use dunnat::engine::{Changes, Decide, Decision, Facts, Reason, Remembered, Subject, Value, Wants, Witness};
//! use dunnat::net::{Proto, Stage};
//! use dunnat::simulate::{PacketSpec, SimulatedNode};
//!
//! /// Nobody gets in by telnet.
//! struct NoTelnet {
//!     reasons: [Reason; 2],
//! }
//!
//! impl Decide for NoTelnet {
//!     fn name(&self) -> &'static str {
//!         "no-telnet"
//!     }
//!
//!     fn reasons(&self) -> &[Reason] {
//!         &self.reasons
//!     }
//!
//!     fn decide<W: Witness>(
//!         &self,
//!         facts: &Facts<'_>,
//!         _: &dyn Remembered,
//!         _: &mut Changes,
//!         witness: &mut W,
//!     ) -> Decision {
//!         let [telnet, other] = self.reasons;
//!         let port = facts.packet.ok().and_then(|view| view.tuple.ports).map(|(_, port)| port);
//!         let of = |port| Value::Port(Proto::TCP, None, port);
//!         let is_telnet =
//!             witness.holds(port == Some(23), || (Subject::Dport, of(port), Wants::Is(of(Some(23)))));
//!         if is_telnet { Decision::drop(telnet) } else { Decision::leave(other) }
//!     }
//! }
//!
//! let reasons = [
//!     Reason::declare("telnet", "nobody gets in by telnet")?,
//!     Reason::declare("not-telnet", "it is not telnet")?,
//! ];
//! let cluster = Cluster::load(Path::new("rules/example.toml"))?;
//! let node1 = cluster.find("node1")?;
//! let mut node = SimulatedNode::with_policy(&cluster, node1, Arc::new(NoTelnet { reasons }));
//! let packet: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:23".parse()?;
//! let passage = node.pass(packet.arrival(&cluster, node1));
//! assert_eq!(passage.after, None);
//! let (_, Ok(visit)) = &passage.steps[0] else { return Err("not queued".into()) };
//! assert_eq!((visit.stage, visit.decision.reason.name()), (Stage::Dnat, "telnet"));
//! assert!(visit.conditions[0].holds);
//!
//! // The same in a worker of a node, with a queue in memory instead of the kernel's.
//! use dunnat::daemon::Worker;
//! use dunnat::kernel::Capabilities;
//! use dunnat::net::Envelope;
//! use dunnat::policy::Supervised;
//! use dunnat::queue::{Memory, Waiting};
//! use dunnat::ruleset::{Backend, Deciding, Plan, RewriteBy, StandIn, Wishes};
//!
//! let wishes = Wishes {
//!     node: node1,
//!     backend: Backend::Netlink,
//!     rewrite_by: RewriteBy::Userspace,
//!     deciding: Deciding::EveryPacket,
//!     full: true,
//!     stand_in: StandIn::None,
//!     on_conflict: cluster.on_conflict(),
//!     queue_base: 100,
//!     workers: 1,
//! };
//! let plan = Plan::new(wishes, &Capabilities::all())?;
//! let policy = Supervised::new(Arc::new(NoTelnet { reasons }), &cluster, node1, 1);
//! let mut worker = Worker::new(Arc::new(policy), &plan, Vec::new(), None);
//! let waiting = ["tcp 192.168.122.1:40000 > 192.168.122.11:23", "tcp 192.168.122.1:40000 > 192.168.122.11:22"]
//!     .map(|packet| packet.parse::<PacketSpec>().unwrap().arrival(&cluster, node1).bytes)
//!     // The first queue is of dnat.
//!     .map(|bytes| Waiting { envelope: Envelope { queue: 100, ..Envelope::default() }, bytes });
//! let mut queue = Memory::new(waiting);
//! worker.turn(&mut queue)?;
//! let went_on: Vec<bool> = queue.served.iter().map(Option::is_some).collect();
//! assert_eq!(went_on, [false, true]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # More examples
//!
//! | policy | is an example of |
//! |---|---|
//! | [`Observe`](crate::engine::Observe) | as little as there can be |
//! | [`maglev`] | a policy that asks another, and changes its answer |
//! | [`napt`] | a policy that remembers |
//! | `tests/policy-crate` | a policy in a crate of its own |
//! | [`process`](crate::process) | a policy in another language |
//!
//! [`laws`] has laws that any translator can be held to, for tests.

#[cfg(test)]
pub(crate) mod by;
pub mod laws;
pub mod maglev;
mod named;
pub mod napt;
mod notes;
mod supervised;

pub use named::{Made, Maker, Named, NamedError, of_cluster};
pub use notes::Notes;
pub(crate) use supervised::CARRIED_OUT;
pub use supervised::Supervised;

#[cfg(test)]
mod tests;
