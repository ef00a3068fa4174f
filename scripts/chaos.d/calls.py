"""System calls that kill, or fail."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

from lab import SLOW, Failed, adds_up, alive, end_tree, judge, say, tail, wait
from replacing import changes

# System calls that change something outside the process.
CHANGING = "sendto,sendmsg,sendmmsg,write,writev,bind,listen,unlink,unlinkat,mkdir,rename,fchmod,chmod,setsockopt,clone,clone3,vfork,execve"


def points(lab, short):
    """strace kills it as it enters the Nth such system call of any of its threads, or of a program that it runs."""
    tried = 0
    step = 27 if short else 1
    inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CHANGING}", "-e"]
    for when, at in [("start", killed_at_start), ("stop", killed_at_stop), ("reload", killed_at_reload), ("upgrade", killed_at_upgrade)]:
        number, reached = 1, True
        while reached:
            lab.end("node1", signal.SIGTERM if when == "start" else signal.SIGKILL)
            reached = at(lab, [*inject, f"inject={CHANGING}:signal=KILL:when={number}"])
            lab.serve("node1")
            tried += 1
            if reached:
                number += step
        say(f"     a kill at {when}: {number - 1} places, the next start served each time")
    return tried


def killed_at_start(lab, inject):
    """Whether it was killed before it served."""
    before = lab.log("node1").count("serving node1")
    child = lab.spawn("node1", wrap=inject)
    wait(20, "the start to end or to serve", lambda: child.poll() is not None or lab.log("node1").count("serving node1") > before)
    reached = lab.log("node1").count("serving node1") == before
    end_tree(child)
    return reached


def killed_at_stop(lab, inject):
    with killing(lab, inject) as (strace, pid):
        os.kill(pid, signal.SIGTERM)
        strace.wait()
    with contextlib.suppress(ChildProcessError):
        _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def killed_at_reload(lab, inject):
    """What is left is of the old file, of the new one, or of both; whoever comes next starts with the old one."""
    original = (lab.files / "cluster.toml").read_text()
    path = lab.files / "reloaded.toml"
    path.write_text(changes(original, 0)[0])
    with killing(lab, inject) as (strace, pid):
        reload = [lab.program, "reload", str(path), "--socket", str(lab.files / "node1.sock")]
        done = subprocess.run(lab.on("node1", *reload), text=True, capture_output=True)
        reached = done.returncode != 0
        if reached:
            wait(5, "node1 to be dead", lambda: not alive(pid))
        let_go(strace)
    if not reached:
        # One that lives serves on with the new file, and ends in order.
        lab.end("node1", signal.SIGTERM)
    return reached


def killed_at_upgrade(lab, inject):
    """The program that is tried may be killed, and the node is as before; or the node itself."""
    with killing(lab, inject) as (strace, pid):
        asked = [lab.program, "upgrade", str(lab.program), "--socket", str(lab.files / "node1.sock")]
        done = subprocess.run(lab.on("node1", *asked), text=True, capture_output=True)
        reached = done.returncode != 0
        # Who asked knows of a node that is killed before it is gone.
        with contextlib.suppress(Failed):
            wait(0.2, "node1 to be dead", lambda: not alive(pid))
        let_go(strace)
    if alive(pid):
        if reached and "the node is as before" not in done.stderr:
            raise Failed(f"node1 lives, and was not upgraded: {done.stderr}")
        serves(lab)
        lab.end("node1", signal.SIGTERM)
    elif not reached:
        raise Failed(f"node1 was upgraded, and is dead:\n{tail(lab.log('node1'))}")
    return reached


def serves(lab):
    """What was decided before is answered, and what comes now."""
    lab.run("ws", "curl", "-s", "-f", "-o", "/dev/null", "--max-time", str(5 * SLOW), "http://192.168.122.11/")
    adds_up("node1", lab.status("node1"))


@contextlib.contextmanager
def killing(lab, inject):
    lab.serve("node1")
    pid = lab.pid("node1")
    strace = subprocess.Popen([*inject, "-p", str(pid)], stderr=subprocess.PIPE)
    attached(strace, pid)
    yield strace, pid


def let_go(strace):
    """Ends strace, and waits for it. One that lets go of a process while its threads end may wait for the first of them for good,
    because it has not heard of the others: that one is killed."""
    strace.send_signal(signal.SIGINT)
    try:
        strace.wait(10 * SLOW)
    except subprocess.TimeoutExpired:
        strace.kill()
        strace.wait()


def attached(strace, pid):
    """What it does may have ended the process, and so itself, before anybody has seen that it traces."""
    wait(5, "strace", lambda: traced(pid) or strace.poll() is not None)


def traced(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return not re.search(r"^TracerPid:\s+0$", status, re.M)


PASSING = ["ENOMEM", "EAGAIN", "ENOBUFS", "EINTR"]


def errors(lab, short):
    """strace has system calls of all threads fail: one that passes is nothing, one that lasts ends the node with its reason."""
    with lab.load() as result:
        for node in ["node2"] if short else ["node1", "node2"]:
            pid = lab.pid(node)
            for call in ["recvmmsg", "writev", "futex", "recvfrom", "accept4", "poll,ppoll,epoll_wait", "recvmsg,sendto", "read,openat"]:
                for error in PASSING:
                    # The next system calls of each thread, five of them.
                    inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                              f"inject={call}:error={error}:when=1..5", *lab.processes(node)]
                    strace = subprocess.Popen(inject, stderr=subprocess.DEVNULL)
                    attached(strace, pid)
                    time.sleep((0.1 if short else 0.3) * SLOW)
                    let_go(strace)
                    if not alive(pid):
                        raise Failed(f"{call} with {error} ended {node}:\n{tail(lab.log(node))}")
            lab.end(node, signal.SIGTERM)
            if not re.search(r"temporary errors: [1-9]", lab.log(node)):
                raise Failed(f"{node} has counted no error that passed:\n{tail(lab.log(node))}")
            lab.serve(node)
    judge(result)
    for call, error in [("recvmmsg", "EBADF"), ("recvmmsg", "EPERM")]:
        pid = lab.pid("node3")
        inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}", *lab.processes("node3")]
        strace = subprocess.Popen(inject, stderr=subprocess.DEVNULL)
        attached(strace, pid)
        # A client sends, or a worker waits on.
        lab.run("ws", "curl", "-s", "-o", "/dev/null", "--max-time", "1", "http://192.168.122.13/", check=False)
        wait(10, f"node3 to end with {error}", lambda: not alive(pid))
        strace.wait()
        if "a worker failed" not in lab.log("node3"):
            raise Failed(f"node3 does not say why it ended:\n{tail(lab.log('node3'))}")
        lab.serve("node3")
