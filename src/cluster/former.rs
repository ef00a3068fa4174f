//! Tags that become others. Flows that exist still have the old ones, and a reply goes to the right client only while the node
//! knows what they mean.

use super::{Cluster, Node, NodeId, OnConflict};
use crate::net::Mark;

/// What a new cluster file means for the flows that have tags of the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTags {
    /// Nodes whose tag is another one now. Flows that have the old one can be given the new one.
    pub changed: Vec<Retagged>,
    /// Tags that were another node's in the old file: nobody could tell what such a tag of a flow means.
    pub taken: Vec<Taken>,
    /// Nodes that were not in the old file. Their tags were nobody's there, but a flow may have any mark.
    pub fresh: Vec<NodeId>,
    /// Tags of nodes that are not in the new file: nobody replies in their flows any more.
    pub gone: Vec<(String, Mark)>,
    /// The mask is another. Tags of flows cannot be changed then, because old and new marks are made of different bits.
    pub other_mask: bool,
}

/// A node whose tag is another one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retagged {
    /// The node, in the new file.
    pub node: NodeId,
    /// Its tag in the old file.
    pub from: Mark,
    /// Its tag in the new file.
    pub to: Mark,
}

/// A tag that was another node's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken {
    /// Whose it is now.
    pub node: String,
    /// The tag.
    pub tag: Mark,
    /// Whose it was.
    pub was: String,
}

impl Cluster {
    /// The tags that mean a node, each with that node: those of the file, and those that flows may have from the file before.
    pub(crate) fn tags(&self) -> impl Iterator<Item = (Mark, NodeId)> {
        let own = self.node_ids().zip(&self.nodes).map(|(id, node)| (node.tag, id));
        own.chain(self.former.iter().copied())
    }

    /// All tags that mean this node.
    pub(crate) fn tags_of(&self, id: NodeId) -> Vec<Mark> {
        self.tags().filter(|(_, node)| *node == id).map(|(tag, _)| tag).collect()
    }

    /// What flows with the tags of this file have to expect of a new one.
    pub fn new_tags(&self, new: &Self) -> NewTags {
        let mut found = NewTags { other_mask: self.mask != new.mask, ..NewTags::default() };
        for (id, node) in new.node_ids().zip(&new.nodes) {
            let before = self.same_node(node);
            if let Some(other) = self.nodes.iter().find(|old| old.tag == node.tag)
                && before.is_none_or(|before| before.name != other.name)
            {
                found.taken.push(Taken { node: node.name.clone(), tag: node.tag, was: other.name.clone() });
            } else if let Some(before) = before
                && before.tag != node.tag
            {
                found.changed.push(Retagged { node: id, from: before.tag, to: node.tag });
            } else if before.is_none() {
                found.fresh.push(id);
            }
        }
        for old in &self.nodes {
            let stays =
                new.nodes.iter().any(|node| self.same_node(node).is_some_and(|it| it.name == old.name));
            if !stays {
                found.gone.push((old.name.clone(), old.tag));
            }
        }
        found
    }

    /// The node of this cluster that a node of another file is: by its name, or if no node has that, by its address.
    fn same_node(&self, other: &Node) -> Option<&Node> {
        let by_name = self.nodes.iter().find(|node| node.name == other.name);
        by_name.or_else(|| self.nodes.iter().find(|node| node.public == other.public))
    }

    /// The same cluster, where a flow that has another node's tag keeps it.
    #[must_use]
    pub(crate) fn keeping_tags(self) -> Self {
        Self { on_conflict: OnConflict::Keep, ..self }
    }

    /// The same cluster, where tags from the file before still mean their nodes.
    #[must_use]
    pub fn with_former(self, changed: &[Retagged]) -> Self {
        Self { former: changed.iter().map(|it| (it.from, it.node)).collect(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const EXAMPLE: &str = include_str!("../../rules/example.toml");

    fn cluster(text: &str) -> Cluster {
        Cluster::parse(text, Path::new("c")).unwrap()
    }

    fn with(changes: &[(&str, &str)]) -> Cluster {
        let mut text = EXAMPLE.to_owned();
        for (from, to) in changes {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            text = other;
        }
        cluster(&text)
    }

    #[test]
    fn an_unused_number_can_be_taken_and_another_nodes_cannot() {
        let old = cluster(EXAMPLE);
        assert_eq!(old.new_tags(&old), NewTags::default());
        let new = with(&[("tag    = 2", "tag    = 7")]);
        let retagged = Retagged { node: NodeId(1), from: Mark(2), to: Mark(7) };
        assert_eq!(old.new_tags(&new), NewTags { changed: vec![retagged], ..NewTags::default() });
        // Two nodes change places.
        let new =
            with(&[("tag    = 1", "tag    = 3"), ("tag    = 2", "tag    = 1"), ("tag    = 3", "tag    = 2")]);
        let taken = |node: &str, tag, was: &str| Taken { node: node.into(), tag: Mark(tag), was: was.into() };
        let all = vec![taken("node1", 2, "node2"), taken("node2", 1, "node1")];
        assert_eq!(old.new_tags(&new), NewTags { taken: all, ..NewTags::default() });
        let new = with(&[("mask = \"0xffffffff\"", "mask = \"0xff\"")]);
        assert_eq!(old.new_tags(&new), NewTags { other_mask: true, ..NewTags::default() });
    }

    #[test]
    fn a_node_is_known_by_its_name_or_else_by_its_address() {
        let old = cluster(EXAMPLE);
        let renamed = with(&[("name   = \"node2\"", "name   = \"other\"")]);
        assert_eq!(old.new_tags(&renamed), NewTags::default());
        let another =
            with(&[("name   = \"node2\"", "name   = \"other\""), ("192.168.122.12\"", "192.168.122.13\"")]);
        let found = old.new_tags(&another);
        assert_eq!(found.taken[0].was, "node2");
        assert_eq!(found.gone, [("node2".to_owned(), Mark(2))]);
    }

    #[test]
    fn former_tags_mean_their_node() {
        let new = with(&[("tag    = 2", "tag    = 7")]);
        let changed = cluster(EXAMPLE).new_tags(&new).changed;
        let all: Vec<_> = new.with_former(&changed).tags().collect();
        assert_eq!(all, [(Mark(1), NodeId(0)), (Mark(7), NodeId(1)), (Mark(2), NodeId(1))]);
    }
}
