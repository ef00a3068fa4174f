//! Rules of other programs that packets of guests meet.

use super::listing::Chain;
use super::{Fact, Host, Role, Section, Severity};
use crate::net::Family;

pub(super) fn judge(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let mut facts = forward(host, role);
    facts.extend(offload(host, role));
    facts.push(legacy(host));
    facts
}

/// What a chain does to the packets of guests that its first rules have not let through.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Shielded,
    Meets(usize),
    Nothing,
}

/// Looks for the first rule that `harms`, and whether both rules that keep guests' packets from it come before.
fn fate(chain: &Chain, bridge: &str, harms: impl Fn(&str) -> bool) -> Fate {
    let shields = |way: &str, rule: &str| {
        ["accept", "return"].iter().any(|verdict| rule == format!("{way} \"{bridge}\" {verdict}"))
    };
    let (mut inward, mut outward) = (false, false);
    for (place, rule) in chain.rules.iter().enumerate() {
        inward |= shields("iifname", rule);
        outward |= shields("oifname", rule);
        if inward && outward {
            return Fate::Shielded;
        }
        if harms(rule) {
            return Fate::Meets(place);
        }
    }
    Fate::Nothing
}

/// Rules that let guests' packets pass a chain. Those of iptables-nft are for that tool to make.
fn shield(chain: &Chain, bridge: &str, verdict: &str) -> String {
    let tool = match chain.family.as_str() {
        "ip" => "iptables-nft",
        "ip6" => "ip6tables-nft",
        _ => "",
    };
    if !tool.is_empty() && chain.table == "filter" && chain.name == "FORWARD" {
        return format!("{tool} -I FORWARD -i {bridge} -j ACCEPT && {tool} -I FORWARD -o {bridge} -j ACCEPT");
    }
    let insert = |way| format!("nft insert rule {} '{way} \"{bridge}\" {verdict}'", chain.place());
    format!("{} && {}", insert("iifname"), insert("oifname"))
}

/// Whether a chain sees packets of the guests' families.
fn meets(chain: &Chain, role: &Role<'_>) -> bool {
    let families = role.cluster.guests.network.families();
    ["inet", "bridge"].into_iter().chain(families.map(Family::nft)).any(|family| family == chain.family)
}

fn forward(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let bridge = role.cluster.guests.bridge.as_str();
    let fact = || {
        Fact::new(Section::Others, "forward-drop", "others drop no forwarded packets").otherwise(
            Severity::Matters,
            format!("that chain drops packets to and from {bridge} unless one of its rules accepts them"),
        )
    };
    let listing = match &host.rules {
        Ok(listing) => listing,
        Err(why) => return vec![fact().unknown(why)],
    };
    let drops = |rule: &str| rule == "drop" || rule.starts_with("reject");
    let mut facts: Vec<Fact> = listing
        .chains
        .iter()
        .filter(|chain| chain.hook.as_deref() == Some("forward") && !chain.is_ours())
        .filter(|chain| meets(chain, role))
        .filter_map(|chain| {
            let found = match fate(chain, bridge, drops) {
                Fate::Meets(place) => format!("{} ends in `{}`", chain.place(), chain.rules[place]),
                Fate::Nothing if chain.drops_by_policy => format!("{} has policy drop", chain.place()),
                Fate::Nothing | Fate::Shielded => return None,
            };
            // What was tried is known better than what was read.
            if let Some(Ok(rehearsal)) = &host.rehearsal
                && !rehearsal.is_stopped_by(&chain.place())
            {
                return None;
            }
            Some(fact().about(chain.place()).no(found).fix(shield(chain, bridge, "accept")))
        })
        .collect();
    if facts.is_empty() {
        facts.push(fact().yes(""));
    }
    facts
}

fn offload(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let bridge = role.cluster.guests.bridge.as_str();
    let fact = || {
        Fact::new(Section::Others, "flow-offload", "others offload no flows").otherwise(
            Severity::Matters,
            "packets of an offloaded flow bypass all rules, so replies go out with an inside address",
        )
    };
    let listing = match &host.rules {
        Ok(listing) => listing,
        Err(why) => return vec![fact().unknown(why)],
    };
    let offloads = |rule: &str| rule.contains("flow add @") || rule.contains("flow offload @");
    // A flow takes the fast way only between devices of the flowtable.
    let takes = |rule: &str, chain: &Chain| {
        let table = format!("{} {}", chain.family, chain.table);
        listing.flowtables.iter().any(|flowtable| {
            flowtable.table == table
                && rule.ends_with(&format!("@{}", flowtable.name))
                && (flowtable.devices.iter().any(|device| host.leads_to(device, role)))
        })
    };
    let mut facts: Vec<Fact> = listing
        .chains
        .iter()
        .filter(|chain| chain.hook.is_some() && !chain.is_ours())
        .filter_map(|chain| match fate(chain, bridge, |rule| offloads(rule) && takes(rule, chain)) {
            Fate::Meets(place) => Some(
                fact()
                    .about(chain.place())
                    .no(format!("{}: {}", chain.place(), chain.rules[place]))
                    .fix(shield(chain, bridge, "return")),
            ),
            Fate::Nothing | Fate::Shielded => None,
        })
        .collect();
    if facts.is_empty() {
        facts.push(fact().yes(""));
    }
    facts
}

fn legacy(host: &Host) -> Fact {
    Fact::new(Section::Others, "legacy-tables", "no rules of iptables-legacy")
        .otherwise(Severity::GoodToKnow, "nft does not show them; check them with: iptables-legacy-save")
        .from(&host.legacy_tables, |tables| (tables.is_empty(), tables.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(rules: &[&str]) -> Chain {
        Chain {
            family: "inet".to_owned(),
            table: "fw".to_owned(),
            name: "forward".to_owned(),
            rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
            ..Chain::default()
        }
    }

    #[test]
    fn two_rules_before_it_keep_packets_from_a_drop() {
        let drops = |rule: &str| rule == "drop";
        let (inward, outward) = ("iifname \"br0\" accept", "oifname \"br0\" accept");
        assert_eq!(fate(&chain(&[inward, outward, "drop"]), "br0", drops), Fate::Shielded);
        assert_eq!(fate(&chain(&[inward, "drop", outward]), "br0", drops), Fate::Meets(1));
        assert_eq!(fate(&chain(&["ct state invalid drop", inward]), "br0", drops), Fate::Nothing);
        assert_eq!(fate(&chain(&[inward, outward]), "br1", drops), Fate::Nothing);
        assert_eq!(
            shield(&chain(&[]), "br0", "accept"),
            "nft insert rule inet fw forward 'iifname \"br0\" accept' && nft insert rule inet fw forward 'oifname \
             \"br0\" accept'"
        );
    }
}
