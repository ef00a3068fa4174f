//! Fewer base chains, and fewer rules in them: what stands between two queues is one chain, and what all rules of a chain ask first is
//! asked once, with the rules in a chain of their own.
//!
//! Every packet of a host meets the base chains, and most have nothing to do with ours. Each rule costs such a packet the time in which it
//! sees that it is none of it; the longest is to compare the name of an interface.

use super::rule::{Rule, Statement};
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

/// The same, with fewer base chains; of those that may be divided, the conditions with which all rules begin are left, and lead to the
/// rest.
pub(super) fn asked_once(chains: Vec<Chain>) -> Vec<Chain> {
    TOGETHER.into_iter().fold(chains, together).into_iter().flat_map(divided).collect()
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
    let same = same(&chain.rules);
    let (Some((_, name)), true) = (rules_of, same > 0 && chain.rules.len() > 1) else {
        return vec![chain];
    };
    let Chain { about, name: base, hook, mut rules } = chain;
    let shared = rules.first().map(|rule| rule.conditions[..same].to_vec()).unwrap_or_default();
    rules.iter_mut().for_each(|rule| drop(rule.conditions.drain(..same)));
    let leads = Rule::new(shared, [Statement::GoTo(name)]);
    // A rule may only lead to a chain that is there.
    vec![
        Chain::new(&format!("The rules of {base}."), name, rules),
        Chain { hook, ..Chain::new(&about, &base, vec![leads]) },
    ]
}

/// With how many conditions all rules begin.
fn same(rules: &[Rule]) -> usize {
    let Some((first, others)) = rules.split_first() else { return 0 };
    let with_first = |other: &Rule| {
        first.conditions.iter().zip(&other.conditions).take_while(|(one, two)| one == two).count()
    };
    others.iter().map(with_first).fold(first.conditions.len(), usize::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Family, Proto};
    use crate::ruleset::rule::{Comparison, Condition};
    use crate::ruleset::table::{Hook, PREROUTING};

    fn rule(conditions: &[Condition], statement: Statement) -> Rule {
        Rule::new(conditions.iter().cloned(), [statement])
    }

    #[test]
    fn what_all_rules_begin_with_is_asked_once() {
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
        // Nothing in common, and one alone.
        for rules in [&rules[..1], &[rules[0].clone(), rule(&[], Statement::Drop)]] {
            assert_eq!(asked_once(vec![base("ask-dnat", rules)]), [base("ask-dnat", rules)]);
        }
    }
}
