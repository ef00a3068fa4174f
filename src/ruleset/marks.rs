//! Marks in nft's words: conditions on the cluster's bits, and how they get from packet to flow and back.

use crate::cluster::{Cluster, Node, OnConflict};
use crate::net::Mark;

/// A mark with a mask, in nft's words.
#[derive(Clone, Copy)]
pub(super) struct Bits {
    what: &'static str,
    mask: Mark,
}

impl Bits {
    /// The packet mark.
    pub(super) fn of_packet(cluster: &Cluster) -> Self {
        Self { what: "meta mark", mask: cluster.mask }
    }

    /// The ct mark.
    pub(super) fn of_flow(cluster: &Cluster) -> Self {
        Self { what: "ct mark", mask: cluster.mask }
    }

    /// Our bits are this tag.
    pub(super) fn is(self, tag: Mark) -> String {
        format!("{} == {tag}", self.ours())
    }

    /// Our bits, as an expression.
    pub(super) fn ours(self) -> String {
        let Self { what, mask } = self;
        if mask == Mark::ALL { what.to_owned() } else { format!("{what} & {mask}") }
    }

    /// A bit of ours is set.
    pub(super) fn set(self) -> String {
        format!("{} != 0", self.ours())
    }

    /// No bit of ours is set.
    pub(super) fn unset(self) -> String {
        format!("{} == 0", self.ours())
    }

    /// Our bits are the tag of a node.
    pub(super) fn is_tag(self, cluster: &Cluster) -> String {
        let tags: Vec<String> = cluster.nodes.iter().map(|node| node.tag.to_string()).collect();
        format!("{} {{ {} }}", self.ours(), tags.join(", "))
    }

    /// Our bits become `tag`; the others stay.
    pub(super) fn assign(self, tag: Mark) -> String {
        let Self { what, mask } = self;
        if mask == Mark::ALL {
            format!("{what} set {tag}")
        } else {
            format!("{what} set {what} & {} | {tag}", !mask)
        }
    }
}

/// Copies our bits of the packet mark to the ct mark (`save`), or of the ct mark to the packet mark (`show`).
///
/// nft can copy a whole mark, but not some of its bits: then every tag has a chain that sets it.
pub(super) fn copy(cluster: &Cluster, verb: &str) -> String {
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let (from, to) = if verb == "save" { (mark, ct_mark) } else { (ct_mark, mark) };
    if cluster.mask == Mark::ALL {
        return format!("{} set {}", to.what, from.what);
    }
    let cases: Vec<String> =
        cluster.nodes.iter().map(|node| format!("{} : jump {verb}-{}", node.tag, node.name)).collect();
    format!("{} vmap {{ {} }}", from.ours(), cases.join(", "))
}

/// The packet's tag becomes the flow's, if it has none; or also if it has one, where that is wished.
pub(super) fn save(cluster: &Cluster) -> String {
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let free = match cluster.on_conflict {
        OnConflict::Take => String::new(),
        OnConflict::Keep | OnConflict::Drop => format!(" {}", ct_mark.unset()),
    };
    format!("{}{free} {}", mark.is_tag(cluster), copy(cluster, "save"))
}

/// The nodes that need chains for [`copy`].
pub(super) fn copy_chains(cluster: &Cluster) -> &[Node] {
    if cluster.mask == Mark::ALL { &[] } else { &cluster.nodes }
}
