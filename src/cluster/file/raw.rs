//! The file as it is typed, which is all that serde reads of it.
//!
//! Texts keep their place, so that what is found wrong later can be pointed at; they are parsed by us and not by serde, because
//! serde stops at the first fault.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use toml::{Spanned, Value};

pub(super) type Text = Spanned<String>;

/// One text, or a list with one for each family.
pub(super) struct Texts {
    pub(super) span: Range<usize>,
    pub(super) texts: Vec<Text>,
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let typed = Spanned::<OneOrMore>::deserialize(deserializer)?;
        let span = typed.span();
        let texts = match typed.into_inner() {
            OneOrMore::One(text) => vec![Spanned::new(span.clone(), text)],
            OneOrMore::More(texts) => texts,
        };
        Ok(Self { span, texts })
    }
}

enum OneOrMore {
    One(String),
    More(Vec<Text>),
}

// An untagged enum of serde would lose the places.
impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Typed;

        impl<'de> Visitor<'de> for Typed {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a list with one for each family")
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMore::More(texts))
            }
        }

        deserializer.deserialize_any(Typed)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) guests: RawGuests,
    pub(super) public: RawPublic,
    #[serde(default)]
    pub(super) service: Vec<RawService>,
    #[serde(default)]
    pub(super) node: Vec<RawNode>,
    #[serde(default)]
    pub(super) marks: RawMarks,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGuests {
    pub(super) network: Texts,
    pub(super) gateway: Texts,
    pub(super) bridge: Text,
    pub(super) pipes: Option<Vec<Text>>,
    pub(super) inside: Option<Texts>,
    pub(super) foreign: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublic {
    pub(super) interface: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    pub(super) name: Text,
    pub(super) proto: Text,
    pub(super) port: Option<Spanned<Value>>,
    pub(super) guest: Texts,
    pub(super) guest_port: Option<Spanned<i64>>,
    /// The name of a node.
    pub(super) home: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub(super) name: Text,
    pub(super) tag: Spanned<Value>,
    pub(super) mac: Option<Text>,
    pub(super) dscp: Option<Spanned<Value>>,
    pub(super) public: Texts,
    pub(super) pipes: Option<Vec<Text>>,
    /// By the name of the node that a pipe leads to.
    pub(super) pipe_to: Option<BTreeMap<Text, Text>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMarks {
    pub(super) mask: Option<Spanned<Value>>,
    pub(super) on_conflict: Option<Text>,
    pub(super) tag_by: Option<Text>,
}
