//! `doctor --lasting`: what must be so after the next boot, shown, written or removed.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use dunnat::doctor::{Lasting, MADE};
use dunnat::text::escaped;
use dunnat::trace::Replacement;

use super::{Failure, print};

/// What is done with the files.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LastingArg {
    /// Print what would be written
    Show,
    /// Write it
    Write,
    /// Remove what was written
    Remove,
}

/// Below the root of the host.
const SYSCTL: &str = "etc/sysctl.d/60-dunnat-doctor.conf";
const MODULES: &str = "etc/modules-load.d/dunnat-doctor.conf";

/// Where others have such files. Of files of one name the first counts (sysctl.d(5)).
const FOLDERS: [&str; 4] = ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d"];

/// So much of a file is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Shows or writes the files.
pub(super) fn show_or_write(it: &Lasting, root: &Path, write: bool) -> Result<(), Failure> {
    let files = [(SYSCTL, it.sysctl_file()), (MODULES, it.modules_file())];
    // All is looked at before anything is written.
    let there = files
        .each_ref()
        .map(|(name, _)| ours(&root.join(name)).map_err(|why| refused(&root.join(name), &why)));
    let there = there.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut out = String::new();
    for ((name, text), there) in files.iter().zip(there) {
        let path = root.join(name);
        let state = match there {
            None => "new",
            Some(before) if before == *text => "is there already",
            Some(_) => "another text than now",
        };
        let _ = writeln!(out, "{}: {state}", escaped(&path.to_string_lossy()));
        text.lines().for_each(|line| {
            let _ = writeln!(out, "  {}", escaped(line));
        });
        if write {
            put(&path, text).map_err(|error| refused(&path, &error.to_string()))?;
        }
    }
    for what in &it.open {
        let _ = writeln!(out, "not written: {}", escaped(what));
    }
    for line in contradicted(it, root) {
        let _ = writeln!(out, "overruled by {}", escaped(&line));
    }
    out += if write {
        "written; it is so from the next boot on. Now: sysctl --system. To undo it: dunnat doctor --lasting=remove\n"
    } else {
        "nothing was written; to write it, add: --lasting=write\n"
    };
    print(&out)
}

/// Removes them.
pub(super) fn remove(root: &Path) -> Result<(), Failure> {
    let mut out = String::new();
    let paths = [SYSCTL, MODULES].map(|name| root.join(name));
    // All is looked at before anything is removed.
    let there = paths.each_ref().map(|path| ours(path).map_err(|why| refused(path, &why)));
    for (path, there) in paths.iter().zip(there.into_iter().collect::<Result<Vec<_>, _>>()?) {
        let done = match there {
            Some(_) => {
                fs::remove_file(path).map_err(|error| refused(path, &error.to_string()))?;
                "removed; settings stay as they are until the next boot"
            }
            None => "is not there",
        };
        let _ = writeln!(out, "{}: {done}", escaped(&path.to_string_lossy()));
    }
    print(&out)
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::Refused(format!("{}: {why}; it is left as it is", path.display()))
}

/// The text of a file of ours, if it is there.
fn ours(path: &Path) -> Result<Option<String>, String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(found) if !found.is_file() => {
            return Err("it is no file of ours, but a link or something else".to_owned());
        }
        Ok(_) => {}
    }
    let text = read(path).map_err(|error| error.to_string())?;
    if text.lines().next() == Some(MADE) { Ok(Some(text)) } else { Err("somebody else wrote it".to_owned()) }
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whole or not at all.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let mut file = Replacement::begin(path, &[])?;
    file.write_all(text.as_bytes())?;
    let handle = file.handle()?;
    handle.set_permissions(fs::Permissions::from_mode(0o644))?;
    handle.sync_all()?;
    file.commit()
}

/// Lines of files that come after ours and say something else.
fn contradicted(it: &Lasting, root: &Path) -> Vec<String> {
    let own = Path::new(SYSCTL).file_name().unwrap_or_default();
    let mut later: Vec<PathBuf> = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_conf = Path::new(&name).extension().is_some_and(|it| it == "conf");
            if is_conf && name.as_os_str() > own && !later.iter().any(|it| it.file_name() == Some(&name)) {
                later.push(entry.path());
            }
        }
    }
    later.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    let mut lines = Vec::new();
    for path in later {
        // What is no file, or nobody may read, says nothing here.
        let Ok(text) = fs::metadata(&path)
            .and_then(|found| if found.is_file() { read(&path) } else { Ok(String::new()) })
        else {
            continue;
        };
        lines.extend(
            it.contradictions(&text).into_iter().map(|line| format!("{}: {}", path.display(), line.trim())),
        );
    }
    lines
}
