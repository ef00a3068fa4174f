//! What all rules of a base chain ask first is asked once, and the rules stand in a chain of their own.
//!
//! Every packet of a host meets the base chains, and most have nothing to do with ours. Each rule costs such a packet the time in which it
//! sees that it is none of it; the longest is to compare the name of an interface.

use super::rule::{Rule, Statement};
use super::table::{Chain, NAT};

/// The chains that may be divided, each with the name of the chain for its rules.
const DIVIDED: [(&str, &str); 5] = [
    ("ask-dnat", "ask-dnat-rules"),
    ("save-tag", "save-tag-rules"),
    ("remember-tag", "remember-tag-rules"),
    ("ask-spoof", "ask-spoof-rules"),
    ("rewrite-spoof", "rewrite-spoof-rules"),
];

/// The same chains; of those that may be divided, the conditions with which all rules begin are left, and lead to the rest.
pub(super) fn asked_once(chains: Vec<Chain>) -> Vec<Chain> {
    chains.into_iter().flat_map(divided).collect()
}

fn divided(chain: Chain) -> Vec<Chain> {
    let rules_of = DIVIDED.into_iter().find(|(base, _)| *base == chain.name);
    let same = same(&chain.rules);
    let (Some((_, name)), Some(hook), true) = (rules_of, &chain.hook, same > 0 && chain.rules.len() > 1)
    else {
        return vec![chain];
    };
    if hook.kind == NAT {
        return vec![chain];
    }
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
