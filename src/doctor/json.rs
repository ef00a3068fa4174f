//! Facts for a program.

use std::fmt::Write as _;

use super::{Fact, verdict};

pub(super) fn render(facts: &[Fact], unseen: &[String]) -> String {
    let unseen = serde_json::to_string(unseen).unwrap_or_default();
    let mut out = format!("{{\"works\":{},\"unseen\":{unseen},\"facts\":[", verdict(facts).is_ok());
    for (place, fact) in facts.iter().enumerate() {
        // Strings, and no maps with other keys: there is nothing that could not be written.
        let fact = serde_json::to_string(fact).unwrap_or_default();
        let _ = write!(out, "{}\n{fact}", if place == 0 { "" } else { "," });
    }
    out.push_str("\n]}\n");
    out
}
