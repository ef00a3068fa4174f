//! Foreign flows are not tracked where they only pass.
//!
//! The replies of a guest that lives on another node do not come by here. Conntrack would see one direction of its flows and take
//! most of their packets for invalid, and a rule of somebody else that drops what is invalid would stop them. So they pass without
//! conntrack: requests that came in by the public interface, and those that other nodes send on through this one. Flows that
//! guests begin stay tracked, on whatever node their other end lives.
//!
//! A guest counts as living elsewhere only if that is known: from the cluster file (`home`), or because its frames come in by a pipe.
//! A guest that is at home and taken for one elsewhere would reply from its own address, so what is not known is tracked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::family::InFamily;
use super::rule::{Condition, Rule, Statement};
use super::table::{Chain, Hook, PREROUTING, Set, SetOf, Table};
use crate::cluster::NodeId;
use crate::net::{Family, OfFamily as _};

/// The name of the set.
pub(crate) const SET: &str = "elsewhere";

/// The guests that live on other nodes become these, and no others. `filled` is called for each set, with its table.
pub(super) fn fill(tables: &mut [Table], guests: &BTreeSet<IpAddr>, mut filled: impl FnMut(&Table, &Set)) {
    for table in tables {
        for set in table.sets.iter_mut().filter(|set| set.name == SET) {
            set.elements =
                guests.iter().filter(|guest| guest.family().nft() == table.family).copied().collect();
        }
        table.sets.iter().filter(|set| set.name == SET).for_each(|set| filled(table, set));
    }
}

/// Behind dnat (-300) and before conntrack (-200).
const PRIORITY: i32 = -297;

/// The set of a family, with what the cluster file says, and the chain that looks it up; none where there is nothing to pass.
pub(super) fn elsewhere(here: InFamily<'_>, node: NodeId, is_filled: bool) -> Option<(Set, Chain)> {
    let InFamily { cluster, family, network, .. } = here;
    if !cluster.passes_foreign(node) || !here.has_services() {
        return None;
    }
    let (nic, bridge) = (&cluster.public, &cluster.guests.bridge);
    let listed = Condition::ToListed(family, SET);
    let fills = if is_filled {
        "dunnat adds those whose frames come in by a pipe."
    } else {
        "Others can be added while the rules are loaded."
    };
    let set = Set {
        about: format!(
            "Guests that live on other nodes: those with another `home` in the cluster file.\n{fills}"
        ),
        name: SET,
        of: match family {
            Family::V4 => SetOf::Addresses("ipv4_addr"),
            Family::V6 => SetOf::Addresses("ipv6_addr"),
        },
        elements: cluster
            .living_elsewhere(node)
            .into_iter()
            .filter(|guest| guest.family() == family)
            .collect(),
    };
    let chain = Chain::new(
        "Foreign flows only pass here: their replies take another way. Conntrack would take what it sees of them\n\
         for invalid.",
        "pass-foreign",
        vec![
            Rule::new([Condition::input(nic), listed.clone()], [Statement::NoTrack]),
            Rule::new([Condition::input(bridge), Condition::NotFrom(network), listed], [Statement::NoTrack]),
        ],
    );
    Some((set, chain.at(Hook::filter(PREROUTING, PRIORITY))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cluster::Cluster;
    use crate::net::ByFamily;

    fn cluster(text: &str) -> Cluster {
        Cluster::parse(text, Path::new("c")).unwrap()
    }

    #[test]
    fn each_family_has_its_guests_and_other_sets_are_left_alone() {
        let set = |name| Set {
            about: String::new(),
            name,
            of: SetOf::Addresses("ipv4_addr"),
            elements: Vec::new(),
        };
        let of_family = |family| Table {
            sets: vec![set("others"), set(SET)],
            ..Table::new(family, "t", "c", Vec::new())
        };
        let mut tables = [of_family("ip"), of_family("ip6"), of_family("bridge")];
        let guests = ["10.5.5.201", "10.5.5.202", "fd00:5::201"].map(|guest| guest.parse().unwrap());
        let mut filled = Vec::new();
        fill(&mut tables, &guests.into(), |table, set| {
            filled.push((table.family, set.name, set.elements.clone()));
        });
        let [one, two, six] = guests;
        assert_eq!(
            filled,
            [("ip", SET, vec![one, two]), ("ip6", SET, vec![six]), ("bridge", SET, Vec::new())]
        );
        assert!(tables.iter().all(|table| table.sets[0].elements.is_empty()));
        // What lives there no more is taken out.
        fill(&mut tables, &BTreeSet::new(), |_, set| assert_eq!(set.elements, Vec::<IpAddr>::new()));
    }

    #[test]
    fn there_is_nothing_to_pass_without_pipes_and_without_a_service_of_the_family() {
        let text = include_str!("../../rules/dual.toml");
        let is_there = |cluster: &Cluster| {
            InFamily::all(cluster, NodeId(0))
                .map(|here| elsewhere(here, NodeId(0), true).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(is_there(&cluster(text)), [true, true]);
        let tracked = text.replacen("[guests]", "[guests]\nforeign = \"track\"", 1);
        assert_eq!(is_there(&cluster(&tracked)), [false, false]);
        // No guest of IPv6 has a service.
        let four = cluster(include_str!("../../rules/example.toml"));
        let mut dual = cluster(text);
        for service in &mut dual.services {
            let four = service.guest.get(Family::V4).copied();
            service.guest = ByFamily::new(|family| four.filter(|_| family == Family::V4));
        }
        assert_eq!((is_there(&four), is_there(&dual)), (vec![true], vec![true, false]));
    }
}
