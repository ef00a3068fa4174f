//! The rules: what to install ([`Plan`]), how it is written ([`Rules`]), and how it gets in and out again
//! ([`Ready`], [`Installed`]).
//!
//! A rule is data: what it asks of a packet, and what it does ([`Rule`]). Its text is one reading of that, which a person could
//! have typed; what becomes of a packet by it is another, without a kernel ([`Evaluator`]).
//!
//! There is one set of rules for a node, commented. Those of a run hand packets to dunnat; where
//! nft has no `queue`, by chains with the target NFQUEUE of x_tables, the one thing that is not written in nft's language.
//! Another set does the whole job in the kernel and needs no dunnat ([`in_kernel()`]); a shadow has that and shows dunnat its
//! packets ([`ShadowPlan`]). Beside these is the guard, which outlives the process. A last set only shows packets, beside whatever
//! translates them ([`ObservePlan`]). Everything that is a matter of
//! order (hooks, priorities) is in one table of constants in `chains.rs`.

mod asked_once;
mod bridge;
mod chains;
mod choices;
pub(crate) mod elsewhere;
mod explain;
mod family;
mod guard;
mod in_kernel;
mod install;
mod kernel_rule;
mod lane;
pub(crate) mod listed;
mod marks;
mod no_plan;
mod not_by_rules;
mod observe;
mod once;
mod owner;
mod plan;
mod queue_chain;
mod queue_statement;
mod queued;
mod queues;
mod rewrite;
mod rule;
mod rules;
mod shadow;
mod stand_in;
mod table;
mod walk;

pub use choices::{Backend, CtMarkBy, Deciding, QueueBy, RewriteBy, StandIn};
pub use explain::Choice;
pub(crate) use in_kernel::TABLE as PURE_TABLE;
pub use in_kernel::{in_kernel, rules_in_kernel};
pub use install::{
    Following, Held, InForce, InstallError, Installed, Ready, Serving, load_pure, remove_left, take_down,
    try_in_scratch,
};
pub(crate) use install::{TRACING, Tracing, is_our_name};
pub use kernel_rule::KernelRule;
pub use lane::{Lane, LaneCtMark, Traffic};
pub use no_plan::NoPlan;
pub use observe::ObservePlan;
pub(crate) use owner::TABLE as NODE_TABLE;
pub use plan::{Plan, Wishes};
pub use queue_chain::fill_all;
pub use queues::{ByQueue, QueueLayout};
pub use rule::{Arp, AtHook, Carried, Ip, Rule, Tracking};
pub use rules::Rules;
pub use shadow::{Moment, ShadowLane, ShadowPlan};
pub use walk::{Counters, Evaluator, Fate, Met, Point, RulePlace, Walk};

#[cfg(test)]
mod tests;
