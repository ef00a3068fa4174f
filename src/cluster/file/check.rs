//! What is wrong is collected, each fault with its place and what would be right.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::ops::Range;
use std::str::FromStr;

use super::raw::Text;
use crate::cluster::Problem;
use crate::cluster::report::{brief, quoted};

/// Collects what is wrong. A method that returns `None` has said why.
#[derive(Default)]
pub(super) struct Check {
    pub(super) problems: Vec<Problem>,
}

impl Check {
    pub(super) fn say(&mut self, span: Range<usize>, message: impl Display, help: impl Display) {
        self.problems.push(Problem { span, message: message.to_string(), help: Some(help.to_string()) });
    }

    pub(super) fn read<T: FromStr<Err: Display>>(&mut self, what: &str, text: &Text) -> Option<T> {
        match text.get_ref().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.say(text.span(), format_args!("{} is no {what}", quoted(text.get_ref())), error);
                None
            }
        }
    }

    /// Says so where two entries have the same key.
    pub(super) fn unique<K: Eq + Hash + Display>(&mut self, what: &str, keys: &[(Range<usize>, K, &str)]) {
        let mut owners = HashMap::new();
        for (span, key, name) in keys {
            match owners.get(key) {
                None => _ = owners.insert(key, *name),
                Some(owner) => {
                    let message = format_args!("{what} {} is already used by {}", brief(key), quoted(owner));
                    self.say(span.clone(), message, "give each a different one");
                }
            }
        }
    }
}

pub(super) fn named<'a>(texts: impl Iterator<Item = &'a Text>) -> Vec<(Range<usize>, &'a str, &'a str)> {
    texts.map(|text| (text.span(), text.get_ref().as_str(), text.get_ref().as_str())).collect()
}
