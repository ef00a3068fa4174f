//! Which file may be started in the place of a node: one that nobody can have changed but root and the node's own user.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::netlink::sys;

/// A program that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// Where it is, without links.
    pub(super) path: PathBuf,
    /// Which file: device, inode, size, and when it was changed.
    file: (u64, u64, u64, i64, i64),
}

impl Program {
    /// Looks at the file.
    ///
    /// # Errors
    /// It may not be started; with the reason.
    pub(super) fn at(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        if !path.is_absolute() {
            return Err(format!("{shown} is no absolute path"));
        }
        let failed = |error| format!("cannot look at {shown}: {error}");
        let path = fs::canonicalize(path).map_err(failed)?;
        let found = fs::metadata(&path).map_err(failed)?;
        if !found.is_file() {
            return Err(format!("{shown} is no file"));
        }
        is_ours(&path, &found)?;
        if found.mode() & 0o111 == 0 || rustix::fs::access(&path, Access::EXEC_OK).is_err() {
            return Err(format!("{shown} is not executable: chmod +x {shown}"));
        }
        // Who can put another file in its place can change it, too.
        for directory in path.ancestors().skip(1) {
            is_ours(directory, &fs::metadata(directory).map_err(failed)?)?;
        }
        Ok(Self { file: which(&found), path })
    }

    /// Whether it is still that file.
    pub(super) fn is_same(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| which(&found) == self.file)
    }
}

fn which(found: &Metadata) -> (u64, u64, u64, i64, i64) {
    (found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec())
}

/// Whether only root and our own user may change it. In a directory with the sticky bit, as /tmp has it, nobody else can replace what is ours.
fn is_ours(path: &Path, found: &Metadata) -> Result<(), String> {
    let (shown, owner, mode) = (path.display(), found.uid(), found.mode() & 0o7777);
    let own = sys::user();
    if owner != 0 && owner != own {
        let who = if own == 0 { "root".to_owned() } else { format!("root or user {own}") };
        return Err(format!("{shown} belongs to user {owner}, who could change it: it must belong to {who}"));
    }
    if mode & 0o022 != 0 && !(found.is_dir() && mode & 0o1000 != 0) {
        return Err(format!("others may write to {shown} (its mode is {mode:04o}): chmod go-w {shown}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn a_program_that_somebody_else_could_have_changed_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("bin");
        fs::create_dir(&directory).unwrap();
        let (file, link) = (directory.join("dunnat"), place.path().join("link"));
        fs::write(&file, "#!/bin/sh\n").unwrap();
        symlink(&file, &link).unwrap();
        let with = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let said = |path: &Path| Program::at(path).unwrap_err();
        with(&directory, 0o755);
        with(&file, 0o644);
        assert!(said(&file).contains("is not executable: chmod +x /"), "{}", said(&file));
        with(&file, 0o775);
        assert!(
            said(&file).contains("others may write to /") && said(&file).contains("0775"),
            "{}",
            said(&file)
        );
        with(&file, 0o755);
        let program = Program::at(&file).unwrap();
        assert_eq!(Program::at(&link).unwrap(), program, "what counts is what it leads to");
        with(&directory, 0o777);
        assert!(said(&link).contains("others may write to /"), "{}", said(&link));
        with(&directory, 0o1777);
        assert!(Program::at(&file).is_ok(), "nobody else can replace what is ours");
        with(&directory, 0o755);
        assert!(said(&directory).contains("is no file"));
        assert!(said(Path::new("bin/dunnat")).contains("is no absolute path"));
        assert!(said(&directory.join("none")).contains("cannot look at /"));
        assert!(program.is_same());
        fs::write(&file, "#!/bin/sh\nexit\n").unwrap();
        assert!(!program.is_same(), "another one is there now");
        // As root alone: nobody else can give a file away.
        if sys::user() == 0 && chown(&file, Some(1000), None).is_ok() {
            assert!(said(&file).contains("belongs to user 1000, who could change it"), "{}", said(&file));
            chown(&file, Some(0), None).unwrap();
            chown(&directory, Some(1000), None).unwrap();
            assert!(said(&file).contains("belongs to user 1000"), "{}", said(&file));
        }
    }
}
