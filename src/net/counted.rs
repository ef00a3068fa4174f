//! Numbers of things, in words.

use std::fmt::{self, Display};

/// So many of them: `1 event`, `2 events`. `what` is one of them.
pub fn counted(count: u64, what: &str) -> impl Display {
    struct Counted<'a>(u64, &'a str);
    impl Display for Counted<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self(count, what) = self;
            write!(f, "{count} {what}{}", if *count == 1 { "" } else { "s" })
        }
    }
    Counted(count, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        let said = [0, 1, 2].map(|count| counted(count, "event").to_string());
        assert_eq!(said, ["0 events", "1 event", "2 events"]);
    }
}
