"""A node of a lab with a systemd of its own."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess

from said import SLOW, Failed, run, say, wait_for


class Node:
    """A container: a systemd with its own processes, mounts and files, in the network namespace of a node of the lab."""

    def __init__(self, name, lab, tree):
        self.name, self.tree, self.namespace, self.leader = name, tree, f"dunnat-{lab}-{name}", None
        self.process = self.group = None

    def boot(self, wait=True):
        console = self.tree.parent / f"{self.name}.console"
        out = open(console, "a")
        self.process = subprocess.Popen(
            [*self.in_group(), "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={self.tree}", f"--machine={self.name}",
             f"--hostname={self.name}", f"--network-namespace-path=/run/netns/{self.namespace}",
             "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
             # Which the unit allows, and an older nspawn does not.
             "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
             "--resolv-conf=off", "--console=pipe", "--boot"],
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True)
        out.close()

        def first():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} does not boot: {console.read_text(errors='replace')[-2000:]}")
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

            def name(child):
                # It may be gone by now.
                with contextlib.suppress(OSError):
                    return pathlib.Path(f"/proc/{child}/comm").read_text()

            return next((int(child) for child in children if name(child) == "systemd\n"), None)

        self.leader = wait_for(f"the systemd of {self.name}", first)
        if wait:
            self.booted()

    def in_group(self):
        """Two containers in one control group would be in each other's way, where all of them are of the second version."""
        if not pathlib.Path("/sys/fs/cgroup/cgroup.procs").exists():
            return []
        self.group = pathlib.Path("/sys/fs/cgroup") / self.namespace
        self.group.mkdir(exist_ok=True)
        return ["sh", "-c", 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"', "sh", self.group]

    def booted(self):
        wait_for(f"{self.name} to be up", lambda: self.ask("systemctl", "is-system-running").strip() in ["running", "degraded"], 60)

    def command(self, *words):
        return ["nsenter", "--target", str(self.leader), "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "env", "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "NO_COLOR=1",
                *words]

    def ask(self, *words):
        """What it prints, whatever its exit status."""
        return run(*self.command(*words), check=False).stdout

    def type(self, line, fails=False):
        """What an administrator types; it is a part of the transcript."""
        say(f"{self.name}# {line}")
        done = subprocess.run(self.command("sh", "-c", line), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, timeout=180 * SLOW)
        shown = [part for part in re.split(r"[\r\n]", done.stdout) if part.strip() and "Reading database" not in part]
        for part in shown[-25:]:
            say(part)
        if (done.returncode != 0) != fails:
            journal = self.ask("journalctl", "--no-pager", "-n", "40", "-o", "cat")
            raise Failed(f"{self.name}: {line}: exit status {done.returncode}\n{journal}")
        return done.stdout

    def show(self, unit, what):
        return self.ask("systemctl", "show", "--value", f"--property={what}", unit).strip()

    def status(self):
        text = self.ask("dunnat", "status", "--json")
        return json.loads(text) if text else None

    def halt(self):
        """SIGRTMIN+4: systemd powers off (systemd(1))."""
        if self.process and self.process.poll() is None and not self.leader:
            self.process.kill()
            self.process.wait()
        elif self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGRTMIN + 4)
            try:
                self.process.wait(30 * SLOW)
            except subprocess.TimeoutExpired:
                os.kill(self.leader, signal.SIGKILL)
                self.process.wait(10)
        if self.group:
            run("find", self.group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";", check=False)

    def files(self):
        """All that is there, but what apt, dpkg, ldconfig and the journal keep of whatever happens."""
        of_others = re.compile(r"^/(proc|sys|dev|run|tmp|root|var/(cache|log|lib/(dpkg|apt|systemd|dbus)|tmp))(/|$)|^/etc/(.pwd.lock|.*-)$")
        found = self.ask("find", "/", "-xdev", "-printf", "%p\\n").splitlines()
        return {path for path in found if not of_others.match(path)}
