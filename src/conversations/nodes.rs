//! The nodes whose traces are joined, as the judgement of each conversation asks for them. There may be a thousand, and as many
//! conversations for each: nothing here goes through all of them more than once.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::Deref;

use super::connection::Traced;
use crate::text::counted;
use crate::trace::Name;

/// Of how many nodes it is said that something is missing in their traces; then of how many more.
const NAMED: usize = 8;

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    all: &'a BTreeMap<Name, Traced>,
    gaps: OnceCell<Vec<String>>,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(all: &'a BTreeMap<Name, Traced>) -> Self {
        Self { all, gaps: OnceCell::new() }
    }

    /// What is missing in their traces, in words.
    pub(super) fn gaps(&self) -> &[String] {
        self.gaps.get_or_init(|| {
            let mut said = self.said(|node| node.lost, "events are missing", |name, lost| {
                let lost = counted(lost, "event");
                format!("the trace of {name} has lost {lost}; a missing packet may be among them")
            });
            said.extend(self.said(|node| node.left_out, "decisions are left out", |name, left_out| {
                let left_out = counted(left_out, "decision");
                format!(
                    "the trace of {name} is a sample, which leaves out {left_out}; a missing packet may be among them"
                )
            }));
            said
        })
    }

    /// Each node of which so much is missing, up to a limit, and then how many more.
    fn said(
        &self,
        missing: impl Fn(&Traced) -> u64,
        more: &str,
        says: impl Fn(&Name, u64) -> String,
    ) -> Vec<String> {
        let having: Vec<(&Name, u64)> = self
            .all
            .iter()
            .map(|(name, node)| (name, missing(node)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let mut said: Vec<String> =
            having.iter().take(NAMED).map(|(name, count)| says(name, *count)).collect();
        if let Some(others) = having.len().checked_sub(NAMED).filter(|others| *others > 0) {
            said.push(format!("{more} in {}, too", counted(others as u64, "more trace")));
        }
        said
    }
}

impl Deref for Nodes<'_> {
    type Target = BTreeMap<Name, Traced>;

    fn deref(&self) -> &Self::Target {
        self.all
    }
}
