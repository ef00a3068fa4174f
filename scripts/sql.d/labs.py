"""Traces of clusters in network namespaces, with a fault or without."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from said import run

# Port and length of a request: short and long ones, and a port that nobody has.
CALLS = [(80, 1), (8080, 1), (80, 1300)]


class Lab:
    def __init__(self, dunnat, nodes, folder, *options):
        self.dunnat, self.nodes, self.folder = dunnat, nodes, pathlib.Path(folder)
        self.name = f"sql{os.getpid()}n{nodes}"
        self.port = 33000
        self.lab("up", "--nodes", nodes, "--family", "both", *options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lab("down", check=False)

    def lab(self, *words, **more):
        return run(self.dunnat, "lab", *words, env=os.environ | {"DUNNAT_LAB": self.name}, **more)

    def faults(self):
        return re.findall(r"^([a-z][a-z-]+) +", self.lab("start", "--fault", "help").stdout, re.MULTILINE)

    def kernel_trace(self, node, file):
        """`dunnat trace --kernel` on a node, when it has begun."""
        inside = ["ip", "netns", "exec", f"dunnat-{self.name}-{node}"]
        socket = f"/run/dunnat-lab/{self.name}/{node}.sock"
        words = [self.dunnat, "trace", "--kernel", "--format", "json", "--rate", "2000", "--socket", socket, "port 80"]
        with open(file, "wb") as out:
            child = subprocess.Popen(inside + [str(word) for word in words], stdout=out, stderr=subprocess.PIPE, text=True)
        while "tracing for" not in child.stderr.readline():
            if child.poll() is not None:
                raise RuntimeError(f"dunnat trace --kernel has ended: {child.stderr.read()}")
        return child

    def call(self, calls):
        """The workstation calls every node: port and length of each request."""
        running = []
        for node in range(1, self.nodes + 1):
            for host in [f"192.168.122.1{node}", f"[fd00:122::1{node}]"]:
                for port, long in calls:
                    self.port += 1
                    running.append(subprocess.Popen(
                        ["ip", "netns", "exec", f"dunnat-{self.name}-ws", "curl", "-s", "--max-time", "3", "-o", "/dev/null",
                         "--local-port", str(self.port), "-H", f"X-Long: {'a' * long}", f"http://{host}:{port}/"],
                        stdin=subprocess.DEVNULL))
        return sum(child.wait() == 0 for child in running)

    def traces(self, name, *options, fault=None, kernel=False, times=1, calls=CALLS):
        """The files of a run in which the workstation has called all nodes, and how many calls came through."""
        into = self.folder / name
        into.mkdir(parents=True, exist_ok=True)
        for node in range(1, self.nodes + 1):
            self.lab("shell", f"node{node}", "--", "conntrack", "-F", check=False)
        chosen = ["--fault", fault] if fault else []
        self.lab("start", "--trace-json", *chosen, "--", *options)
        nodes = [f"node{node}" for node in range(1, self.nodes + 1)]
        watching = [self.kernel_trace(node, into / f"{node}.kernel.jsonl") for node in nodes] if kernel else []
        through = sum(self.call(calls) for _ in range(times))
        for child in watching:
            child.send_signal(signal.SIGINT)
            child.wait()
        if any("flow" in str(option) for option in options):
            # What rules have carried is told once a second.
            time.sleep(1.2)
        self.lab("stop", check=False)
        for node in nodes:
            file = pathlib.Path(f"/run/dunnat-lab/{self.name}/{node}.jsonl")
            if file.exists():
                shutil.copy(file, into)
        return sorted(into.glob("*.jsonl")), through
