//! Which node the bits of a mark name, and what the flow holds.

use super::{Derived, Rule, Why};
use crate::cluster::{Cluster, Node, OnConflict};
use crate::engine::Reason;
use crate::net::{CtMark, Mark};
use crate::simulate::Visit;

impl Why {
    /// The node whose tag `mark` is.
    pub(super) fn by_tag(&mut self, cluster: &Cluster, bits: Bits, mark: Option<Mark>) -> Option<Mark> {
        self.node(cluster, |node| {
            let wants = format!("{} {}", bits.words(), node.tag);
            let misses = match mark {
                Some(mark) if mark == node.tag => None,
                Some(mark) => Some(format!("{} {mark} is not {}", bits.words(), node.tag)),
                None => Some(format!("it is not known whether the {} is {}", bits.what, node.tag)),
            };
            (wants, misses)
        })
    }

    /// Goes through the nodes; the tag of the one that fits.
    pub(super) fn node(
        &mut self,
        cluster: &Cluster,
        look: impl Fn(&Node) -> (String, Option<String>),
    ) -> Option<Mark> {
        for (id, node) in cluster.node_ids().zip(&cluster.nodes) {
            let (wants, misses) = look(node);
            if misses.is_none() {
                self.fits.0 = Some(id);
            }
            self.rules.push(Rule { name: node.name.clone(), wants, misses });
        }
        self.fits.0.map(|id| cluster.node(id).tag)
    }

    /// What the flow holds already.
    pub(super) fn flow(&mut self, tag: Mark, visit: &Visit, cluster: &Cluster, free: Reason) -> Derived {
        let held = visit.meta.ct_mark.masked(cluster.mask);
        let words = Bits { what: "ct mark", mask: cluster.mask }.words();
        let whose = |held: Mark| cluster.nodes.iter().find(|node| node.tag == held);
        match held {
            CtMark::ZERO => {
                self.then(true, free, || format!("{words} 0x0: the flow has no tag yet and gets {tag}"))?;
                Ok(free)
            }
            CtMark::Is(held) if held == tag => {
                let says = || format!("{words} {held}: the flow has that tag already");
                self.then(false, Reason::AlreadySaved, says)?;
                Err(Reason::AlreadySaved)
            }
            other => {
                let what = match cluster.on_conflict {
                    OnConflict::Keep => "the flow keeps",
                    OnConflict::Drop => "the packet is dropped; the flow keeps",
                    OnConflict::Take => "the flow gets this tag instead of",
                };
                self.then(false, Reason::MarkConflict, || {
                    match other.known().map(|held| (held, whose(held))) {
                        Some((held, Some(node))) => {
                            format!(
                                "{words} {held}: {what} the tag of {}; one client port reached this guest through two nodes",
                                node.name
                            )
                        }
                        Some((held, None)) => format!("{words} {held}: {what} another value"),
                        None => format!("{words} is neither zero nor {tag}: {what} it"),
                    }
                })?;
                Err(Reason::MarkConflict)
            }
        }
    }
}

/// Our bits of a mark, in nft's words.
#[derive(Clone, Copy)]
pub(super) struct Bits {
    pub(super) what: &'static str,
    pub(super) mask: Mark,
}

impl Bits {
    pub(super) fn words(self) -> String {
        if self.mask == Mark::ALL { self.what.to_owned() } else { format!("{} & {}", self.what, self.mask) }
    }

    pub(super) fn of(self, mark: Mark) -> String {
        let ours = mark & self.mask;
        format!("{} {ours} is {}", self.words(), if ours.is_zero() { "no tag" } else { "not zero" })
    }
}
