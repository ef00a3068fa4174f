//! How a rule hands packets to queues: by the statement of nft, or by a jump to a chain where nft has none.

use std::ops::RangeInclusive;

use super::table::Chain;
use super::{QueueBy, queue_chain};

/// Hands packets to the queues of a lane, a flow always to the same: `symhash` knows ports, which the kernel's own
/// spreading over a range of queues does not.
pub(super) fn queue(by: QueueBy, queues: &RangeInclusive<u16>) -> String {
    match (by, queues.len()) {
        (QueueBy::Xt, _) => queue_chain::jump(queues, false),
        (QueueBy::Nft, 1) => format!("counter queue num {}", queues.start()),
        (QueueBy::Nft, workers) => {
            format!("counter queue to symhash mod {workers} offset {}", queues.start())
        }
    }
}

/// The chains of queues, where nft cannot write rules for them.
pub(super) fn queue_chains(by: QueueBy, queues: RangeInclusive<u16>, bypass: bool) -> Vec<Chain> {
    let wanted = queues.filter(|_| by == QueueBy::Xt);
    wanted.map(|queue| Chain::new("", &queue_chain::name(queue, bypass), Vec::new())).collect()
}
