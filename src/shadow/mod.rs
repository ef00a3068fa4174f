//! Whether dunnat and the pure ruleset are of one mind: each is the other's oracle.
//!
//! The kernel does the work, by the rules of `dunnat rules --kernel`. A packet is seen before a stage and after it.
//! Before, dunnat decides, and what would come of that is remembered, under what the stage leaves alone of the packet
//! ([`Key`]); afterwards it is compared with what has come of it ([`Judge`]). `tag` is done before the ip family sees a
//! frame: there the decision is made afterwards, as if the bits of the packet mark that are ours were not set yet.
//!
//! Compared are the addresses, our bits of the packet mark, for `save` those of the ct mark, and whether the packet goes on
//! at all; checksums are not, and neither are ICMP errors: dunnat translates what they quote, which no rule can. All workers share one judge, and wait for each other there: this is for judging, and not
//! for speed.

mod compare;
mod judge;
mod key;
mod tally;
mod waiting;

pub use compare::Seen;
pub use judge::Judge;
pub use key::Key;
pub use tally::{Count, Tally};
