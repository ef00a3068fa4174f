//! The socket that a node listens on: a place that nobody else can put something into.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::protocol::DIRECTORY;
use super::rights::Lookers;
use crate::netlink::sys;

/// Why a node cannot listen. Each message is a sentence with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// Another process does.
    #[error("a dunnat listens on {0} already: stop it, or choose another socket with --socket")]
    Taken(PathBuf),
    /// There is something else.
    #[error("{0} exists and is no socket: remove it, or choose another path with --socket")]
    NoSocket(PathBuf),
    /// Others could put a socket of theirs in its place.
    #[error("the control socket cannot be in {directory}: {fault}; {remedy}")]
    Unsafe {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        fault: String,
        /// What to do about it.
        remedy: String,
    },
    /// The group that is to look cannot.
    #[error(
        "cannot let group {group} look at the socket {path}: {source}; who is not root can give it only to a group of \
         their own: start dunnat in that group, or choose another one with --look-group"
    )]
    Group {
        /// The socket.
        path: PathBuf,
        /// The group.
        group: u32,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot listen on {path}: {source}; choose another path with --socket")]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that is taken. Removed when it goes.
#[derive(Debug)]
pub struct Listener {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// The file that is ours: device and inode.
    file: (u64, u64),
    pub(super) lookers: Lookers,
    /// The file stays when this goes: another program has the socket, too.
    stays: bool,
}

impl Listener {
    /// Takes a socket. One that a dead process has left is replaced.
    ///
    /// # Errors
    /// Somebody listens there, it cannot be made, or somebody else could replace it.
    pub fn take(path: &Path) -> Result<Self, TakeError> {
        let failed = |source| TakeError::Failed { path: path.to_owned(), source };
        let directory = directory_of(path);
        let is_ours = directory == Path::new(DIRECTORY);
        if is_ours {
            match DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
        }
        is_safe(directory, is_ours).map_err(failed)??;
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(TakeError::NoSocket(path.to_owned())),
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(TakeError::Taken(path.to_owned())),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    log::info!("{} was left by a dunnat that is gone; replacing it", path.display());
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Who slipped in before this is turned away by its user id.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        let made = std::fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file: (made.dev(), made.ino()),
            lookers: Lookers::none(),
            stays: false,
        })
    }

    /// A socket that the program before has taken, at that path. Until it is settled (`settle_down`) that this program goes on, its file
    /// stays.
    ///
    /// # Errors
    /// It is another one.
    pub fn taken_before(socket: OwnedFd, path: &Path) -> Result<Self, TakeError> {
        let failed = |source| TakeError::Failed { path: path.to_owned(), source };
        let listener = UnixListener::from(socket);
        let is_there = listener.local_addr().map_err(failed)?.as_pathname() == Some(path);
        let found = std::fs::symlink_metadata(path).map_err(failed)?;
        if !is_there || !found.file_type().is_socket() {
            return Err(failed(io::Error::other("the program before listened somewhere else")));
        }
        let file = (found.dev(), found.ino());
        Ok(Self { listener, path: path.to_owned(), file, lookers: Lookers::none(), stays: true })
    }

    /// From now on the file goes with this.
    pub(super) fn settle_down(&mut self) {
        self.stays = false;
    }

    /// Whether another program may go on with it.
    pub(super) fn stays(&self) -> bool {
        self.stays
    }

    /// Another program goes on with it; its descriptor.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.listener.try_clone()?.into())
    }

    /// Has whoever waits for a client look up.
    pub(super) fn knock(&self) -> io::Result<()> {
        UnixStream::connect(&self.path).map(drop)
    }

    /// Lets a group connect to it, to look. A usual group that the file cannot be given to does not.
    ///
    /// # Errors
    /// The file cannot be given to the group.
    pub fn shared_with(mut self, lookers: Lookers) -> Result<Self, TakeError> {
        let Some((group, is_usual)) = lookers.group() else { return Ok(self) };
        match self.share(group) {
            Ok(()) => {
                log::info!("members of group {group} may look at this node");
                self.lookers = lookers;
            }
            Err(source) => {
                let error = TakeError::Group { path: self.path.clone(), group, source };
                if !is_usual {
                    return Err(error);
                }
                crate::messages::message!(GROUP_NOT_SERVED, "{error}");
            }
        }
        Ok(self)
    }

    fn share(&self, group: u32) -> io::Result<()> {
        // Nobody else can put another file in its place: the directory was looked at.
        lchown(&self.path, None, Some(group))?;
        std::fs::set_permissions(&self.path, PermissionsExt::from_mode(0o660))?;
        let directory = directory_of(&self.path);
        let found = std::fs::symlink_metadata(directory)?;
        // It has nothing but sockets, each with a mode of its own.
        if directory == Path::new(DIRECTORY) && found.uid() == sys::user() && found.mode() & 0o055 != 0o055 {
            std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755))?;
        }
        Ok(())
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Drop for Listener {
    fn drop(&mut self) {
        let is_ours = |found: std::fs::Metadata| (found.dev(), found.ino()) == self.file;
        if !self.stays && std::fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether only root and we can put something into a directory, or take something out. In one with the sticky bit, as /tmp
/// has it, nobody else can replace what is ours; in the directory that is `ours` not even that is allowed.
fn is_safe(directory: &Path, ours: bool) -> io::Result<Result<(), TakeError>> {
    let found = if ours { std::fs::symlink_metadata(directory)? } else { std::fs::metadata(directory)? };
    let shown = directory.display();
    let other = "choose a directory of your own with --socket";
    let anew = format!("remove it, and `dunnat run` makes it again: rm -r {shown}");
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    let (fault, remedy) = if found.file_type().is_symlink() {
        ("it is a symbolic link".to_owned(), anew)
    } else if !found.is_dir() {
        ("it is no directory".to_owned(), if ours { anew } else { other.to_owned() })
    } else if owner != 0 && owner != sys::user() {
        (format!("it belongs to user {owner}"), if ours { anew } else { other.to_owned() })
    } else if mode & 0o022 != 0 && (ours || mode & 0o1000 == 0) {
        let fault = format!("others may write to it (its mode is {mode:04o})");
        (fault, format!("remove that right: chmod go-w {shown}; or {other}"))
    } else {
        return Ok(Ok(()));
    };
    Ok(Err(TakeError::Unsafe { directory: directory.to_owned(), fault, remedy }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(directory: &Path, ours: bool) -> Option<String> {
        is_safe(directory, ours).unwrap().err().map(|error| error.to_string())
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path();
        let with = |mode| std::fs::set_permissions(directory, PermissionsExt::from_mode(mode)).unwrap();
        for (mode, ours, elsewhere) in [
            (0o700, true, true),
            (0o755, true, true),
            (0o1777, false, true),
            (0o777, false, false),
            (0o770, false, false),
            (0o702, false, false),
        ] {
            with(mode);
            assert_eq!(refusal(directory, true).is_none(), ours, "{mode:o}");
            assert_eq!(refusal(directory, false).is_none(), elsewhere, "{mode:o}");
        }
        let said = Listener::take(&directory.join("node1.sock")).unwrap_err().to_string();
        assert!(said.contains("others may write to it (its mode is 0702); remove that right: chmod go-w /"));
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0, "nothing was made");
        with(0o700);
        assert!(Listener::take(&directory.join("node1.sock")).is_ok());
    }

    #[test]
    fn a_socket_is_for_its_owner_or_for_a_group_too() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("node1.sock");
        let found = || {
            let found = std::fs::symlink_metadata(&path).unwrap();
            (found.mode() & 0o777, found.gid())
        };
        let listener = Listener::take(&path).unwrap();
        let (_, own) = found();
        assert_eq!(found(), (0o600, own));
        let listener = listener.shared_with(Lookers::none()).unwrap();
        assert_eq!(found(), (0o600, own));
        let listener = listener.shared_with(Lookers::named(&own.to_string()).unwrap()).unwrap();
        assert_eq!(found(), (0o660, own));
        // It is gone: nobody can have it any more.
        std::fs::remove_file(&path).unwrap();
        let said = listener.shared_with(Lookers::named(&own.to_string()).unwrap()).unwrap_err().to_string();
        assert!(said.starts_with(&format!("cannot let group {own} look at the socket /")), "{said}");
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let (link, file) = (place.path().join("link"), place.path().join("file"));
        std::os::unix::fs::symlink(place.path(), &link).unwrap();
        std::fs::write(&file, "").unwrap();
        assert!(
            refusal(&link, true)
                .unwrap()
                .contains("it is a symbolic link; remove it, and `dunnat run` makes it")
        );
        assert_eq!(refusal(&link, false), None, "a way to somewhere is no danger");
        assert!(refusal(&file, true).unwrap().contains("it is no directory"));
        assert!(Listener::take(&file.join("node1.sock")).unwrap_err().to_string().contains("no directory"));
        assert!(matches!(Listener::take(Path::new("/nowhere/s.sock")), Err(TakeError::Failed { .. })));
    }

    /// As root alone: nobody else can give a directory away.
    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let place = tempfile::tempdir().unwrap();
        if std::os::unix::fs::chown(place.path(), Some(1000), None).is_err() || sys::user() == 1000 {
            return;
        }
        let said = refusal(place.path(), true).unwrap();
        assert!(
            said.contains("it belongs to user 1000; remove it, and `dunnat run` makes it again: rm -r /"),
            "{said}"
        );
        assert!(refusal(place.path(), false).unwrap().contains("choose a directory of your own"), "{said}");
    }
}
