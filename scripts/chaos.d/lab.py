"""A lab of three nodes with clients that use it all the time, and what is asked of it."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

SLOW = int(os.environ.get("DUNNAT_LAB_SLOW", "1"))
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# The services are on guest1, on node1; clients connect to the other two.
PUBLIC = ["192.168.122.12", "fd00:122::12", "192.168.122.13", "fd00:122::13"]
NODES = ["node1", "node2", "node3"]


class Failed(Exception):
    pass


def say(text):
    print(text, flush=True)


class Lab:
    def __init__(self, program, options):
        self.program, self.options = program, options
        self.name = f"chaos{os.getpid()}"
        self.files = pathlib.Path("/run/dunnat-lab") / self.name
        self.env = {**os.environ, "DUNNAT_LAB": self.name}
        self.ports = self.times = 0

    def lab(self, *words, check=True):
        done = subprocess.run([self.program, "lab", *words], env=self.env, text=True, capture_output=True)
        if check and done.returncode != 0:
            raise Failed(f"dunnat lab {' '.join(words)}: {done.stdout}{done.stderr}")
        return done

    def on(self, machine, *command):
        return ["ip", "netns", "exec", f"dunnat-{self.name}-{machine}", *command]

    def run(self, machine, *command, check=True, input=None):
        done = subprocess.run(self.on(machine, *command), text=True, capture_output=True, input=input)
        if check and done.returncode != 0:
            raise Failed(f"{machine}: {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self):
        self.lab("start", *(["--", *self.options] if self.options else []))

    def stop(self):
        """Stops everything; what the lab finds wrong then is a fault: leaks, rules that are not as before."""
        done = self.lab("stop", check=False)
        if done.returncode != 0:
            raise Failed(f"dunnat lab stop: {done.stdout}{done.stderr}")

    # --- one node

    def worker(self, node):
        """The process that serves a node's packets; none for a moment when it was killed."""
        keeper = self.pid(node)
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError):
                state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
                # One that waits to take its place has no thread for packets.
                if int(parent) == keeper and state != "Z" and any(
                        name.read_text().startswith("worker-") for name in stat.parent.glob("task/*/comm")):
                    return int(stat.parent.name)
        return None

    def status(self, node):
        # Its exit status says whether the node is well.
        out = self.run(node, str(self.program), "status", "--json", "--socket", str(self.files / f"{node}.sock"), check=False)
        return json.loads(out)

    def processes(self, node):
        """For strace."""
        worker = self.worker(node)
        return [word for pid in [self.pid(node), worker] if pid for word in ["-p", str(pid)]]

    def pid(self, node):
        return int((self.files / f"{node}.pid").read_text())

    def log(self, node):
        return (self.files / f"{node}.log").read_text()

    def command(self, node, more=()):
        return [self.program, "run", "--no-rehearsal", "--config", str(self.files / "cluster.toml"), "--node", node,
                "--socket", str(self.files / f"{node}.sock"), *self.options, *more]

    def spawn(self, node, wrap=(), more=()):
        """Starts dunnat on a node, as the lab does."""
        out = open(self.files / f"{node}.log", "a")
        child = subprocess.Popen(self.on(node, *wrap, *self.command(node, more)), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 start_new_session=True)
        out.close()
        (self.files / f"{node}.pid").write_text(str(child.pid))
        return child

    def keep(self, node):
        """Starts it under a stand-in for a service manager, which keeps its descriptors and starts it again when it is killed."""
        before = self.served(node)
        with open(self.files / f"{node}.log", "a") as out:
            keep = [sys.executable, str(ROOT / "scripts/chaos.d/keep.py"), "--pid", str(self.files / f"{node}.pid"), "--"]
            manager = subprocess.Popen(self.on(node, *keep, *self.command(node)), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       start_new_session=True)
        wait(20, f"{node} to serve", lambda: self.served(node) > before or manager.poll() is not None)
        return manager

    def served(self, node):
        """How many times it has begun to serve, or has gone on."""
        return self.log(node).count(f"serving {node}")

    def serve(self, node, more=()):
        """Starts it and waits until it serves."""
        before = self.log(node).count("serving ")
        began = time.monotonic()
        child = self.spawn(node, more=more)
        wait(20, f"{node} to serve", lambda: self.log(node).count("serving ") > before or child.poll() is not None)
        if child.poll() is not None:
            raise Failed(f"{node} does not serve:\n{tail(self.log(node))}")
        return time.monotonic() - began

    def end(self, node, how):
        pid = self.pid(node)
        os.kill(pid, how)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        wait(20, f"{node} to end", lambda: not alive(pid))

    def rules(self, node):
        return self.run(node, "nft", "-s", "list", "ruleset")

    @contextlib.contextmanager
    def load(self):
        command = self.on("ws", sys.executable, str(ROOT / "scripts/chaos.d/load.py"), str(SLOW), str(self.ports), *PUBLIC)
        load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        result = {}
        try:
            time.sleep(0.5 * SLOW)
            yield result
            time.sleep(0.5 * SLOW)
        finally:
            out, _ = load.communicate("\n", timeout=60 * SLOW)
            result.update(json.loads(out))
            self.ports = result.pop("ports")


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def memory(pid):
    """What a process has in memory, in KiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def tail(text, lines=12):
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


def wait(seconds, what, so):
    end = time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        if so():
            return
        time.sleep(0.01)
    raise Failed(f"waited {seconds * SLOW} s for {what}")


def judge(result, late=True, lost_at_most=None, replies=True):
    """Nothing may be refused or reset, and no call may fail; all that were kept go on. What is late or lost is told, and may be forbidden."""
    gaps = result.pop("gaps", [])
    # An error has the name of its number, such as EPIPE.
    bad = {what: n for what, n in result.items() if re.search(r"refused|reset|Error|\bE[A-Z]+" + ("" if late else "|late"), what)}
    if result.get("kept late") and replies:
        bad["kept late"] = result["kept late"]
    for what in ["udp replied", "requests replied", "kept replied"] if replies else []:
        if not result.get(what):
            bad[what] = 0
    lost = result.get("udp sent", 0) - result.get("udp replied", 0)
    say("     " + ", ".join(f"{what} {n}" for what, n in sorted(result.items())) + f", udp lost {lost}")
    if lost_at_most is not None and lost > lost_at_most:
        bad["udp lost"] = lost
    if bad:
        raise Failed(f"the clients saw: {bad}")
    return gaps


def overrun(lab):
    """Datagrams that came to the client or to the guest and found its socket full: that machine was too slow, and no node."""
    found = 0
    for machine in ["ws", "guest1"]:
        four = re.findall(r"(?m)^Udp: (.*)$", lab.run(machine, "cat", "/proc/net/snmp"))
        found += int(dict(zip(four[0].split(), four[1].split()))["RcvbufErrors"])
        found += int(re.search(r"(?m)^Udp6RcvbufErrors\s+(\d+)", lab.run(machine, "cat", "/proc/net/snmp6"))[1])
    return found


def nothing_lost(lab, result, full):
    judge(result)
    full = overrun(lab) - full
    lost = result["udp sent"] - result["udp replied"] - full
    late = {what: n for what, n in result.items() if re.search("late|errors", what) and n}
    if lost or late:
        raise Failed(f"{lost} datagrams were lost; {late}")
    if full:
        say(f"     {full} datagrams found the socket of the client or of the guest full")


def end_tree(child):
    """strace, what it has started, and what that has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def adds_up(node, status):
    """Every packet that the kernel has put into a queue is somewhere."""
    for queue in status["queues"]:
        if queue["ledger"]["difference"] != 0:
            raise Failed(f"{node}: the ledger does not add up: {queue}")


def readers_of(lab, traces):
    readers = []
    for node, trace in traces.items():
        out = open(trace, "w")
        readers.append(subprocess.Popen([lab.program, "trace", "--format", "json", "--socket", str(lab.files / f"{node}.sock")],
                                        stdout=out, stderr=subprocess.DEVNULL))
        out.close()
    for node in traces:
        wait(5, f"the reader of {node}", lambda: lab.status(node)["traces"] == 1)
    return readers
