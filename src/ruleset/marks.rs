//! Marks in rules: conditions on the cluster's bits, and how they get from packet to flow and back.

use super::rule::{Condition, Marked, Statement};
use crate::cluster::{Cluster, Node, NodeId, OnConflict};
use crate::net::Mark;

/// A mark with a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    pub(super) of: MarkOf,
    pub(super) mask: Mark,
}

/// Whose mark it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkOf {
    Packet,
    Flow,
}

impl Bits {
    /// The packet mark.
    pub(super) fn of_packet(cluster: &Cluster) -> Self {
        Self { of: MarkOf::Packet, mask: cluster.mask }
    }

    /// The ct mark.
    pub(super) fn of_flow(cluster: &Cluster) -> Self {
        Self { of: MarkOf::Flow, mask: cluster.mask }
    }

    /// nft's name for the mark.
    pub(super) fn name(self) -> &'static str {
        match self.of {
            MarkOf::Packet => "meta mark",
            MarkOf::Flow => "ct mark",
        }
    }

    /// Our bits, as an expression of nft.
    pub(super) fn ours(self) -> String {
        let Self { mask, .. } = self;
        if mask == Mark::ALL { self.name().to_owned() } else { format!("{} & {mask}", self.name()) }
    }

    /// Our bits become `tag`, as a statement of nft; the others stay.
    pub(super) fn assigned(self, tag: Mark) -> String {
        let (name, mask) = (self.name(), self.mask);
        if mask == Mark::ALL {
            format!("{name} set {tag}")
        } else {
            format!("{name} set {name} & {} | {tag}", !mask)
        }
    }

    /// Our bits are this tag.
    pub(super) fn is(self, tag: Mark) -> Condition {
        Condition::Marked(self, Marked::Is(tag))
    }

    /// A bit of ours is set.
    pub(super) fn set(self) -> Condition {
        Condition::Marked(self, Marked::Set)
    }

    /// No bit of ours is set.
    pub(super) fn unset(self) -> Condition {
        Condition::Marked(self, Marked::Unset)
    }

    /// Our bits are the tag of this node.
    pub(super) fn is_of(self, cluster: &Cluster, id: NodeId) -> Condition {
        match cluster.tags_of(id)[..] {
            [tag] => self.is(tag),
            ref tags => Condition::Marked(self, Marked::OneOf(tags.to_vec())),
        }
    }

    /// Our bits are the tag of a node.
    pub(super) fn is_tag(self, cluster: &Cluster) -> Condition {
        Condition::Marked(self, Marked::OneOf(cluster.tags().map(|(tag, _)| tag).collect()))
    }

    /// Our bits become `tag`; the others stay.
    pub(super) fn assign(self, tag: Mark) -> Statement {
        Statement::SetMark(self, tag)
    }
}

/// Copies our bits of the packet mark to the ct mark (`save`), or of the ct mark to the packet mark (`show`).
///
/// nft can copy a whole mark, but not some of its bits: then every tag has a chain that sets it.
pub(super) fn copy(cluster: &Cluster, verb: &str) -> Statement {
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let (from, to) = if verb == "save" { (mark, ct_mark) } else { (ct_mark, mark) };
    if cluster.mask == Mark::ALL {
        return Statement::CopyMark(from, to);
    }
    let chain = |(tag, id)| (tag, copy_chain(verb, cluster.node(id)));
    Statement::JumpBy(from, cluster.tags().map(chain).collect())
}

/// The chain of a node for [`copy`]. No other chain begins so, whatever a node is called.
pub(super) fn copy_chain(verb: &str, node: &Node) -> String {
    format!("{verb}-of-{}", node.name)
}

/// When the packet's tag becomes the flow's ([`copy`]): if the flow has none; or also if it has one, where that is wished.
pub(super) fn may_save(cluster: &Cluster) -> Vec<Condition> {
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let free = match cluster.on_conflict {
        OnConflict::Take => None,
        OnConflict::Keep | OnConflict::Drop => Some(ct_mark.unset()),
    };
    [mark.is_tag(cluster)].into_iter().chain(free).collect()
}

/// The nodes that need chains for [`copy`].
pub(super) fn copy_chains(cluster: &Cluster) -> &[Node] {
    if cluster.mask == Mark::ALL { &[] } else { &cluster.nodes }
}
