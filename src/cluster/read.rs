//! The cluster file as it is read: whatever is at that path, reading it ends soon and takes little memory.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{Error, Problem};

/// How large a cluster file may be, in bytes: room for some 150,000 services.
const LARGEST: u64 = 16 << 20;

/// The text of a cluster file.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let refused = |what: String| failed(io::Error::other(what));
    // By its name first: to open a socket fails, and to open a device may do something. A FIFO would wait for a writer.
    is_file(&std::fs::metadata(path).map_err(failed)?).map_err(refused)?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    is_file(&file.metadata().map_err(failed)?).map_err(refused)?;
    let mut bytes = Vec::new();
    // However long it says it is: a file of /proc says 0.
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(refused(too_large()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (at, text) = (error.utf8_error().valid_up_to(), String::from_utf8_lossy(error.as_bytes()));
        let help = "a cluster file is UTF-8 text: save it as UTF-8, or name another file";
        let message = "these bytes are not UTF-8".to_owned();
        Error::invalid(path, &text, &[Problem { span: at..at, message, help: Some(help.to_owned()) }])
    })
}

fn is_file(found: &std::fs::Metadata) -> Result<(), String> {
    let kind = found.file_type();
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe (FIFO)"
    } else if kind.is_socket() {
        "a socket"
    } else if !kind.is_file() {
        "a device"
    } else if found.len() > LARGEST {
        return Err(too_large());
    } else {
        return Ok(());
    };
    Err(format!("it is {what}, but a cluster file must be a regular file"))
}

fn too_large() -> String {
    format!("it is larger than {} MiB, the limit for a cluster file", LARGEST >> 20)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cluster::Cluster;

    #[test]
    fn what_is_no_file_or_too_large_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let _socket = UnixListener::bind(at("socket")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        // It takes no room on the disk.
        File::create(at("large")).unwrap().set_len(3 << 30).unwrap();
        File::create(at("as large as may be")).unwrap().set_len(LARGEST).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("link")).unwrap();
        let began = Instant::now();
        for (path, said) in [
            (PathBuf::from("/dev/zero"), "it is a device, but a cluster file must be a regular file"),
            (at("link"), "it is a device"),
            (at("fifo"), "it is a pipe (FIFO)"),
            (at("socket"), "it is a socket"),
            (at(""), "it is a directory"),
            (at("large"), "it is larger than 16 MiB, the limit for a cluster file"),
            (at("nothing"), "No such file"),
        ] {
            let error = Cluster::load(&path).unwrap_err();
            assert!(matches!(error, Error::Read { .. }), "{error}");
            let error = error.to_string();
            assert!(error.starts_with("cannot read the cluster file ") && error.contains(said), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(read(&at("as large as may be")).is_ok());
        assert!(
            matches!(Cluster::load(Path::new("/proc/version")), Err(Error::Invalid(_))),
            "it says 0 bytes"
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_are_shown_with_their_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"[guests]\n# na\xefve\n").unwrap();
        let error = Cluster::load(file.path()).unwrap_err().to_string();
        assert!(error.contains(":2:5: these bytes are not UTF-8"), "{error}");
    }
}
