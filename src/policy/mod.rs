//! Who decides: policies by name, and what holds any policy to what it may.
//!
//! A policy is code that somebody wrote, perhaps yesterday. [`Supervised`] asks it, and whatever it does costs at most the packet:
//! a panic, or an answer that cannot be carried out, becomes a drop with a reason of its own. It also keeps what the policy
//! remembers ([`Notes`]), as a policy has no lock and no clock.

mod named;
mod notes;
mod supervised;

pub use named::{Maker, Named, NamedError};
pub use notes::Notes;
pub use supervised::Supervised;

#[cfg(test)]
mod tests;
