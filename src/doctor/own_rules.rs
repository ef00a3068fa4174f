//! Whether the rules of a node say what they should: nft lists them beside those that it would make of the same text elsewhere.

use super::{Listing, Reading};
use crate::kernel;
use crate::kernel::tool::{self, Tool};

/// What is otherwise in chains that have as many rules as they should, each in a sentence, by the one of these texts that comes nearest.
/// They are for nft, which makes them in network namespaces that are thrown away.
pub(super) fn changed(should_be: &[String], found: &Listing) -> Reading<Vec<String>> {
    let mut nearest: Option<Vec<String>> = None;
    for text in should_be {
        let differences = differences(&made_of(text.clone())?, found);
        if nearest.as_ref().is_none_or(|nearest| differences.len() < nearest.len()) {
            nearest = Some(differences);
        }
        if nearest.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    Ok(nearest.unwrap_or_default())
}

/// What nft lists where it has read that.
fn made_of(text: String) -> Reading<Listing> {
    let made = kernel::in_scratch_namespace(move || {
        tool::feed(Tool::Nft, &["-f", "-"], &text)?;
        tool::run(Tool::Nft, &["-s", "-t", "list", "ruleset"])
    });
    let made = made.map_err(|error| format!("a network namespace: {error}"))?;
    Ok(Listing::parse(&made.map_err(|failure| failure.to_string())?))
}

fn differences(should_be: &Listing, found: &Listing) -> Vec<String> {
    let mut all = Vec::new();
    for wanted in &should_be.chains {
        let Some(chain) = found.chains.iter().find(|chain| chain.place() == wanted.place()) else { continue };
        let place = wanted.place();
        if (&chain.hook, chain.drops_by_policy) != (&wanted.hook, wanted.drops_by_policy) {
            all.push(format!("{place} is at another hook, or has another policy"));
        }
        if chain.rules.len() != wanted.rules.len() {
            continue;
        }
        for (number, (rule, wanted)) in (1..).zip(chain.rules.iter().zip(&wanted.rules)) {
            if rule != wanted {
                all.push(format!("{place}: rule {number} should be `{wanted}`, and is `{rule}`"));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_says_something_else_is_found() {
        let listing = |rule: &str, policy: &str| {
            Listing::parse(&format!(
                "table ip dunnat {{\n\tchain save {{\n\t\ttype filter hook postrouting priority filter; policy {policy};\n\
                 \t\tcounter packets 3 bytes 9 {rule}\n\t}}\n}}\n"
            ))
        };
        let right = listing("ct mark set meta mark", "accept");
        assert_eq!(differences(&right, &right), Vec::<String>::new());
        assert_eq!(
            differences(&right, &listing("ct mark set 0x7", "accept")),
            ["ip dunnat save: rule 1 should be `ct mark set meta mark`, and is `ct mark set 0x7`"]
        );
        assert_eq!(
            differences(&right, &listing("ct mark set meta mark", "drop")),
            ["ip dunnat save is at another hook, or has another policy"]
        );
    }
}
