//! Bytes as text.

use std::fmt;
use std::str::FromStr;

/// Bytes, written in hex.
///
/// ```
/// use dunnat::net::Hex;
///
/// let bytes: Hex = "4500".parse()?;
/// assert_eq!((bytes.0.as_slice(), bytes.to_string().as_str()), (&[0x45, 0][..], "4500"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for bytes in self.0.chunks(text.len() / 2) {
            for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
                digits[0] = DIGITS[usize::from(byte >> 4)];
                digits[1] = DIGITS[usize::from(byte & 15)];
            }
            f.write_str(std::str::from_utf8(&text[..2 * bytes.len()]).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl FromStr for Hex {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
        let pair = |pair: &[u8]| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.map(Self).ok_or("bytes are written as pairs of hexadecimal digits")
    }
}

super::as_text! { Hex: "bytes in hex" }
