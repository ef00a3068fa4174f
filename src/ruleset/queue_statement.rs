//! How a rule hands packets to queues: by the statement of nft, or by a jump to a chain where nft has none.

use std::ops::RangeInclusive;

use super::rule::{Queues, Statement};
use super::table::Chain;
use super::{QueueBy, queue_chain};

/// Hands packets to the queues of a lane, a flow always to the same, and counts them.
pub(super) fn queue(by: QueueBy, numbers: &RangeInclusive<u16>, bypass: bool) -> [Statement; 2] {
    [Statement::Count, Statement::Queue(Queues { by, numbers: numbers.clone(), bypass })]
}

/// The chains of queues, where nft cannot write rules for them.
pub(super) fn queue_chains(by: QueueBy, queues: RangeInclusive<u16>, bypass: bool) -> Vec<Chain> {
    let wanted = queues.filter(|_| by == QueueBy::Xt);
    wanted.map(|queue| Chain::new("", &queue_chain::name(queue, bypass), Vec::new())).collect()
}
