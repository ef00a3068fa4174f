//! Numbers of things, in words.

/// So many of them: `1 event`, `2 events`. `what` is one of them.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        let said = [0, 1, 2].map(|count| counted(count, "event"));
        assert_eq!(said, ["0 events", "1 event", "2 events"]);
    }
}
