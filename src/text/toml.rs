//! Values of a file in TOML.

use std::fmt::Display;

use toml::Value;

/// A string.
pub(crate) fn string(value: impl Display) -> String {
    Value::String(value.to_string()).to_string()
}

/// A string, or a list of them unless there is one.
pub(crate) fn strings(values: impl IntoIterator<Item: Display>) -> String {
    let mut all: Vec<String> = values.into_iter().map(string).collect();
    match all.len() {
        1 => all.remove(0),
        _ => format!("[{}]", all.join(", ")),
    }
}
