//! Where the data goes that a verb was asked for, and what is said beside it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use dunnat::trace::Replacement;
use serde::Serialize;

use super::Failure;
use super::say::say;

/// Whether to write in colours: on a terminal, unless NO_COLOR is set (no-color.org); or if CLICOLOR_FORCE is
/// (bixense.com/clicolors).
pub(super) fn coloured(terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !set("NO_COLOR") && (set("CLICOLOR_FORCE") || terminal && !dumb)
}

/// Says what belongs to the data that a verb was asked for.
pub(super) fn note(text: impl std::fmt::Display) -> Result<(), Failure> {
    say(text).map_err(|source| Failure::Output { to: "standard error".to_owned(), source })
}

/// Prints the data that a verb was asked for. A reader that has seen enough is no error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    printed(|out| out.write_all(text.as_bytes()))
}

/// The same for data that is written piece by piece.
fn printed(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    of_data(write(&mut out).and_then(|()| out.flush()))
}

/// What came of writing data.
pub(super) fn of_data(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(failed(source)),
        _ => Ok(()),
    }
}

/// One line of JSON.
pub(super) fn print_json(data: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(data).map_err(io::Error::from);
    print(&(json.map_err(failed)? + "\n"))
}

/// The file that is named to be written; none for `-`, which is standard output.
pub(super) fn named(write: Option<&Path>) -> Option<&Path> {
    write.filter(|path| path.as_os_str() != "-")
}

/// Writes the data into a file, or prints it where none is named. `read` are the files that it comes from.
pub(super) fn written(
    to: Option<&Path>,
    read: &[PathBuf],
    write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let Some(path) = named(to) else { return printed(write) };
    Replacement::begin(path, read)
        .and_then(|mut file| write(&mut file).and_then(|()| file.commit()))
        .map_err(|source| Failure::Output { to: path.display().to_string(), source })
}

fn failed(source: io::Error) -> Failure {
    Failure::Output { to: "standard output".to_owned(), source }
}
