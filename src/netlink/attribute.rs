//! Attributes: length, type, value, padding to four bytes.

/// The size of an attribute's header: length and type, 16 bits each.
pub(crate) const HEADER: usize = 4;

/// The bits of the type that are the type; the others say "nested" and "network byte order".
const TYPE_MASK: u16 = 0x3fff;

/// The bit that says that a value is made of attributes.
pub(crate) const NESTED: u16 = 0x8000;

/// What `len` bytes take with their padding.
pub(crate) const fn padded(len: usize) -> usize {
    (len + 3) & !3
}

/// The two fields of 16 bits in four bytes, in host byte order as they are.
#[inline]
const fn halves(word: u32) -> (u16, u16) {
    let (low, high) = (word as u16, (word >> 16) as u16);
    if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
}

/// The attributes in some bytes.
///
/// Ends where the bytes do, or at a length that is shorter than a header or longer than what is left. The kernel
/// leaves out the padding of the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = self.rest.split_first_chunk::<HEADER>()?;
        let (len, kind) = halves(u32::from_ne_bytes(*header));
        let len = usize::from(len).checked_sub(HEADER)?;
        let value = rest.get(..len)?;
        self.rest = rest.get(padded(len)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    }
}

/// A value of 32 bits in network byte order; the first four bytes, if there are as many.
#[inline]
pub(crate) fn be32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A value of 64 bits in network byte order; the first eight bytes, if there are as many.
pub(crate) fn be64(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Appends an attribute, and what is missing behind it to a multiple of four bytes.
pub(crate) fn put_padded(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    put(out, kind, value);
    out.resize(padded(out.len()), 0);
}

/// Appends an attribute, without padding behind it: values here are multiples of four long.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    put_header(out, kind, value.len());
    out.extend_from_slice(value);
}

/// Appends the header of an attribute whose value of `len` bytes comes from elsewhere.
///
/// The length leaves out the padding behind the value: a length with it would make the packet longer.
#[inline]
pub(crate) fn put_header(out: &mut Vec<u8>, kind: u16, len: usize) {
    out.extend_from_slice(&((HEADER + len) as u16).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Vec<(u16, &[u8])> {
        Attributes::new(bytes).collect()
    }

    #[test]
    fn what_is_put_is_read() {
        let mut bytes = Vec::new();
        put(&mut bytes, 3, &7u32.to_be_bytes());
        put(&mut bytes, 10 | NESTED, &[]);
        put_header(&mut bytes, 4, 5);
        bytes.extend_from_slice(b"value");
        assert_eq!(read(&bytes), [(3, &[0, 0, 0, 7][..]), (10, &[]), (4, b"value")]);
    }

    #[test]
    fn lengths_that_cannot_be_end_it() {
        for len in [0u16, 1, 3, 9] {
            let mut bytes = len.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0]);
            assert!(read(&bytes).is_empty(), "{len}");
        }
        assert!(read(&[8, 0, 1]).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(read(&bytes).len() <= bytes.len() / HEADER + 1);
        }
    }
}
