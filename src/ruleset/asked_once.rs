//! Fewer base chains, and fewer rules in them: what stands between two queues is one chain, and what all rules of a chain ask is
//! asked once, with the rules in a chain of their own. And each rule asks first what is soon answered.
//!
//! Every packet of a host meets the base chains, and most have nothing to do with ours. Each rule costs such a packet the time in which it
//! sees that it is none of it; the longest is to compare the name of an interface, which the kernel copies first
//! (net/netfilter/nft_meta.c, `nft_meta_store_ifname()`).

use super::rule::{Comparison, Condition, Rule, Statement};
use super::table::Chain;

/// Chains between which nothing is queued, in the order of their rules, and the name that is left, if there is a chain of that name.
const TOGETHER: [(&str, &[&str]); 3] = [
    ("rewrite-dnat", &["rewrite-dnat", "pass-foreign", "expiring"]),
    ("save-tag", &["save-tag", "remember-tag"]),
    ("ask-spoof", &["show-to-spoof", "ask-spoof"]),
];

/// The chains that may be divided, each with the name of the chain for its rules.
const DIVIDED: [(&str, &str); 5] = [
    ("ask-dnat", "ask-dnat-rules"),
    ("save-tag", "save-tag-rules"),
    ("remember-tag", "remember-tag-rules"),
    ("ask-spoof", "ask-spoof-rules"),
    ("rewrite-spoof", "rewrite-spoof-rules"),
];

/// The same, with fewer base chains; of those that may be divided, the conditions that all rules have are left, and lead to the
/// rest.
pub(super) fn asked_once(chains: Vec<Chain>) -> Vec<Chain> {
    let mut chains: Vec<Chain> =
        TOGETHER.into_iter().fold(chains, together).into_iter().flat_map(divided).collect();
    for rule in chains.iter_mut().flat_map(|chain| &mut chain.rules) {
        rule.conditions.sort_by_key(time);
    }
    chains
}

/// What takes less time has a lower number.
fn time(condition: &Condition) -> u8 {
    match condition {
        Condition::Marked(..) | Condition::State(_) => 0,
        Condition::Is(
            Comparison::From(_) | Comparison::To(_) | Comparison::Family(_) | Comparison::Proto(_),
        )
        | Condition::NotFrom(_)
        | Condition::Protocol(_)
        | Condition::NotProtocol(_)
        | Condition::ProtocolOfHeader(_)
        | Condition::LifeBelow(..) => 1,
        Condition::ToListed(..) => 2,
        Condition::Is(Comparison::In(_) | Comparison::Out(_)) => 3,
        _ => 4,
    }
}

fn together(mut chains: Vec<Chain>, (left, all): (&str, &[&str])) -> Vec<Chain> {
    if !chains.iter().any(|chain| chain.name == left) {
        return chains;
    }
    let mut its: Vec<Chain> =
        chains.extract_if(.., |chain| chain.name != left && all.contains(&chain.name.as_str())).collect();
    for chain in chains.iter_mut().filter(|chain| chain.name == left) {
        its.push(chain.clone());
        its.sort_by_key(|it| all.iter().position(|name| *name == it.name));
        chain.rules = its.iter().flat_map(|it| it.rules.clone()).collect();
        let others = its.iter().filter(|it| it.name != left).map(|it| it.about.as_str());
        chain.about = [chain.about.as_str()].into_iter().chain(others).collect::<Vec<_>>().join("\n");
    }
    chains
}

fn divided(chain: Chain) -> Vec<Chain> {
    let rules_of = DIVIDED.into_iter().find(|(base, _)| *base == chain.name);
    let shared = shared(&chain.rules);
    let (Some((_, name)), false) = (rules_of, shared.is_empty() || chain.rules.len() < 2) else {
        return vec![chain];
    };
    let Chain { about, name: base, hook, mut rules } = chain;
    for rule in &mut rules {
        // A rule may change a mark, which those that follow ask for.
        let is_of_marks = |it: &Condition| matches!(it, Condition::Marked(..) | Condition::MarksAgree(..));
        rule.conditions.retain(|it| is_of_marks(it) || !shared.contains(it));
    }
    let leads = Rule::new(shared, [Statement::GoTo(name)]);
    // A rule may only lead to a chain that is there.
    vec![
        Chain::new(&format!("The rules of {base}."), name, rules),
        Chain { hook, ..Chain::new(&about, &base, vec![leads]) },
    ]
}

