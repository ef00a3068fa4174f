//! A rule of the guard: conditions, and how it ends.

use super::condition::Condition;
use crate::net::OfFamily as _;
use crate::netlink::expression::{Expressions, Say};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    /// With a counter it drops.
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Drop(&'static str),
    Accept,
    Return,
    Continue,
}

impl Rule {
    pub(super) fn new(conditions: Vec<Condition>, end: End) -> Self {
        Self { conditions, end }
    }

    pub(super) fn text(&self) -> String {
        let family = self.conditions.iter().find_map(|condition| match condition {
            Condition::Family(family) => Some(*family),
            Condition::To(net) => Some(net.family()),
            _ => None,
        });
        let mut words: Vec<String> = self.conditions.iter().map(|condition| condition.text(family)).collect();
        words.push(match self.end {
            End::Drop(counter) => format!("counter name \"{counter}\" drop"),
            End::Accept => "accept".to_owned(),
            End::Return => "return".to_owned(),
            End::Continue => "continue".to_owned(),
        });
        words.join(" ")
    }

    pub(super) fn expressions(&self) -> Vec<u8> {
        let mut out = Expressions::default();
        for condition in &self.conditions {
            condition.put(&mut out);
        }
        match self.end {
            End::Drop(counter) => {
                out.count(counter);
                out.say(Say::Drop);
            }
            End::Accept => out.say(Say::Accept),
            End::Return => out.say(Say::Return),
            End::Continue => out.say(Say::Continue),
        }
        out.into_bytes()
    }
}
