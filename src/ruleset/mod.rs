//! The rules: what to install ([`Plan`]), how it is written ([`Rules`]), and how it gets in and out again
//! ([`Installed`]).
//!
//! Rules are texts that a person could have typed, commented, one set for a node. Two forms hand packets to
//! dunnat, one for kernels with nft `queue` and one for those without; a third does the whole job in the kernel
//! and needs no dunnat ([`in_kernel()`]); a shadow has that and shows dunnat its packets ([`ShadowPlan`]). Everything that is a matter of order (hooks, priorities, names) is in
//! one table of constants in `render.rs`.

mod explain;
mod family;
mod footprint;
mod in_kernel;
mod install;
mod iptables;
mod plan;
mod render;
mod shadow;

pub use explain::Choice;
pub use in_kernel::{KernelRule, in_kernel, rules_in_kernel};
pub use install::{InstallError, Installed, Leftovers};
pub use plan::{Backend, CtMark, CtMarkBy, Lane, NoPlan, Plan, QueueBy, RewriteBy, Traffic, Wishes};
pub use render::Rules;
pub(crate) use render::owned;
pub use shadow::{LaneCtMark, Moment, ShadowLane, ShadowPlan};

#[cfg(test)]
mod tests;
