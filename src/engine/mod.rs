//! The decision about one packet at one stage: facts in, [`Decision`] out.
//!
//! [`decide`] is pure: no socket, clock, thread or log, and the same facts always give the same decision. It
//! checks everything a decision rests on, also what the rules have checked before, so that a packet from a
//! capture file is judged as one from the kernel. Each stage has a file of its own; what all of them share is
//! [`Tables`], the cluster as one node looks it up.
//!
//! What is never done here: a decision by default. Every outcome has a [`Reason`], and a packet that belongs
//! to us but cannot be translated is dropped, because untranslated it would show an inside address.

mod cluster_nat;
mod condition;
mod dnat;
mod observe;
mod policy;
mod reason;
mod remembered;
mod save;
mod spoof;
mod tables;
mod tag;
mod whole;
mod witness;

use crate::cluster::{NodeId, OnConflict, ServiceId};
use crate::net::{Checksum, CtMark, Mac, Mark, OfFamily, Stage, Verdict};
use crate::packet::{IcmpError, Malformed, Patch, Refused, Rewrite, View};
pub use cluster_nat::ClusterNat;
pub use condition::{Condition, Row, Subject, Table, Value, Wants};
pub use observe::Observe;
pub use policy::{Decide, Facts, Policy};
pub use reason::{DeclareError, Reason, ReasonError, ReasonRow};
pub use remembered::{Change, Changes, NothingRemembered, Remembered, SHORT, Short, Time};
pub use tables::Tables;
pub use whole::{Interface, Interfaces, NoInterfaces, Whole};
pub use witness::{Conditions, NoWitness, Witness};

/// What is known of a packet beside its bytes.
///
/// ```
/// use dunnat::engine::Meta;
/// use dunnat::net::{CtMark, Mark};
///
/// // A reply in a flow that has the tag 2.
/// let meta = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
/// assert!(!meta.from_pipe && meta.mark.is_zero());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The bridge port it came in by is one of the pipes.
    pub from_pipe: bool,
    /// The node that this pipe leads to, where each leads to one.
    pub pipe_of: Option<NodeId>,
    /// The source address of the frame it came in.
    pub src_mac: Option<Mac>,
    /// The packet mark, all bits.
    pub mark: Mark,
    /// What is known of the ct mark of its flow.
    pub ct_mark: CtMark,
}

impl Meta {
    /// What becomes of a packet with a tag, by what its flow holds; `free` is the reason if that is nothing yet.
    fn flow(&self, tables: &Tables, tag: Mark, free: Reason, witness: &mut impl Witness) -> Decision {
        let held = self.ct_mark.masked(tables.mask);
        let value = Value::CtMark(held, tables.mask);
        let is = |mark| Wants::Is(Value::Mark(mark, tables.mask));
        if witness.holds(held == CtMark::ZERO, || (Subject::CtMark, value, is(Mark::ZERO))) {
            return Decision { ct_mark: Some(tag), ..Decision::leave(free) };
        }
        if witness.holds(tables.renewed(held) == CtMark::Is(tag), || (Subject::CtMark, value, is(tag))) {
            return Decision::leave(Reason::AlreadySaved);
        }
        match tables.on_conflict {
            OnConflict::Keep => Decision::leave(Reason::MarkConflict),
            OnConflict::Drop => Decision::drop(Reason::MarkConflict),
            OnConflict::Take => Decision { ct_mark: Some(tag), ..Decision::leave(Reason::MarkConflict) },
        }
    }
}

/// Nothing is known that would not be so of any packet.
impl Default for Meta {
    fn default() -> Self {
        Self { from_pipe: false, pipe_of: None, src_mac: None, mark: Mark::ZERO, ct_mark: CtMark::ZERO }
    }
}

/// The outcome for one packet at one stage.
///
/// ```
/// use dunnat::engine::{Decision, Reason};
/// use dunnat::net::Verdict;
/// use dunnat::packet::{Rewrite, Side};
///
/// let to = Rewrite::outer(Side::Destination, "10.5.5.201".parse()?).with_port(Some(8080));
/// let decision = Decision { rewrite: Some(to), ..Decision::leave(Reason::Service) };
/// assert_eq!((decision.verdict, decision.mark), (Verdict::Accept, None));
/// assert_eq!(Decision::drop(Reason::Cut).verdict, Verdict::Drop);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it goes on.
    pub verdict: Verdict,
    /// The address to change.
    pub rewrite: Option<Rewrite>,
    /// The new packet mark, all bits: those that are not ours are as they were.
    pub mark: Option<Mark>,
    /// The new ct mark of the flow, our bits.
    pub ct_mark: Option<Mark>,
    /// Why.
    pub reason: Reason,
    /// The node that a tag or MAC address named.
    pub node: Option<NodeId>,
    /// The service that the packet asked for.
    pub service: Option<ServiceId>,
}

