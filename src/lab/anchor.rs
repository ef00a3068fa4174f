//! A lab without root: in a user namespace of its own, in which we are root.
//!
//! A process that only sleeps, the anchor, holds three namespaces together: of users, in which we are root; of mounts, so that `/run`,
//! where ip(8) keeps its names of network namespaces, is the lab's own; and of networks, without any way out. Every verb begins
//! by entering them, and then all is as for root. Whatever is in them ends with the anchor.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine::{failed, signal};
use super::tools::is_there;
use super::{Error, Pace, Place};
use crate::netlink::sys;

/// Says, to the program that is started inside, where its labs are.
const HOME: &str = "DUNNAT_LAB_HOME";

/// The folder of all labs of whoever asks, and whether a user namespace has to be entered to be root.
///
/// # Errors
/// The folder of an ordinary user is somebody else's.
pub fn home() -> Result<(PathBuf, bool), Error> {
    if let Some(home) = std::env::var_os(HOME) {
        return Ok((home.into(), false));
    }
    let user = sys::user();
    if user == 0 {
        return Ok((Place::HOME.into(), false));
    }
    let home = std::env::temp_dir().join(format!("dunnat-lab-{user}"));
    // Anybody may make folders there. This one is ours alone, or it is not used.
    let made = fs::DirBuilder::new().mode(0o700).create(&home);
    let about = fs::symlink_metadata(&home).map_err(|error| {
        let source = made.err().unwrap_or(error);
        Error::File { path: home.clone(), source }
    })?;
    if !about.is_dir() || about.uid() != user || about.permissions().mode() & 0o077 != 0 {
        return Err(Error::refused(format!(
            "{} must be a folder that only you can use, because labs are kept there: remove it, or set \
             TMPDIR",
            home.display()
        )));
    }
    Ok((home, true))
}

/// The process that holds the namespaces of a lab.
#[derive(Debug)]
pub struct Anchor(u32);

fn file_of(place: &Place) -> PathBuf {
    place.home.join(format!("{}.anchor", place.name()))
}

impl Anchor {
    /// The anchor of a lab, if it has one that is alive.
    pub fn of(place: &Place) -> Option<Self> {
        let pid = fs::read_to_string(file_of(place)).ok()?.trim().parse().ok()?;
        // The number alone proves nothing: it may be another program's by now. An anchor is ours, and has users of its own.
        let proc = Path::new("/proc").join(u32::to_string(&pid));
        let users = |proc: &Path| fs::read_link(proc.join("ns/user")).ok();
        let is_one = fs::metadata(&proc).ok()?.uid() == sys::user()
            && users(&proc).is_some_and(|its| Some(its) != users(Path::new("/proc/self")));
        is_one.then_some(Self(pid))
    }

    /// Starts one.
    ///
    /// # Errors
    /// This host lets nobody but root do that; it is said what forbids it.
    pub fn start(place: &Place) -> Result<Self, Error> {
        // The temporary folder stays, also where it lies below /run.
        let script = "set -e; keep=$1; mount --bind \"$keep\" \"$keep\"; exec 9<\"$keep\"
            mount -t tmpfs -o mode=755 dunnat-lab /run; mkdir -p /run/netns
            if [ ! -d \"$keep\" ]; then mkdir -p \"$keep\"; mount --bind /proc/self/fd/9 \"$keep\"; fi
            exec 9<&-; echo ready; exec sleep infinity";
        let mut anchor = Command::new("setsid");
        anchor.args(["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", script, "sh"]);
        anchor.arg(&place.home).current_dir("/").env("LC_ALL", "C");
        anchor.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = anchor.spawn().map_err(|error| failed(&anchor, &error.to_string()))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            let _ = BufReader::new(out).read_line(&mut line);
        }
        if line.trim() != "ready" {
            let _ = child.kill();
            let said = child.wait_with_output().map(|output| output.stderr).unwrap_or_default();
            return Err(forbidden(String::from_utf8_lossy(&said).trim()));
        }
        let path = file_of(place);
        fs::write(&path, child.id().to_string()).map_err(|source| Error::File { path, source })?;
        Ok(Self(child.id()))
    }

    /// A program inside, where we are root.
    pub fn command(&self, place: &Place, program: &Path) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args([
            "--target",
            &self.0.to_string(),
            "--user",
            "--mount",
            "--net",
            "--preserve-credentials",
        ]);
        // Who enters a namespace of mounts begins at its root, and files are named from where one was. What is not there, as below
        // `/run`, cannot be entered.
        let from = std::env::current_dir().unwrap_or_default();
        nsenter.args(["--", "sh", "-c", r#"cd "$1" 2>/dev/null; shift; exec "$@""#, "sh"]).arg(from);
        // Programs that look for their settings in root's home may not read it.
        nsenter.arg(program).env(HOME, &place.home).env("HOME", &place.home);
        nsenter
    }

    /// Ends it, and with it all that is in its namespaces.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn end(self, place: &Place, pace: Pace) -> Result<(), Error> {
        signal(self.0, "KILL")?;
        let _ = fs::remove_file(file_of(place));
        pace.wait_for(3, || Ok::<_, Error>(!Path::new(&format!("/proc/{}/ns/user", self.0)).exists()))?;
        Ok(())
    }
}

/// What this host has against user namespaces.
fn forbidden(said: &str) -> Error {
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let why = if !is_there("mount") {
        "the program mount is not installed. On Debian, as root: apt install mount"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "kernel.unprivileged_userns_clone is 0. As root: sysctl -w kernel.unprivileged_userns_clone=1"
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor forbids it. As root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if is("/proc/sys/user/max_user_namespaces", "0") {
        "user.max_user_namespaces is 0. As root: sysctl -w user.max_user_namespaces=10000"
    } else {
        "run it as root"
    };
    let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
    Error::refused(format!(
        "a lab without root needs a user namespace, but this host does not allow one{said}: {why}"
    ))
}
