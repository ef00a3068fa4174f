"""Nodes, or parts of them, end and start again."""

import contextlib
import os
import random
import signal
import subprocess
import time

from lab import NODES, SLOW, Failed, adds_up, alive, judge, nothing_lost, overrun, say, tail, wait


def restart(lab, short):
    took = []
    with lab.load() as result:
        for node in ["node1", "node2"] * (2 if short else 10):
            lab.end(node, signal.SIGTERM)
            took.append(lab.serve(node))
            time.sleep(0.3 * SLOW)
    say(f"     started again {len(took)} times, in {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms")
    judge(result)


def kill(lab, short):
    with lab.load() as result:
        for node in ["node1", "node2"] * (1 if short else 5):
            lab.end(node, signal.SIGKILL)
            time.sleep((0.5 if short else 3) * SLOW)
            lab.serve(node)
            time.sleep(0.3 * SLOW)
    judge(result)


def workers(lab, short):
    """Whatever a worker has in hand when it is killed goes through the rules again."""
    killed = dict.fromkeys(["node1", "node2"], 0)
    wanted = max(20 if short else 1000, SLOW) // SLOW
    before = {node: lab.status(node)["restarts"] for node in killed}
    with lab.load() as result:
        while sum(killed.values()) < wanted:
            for node in killed:
                worker = lab.worker(node)
                if worker:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
                        killed[node] += 1
                time.sleep(random.uniform(0.02, 0.2) * SLOW)
        time.sleep(1 * SLOW)
    gaps = sorted(judge(result, late=False, lost_at_most=0), reverse=True)
    for node, times in killed.items():
        status = lab.status(node)
        if status["restarts"] - before[node] != times:
            raise Failed(f"{node}: {times} workers were killed, and {status['restarts'] - before[node]} took over")
        adds_up(node, status)
    # Of a hundred of them one may be longer.
    place = len(gaps) and min(len(gaps) - 1, sum(killed.values()) // 100)
    often, longest = (gaps[place], gaps[0]) if gaps else (0, 0)
    say(f"     {sum(killed.values())} workers killed; gaps between replies: at p99 {often:.3f} s, at the most {longest:.3f} s")


def keeper(lab, short):
    """A service manager keeps what a killed keeper had, and starts it again with that: packets wait meanwhile."""
    wanted = max(6 if short else 100, SLOW) // SLOW
    nodes, killed, gone_on = ["node1", "node2"], 0, 0
    managers = {}
    for node in nodes:
        lab.end(node, signal.SIGTERM)
        managers[node] = lab.keep(node)
    try:
        with lab.load() as result:
            while killed < wanted:
                for node in nodes:
                    before, went_on = lab.served(node), lab.log(node).count("going on, serving")
                    lab.end(node, signal.SIGKILL)
                    killed += 1
                    wait(20, f"{node} to go on", lambda: lab.served(node) > before)
                    gone_on += lab.log(node).count("going on, serving") - went_on
                    time.sleep(random.uniform(0, 0.3) * SLOW)
            time.sleep(1 * SLOW)
    finally:
        for manager in managers.values():
            manager.terminate()
            manager.wait(20 * SLOW)
    for node in nodes:
        lab.serve(node)
    say(f"     {killed} keepers killed; {gone_on} went on with what was kept")
    # What a worker had read and not written down: a batch of 64 at the most.
    judge(result, late=False, lost_at_most=64 * killed)
    if gone_on != killed:
        raise Failed(f"{killed - gone_on} began anew")


def pause(lab, short):
    """A process that is stopped for a while goes on; a worker that answers nothing for long is replaced, and what waited is answered."""
    before = lab.status("node2")["restarts"]
    full = overrun(lab)
    with lab.load() as result:
        for process in [lab.pid("node1"), lab.worker("node1"), lab.worker("node2")] * (1 if short else 3):
            if process in (lab.pid("node1"), lab.worker("node1")):
                seconds = 2 * SLOW
            else:
                # Longer than a worker may answer nothing.
                process, seconds = lab.worker("node2"), 8 * SLOW
            os.kill(process, signal.SIGSTOP)
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
            time.sleep(1 * SLOW)
    nothing_lost(lab, result, full)
    replaced = lab.status("node2")["restarts"] - before
    if replaced != (1 if short else 3):
        raise Failed(f"node2 has replaced {replaced} workers that answered nothing")


def dead(lab, short):
    carries = "--stand-in" in lab.options and "kernel" in lab.options
    for node in NODES:
        lab.end(node, signal.SIGKILL)
    with lab.load() as result:
        time.sleep((2 if short else 10) * SLOW)
    for node in NODES:
        lab.serve(node)
    if carries:
        judge(result, late=False, lost_at_most=0)
    else:
        judge(result, replies=False)


def places(lab, short):
    with lab.load() as result:
        for _ in range(1 if short else 5):
            for node in NODES:
                pid = lab.pid(node)
                leave = subprocess.Popen(lab.on(node, lab.program, "down", "--leave", "kernel", "--config", str(lab.files / "cluster.toml"),
                                                "--node", node), stderr=subprocess.PIPE, text=True)
                # It waits for its end, and so do we, who have started it.
                wait(20, f"{node} to end", lambda: not alive(pid) or leave.poll() is not None)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
                _, said = leave.communicate(timeout=40 * SLOW)
                if leave.returncode != 0:
                    raise Failed(f"{node} does not leave: {said}")
            time.sleep(0.3 * SLOW)
            for node in NODES:
                lab.serve(node, ["--take-over"])
    judge(result, late=False, lost_at_most=0)


def starts(lab, short):
    """Exactly one serves, the others say who does."""
    for number in [2, 5] if short else [2, 3, 4, 5, 6, 7, 8, 9, 10] * 3:
        lab.end("node1", signal.SIGKILL)
        before = lab.log("node1").count("serving node1")
        children = [lab.spawn("node1") for _ in range(number)]
        wait(20, "all but one to end", lambda: sum(child.poll() is None for child in children) <= 1)
        log = lab.log("node1")
        left = [child for child in children if child.poll() is None]
        if len(left) != 1 or log.count("serving node1:") - before > 1:
            raise Failed(f"of {number} starts {len(left)} serve:\n{tail(log, 30)}")
        (lab.files / "node1.pid").write_text(str(left[0].pid))
        wait(20, "the one to serve", lambda: lab.log("node1").count("serving node1") > before)
    say("     of any number of starts one serves")
