//! Values that have a name, each once in a table.

/// The value of that name.
///
/// # Errors
/// There is none; the message lists the names that there are.
pub fn value<T: Copy>(text: &str, all: &[(T, &'static str)]) -> Result<T, String> {
    all.iter().find(|(_, name)| *name == text).map(|(value, _)| *value).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
        match &names[..] {
            [others @ .., last] if !others.is_empty() => format!("give {} or {last}", others.join(", ")),
            _ => format!("give {}", names.concat()),
        }
    })
}

/// The name of a value.
pub(crate) fn name<T: Copy + PartialEq>(value: T, all: &[(T, &'static str)]) -> &'static str {
    all.iter().find(|(one, _)| *one == value).map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_and_another_is_told_what_there_is() {
        let all = [(1, "one"), (2, "two"), (3, "three")];
        assert_eq!(value("two", &all), Ok(2));
        assert_eq!(name(3, &all), "three");
        assert_eq!(value("four", &all), Err("give one, two or three".to_owned()));
        assert_eq!(value("four", &all[..1]), Err("give one".to_owned()));
    }
}
