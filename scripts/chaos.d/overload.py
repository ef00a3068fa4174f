"""More packets than a node can decide about."""

import json
import re
import signal
import subprocess
import sys
import time

from lab import ROOT, SLOW, Failed, memory, say, tail, wait

SINK = """
import signal, socket
sinks = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
sinks[0].bind(("10.5.5.201", 5351))
sinks[1].bind(("fd00:5::201", 5351))
signal.pause()
"""


class Beside:
    """A program on a machine of the lab that ends with its input, and prints what came of it as JSON."""

    def __init__(self, lab, machine, *words, nice=0):
        self.process = subprocess.Popen(lab.on(machine, "nice", "-n", str(nice), sys.executable, *map(str, words)), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def end(self):
        out, _ = self.process.communicate("\n", timeout=60 * SLOW)
        return json.loads(out)


def percentile(took, part):
    """In milliseconds; what failed took for ever."""
    took = sorted(10_000 if it is None else it * 1000 for it in took)
    return took[min(len(took) - 1, int(len(took) * part))]


def answered(status):
    return sum(queue["ledger"]["answered"] for queue in status["queues"])


def overload(lab, short):
    """TCP is in time beside a flood of UDP, every packet is accounted for, and afterwards all is as before."""
    seconds = (5 if short else 60) * SLOW
    # TCP and UDP have the same worker.
    lab.end("node1", signal.SIGTERM)
    lab.serve("node1", ["--workers", "1"])
    sink = subprocess.Popen(lab.on("guest1", sys.executable, "-c", SINK))
    flood = lambda rate: Beside(lab, "ws", ROOT / "scripts/chaos.d/flood.py", "192.168.122.11", 5351, rate)
    short_now = lambda: [queue for queue in lab.status("node1")["queues"] if queue.get("overloaded")]
    wrong = []
    try:
        # What it can decide while another processor sends as much as it can.
        most = flood(0)
        time.sleep(0.5 * SLOW)
        before, began = answered(lab.status("node1")), time.monotonic()
        time.sleep(2 * SLOW)
        can = (answered(lab.status("node1")) - before) / (time.monotonic() - began)
        most.end()
        if can < 1:
            raise Failed("node1 decided about none of the datagrams: with --decide flow rules carry them, and no node has too many")
        wait(5, "the queues to be long again", lambda: not short_now())
        processes = {"keeper": lab.pid("node1"), "worker": lab.worker("node1")}
        had = {who: memory(pid) for who, pid in processes.items()}
        client = Beside(lab, "ws", ROOT / "scripts/chaos.d/latency.py", 100 / SLOW, "192.168.122.11", "fd00:122::11", "192.168.122.12",
                        nice=-10)
        time.sleep((2 if short else 10) * SLOW)
        began = time.monotonic()
        much = flood(4 * can)
        time.sleep(seconds / 2)
        at_first, then = answered(lab.status("node1")), time.monotonic()
        meanwhile = lab.status("node1")
        time.sleep(seconds / 2)
        decided = (answered(lab.status("node1")) - at_first) / (time.monotonic() - then)
        sent = much.end()
        ended = time.monotonic()
        time.sleep((3 if short else 10) * SLOW)
        asked = client.end()
        after = lab.status("node1")
        has = {who: memory(pid) for who, pid in processes.items()}
    finally:
        sink.kill()
        sink.wait()
    rate = sent["sent"] / sent["seconds"]
    say(f"     node1 can decide {can:.0f} packets a second; {rate:.0f} came ({rate / can:.1f} times as many), and {decided:.0f} were decided")
    spans = {"before": (0, began), "during": (began, ended), "in the first second after": (ended, ended + 1 * SLOW),
             "then": (ended + 1 * SLOW, float("inf"))}
    figures = {}
    for span, (first, last) in spans.items():
        took = [it for at, it, _ in asked if first <= at < last]
        figures[span] = [percentile(took, part) for part in (0.5, 0.99, 1)]
        say(f"     {span}: {len(took)} requests, p50 {figures[span][0]:.1f} ms, p99 {figures[span][1]:.1f}, longest {figures[span][2]:.1f}")
    for who in processes:
        say(f"     {who}: {had[who]} KiB before, {has[who]} after ({100 * has[who] / had[who] - 100:+.1f} %)")
        if abs(has[who] / had[who] - 1) > 0.05 and has[who] - had[who] > 1024:
            wrong.append(f"the memory of the {who}")
    for queue in meanwhile["queues"]:
        if queue["lost"]["queue_full"]:
            say(f"     queue {queue['number']} meanwhile: holds {queue.get('holds')}, {queue['waiting']} wait")
    # Beside others who build and test, times say less, and what sends has less of a processor.
    limit, times = (250, 1.5) if short else (50, 3.5)
    if SLOW == 1:
        wrong += [f"p99 {span}" for span in ["during", "then"] if figures[span][1] > limit]
        if rate < times * can:
            wrong.append("the flood, which was too weak")
    if not any("gets more packets" in amiss for amiss in meanwhile["amiss"]):
        wrong.append(f"what it said meanwhile: {meanwhile['amiss']}")
    if any("gets more packets" in amiss for amiss in after["amiss"]) or any(queue.get("holds") != 16384 for queue in after["queues"]):
        wrong.append(f"what it says after it: {after['amiss']}")
    for queue in after["queues"]:
        if queue["ledger"]["difference"] != 0 or queue["waiting"]:
            wrong.append(f"the ledger of queue {queue['number']}: {queue}")
    log = lab.log("node1")
    if "gets more packets than workers decide" not in log or "gets no more packets than workers decide" not in log:
        wrong.append(f"the log:\n{tail(log)}")
    if wrong:
        raise Failed(f"not as it should be: {'; '.join(wrong)}")
