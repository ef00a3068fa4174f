#!/usr/bin/env python3
"""A stand-in for a service manager, as far as a node needs one: it starts a program, keeps the descriptors that the program gives it, and
starts it again with them when it was killed. What it does is what systemd 252 does with Type=notify, FileDescriptorStoreMax= and
Restart=on-failure; see sd_notify(3) and sd_listen_fds(3)."""

import argparse
import array
import ctypes
import fcntl
import os
import pathlib
import select
import signal
import socket
import struct
import sys
import tempfile

FIRST = 3
MOST = 4096


def receive(sock):
    """A datagram, the descriptors that came with it, and the process that has sent it."""
    fds = array.array("i")
    sender = None
    room = socket.CMSG_SPACE(253 * fds.itemsize) + socket.CMSG_SPACE(struct.calcsize("3i"))
    text, control, _, _ = sock.recvmsg(65536, room)
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            sender = struct.unpack("3i", data)[0]
    return text.decode(errors="replace").splitlines(), list(fds), sender


def identity(fd):
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


class Manager:
    def __init__(self, options):
        self.options = options
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "notify")
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.notified.bind(self.path)
        self.store = []  # name, descriptor
        self.said = set()
        self.child = None
        self.children = set()

    def start(self):
        numbers = [fd for _, fd in self.store]
        names = [name for name, _ in self.store]
        self.child = os.fork()
        if self.child == 0:
            try:
                # It ends with us, however we end: PR_SET_PDEATHSIG of prctl(2).
                ctypes.CDLL(None).prctl(1, signal.SIGTERM)
                # Above all that is to be overwritten.
                high = [self.above(fd) for fd in numbers]
                for place, fd in enumerate(high):
                    os.dup2(fd, FIRST + place, inheritable=True)
                env = {**os.environ, "NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "20000000"}
                if numbers:
                    env |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(numbers)), "LISTEN_FDNAMES": ":".join(names)}
                os.execvpe(self.options.command[0], self.options.command, env)
            finally:
                os._exit(127)
        self.children.add(self.child)
        if self.options.pid:
            pathlib.Path(self.options.pid).write_text(str(self.child))

    def above(self, fd):
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST + len(self.store))

    def hear(self):
        lines, fds, sender = receive(self.notified)
        said = dict(line.split("=", 1) for line in lines if "=" in line)
        if sender not in self.children:
            # To systemd it is nobody (NotifyAccess=main).
            said["STRANGER"] = sender
        if said.get("BARRIER") != "1":
            self.said |= {f"{what}={value}" for what, value in said.items() if what in ("READY", "RELOADING", "STOPPING", "WATCHDOG", "FDPOLL", "STRANGER")}
            if self.options.said:
                pathlib.Path(self.options.said).write_text("\n".join(sorted(self.said)) + "\n")
        if said.get("FDSTORE") == "1":
            for fd in fds:
                same = any(identity(fd) == identity(other) for _, other in self.store)
                if same or len(self.store) >= MOST:
                    os.close(fd)
                else:
                    self.store.append((said.get("FDNAME", "stored"), fd))
            fds = []
        if said.get("FDSTOREREMOVE") == "1":
            for name, fd in [one for one in self.store if one[0] == said.get("FDNAME")]:
                self.store.remove((name, fd))
                os.close(fd)
        for fd in fds:
            os.close(fd)

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: os.kill(self.child, signal.SIGTERM))
        signal.signal(signal.SIGINT, lambda *_: os.kill(self.child, signal.SIGINT))
        self.start()
        while True:
            ended = os.pidfd_open(self.child)
            while True:
                ready, _, _ = select.select([self.notified, ended], [], [])
                if self.notified in ready:
                    self.hear()
                elif ended in ready:
                    break
            os.close(ended)
            _, status = os.waitpid(self.child, 0)
            if not os.WIFSIGNALED(status):
                print(f"kept at the end: {len(self.store)}", file=sys.stderr, flush=True)
                return os.waitstatus_to_exitcode(status)
            self.start()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pid", help="write the process id of the program to this file")
    parser.add_argument("--said", help="write what the program has said to this file")
    parser.add_argument("command", nargs="+")
    return Manager(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
