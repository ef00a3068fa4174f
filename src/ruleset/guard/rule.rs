//! A rule of the guard: conditions that netlink can write, too, and how it ends.

use crate::netlink::expression::{Expressions, Say};
use crate::ruleset::rule::{Comparison, Condition, Rule as NftRule, Statement};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Comparison>,
    /// With a counter it drops.
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Drop(&'static str),
    Accept,
    Return,
    Continue,
    /// Goes through another chain, and to the end of this one.
    GoTo(&'static str),
}

impl Rule {
    pub(super) fn new(conditions: Vec<Comparison>, end: End) -> Self {
        Self { conditions, end }
    }

    pub(super) fn expressions(&self) -> Expressions {
        let mut out = Expressions::default();
        for comparison in &self.conditions {
            comparison.put(&mut out);
        }
        match self.end {
            End::Drop(counter) => {
                out.count(counter);
                out.say(Say::Drop);
            }
            End::Accept => out.say(Say::Accept),
            End::Return => out.say(Say::Return),
            End::Continue => out.say(Say::Continue),
            End::GoTo(chain) => out.go_to(chain),
        }
        out
    }
}

/// For nft.
impl From<&Rule> for NftRule {
    fn from(rule: &Rule) -> Self {
        let end = match rule.end {
            End::Drop(counter) => vec![Statement::CountIn(counter), Statement::Drop],
            End::Accept => vec![Statement::Accept],
            End::Return => vec![Statement::Return],
            End::Continue => vec![Statement::Continue],
            End::GoTo(chain) => vec![Statement::GoTo(chain)],
        };
        Self::new(rule.conditions.iter().cloned().map(Condition::Is), end)
    }
}
