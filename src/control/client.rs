//! The side that asks.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{Answer, DIRECTORY, Request};
use crate::trace::Event;

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    line: String,
}

/// Ends what a client asked for, from another thread.
#[derive(Debug)]
pub struct Stopper(UnixStream);

/// Why there is no node to talk to. Each message is a sentence with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No socket.
    #[error(
        "there is no {0}: no dunnat runs as that node here; start it with dunnat run, or say where it listens with --socket"
    )]
    Absent(PathBuf),
    /// A socket that nobody listens on.
    #[error("nobody listens on {0}: the dunnat that made it is gone; start it again with dunnat run")]
    Stale(PathBuf),
    /// Not root.
    #[error("{0} is for root only; try sudo")]
    Rights(PathBuf),
    /// Anything else.
    #[error("cannot talk to {path}: {source}")]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No node was named, and there is not one alone.
    #[error("which node? Say --node NAME or --socket PATH; {DIRECTORY} has {0}")]
    Which(String),
}

impl ConnectError {
    fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Absent(path),
            io::ErrorKind::ConnectionRefused => Self::Stale(path),
            io::ErrorKind::PermissionDenied => Self::Rights(path),
            _ => Self::Failed { path, source },
        }
    }
}

/// The socket of the one node that runs here.
///
/// # Errors
/// None does, or several; or the directory may not be read.
pub fn only_node() -> Result<PathBuf, ConnectError> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ConnectError::Which("no socket, so no dunnat runs here".to_owned()));
        }
        Err(error) => return Err(ConnectError::of(Path::new(DIRECTORY), error)),
    };
    let mut sockets: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "sock"))
        .collect();
    sockets.sort();
    match &sockets[..] {
        [one] => Ok(one.clone()),
        [] => Err(ConnectError::Which("no socket, so no dunnat runs here".to_owned())),
        several => {
            let names = several.iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy()));
            Err(ConnectError::Which(names.collect::<Vec<_>>().join(", ")))
        }
    }
}

impl Client {
    /// Connects to a node and asks for something.
    ///
    /// # Errors
    /// No node listens there, or it may not be asked.
    pub fn ask(path: &Path, request: &Request) -> Result<Self, ConnectError> {
        let failed = |source| ConnectError::of(path, source);
        let mut stream = UnixStream::connect(path).map_err(failed)?;
        let mut line = serde_json::to_string(request).map_err(|error| failed(error.into()))?;
        line.push('\n');
        stream.write_all(line.as_bytes()).map_err(failed)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), line: String::new() })
    }

    /// The next answer, or none if the node is gone.
    ///
    /// # Errors
    /// The connection failed, or what came is no answer.
    pub fn answer(&mut self) -> io::Result<Option<Answer<Event>>> {
        self.line.clear();
        // A line without its end was cut off with the connection.
        if self.stream.read_line(&mut self.line)? == 0 || !self.line.ends_with('\n') {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&self.line)?))
    }

    /// What ends the request.
    ///
    /// # Errors
    /// There are no more file descriptors.
    pub fn stopper(&self) -> io::Result<Stopper> {
        self.stream.get_ref().try_clone().map(Stopper)
    }
}

impl Stopper {
    /// Says that enough was seen: what is on its way still comes, and the end.
    pub fn stop(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Ends the connection.
    pub fn cut(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
