//! Taking over from a loaded pure ruleset, without losing a packet.
//!
//! When a base chain goes, the kernel drops all packets that wait in queues. So the chains of the pure ruleset go while nobody asks: first
//! our rules are put beside, with chains that queue nothing and with a stand-in. Then the pure ruleset goes, and the stand-in does its
//! work. At last the chains are filled that queue. Each step leaves every packet to somebody.

use super::change::change_what_is_there;
use super::waiting::wait_for_all_queues;
use super::{InstallError, Installed, Leftovers, There, is_pure};
use crate::cluster::Cluster;
use crate::netlink::nftables::Batch;
use crate::ruleset::table::{Chain, Table};
use crate::ruleset::{Deciding, Plan, Rules, StandIn};

/// The rules on the way, and in the end.
pub(super) struct TakeOver {
    /// Nobody is asked, and the kernel stands in.
    meanwhile: Rules,
    /// As the plan says. Where it has no stand-in, the chains of that stay, without rules: they cannot go while packets wait.
    pub(super) finally: Rules,
}

impl TakeOver {
    pub(super) fn new(cluster: &Cluster, plan: &Plan) -> Self {
        let stands_in = Plan { stand_in: StandIn::Kernel, deciding: Deciding::EveryPacket, ..*plan };
        let mut meanwhile = Rules::render(cluster, &stands_in);
        for table in &mut meanwhile.tables {
            table.chains.retain(|chain| !chain.is_queue());
            table.chains.iter_mut().filter(|chain| chain.asks()).for_each(|chain| chain.rules.clear());
        }
        let mut finally = Rules::render(cluster, plan);
        for table in &mut finally.tables {
            let is_same = |other: &&Table| (other.family, other.name) == (table.family, table.name);
            let other = meanwhile.tables.iter().find(is_same).map_or(&[][..], |other| &other.chains);
            let has = |chain: &Chain| table.chains.iter().any(|it| it.name == chain.name);
            let more: Vec<Chain> = other.iter().filter(|chain| !has(chain)).cloned().collect();
            table.chains.extend(more.into_iter().map(|chain| Chain { rules: Vec::new(), ..chain }));
        }
        Self { meanwhile, finally }
    }
}

impl Installed {
    /// Puts our rules in the place of the pure ruleset.
    pub(super) fn take_over(&mut self, there: &There, rules: TakeOver) -> Result<(), InstallError> {
        self.rules = rules.meanwhile;
        self.write(there, Leftovers::Removed)?;
        // Those of others: nothing waits in ours.
        wait_for_all_queues()?;
        change_what_is_there(&self.hold.nft, "remove the pure ruleset", |there| {
            let mut batch = Batch::new();
            for table in there.tables.iter().filter(|table| is_pure(table)) {
                batch.delete_table(table.family, &table.name);
            }
            batch
        })?;
        self.rules = rules.finally;
        let there = There::read(&self.hold.nft)?;
        self.write(&there, Leftovers::Removed)?;
        log::info!("took over from the pure ruleset, which is removed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kernel::Capabilities;
    use crate::ruleset::Wishes;

    /// On the way nothing is queued; in the end all is as without it, and no base chain has to go.
    #[test]
    fn nobody_is_asked_on_the_way_and_no_base_chain_goes() {
        let dual = include_str!("../../../rules/dual.toml");
        let cluster = Cluster::parse(dual, Path::new("dual.toml")).unwrap();
        let xt = Capabilities::none();
        for (stand_in, kernel) in [StandIn::None, StandIn::Kernel]
            .into_iter()
            .flat_map(|it| [Capabilities::all(), xt.clone()].map(|kernel| (it, kernel)))
        {
            let plan = Plan::new(Wishes { stand_in, ..Wishes::default() }, &kernel).unwrap();
            let TakeOver { meanwhile, finally } = TakeOver::new(&cluster, &plan);
            let of = |rules: &Rules| rules.tables.iter().flat_map(|it| it.chains.clone()).collect::<Vec<_>>();
            let (way, end, plain) = (of(&meanwhile), of(&finally), of(&Rules::render(&cluster, &plan)));
            assert!(way.iter().all(|chain| !chain.asks() && !chain.is_queue()));
            assert!(way.iter().any(|chain| chain.name == "stand-in-dnat" && !chain.rules.is_empty()));
            let bases = |chains: &[Chain]| chains.iter().filter(|it| it.hook.is_some()).count();
            assert_eq!(bases(&way), bases(&end));
            let more: Vec<&Chain> = end.iter().filter(|chain| !plain.contains(chain)).collect();
            assert!(more.iter().all(|chain| chain.rules.is_empty()));
            assert_eq!(more.is_empty(), stand_in == StandIn::Kernel);
        }
    }
}
