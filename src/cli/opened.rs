//! A file that is opened, and how it begins.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;

use dunnat::simulate::{Capture, Foreign};

use super::Failure;

/// A file that is opened, and how it begins.
pub(super) struct Begun {
    /// Its name in messages.
    pub(super) from: String,
    /// Its first bytes, which are still to be read: the source may be a pipe, which brings its bytes in any pieces.
    pub(super) beginning: Vec<u8>,
    pub(super) input: Box<dyn BufRead>,
}

impl Begun {
    /// Opens a file; `-` is standard input. One of another format that is known is refused.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let (from, mut input) = open(path)?;
        let mut beginning = Vec::new();
        if let Err(source) = input.by_ref().take(Foreign::BEGINNING as u64).read_to_end(&mut beginning) {
            return Err(Failure::Input { from, source });
        }
        match Foreign::of(&beginning).filter(|_| !Capture::is_one(&beginning)) {
            Some(foreign) => Err(Failure::Foreign { from, foreign }),
            None => {
                let input = Box::new(Cursor::new(beginning.clone()).chain(input));
                Ok(Self { from, beginning, input })
            }
        }
    }
}

/// Opens a file to be read; `-` is standard input. Beside it, its name in messages.
pub(super) fn open(path: &Path) -> Result<(String, Box<dyn BufRead>), Failure> {
    let from = path.display().to_string();
    if path.as_os_str() == "-" {
        return Ok((from, Box::new(BufReader::new(io::stdin()))));
    }
    match File::open(path) {
        Ok(file) => Ok((from, Box::new(BufReader::with_capacity(256 << 10, file)))),
        Err(source) => Err(Failure::Input { from, source }),
    }
}