impl Decision {
    /// The packet goes on as it is.
    pub fn leave(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Accept,
            rewrite: None,
            mark: None,
            ct_mark: None,
            reason,
            node: None,
            service: None,
        }
    }

    /// The packet ends here: it is ours and cannot be translated, for example.
    pub fn drop(reason: Reason) -> Self {
        Self { verdict: Verdict::Drop, ..Self::leave(reason) }
    }

    /// The bytes cannot be read.
    fn unreadable(malformed: Malformed, witness: &mut impl Witness) -> Self {
        let readable = || Wants::Is(Value::Word("readable"));
        witness.holds(false, || (Subject::Bytes, Value::Malformed(malformed), readable()));
        Self::leave(malformed.into())
    }

    /// The same reason, for a packet that is ours.
    fn dropped(self) -> Self {
        Self::drop(self.reason)
    }

    /// The same decision for a packet whose bytes could not be changed as decided: it does not go on unchanged.
    #[must_use]
    pub fn refused(self, refused: Refused) -> Self {
        let reason = match refused {
            Refused::Cut => Reason::Cut,
            Refused::Family => Reason::Family,
        };
        Self { verdict: Verdict::Drop, rewrite: None, mark: None, ct_mark: None, reason, ..self }
    }

    /// What changes in the bytes of the packet that it is about, with what is known of its transport checksum. A packet
    /// that cannot be changed as decided does not go on: then this becomes the decision to drop it.
    #[inline]
    pub fn work_out(
        &mut self,
        packet: &[u8],
        view: Result<&View, Malformed>,
        checksum: Checksum,
        witness: &mut impl Witness,
    ) -> Option<Patch> {
        let (Ok(view), Some(rewrite)) = (view, self.rewrite) else { return None };
        match Patch::new(packet, view, rewrite, checksum) {
            Ok(patch) => Some(patch),
            Err(refused) => {
                witness.holds(false, || match refused {
                    Refused::Cut => (Subject::Bytes, Value::Word("cut"), Wants::Is(Value::Word("whole"))),
                    Refused::Family => {
                        let family = Value::Family(rewrite.to.family());
                        (Subject::Family, Value::Family(view.tuple.src.family()), Wants::Is(family))
                    }
                });
                *self = self.refused(refused);
                None
            }
        }
    }

    fn about(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }
}

impl Wants {
    fn node_by_tag(row: Option<NodeId>) -> Self {
        Self::OneOf(Table::Tags, row.map(Row::Node))
    }
}

impl IcmpError {
    /// Tells that a packet is an ICMP error.
    fn is_error(&self, view: &View, witness: &mut impl Witness) {
        let value = Value::Error(view.tuple.src, self.about);
        witness.holds(true, || (Subject::Error, value, Wants::Is(Value::Word("an ICMP error"))));
    }

    fn is_no_redirect(&self, view: &View, witness: &mut impl Witness) -> bool {
        let value = Value::Error(view.tuple.src, self.about);
        witness.holds(!self.is_redirect(), || {
            (Subject::Redirect, value, Wants::IsNot(Value::Word("a redirect")))
        })
    }
}

/// Decides about a packet at a stage.
///
/// `packet` is what [`View::parse`] made of its bytes. A malformed packet is data like any other: `tag` and
/// `save` do not need its bytes, `dnat` leaves it to the node's own IP stack, `spoof` drops it.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Meta, Reason, Tables, decide};
/// use dunnat::net::Stage;
/// use dunnat::packet::View;
/// use dunnat::simulate::PacketSpec;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let request: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let bytes = request.arrival(&cluster, node1).bytes;
/// let view = View::parse(&bytes, bytes.len())?;
/// let decision = decide(&Tables::new(&cluster, node1), Stage::Dnat, Ok(&view), &Meta::default());
/// assert_eq!(decision.reason, Reason::Service);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[inline]
pub fn decide(tables: &Tables, stage: Stage, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
    decide_before(tables, stage, packet, meta, &mut NoWitness)
}

/// Decides about a packet as [`decide`] does, before a witness, who is told what was asked for the decision.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Conditions, Meta, Tables, decide_before};
/// use dunnat::net::Stage;
/// use dunnat::packet::Malformed;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let mut conditions = Conditions::new();
/// let packet = Err(Malformed::NotIp);
/// decide_before(&Tables::new(&cluster, node1), Stage::Dnat, packet, &Meta::default(), &mut conditions);
/// assert!(!conditions[0].holds, "the bytes are readable");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[inline]
pub fn decide_before(
    tables: &Tables,
    stage: Stage,
    packet: Result<&View, Malformed>,
    meta: &Meta,
    witness: &mut impl Witness,
) -> Decision {
    match stage {
        Stage::Dnat => dnat::decide(tables, packet, meta, witness),
        Stage::Tag => tag::decide(tables, packet, meta, witness),
        Stage::Save => save::decide(tables, meta, witness),
        Stage::Spoof => spoof::decide(tables, packet, meta, witness),
    }
}

#[cfg(test)]
mod tests;
