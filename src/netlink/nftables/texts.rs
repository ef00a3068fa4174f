//! Texts and comments, as attributes have them.

use crate::netlink::attribute::put_padded;

/// A text as attributes have it, with a closing zero.
pub(crate) fn put_text(out: &mut Vec<u8>, kind: u16, text: &str) {
    put_padded(out, kind, &[text.as_bytes(), &[0]].concat());
}

pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// What nft makes of a comment (libnftnl, include/udata.h: type, length, value; the comment of a table has type 0).
pub(super) fn comment_data(comment: &str) -> Vec<u8> {
    let comment = &comment.as_bytes()[..comment.len().min(254)];
    [&[0, comment.len() as u8 + 1], comment, &[0]].concat()
}

pub(super) fn read_comment(mut data: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *kind == 0 {
            return Some(text(value));
        }
        data = &rest[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_read_as_it_was_written() {
        assert_eq!(read_comment(&comment_data("dunnat node1")).as_deref(), Some("dunnat node1"));
        // Behind something else, and cut.
        assert_eq!(read_comment(&[7, 1, 9, 0, 3, b'a', b'b', 0]).as_deref(), Some("ab"));
        assert_eq!(read_comment(&[0, 200, b'a']), None);
        assert_eq!(read_comment(&[0]), None);
        assert_eq!(comment_data(&"x".repeat(400)).len(), 257);
    }
}
