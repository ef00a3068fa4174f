//! Pipes: bridge ports, those of all nodes or of one, and where each leads.

use std::collections::BTreeMap;

use toml::Spanned;

use super::check::{Check, named};
use super::raw::{File, RawNode, Text};
use crate::cluster::report::quoted;
use crate::cluster::{Guests, Node, NodeId, TagBy};
use crate::net::IfName;

impl Check {
    pub(super) fn pipes(&mut self, raw: &[Text]) -> Option<Vec<IfName>> {
        let pipes: Vec<Option<IfName>> = raw.iter().map(|pipe| self.interface(pipe)).collect();
        self.unique("the pipe", &named(raw.iter()));
        pipes.into_iter().collect()
    }

    /// The pipes that a node names itself, and where each leads.
    pub(super) fn own_pipes(
        &mut self,
        file: &File,
        raw: &RawNode,
        tag_by: Option<TagBy>,
    ) -> Option<(Option<Vec<IfName>>, Vec<NodeId>)> {
        let by_pipe = tag_by == Some(TagBy::Pipe);
        if let (Some(pipes), true) = (&raw.pipes, by_pipe) {
            let span = pipes.first().map_or(raw.name.span(), Spanned::span);
            let help = "name the node behind each pipe, for example pipe_to = { node2 = \"eth1.100\" }";
            self.say(span, "tag_by is \"pipe\", so `pipes` is not enough", help);
            return None;
        }
        let Some(pipe_to) = &raw.pipe_to else {
            if by_pipe && file.node.len() > 1 {
                self.say(
                    raw.name.span(),
                    format_args!("node {} has no `pipe_to`", quoted(raw.name.get_ref())),
                    "name its pipe to each other node, for example pipe_to = { node2 = \"eth1.100\" }",
                );
                return None;
            }
            return match &raw.pipes {
                Some(pipes) => Some((Some(self.pipes(pipes)?), Vec::new())),
                None => Some((by_pipe.then(Vec::new), Vec::new())),
            };
        };
        if tag_by.is_some() && !by_pipe {
            let span = pipe_to.keys().next().map_or(raw.name.span(), Spanned::span);
            let help = "remove it, or write tag_by = \"pipe\" under [marks]";
            self.say(span, "pipe_to needs tag_by = \"pipe\"", help);
            return None;
        }
        let names: Vec<Text> = pipe_to.values().cloned().collect();
        let pipes = self.pipes(&names)?;
        let before = self.problems.len();
        let mut leads_to = Vec::new();
        for to in pipe_to.keys() {
            match file.node.iter().position(|node| node.name.get_ref() == to.get_ref()) {
                Some(place) if to.get_ref() != raw.name.get_ref() => leads_to.push(NodeId(place as u32)),
                Some(_) => {
                    self.say(to.span(), "this pipe leads to its own node", "pipes lead to other nodes");
                }
                None => self.say(
                    to.span(),
                    format_args!("there is no node {}", quoted(to.get_ref())),
                    "pipes lead to nodes of this file",
                ),
            }
        }
        for other in &file.node {
            let is_there = pipe_to.keys().any(|to| to.get_ref() == other.name.get_ref());
            if !is_there && other.name.get_ref() != raw.name.get_ref() {
                self.say(
                    raw.name.span(),
                    format_args!(
                        "node {} has no pipe to {}",
                        quoted(raw.name.get_ref()),
                        quoted(other.name.get_ref())
                    ),
                    "tag_by is \"pipe\": packets of a node without its own pipe would get another node's tag",
                );
            }
        }
        (self.problems.len() == before).then_some((Some(pipes), leads_to))
    }

    /// The same for the pipes that nodes name themselves as for those of all.
    pub(super) fn own_pipes_are_ports(
        &mut self,
        file: &File,
        nodes: &[Option<Node>],
        bridge: &IfName,
        public: Option<&IfName>,
    ) {
        for (raw, node) in file.node.iter().zip(nodes) {
            let own = node.iter().flat_map(|node| node.pipes.iter().flatten());
            for pipe in own.filter(|pipe| *pipe == bridge || Some(*pipe) == public) {
                let what = if pipe == bridge { "the guests' bridge" } else { "the public interface" };
                let named = raw.pipes.iter().flatten().chain(raw.pipe_to.iter().flat_map(BTreeMap::values));
                let place = named.into_iter().find(|text| text.get_ref() == pipe.as_str());
                let span = place.map_or(raw.name.span(), Spanned::span);
                let message = format_args!("{pipe} is {what}, and also a pipe");
                self.say(span, message, "pipes are ports of the bridge that lead to other nodes");
            }
        }
    }

    /// Frames of other nodes come in through pipes; a member without any cannot take part.
    pub(super) fn pipes_are_enough(&mut self, file: &File, guests: &Guests, tag_by: Option<TagBy>) {
        if file.node.len() < 2 || tag_by == Some(TagBy::Pipe) {
            return;
        }
        for raw in &file.node {
            let own = raw.pipes.as_ref().map_or(guests.pipes.len(), Vec::len);
            if own == 0 {
                self.say(
                    raw.name.span(),
                    format_args!("node {} has no pipe to the other nodes", quoted(raw.name.get_ref())),
                    "name the bridge ports that lead to other nodes in `pipes` of [guests] or of the node",
                );
            }
        }
    }
}
