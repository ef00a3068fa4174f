//! What follows the question mark of a path.

/// The value of a parameter, decoded (the form of `application/x-www-form-urlencoded`, as browsers send it); of several the first. None
/// if it is not there, or is no UTF-8.
///
/// ```
/// use dunnat::http::parameter;
///
/// assert_eq!(parameter("a=1&filter=tcp+port%2080", "filter").as_deref(), Some("tcp port 80"));
/// assert_eq!(parameter("a=1", "b"), None);
/// ```
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|part| {
        let (own, value) = part.split_once('=').unwrap_or((part, ""));
        (own == name).then_some(value)
    })?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        let digit = |place: usize| char::from(*more.get(place)?).to_digit(16);
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &more[2..];
                continue;
            }
            (b'+', ..) => bytes.push(b' '),
            (byte, ..) => bytes.push(byte),
        }
        rest = more;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_decoded_and_no_bytes_are_more_than_text() {
        for (query, expected) in [
            ("x=", Some("")),
            ("x", Some("")),
            ("y=1&x=a%2Bb+c&x=2", Some("a+b c")),
            ("x=%", Some("%")),
            ("x=%4", Some("%4")),
            ("x=%zz%41", Some("%zzA")),
            ("x=%ff", None),
            ("x=%e2%82%ac", Some("€")),
            ("xx=1", None),
        ] {
            assert_eq!(parameter(query, "x").as_deref(), expected, "{query}");
        }
    }
}
