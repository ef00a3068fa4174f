//! A file that is opened, and how it begins; a pipe, and whether more of it has come.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;

use dunnat::simulate::{Capture, Foreign};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level;

use super::Failure;
use super::trace::stopping;

/// A file that is opened, and how it begins.
pub(super) struct Begun {
    /// Its name in messages.
    pub(super) from: String,
    /// Its first bytes, which are still to be read: the source may be a pipe, which brings its bytes in any pieces.
    pub(super) beginning: Vec<u8>,
    pub(super) input: Box<dyn BufRead>,
    pub(super) pipe: Pipe,
}

impl Begun {
    /// Opens a file; `-` is standard input. One of another format that is known is refused.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let (from, mut input, pipe) = open(path)?;
        let mut beginning = Vec::new();
        if let Err(source) = input.by_ref().take(Foreign::BEGINNING as u64).read_to_end(&mut beginning) {
            return Err(Failure::Input { from, source });
        }
        match Foreign::of(&beginning).filter(|_| !Capture::is_one(&beginning)) {
            Some(foreign) => Err(Failure::Foreign { from, foreign }),
            None => {
                let input = Box::new(Cursor::new(beginning.clone()).chain(input));
                Ok(Self { from, beginning, input, pipe })
            }
        }
    }
}

/// Opens a file to be read; `-` is standard input. Beside it, its name in messages, and whether it is a pipe.
pub(super) fn open(path: &Path) -> Result<(String, Box<dyn BufRead>, Pipe), Failure> {
    let from = path.display().to_string();
    let opened = match path.as_os_str() == "-" {
        true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => File::open(path),
    };
    match opened {
        Ok(file) => {
            let pipe = Pipe::of(&file);
            let source = Source { file, pipe: pipe.clone() };
            Ok((from, Box::new(BufReader::with_capacity(256 << 10, source)), pipe))
        }
        Err(source) => Err(Failure::Input { from, source }),
    }
}

/// Whether all that has come of a pipe is read; none of a file, which is all there. What is no file is taken for a pipe.
#[derive(Clone)]
pub(super) struct Pipe(Option<Rc<Cell<bool>>>);

/// Readable when there was a signal that ends pipes.
static SIGNALLED: OnceLock<UnixStream> = OnceLock::new();

impl Pipe {
    fn of(file: &File) -> Self {
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        Self((!is_file).then(Rc::default))
    }

    /// Whether all that has come of it is read: what was made of it is to be shown, as more may be long in coming.
    pub(super) fn is_drained(&self) -> bool {
        self.0.as_ref().is_some_and(|is_drained| is_drained.get())
    }

    /// From now on a signal is the end of each pipe, so that nothing is lost of what has come; the second one ends the program. Where
    /// only files are read, a signal does what it did.
    pub(super) fn end_at_signal(&self) -> Result<(), Failure> {
        if self.0.is_some() && SIGNALLED.get().is_none() {
            let _ = SIGNALLED.set(signalled().map_err(Failure::Signals)?);
        }
        Ok(())
    }
}

fn signalled() -> io::Result<UnixStream> {
    stopping()?;
    let (signalled, handler) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        low_level::pipe::register(signal, handler.try_clone()?)?;
    }
    Ok(signalled)
}

/// A file or a pipe that is read.
struct Source {
    file: File,
    pipe: Pipe,
}

impl Read for Source {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(is_drained) = &self.pipe.0 else { return self.file.read(bytes) };
        if SIGNALLED.get().is_some_and(|signalled| comes_first(signalled, &self.file)) {
            return Ok(0);
        }
        let read = self.file.read(bytes)?;
        is_drained.set(!is_ready(&self.file));
        Ok(read)
    }
}

/// Waits for a signal, or more to read; whether there was a signal.
fn comes_first(signalled: &UnixStream, file: &File) -> bool {
    let mut watched = [PollFd::new(signalled, PollFlags::IN), PollFd::new(file, PollFlags::IN)];
    loop {
        match poll(&mut watched, None) {
            Ok(_) => return !watched[0].revents().is_empty(),
            Err(Errno::INTR) => {}
            // What is wrong is said by who reads.
            Err(_) => return false,
        }
    }
}

/// Whether there is more to read, or the end, without waiting for it.
fn is_ready(file: &File) -> bool {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&NOW)).is_ok_and(|count| count > 0)
}
