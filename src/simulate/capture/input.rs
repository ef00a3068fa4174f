//! The bytes of a file, from its beginning to its end, and where in it they are.

use std::io::{self, BufRead};

/// Order of the bytes in numbers: that of the machine that has written the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The most significant byte first.
    Big,
    /// The least significant byte first.
    Little,
}

impl Order {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        }
    }

    /// The words of 32 bits that a header consists of.
    pub(super) fn words<const N: usize>(self, bytes: &[u8]) -> [u32; N] {
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = bytes.first_chunk().map_or(0, |bytes| self.u32(*bytes));
        }
        words
    }
}

/// A file that is read once. It may be a pipe, so there is no way back.
pub(super) struct Input {
    source: Box<dyn BufRead>,
    at: u64,
}

impl Input {
    pub(super) fn new(source: Box<dyn BufRead>) -> Self {
        Self { source, at: 0 }
    }

    /// How many bytes of the file have been read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next byte, which stays the next; none at the end.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.source.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(|bytes| bytes.first().copied()),
            }
        }
    }

    /// Appends the next `len` bytes to `to`, or what there is of them, and says how many there were. Memory is taken for
    /// bytes that are there, not for those that a length promises.
    pub(super) fn append(&mut self, len: usize, to: &mut Vec<u8>) -> io::Result<usize> {
        self.pass(len as u64, |bytes| to.extend_from_slice(bytes)).map(|there| there as usize)
    }

    /// Reads the next bytes into a header, and says how many there were.
    pub(super) fn fill(&mut self, header: &mut [u8]) -> io::Result<usize> {
        let mut at = 0;
        self.pass(header.len() as u64, |bytes| {
            header[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        })?;
        Ok(at)
    }

    /// Goes past the next `len` bytes, and says how many there were.
    pub(super) fn skip(&mut self, len: u64) -> io::Result<u64> {
        self.pass(len, |_| {})
    }

    fn pass(&mut self, len: u64, mut show: impl FnMut(&[u8])) -> io::Result<u64> {
        let mut left = len;
        while left > 0 {
            let bytes = match self.source.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            if here == 0 {
                break;
            }
            show(&bytes[..here]);
            self.source.consume(here);
            self.at += here as u64;
            left -= here as u64;
        }
        Ok(len - left)
    }
}
