//! Chains that put packets into one queue, on kernels whose nft has no `queue`.
//!
//! x_tables has a target for it, NFQUEUE, and nft_compat lets it be an expression of a rule; only nft's language has no word for
//! that. So each queue has a chain of its own, which rules jump to; its name says which queue, and its one rule is written by
//! netlink.

use std::io;
use std::ops::RangeInclusive;

use super::owner::TABLE;
use crate::netlink::expression::Expressions;
use crate::netlink::nftables::{Batch, Chain, Nftables};

/// The chain of a queue. With `bypass` packets go on if nobody listens there.
pub(super) fn name(queue: u16, bypass: bool) -> String {
    format!("queue-{queue}{}", if bypass { BYPASS } else { "" })
}

const BYPASS: &str = "-bypass";

/// What queue a chain of that name is for, and whether with bypass.
pub(super) fn read(name: &str) -> Option<(u16, bool)> {
    let number = name.strip_prefix("queue-")?;
    let (number, bypass) = number.strip_suffix(BYPASS).map_or((number, false), |number| (number, true));
    // Only as we write it.
    let queue: u16 = number.parse().ok()?;
    (queue.to_string() == number).then_some((queue, bypass))
}

/// The end of a rule that hands a flow always to the same of these queues: `symhash` knows ports, which the kernel's own
/// spreading over a range of queues does not.
pub(super) fn jump(queues: &RangeInclusive<u16>, bypass: bool) -> String {
    match queues.len() {
        1 => format!("counter jump {}", name(*queues.start(), bypass)),
        workers => {
            let each: Vec<String> =
                queues.clone().map(|queue| format!("{queue} : jump {}", name(queue, bypass))).collect();
            let first = queues.start();
            format!("counter symhash mod {workers} offset {first} vmap {{ {} }}", each.join(", "))
        }
    }
}

/// Writes the rule of a chain, whatever was in it.
pub(super) fn fill(batch: &mut Batch, family: u8, table: &str, chain: &str) {
    let Some((queue, bypass)) = read(chain) else { return };
    batch.flush_chain(family, table, chain);
    let mut rule = Expressions::default();
    rule.target_nfqueue(queue, bypass);
    batch.rule(family, table, chain, &rule.into_bytes());
}

/// Writes the rules of all such chains in the tables of our name; says how many.
///
/// # Errors
/// The kernel refused: it has no target NFQUEUE (kernel module xt_NFQUEUE), or no nft_compat.
pub fn fill_all() -> io::Result<usize> {
    let nft = Nftables::open()?;
    let chains: Vec<Chain> = nft.chains(|_, table| table == TABLE)?;
    let mut batch = Batch::new();
    let ours = chains.iter().filter(|chain| read(&chain.name).is_some());
    let count = ours.map(|chain| fill(&mut batch, chain.family, &chain.table, &chain.name)).count();
    nft.commit(batch)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_it_all() {
        for (queue, bypass) in [(0, false), (100, true), (65535, false)] {
            assert_eq!(read(&name(queue, bypass)), Some((queue, bypass)));
        }
        for other in ["queue-", "queue-x", "queue-65536", "queue-07", "queue-1-2", "ask-dnat", "queue-+1"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn one_queue_or_several() {
        assert_eq!(jump(&(7..=7), false), "counter jump queue-7");
        assert_eq!(
            jump(&(8..=9), true),
            "counter symhash mod 2 offset 8 vmap { 8 : jump queue-8-bypass, 9 : jump queue-9-bypass }"
        );
    }
}
