"""What the processors do for a small packet, a connection, a request and a MiB of TCP, by peer -> PROFILE.md, and on the screen.

usage: profile.py OUT VERSION FREQUENCY WHAT=PEER=COUNT=FILE...    FILE is what `perf record` wrote while there were so many of these
"""

import collections
import datetime
import os
import pathlib
import platform
import re
import subprocess
import sys

GROUPS = [
    ("rules (nf_tables)", r"nft_|nf_tables|__nft|nf_hook_slow|rhashtable|jhash|ipt_do|xt_|symhash"),
    ("queue (nfnetlink_queue, netlink)", r"nfqnl|nfnetlink|netlink|nf_queue|nf_reinject|__nf_queue"),
    ("conntrack and NAT", r"nf_conntrack|nf_ct|nf_nat|__nf_ct|__nf_conntrack|hash_conntrack|siphash"),
    ("bridge and br_netfilter", r"br_|__br_|nf_br|deliver_clone|maybe_deliver"),
    ("waiting and waking", r"schedule|__schedule|finish_task_switch|try_to_wake|ttwu|poll|futex|hrtimer|wake_up|select_task|pick_|update_curr|enqueue_|dequeue_|_raw_spin_unlock_irq"),
]
USER, ELSE = "user space", "all else: devices, sockets, IP"
IDLE = re.compile(r"idle|halt|mwait|cpu_startup_entry")
LINE = re.compile(r"^\s*[\d.]+%\s+(\d+)\s+(\[.\])\s+(\S+)")


def symbols(path):
    words = ["perf", "report", "--stdio", "--no-children", "--sort", "symbol", "--show-nr-samples", "--input", path]
    text = subprocess.run(words, text=True, capture_output=True, check=True).stdout
    counts = collections.Counter()
    for found in map(LINE.match, text.splitlines()):
        if found and not IDLE.search(found[3]):
            counts[found[2], found[3]] += int(found[1])
    return counts


def group(space, name):
    if space == "[.]":
        return USER
    return next((title for title, pattern in GROUPS if re.match(pattern, name)), ELSE)


def table(head, rows):
    yield "| | " + " | ".join(head) + " |"
    yield "|---|" + "---|" * len(head)
    for name, cells in rows:
        yield f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |"


ABOUT = {
    "packet": "A small packet: 64 bytes of UDP, through the node of its guest, at one rate for all.",
    "connection": "A connection: begun, a page, ended with a reset, through the other node and the pipe, as fast as eight threads can.",
    "request": "A request in a connection that stays, through the other node and the pipe, as fast as four connections can.",
    "MiB": "A MiB of one TCP flow, to the guest through its own node, as fast as it can.",
}


def section(what, found, frequency):
    peers, by_group, by_symbol = [], [], []
    for peer, count, path in found:
        each = 1e6 / frequency / float(count)
        groups, by_name = collections.Counter(), collections.Counter()
        for (space, name), samples in symbols(path).items():
            groups[group(space, name)] += samples * each
            by_name[name] += samples * each
        peers.append(peer)
        by_group.append(groups)
        by_symbol.append(by_name)
    titles = [title for title, _ in GROUPS] + [USER, ELSE]
    rows = [(title, [groups[title] for groups in by_group]) for title in titles]
    rows.append(("**all**", [sum(groups.values()) for groups in by_group]))
    most = collections.Counter()
    for by_name in by_symbol:
        for name, spent in by_name.items():
            most[name] = max(most[name], spent)
    named = [(f"`{name}`", [by_name[name] for by_name in by_symbol]) for name, _ in most.most_common(25)]
    print(f"\n{ABOUT[what]}", *table(peers, rows), sep="\n")
    return [f"## {ABOUT[what]}".rstrip("."), "", *table(peers, rows), "", "The functions that took most, with any peer:", "", *table(peers, named), ""]


def main():
    out, version, frequency = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    measured = collections.defaultdict(list)
    for what, *found in (word.split("=", 3) for word in sys.argv[4:]):
        measured[what].append(found)
    text = [
        "# What a packet, a connection, a request and a MiB cost, and where",
        "",
        "`scripts/bench --only profile`: microseconds of processor time for each, of all processes and of the kernel together, client and",
        "server included (`perf record`, by time, all processors; time with nothing to do is left out). The peers are those of",
        "[RESULTS.md](RESULTS.md).",
        "",
        f"{datetime.date.today()}, {version}, kernel {platform.release()}, {os.cpu_count()} processors.",
        "",
    ]
    for what, found in measured.items():
        text += section(what, found, frequency)
    (out / "PROFILE.md").write_text("\n".join(text).rstrip() + "\n")


main()
