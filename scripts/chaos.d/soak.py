"""Something goes wrong every minute, for long: what lives keeps its memory, descriptors and threads."""

import pathlib
import time

from around import flush, links, route
from ending import pause, workers
from lab import NODES, SLOW, Failed, adds_up, memory, say
from replacing import reload, upgrade

# Nothing in which a node ends: what it has is compared.
FAULTS = [workers, flush, route, reload, links, upgrade, pause]


def soak(lab, short):
    """Each of them in its short form. What a node has after each of them once is what it has at the end."""
    end = time.monotonic() + (lab.times or 30) * 60
    # That many minutes; each fault has its own number of times.
    lab.times = 0
    first, number = None, 0
    while first is None or time.monotonic() < end:
        began = time.monotonic()
        fault = FAULTS[number % len(FAULTS)]
        say(f"   - {fault.__name__}")
        fault(lab, True)
        number += 1
        # With --short one follows the other.
        time.sleep(3 if short else max(3, 60 - (time.monotonic() - began)))
        if number % len(FAULTS) == 0:
            now = {node: owned(lab, node) for node in NODES}
            first = first or now
            say(f"     after {number} faults: {now['node1']}")
            grown(first, now)
        for node in NODES:
            adds_up(node, lab.status(node))


def owned(lab, node):
    """What the two processes of a node have."""
    has = {}
    for who, pid in [("keeper", lab.pid(node)), ("worker", lab.worker(node))]:
        proc = pathlib.Path(f"/proc/{pid}")
        has |= {f"{who} KiB": memory(pid), f"{who} descriptors": len(list((proc / "fd").iterdir())),
                f"{who} threads": len(list((proc / "task").iterdir()))}
    return has


def grown(first, now):
    wrong = []
    for node, has in now.items():
        for what, number in has.items():
            before = first[node][what]
            # Memory within 5 %, or 1 MiB.
            if number > before and not (what.endswith("KiB") and number - before <= max(1024, before / 20)):
                wrong.append(f"{node}: {what} {before}, now {number}")
    if wrong:
        raise Failed("it grows: " + "; ".join(wrong))
