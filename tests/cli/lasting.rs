//! `doctor --lasting`: shown first, written when told, undone; files of others stay.

use std::fs;
use std::path::Path;

use super::*;

const SYSCTL: &str = "etc/sysctl.d/60-dunnat-doctor.conf";
const MODULES: &str = "etc/modules-load.d/dunnat-doctor.conf";

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in ["etc/sysctl.d", "etc/modules-load.d", "usr/lib/sysctl.d"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    root
}

/// What doctor prints, or refuses with.
fn lasting(root: &Path, how: &str) -> (i32, String) {
    let root = root.to_str().unwrap();
    let output = dunnat(&["doctor", "-c", EXAMPLE, "-n", "node1", "--root", root, how]);
    (output.status.code().unwrap(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

/// All files, with their texts.
fn files(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["etc/sysctl.d", "etc/modules-load.d", "usr/lib/sysctl.d"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap_or_default()));
        }
    }
    found.sort();
    found
}

#[test]
fn it_is_shown_first_and_written_when_told_and_undone() {
    let root = root();
    let at = |name: &str| root.path().join(name);
    fs::write(at("etc/sysctl.d/99-theirs.conf"), "net.ipv4.ip_forward=0\nkernel.x = 1\n").unwrap();
    fs::write(at("usr/lib/sysctl.d/10-theirs.conf"), "net.ipv4.ip_forward=0\n").unwrap();
    let before = files(root.path());
    let (code, shown) = lasting(root.path(), "--lasting");
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("60-dunnat-doctor.conf: new\n") && shown.contains("  net/ipv4/ip_forward = 1\n"),
        "{shown}"
    );
    assert!(shown.contains("nothing was written"), "{shown}");
    // A file before ours does not count.
    assert_eq!(shown.matches("overruled by ").count(), 1, "{shown}");
    assert!(shown.contains("99-theirs.conf: net.ipv4.ip_forward=0\n"), "{shown}");
    assert_eq!(files(root.path()), before);

    let (code, said) = lasting(root.path(), "--lasting=write");
    assert_eq!(code, 0, "{said}");
    assert!(fs::read_to_string(at(SYSCTL)).unwrap().ends_with('\n'));
    assert!(fs::read_to_string(at(MODULES)).unwrap().contains("\nnf_conntrack_netlink\n"));
    assert_eq!(files(root.path()).len(), before.len() + 2);
    // Whoever applies them reads them, also without root.
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(at(SYSCTL)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644);
    let written = files(root.path());
    let (_, again) = lasting(root.path(), "--lasting=write");
    assert!(again.contains("60-dunnat-doctor.conf: is there already\n"), "{again}");
    assert_eq!(files(root.path()), written);

    let (code, said) = lasting(root.path(), "--lasting=remove");
    assert_eq!(code, 0, "{said}");
    assert_eq!(files(root.path()), before);
    let (code, said) = lasting(root.path(), "--lasting=remove");
    assert!(code == 0 && said.contains("is not there"), "{said}");
}

#[test]
fn a_file_of_somebody_else_is_neither_written_nor_removed_nor_is_the_other_one() {
    for (name, is_link) in [(SYSCTL, false), (MODULES, false), (SYSCTL, true), (MODULES, true)] {
        let root = root();
        let path = root.path().join(name);
        if is_link {
            fs::write(root.path().join("victim"), "x").unwrap();
            std::os::unix::fs::symlink(root.path().join("victim"), &path).unwrap();
        } else {
            fs::write(&path, "net.ipv4.ip_forward = 0\n").unwrap();
        }
        let before = files(root.path());
        for how in ["--lasting", "--lasting=write", "--lasting=remove"] {
            let (code, said) = lasting(root.path(), how);
            assert!(code == 1 && said.contains("it is left as it is"), "{name} {how}: {said}");
            assert_eq!(files(root.path()), before, "{name} {how}");
        }
    }
}
