//! Names as they are read: each is allocated once in a thread, however many events have it.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::text::escaped;

/// A name that many events share.
pub type Name = Arc<str>;

/// How many names are remembered: nodes, interfaces and services are few. What comes after is allocated each time.
const MOST: usize = 4096;

thread_local! {
    static NAMES: RefCell<FxHashSet<Name>> = RefCell::default();
}

/// A name as others wrote it: nothing in it that a terminal would obey.
pub(super) fn shared(text: &str) -> Name {
    NAMES.with_borrow_mut(|names| match names.get(text) {
        Some(name) => Name::clone(name),
        None => {
            let name = Name::from(escaped(text).to_string());
            if names.len() < MOST {
                names.insert(Name::clone(&name));
            }
            name
        }
    })
}

struct Shared(Name);

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Shared;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Shared, E> {
                Ok(Shared(shared(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// For a field that must be there.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    Shared::deserialize(deserializer).map(|shared| shared.0)
}

/// For a field that may be left out; it needs `default`, too.
pub(super) fn maybe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Name>, D::Error> {
    Ok(Option::<Shared>::deserialize(deserializer)?.map(|shared| shared.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::trace::{Event, samples};

    #[test]
    fn events_share_the_names_that_they_have_in_common() {
        let json = serde_json::to_string(&samples::events()[3]).unwrap();
        let [one, two]: [Event; 2] = [(); 2].map(|()| serde_json::from_str(&json).unwrap());
        assert_eq!(one, two);
        assert!(Arc::ptr_eq(&one.node, &two.node));
        assert!(Arc::ptr_eq(one.in_if.as_ref().unwrap(), two.in_if.as_ref().unwrap()));
        assert!(Arc::ptr_eq(one.mark.node.as_ref().unwrap(), two.entry.as_ref().unwrap()));
    }
}