/// What all rules ask.
fn shared(rules: &[Rule]) -> Vec<Condition> {
    let Some((first, others)) = rules.split_first() else { return Vec::new() };
    let asked_by_all = |it: &&Condition| others.iter().all(|other| other.conditions.contains(it));
    first.conditions.iter().filter(asked_by_all).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use super::*;
    use crate::cluster::Cluster;
    use crate::net::{Family, Proto};
    use crate::ruleset::marks::Bits;
    use crate::ruleset::table::{Hook, PREROUTING};

    fn rule(conditions: &[Condition], statement: Statement) -> Rule {
        Rule::new(conditions.iter().cloned(), [statement])
    }

    #[test]
    fn what_all_rules_ask_is_asked_once() {
        let family = Condition::Is(Comparison::Family(Family::V4));
        let of = |proto| Condition::Protocol(proto);
        let rules = vec![
            rule(&[family.clone(), of(Proto::TCP)], Statement::Accept),
            rule(&[family.clone(), of(Proto::UDP), Condition::Syn], Statement::Drop),
        ];
        let base =
            |name, rules: &[Rule]| Chain::new("why", name, rules.to_vec()).at(Hook::filter(PREROUTING, -300));
        let divided = asked_once(vec![base("ask-dnat", &rules), base("another", &rules)]);
        let [inner, outer, another] = &divided[..] else { panic!("{divided:?}") };
        assert_eq!((inner.name.as_str(), &inner.hook), ("ask-dnat-rules", &None));
        assert_eq!(
            inner.rules,
            [
                rule(&[of(Proto::TCP)], Statement::Accept),
                rule(&[of(Proto::UDP), Condition::Syn], Statement::Drop)
            ]
        );
        assert_eq!(outer.rules, [rule(&[family], Statement::GoTo("ask-dnat-rules"))]);
        assert_eq!((&outer.hook, outer.about.as_str()), (&another.hook, "why"));
        assert_eq!(another.rules, rules);
        // What is asked in another place of a rule, too. A mark may be changed by the first rule, so the second asks for it again; and
        // both ask first for what is soon answered.
        let example = include_str!("../../rules/example.toml");
        let bits = Bits::of_flow(&Cluster::parse(example, Path::new("example.toml")).unwrap());
        let input = Condition::input(&"br0".parse().unwrap());
        let to = Condition::destination(IpAddr::from([10, 5, 5, 201]));
        let to = |with: &[Condition]| [&[input.clone(), to.clone()], with].concat();
        let marked = [
            rule(&to(&[bits.set(), bits.unset()]), Statement::NoTrack),
            rule(&to(&[of(Proto::TCP), bits.unset()]), Statement::Drop),
        ];
        let divided = asked_once(vec![base("save-tag", &marked)]);
        let [inner, outer] = &divided[..] else { panic!("{divided:?}") };
        let asked = [&[bits.unset()], &to(&[])[1..], std::slice::from_ref(&input)].concat();
        assert_eq!(outer.rules, [rule(&asked, Statement::GoTo("save-tag-rules"))]);
        assert_eq!(
            inner.rules,
            [
                rule(&[bits.set(), bits.unset()], Statement::NoTrack),
                rule(&[bits.unset(), of(Proto::TCP)], Statement::Drop)
            ]
        );
        // Nothing in common, and one alone.
        for rules in [&rules[..1], &[rules[0].clone(), rule(&[], Statement::Drop)]] {
            assert_eq!(asked_once(vec![base("ask-dnat", rules)]), [base("ask-dnat", rules)]);
        }
    }
}
