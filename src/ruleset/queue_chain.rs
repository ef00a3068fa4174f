//! Chains that put packets into one queue, on kernels whose nft has no `queue`.
//!
//! x_tables has a target for it, NFQUEUE, and nft_compat lets it be an expression of a rule; only nft's language has no word for
//! that. So each queue has a chain of its own, which rules jump to; its name says which queue, and its one rule is written by
//! netlink.

use std::io;

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

/// Writes the rule of a chain, whatever was in it.
pub(super) fn fill(batch: &mut Batch, family: u8, table: &str, chain: &str) {
    let Some((queue, bypass)) = read(chain) else { return };
    batch.flush_chain(family, table, chain);
    let mut rule = Expressions::default();
    rule.target_nfqueue(queue, bypass);
    batch.rule(family, table, chain, &rule);
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

    /// What the kernel makes of it is seen in the lab, by every node on a kernel whose nft has no `queue`.
    #[test]
    fn a_chain_of_a_queue_gets_its_rule_and_no_other_chain_gets_one() {
        let written = |chain: &str| {
            let mut batch = Batch::new();
            fill(&mut batch, 2, TABLE, chain);
            batch.bytes().to_vec()
        };
        let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|it| it == what);
        let (plain, bypass) = (written("queue-258"), written("queue-258-bypass"));
        for bytes in [&plain, &bypass] {
            assert!(has(bytes, b"NFQUEUE\0") && has(bytes, b"queue-258"));
        }
        assert_ne!(plain, bypass);
        assert_eq!(written("ask-dnat").len(), Batch::new().bytes().len());
    }
}
