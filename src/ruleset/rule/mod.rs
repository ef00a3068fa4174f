//! A rule as data: what it asks of a packet ([`Condition`]), and what it does then ([`Statement`]).
//!
//! There is one value for each, and it has several readings: the text for nft (`text.rs`), the expressions that go by netlink, for
//! those conditions that the guard has (`expressions.rs`), and whether it holds for a packet, and what becomes of that
//! (`evaluate.rs`). So what is printed, what is installed and what is predicted cannot be three different things.

mod comparison;
mod condition;
mod evaluate;
mod expressions;
mod flow_set;
mod packet;
mod statement;
#[cfg(test)]
mod tests;
mod text;

pub(super) use comparison::{Addresses, Comparison};
pub(super) use condition::{Condition, CtIs, IcmpName, IcmpTypes, Marked};
pub(super) use evaluate::Next;
pub(super) use flow_set::{FlowSet, Known, Memory};
pub use packet::{Arp, AtHook, Carried, Ip, Tracking};
pub(super) use statement::{NewAddress, Queues, Statement};

/// A rule, without the chain that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) statements: Vec<Statement>,
    /// What it is about, for who lists the rules.
    pub(super) comment: Option<String>,
}

impl Rule {
    pub(super) fn new(
        conditions: impl IntoIterator<Item = Condition>,
        statements: impl IntoIterator<Item = Statement>,
    ) -> Self {
        let (conditions, statements) = (conditions.into_iter().collect(), statements.into_iter().collect());
        Self { conditions, statements, comment: None }
    }

    pub(super) fn comment(self, comment: &str) -> Self {
        Self { comment: Some(comment.to_owned()), ..self }
    }

    /// Whether it hands packets to queues.
    pub(super) fn asks(&self) -> bool {
        self.statements.iter().any(|it| matches!(it, Statement::Queue(_)))
    }

    /// The same, with a counter: behind all that may find nothing, and before what ends the rule.
    #[must_use]
    pub(super) fn counted(mut self) -> Self {
        if !self.statements.iter().any(|it| matches!(it, Statement::Count)) {
            let end = self.statements.iter().position(Statement::ends);
            self.statements.insert(end.unwrap_or(self.statements.len()), Statement::Count);
        }
        self
    }
}
