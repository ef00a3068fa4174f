//! Where the program is that runs.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// A path by which the program that runs can be started again. Where another has been put in its place, as an upgrade of a package does,
/// it is that one: of the file that runs the kernel says `… (deleted)` then (proc(5), `/proc/PID/exe`).
///
/// # Errors
/// /proc cannot be read.
pub fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe().map(in_its_place)
}

fn in_its_place(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(before) if !path.exists() => PathBuf::from(OsStr::from_bytes(before)),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_replaced_is_known_by_its_path() {
        assert_eq!(own_program().unwrap(), std::env::current_exe().unwrap());
        let place = |path: &str| in_its_place(path.into()).to_str().unwrap().to_owned();
        assert_eq!(place("/nowhere/dunnat (deleted)"), "/nowhere/dunnat");
        assert_eq!(place("/nowhere/dunnat"), "/nowhere/dunnat");
        // A file may have that name.
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("dunnat (deleted)");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(in_its_place(odd.clone()), odd);
    }
}
