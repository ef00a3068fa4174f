"""An empty Debian, and the packages that come into it."""

import pathlib
import re
import shutil

from said import Failed, run

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CODENAMES = {"12": "bookworm", "13": "trixie"}
# What the package depends on, and systemd: containers have no way out, to get them by.
PACKAGES = "systemd,systemd-sysv,dbus,nftables,iproute2,ethtool,libmnl0,kmod,procps,passwd,iptables,conntrack"


def debian(release, folder, kept, more=()):
    """An empty one, as a tar file, by the sources that apt has here."""
    if kept and kept.exists():
        return kept

    def uri(label):
        lines = run("apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages").stdout.splitlines()
        return next((line.split("|")[1] for line in lines if line.startswith(f"{label}|")), None)

    if not uri("Debian"):
        run("apt-get", "update", "-q")
    archive, security, name = uri("Debian"), uri("Debian-Security"), CODENAMES[release]
    if not archive:
        raise Failed("apt has no source that calls itself Debian")
    sources = [f"deb {archive} {name} main", f"deb {archive} {name}-updates main"]
    if security:
        sources.append(f"deb {security} {name}-security main")
    (folder / "sources").write_text("\n".join(sources) + "\n")
    settings = [line for line in run("apt-config", "dump").stdout.splitlines()
                if re.match(r"Acquire::(https?|Check-[A-Za-z-]*|Retries|ForceIPv[46])(::| )", line)]
    (folder / "apt.conf").write_text("\n".join(settings) + "\n")
    tar = folder / "debian.tar"
    run("mmdebstrap", "--quiet", "--variant=apt", "--mode=root", f"--aptopt={folder}/apt.conf", f"--include={','.join([PACKAGES, *more])}",
        "--format=tar", name, tar, folder / "sources")
    if kept:
        shutil.copy(tar, kept)
    return tar


def packages_of_here(folder):
    """Two packages of this checkout, one newer than the other."""
    packages = []
    for revision in ["1", "2"]:
        made = pathlib.Path(run(ROOT / "scripts/package", "--revision", revision).stdout.strip().splitlines()[-1])
        packages.append(pathlib.Path(shutil.copy(made, folder)))
    return packages
