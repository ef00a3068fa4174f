"""Samples of a run -> RESULTS.md, results.json, results.svg, and a summary for the screen.

usage: report.py WORK OUT    reads samples.tsv, absent.tsv, about.tsv in WORK, writes to OUT
"""

import json
import pathlib
import statistics
import sys
from collections import defaultdict

PEERS = {
    "kernel": "the ruleset of `dunnat rules --kernel`; no userspace at all",
    "dunnat": "`dunnat run`, batches over netlink, the worker changes the bytes",
    "dunnat-looked": "`dunnat run`, and `top`, `metrics` and `status` look at it all the time; TCP bulk alone",
    "dunnat-zoomed": "`dunnat run --decide flow`, and `dunnat trace --packets` has other flows come packet by packet; TCP bulk alone",
    "dunnat-trace": "`dunnat run --trace FILE.jsonl`: as before, and every decision is written as JSON to a file; TCP bulk alone",
    "dunnat-kernel": "`dunnat run --rewrite kernel`: the worker decides, the kernel changes the bytes by mark",
    "dunnat-flow": "`dunnat run --decide flow`: the worker decides once about a flow, the kernel carries what follows",
    "dunnat-nfq": "`dunnat run --backend nfq`: the same decisions, one packet per system call",
    "lnfq": "a loop in C on libnetfilter_queue, as its documentation shows it (bench/peers/lnfq.c)",
    "nfq-plain": "a loop on the nfq crate, as its documentation shows it (bench/peers/nfq_plain.rs)",
    "scapy": "Python, NetfilterQueue and Scapy (bench/peers/nfqueue_scapy.py)",
    "floor": "accepts every packet and decides nothing, in batches (bench/peers/floor.c); the kernel's ruleset "
    "translates behind it",
    "floor-payload": "the same, but it reads packets whole, and gives each back: what has to be done at least by who rewrites",
}
FIGURES = [
    ("bulk.up.local", "TCP to the guest, local node", "Gbit/s", 2),
    ("bulk.down.local", "TCP from the guest, local node", "Gbit/s", 2),
    ("bulk.up.foreign", "TCP to the guest, foreign node", "Gbit/s", 2),
    ("bulk.down.foreign", "TCP from the guest, foreign node", "Gbit/s", 2),
    ("udp.highest", "64-byte UDP packets, loss-free", "packets/s", 0),
    ("connections.local", "new connections, local node", "1/s", 0),
    ("connections.foreign", "new connections, foreign node", "1/s", 0),
    ("latency.p50", "request latency, median", "us", 0),
    ("latency.p99", "request latency, 99th percentile", "us", 0),
    ("cpu.packet", "CPU time of the process per small packet", "us", 2),
    ("memory.now", "resident memory, 1 worker", "MiB", 1),
    ("memory2.peak", "resident memory at its highest, 2 workers", "MiB", 1),
]
BULK = [name for name, *_ in FIGURES if name.startswith("bulk.")]
# What it is, the figures it is the median over, peer over peer, to reach, good enough, more is better.
# As TARGETS, of the pieces: what it is, the figures, over which, to reach, good enough.
PIECES = [
    ("instructions in userspace per rewritten small packet", "instructions", None, 700, 900),
    ("the same while `top`, `metrics` and `status` look / while nobody does", "looked_at", "instructions", 1.02, 1.05),
    ("time of a decision, 4,096 nodes and 10,000 services / 2 and 1", "decision.4096.10000", "decision.2.1", 1.3, 2),
]
TARGETS = [
    ("TCP bulk, worker rewrites / kernel ruleset", BULK, "dunnat", "kernel", 0.85, 0.70, True),
    ("TCP bulk, kernel rewrites / kernel ruleset", BULK, "dunnat-kernel", "kernel", 0.95, 0.88, True),
    ("TCP bulk, once a flow / kernel ruleset", BULK, "dunnat-flow", "kernel", 0.98, 0.95, True),
    ("request latency, once a flow / kernel ruleset", ["latency.p50"], "dunnat-flow", "kernel", 1.05, 1.15, False),
    ("new connections, once a flow / kernel ruleset", ["connections.local", "connections.foreign"], "dunnat-flow", "kernel", 0.80, 0.70, True),
    ("loss-free small packets, once a flow / kernel ruleset", ["udp.highest"], "dunnat-flow", "kernel", 0.98, 0.95, True),
    ("TCP bulk, every decision written to a file as JSON / no trace", BULK, "dunnat-trace", "dunnat", 0.8, 0.8, True),
    ("TCP bulk, looked at / not", BULK, "dunnat-looked", "dunnat", 0.95, 0.95, True),
    ("TCP bulk, once a flow, other flows zoomed into / not", BULK, "dunnat-zoomed", "dunnat-flow", 0.95, 0.90, True),
    ("TCP bulk, dunnat / libnetfilter_queue loop", BULK, "dunnat", "lnfq", 4, 3, True),
    ("TCP bulk, dunnat / plain nfq loop", BULK, "dunnat", "nfq-plain", 4, 3, True),
    ("loss-free small packets, dunnat / libnetfilter_queue loop", ["udp.highest"], "dunnat", "lnfq", 1.5, 1.25, True),
    ("CPU per small packet, dunnat / libnetfilter_queue loop", ["cpu.packet"], "dunnat", "lnfq", 0.65, 0.8, False),
    ("loss-free small packets, dunnat / floor", ["udp.highest"], "dunnat", "floor", 0.95, 0.85, True),
    # Where the sender is what holds up both, their packet rates do not tell them apart, and this does.
    ("CPU per small packet, dunnat / floor", ["cpu.packet"], "dunnat", "floor", 1.05, 1.15, False),
    ("request latency, dunnat / floor", ["latency.p50"], "dunnat", "floor", 1.05, 1.10, False),
    ("TCP bulk, dunnat / floor that returns payloads", BULK, "dunnat", "floor-payload", 0.97, 0.93, True),
    ("resident memory, 2 workers, MiB", ["memory2.peak"], "dunnat", None, 32, 64, False),
]
METHOD = """
The programs that dunnat is compared with have one thread, so dunnat has one worker; only its memory is measured with
two as well. They get the rules of `dunnat rules --backend nfq`. Before a peer is measured it must have brought a page
through each node, by way of its queues.

## How

- **TCP**: iperf3, one connection; "up" is client to guest.
- **Loss-free packets**: through the local node, one way, 64 bytes with the IP header. A rate is without loss if 99.9 %
  have arrived 20 ms after the last was sent. The highest rate is searched for by trying; what counts is what was sent.
- **Connections**: eight at a time; connect, one small page from nginx, close.
- **Latency**: wrk, four connections that are kept open, through the foreign node.
- **CPU time**: of the processes on the local node, by the scheduler's account, while 20,000 small packets a second pass
  (in bursts, 200 us apart), divided by those that arrived.
- **Memory**: VmRSS and VmHWM after all this, of all processes of a node together (pages that two of them share count twice), the larger of
  the two nodes.

## What this does not say

- One machine plays client, nodes and guest. On two cores the sender holds up the fastest peers before they lose a packet:
  their packet rates say "at least", and a ratio of two of them says only that both are beyond the sender.
- A peer with a queue may pass more small packets than the kernel alone, at a higher cost. The likely reason, not measured,
  is that a queue hands half of the way to another thread, where the kernel alone does it all on the sender's processor.
- What the kernel does for a packet after the verdict is done on the peer's thread, within its system call, and is in its
  CPU time; so is what an interrupt did meanwhile. Without a queue it is in nobody's: the kernel's ruleset has no figure.
- Interfaces are veth: no NIC, no wire, and GSO packets of 64 KiB stay whole all the way if nobody cuts them.
- Scapy is for comfort and not for speed. It is here because many first prototypes are made of it."""


def table(path):
    return [line.split("\t") for line in path.read_text().splitlines() if line]


def ratios(samples, figures, peer, other):
    """Round by round, so that a slow minute of the machine slows both sides of a ratio."""
    found = []
    for figure in figures:
        ours, theirs = samples[peer][figure], samples[other][figure] if other else None
        for number, value in ours.items():
            if theirs is None:
                found.append(value)
            elif theirs.get(number):
                found.append(value / theirs[number])
    return found


def verdict_on(value, reach, enough, more):
    if value is None:
        return "not measured"
    if reach is None:
        return "no target"
    if value >= reach if more else value <= reach:
        return "reached"
    if value >= enough if more else value <= enough:
        return "good enough"
    return "not reached"


def judged_pieces(pieces):
    for what, figure, other, reach, enough in PIECES:
        value = pieces.get(figure)
        if value is not None and other:
            value = value / pieces[other] if other in pieces else None
        yield {
            "what": what, "value": value, "reach": reach, "enough": enough, "more": False,
            "verdict": verdict_on(value, reach, enough, False), "spread": None,
        }


def judged(samples):
    for what, figures, peer, other, reach, enough, more in TARGETS:
        found = ratios(samples, figures, peer, other)
        value = statistics.median(found) if found else None
        verdict = verdict_on(value, reach, enough, more)
        yield {
            "what": what, "value": value, "reach": reach, "enough": enough, "more": more, "verdict": verdict,
            "spread": [min(found), max(found)] if found else None,
        }


# What is missing to the kernel: the figures, and the floor for that work.
MISSING = [
    ("TCP bulk", BULK, "floor-payload"),
    ("new connections", ["connections.local", "connections.foreign"], "floor"),
    ("request latency", ["latency.p50"], "floor"),
]


def missing(samples):
    """How much of the way from dunnat to the kernel's ruleset is from dunnat to its floor, by the medians of each figure."""
    for what, figures, floor in MISSING:
        peers = [[statistics.median(samples[peer][figure].values()) for figure in figures if samples[peer][figure]]
                 for peer in ("dunnat", floor, "kernel")]
        if all(len(values) == len(figures) for values in peers):
            ours, theirs, kernel = (statistics.mean(values) for values in peers)
            if ours != kernel:
                yield what, floor, (theirs - ours) / (kernel - ours)


def cell(values, digits):
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def pieces_markdown(pieces, parts):
    if "instructions" in pieces:
        yield "\n## Pieces\n"
        yield f"`bench/instructions`: **{pieces['instructions']:.0f}** instructions in userspace for a 64-byte UDP packet that is rewritten,"
        yield "trace off, by callgrind over recorded batches: read the message, parse, decide, work out the checksums, change"
        yield "the bytes, encode the verdict. Where they go (what is inlined counts for its caller):\n"
        yield "```\n" + parts.rstrip() + "\n```"
        yield "\nWhat limits it: no part stands out. A message is checked attribute by attribute, a packet header by header (by"
        yield "etherparse), and every access and sum is checked for bounds and overflow; the results pass through values that can"
        yield "be traced. Beside the two system calls and the kernel's own work for a packet all of it together is small: see CPU"
        yield "time per packet above."
    sizes = [key.split(".")[1:] for key in pieces if key.startswith("decision.")]
    if sizes:
        rows = sorted({int(nodes) for nodes, _ in sizes})
        columns = sorted({int(services) for _, services in sizes})
        yield "\nNanoseconds for a decision, the four stages in turn, 1,024 packets that look for different nodes and services"
        yield "(`cargo bench`, medians; read from one run of some seconds each, so a tenth more or less means nothing):\n"
        yield "| | " + " | ".join(f"{services:,} services" for services in columns) + " |"
        yield "|---|" + "---|" * len(columns)
        for nodes in rows:
            cells = [f"{pieces[f'decision.{nodes}.{services}']:.1f}" for services in columns]
            yield f"| {nodes:,} nodes | " + " | ".join(cells) + " |"


def markdown(samples, peers, absent, about, targets, pieces, parts):
    yield "# What dunnat costs\n"
    yield "Written by `scripts/bench`; no figure in here was typed. Every peer does the same distributed NAT in the same"
    yield "lab of two nodes in network namespaces on one machine: client, nodes and guest share its processors, so the"
    yield "ratios say more than the figures. In each round all peers are measured one after the other, in the next the"
    yield "other way round. A cell has the median of the rounds, and the lowest and the highest.\n"
    yield "| | |\n|---|---|"
    for key, value in about:
        yield f"| {key} | {value} |"
    yield "\n## Ratios\n"
    yield "Taken round by round and, for TCP, over both directions through both nodes; the median, and the extremes.\n"
    yield "| ratio | measured | spread | to reach | good enough | |\n|---|---|---|---|---|---|"
    for target in targets:
        sign = "≥" if target["more"] else "≤"
        value = "-" if target["value"] is None else f"{target['value']:.2f}"
        spread = "-" if target["spread"] is None else "{:.2f}-{:.2f}".format(*target["spread"])
        goals = ["-" if goal is None else f"{sign} {goal}" for goal in (target["reach"], target["enough"])]
        yield f"| {target['what']} | {value} | {spread} | {goals[0]} | {goals[1]} | {target['verdict']} |"
    yield "\n## Figures\n"
    yield "| | unit | " + " | ".join(peers) + " |"
    yield "|---|---|" + "---|" * len(peers)
    for figure, what, unit, digits in FIGURES:
        cells = [cell(list(samples[peer][figure].values()), digits) for peer in peers]
        if any(text != "-" for text in cells):
            yield f"| {what} | {unit} | " + " | ".join(cells) + " |"
    for peer in peers:
        if lost := max(samples[peer]["cpu.lost"].values(), default=0) * 100:
            if lost >= 0.1:
                yield f"\n{peer} lost up to {lost:.0f} % of the packets while CPU time was measured; it is per packet that arrived."
        if written := sum(samples[peer]["trace.written"].values()):
            lost = sum(samples[peer]["trace.lost"].values())
            yield f"\n{peer} has written {written:,.0f} decisions, and lost {lost:,.0f} more, which no packet waited for."
        if failed := sum(sum(samples[peer][f"connections.failed.{by}"].values()) for by in ("local", "foreign")):
            yield f"\n{peer}: {failed:.0f} connections failed; they are not counted."
    places = list(missing(samples))
    if places:
        yield "\nOf what dunnat is behind the kernel's ruleset, the part that is its own; the rest is what the floor is behind it, too, which"
        yield "is the price of a queue, and no program can save it:\n"
        yield from (f"- {what}: {share:.0%} (floor: {floor})" for what, floor, share in places)
    yield "\n[PROFILE.md](PROFILE.md) tells where the time of a small packet, a connection, a request and a MiB of TCP goes."
    yield "\n![What each peer reached](results.svg)"
    yield from pieces_markdown(pieces, parts)
    yield "\n## Peers\n"
    for peer in peers:
        yield f"- **{peer}**: {PEERS.get(peer, '')}"
    for peer, reason in absent:
        yield f"- **{peer}** did not take part: {reason}"
    yield METHOD


# What is drawn: title, the figures that are pooled, digits.
PANELS = [
    ("TCP bulk, Gbit/s", BULK, 2),
    ("64-byte UDP packets without loss, a second", ["udp.highest"], 0),
    ("New TCP connections, a second", ["connections.local", "connections.foreign"], 0),
    ("CPU time of the process per small packet, us (less is better)", ["cpu.packet"], 1),
]
WIDTH, ROW, LEFT, RIGHT = 760, 26, 130, 90
COLOURS = {"kernel": "#7d8590", "floor": "#7d8590", "floor-payload": "#7d8590", "dunnat": "#1f6feb", "dunnat-looked": "#8db4f2", "dunnat-zoomed": "#8db4f2", "dunnat-trace": "#8db4f2", "dunnat-kernel": "#1f6feb", "dunnat-flow": "#1f6feb", "dunnat-nfq": "#8db4f2"}


def svg(samples, peers):
    """A bar for each peer, as long as its median; a line from its lowest to its highest figure."""
    parts, y = [], 14
    for title, figures, digits in PANELS:
        bars = []
        for peer in peers:
            values = [value for figure in figures for value in samples[peer][figure].values()]
            if values:
                bars.append((peer, statistics.median(values), min(values), max(values)))
        if not bars:
            continue
        # One that is far beyond all others (CPU time in Python) would leave the others no room: its bar is cut.
        ranked = sorted(high for *_, high in bars)
        longest = ranked[-1] if len(ranked) < 2 or ranked[-1] < 4 * ranked[-2] else 1.4 * ranked[-2]
        scale = (WIDTH - LEFT - RIGHT) / longest
        parts.append(f'<text x="16" y="{y + 14}" class="title">{title}</text>')
        y += 26
        for peer, middle, low, high in bars:
            length, cut = min(middle, longest) * scale, middle > longest
            middle_of_row, end = y + 9, max(length, min(high, longest) * scale)
            parts.append(
                f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{peer}</text>'
                f'<rect x="{LEFT}" y="{y}" width="{max(length, 1):.1f}" height="18" rx="2" '
                f'fill="{COLOURS.get(peer, "#d18b3d")}"/>'
            )
            if cut:
                parts.append(f'<path d="M{LEFT + length - 14:.1f} {y - 1}l-6 20m6 0l6 -20" class="cut"/>')
            else:
                parts.append(
                    f'<path d="M{LEFT + low * scale:.1f} {middle_of_row}H{LEFT + end:.1f}'
                    f'm0 -4v8M{LEFT + low * scale:.1f} {y + 5}v8" class="spread"/>'
                )
            parts.append(f'<text x="{LEFT + end + 8:.1f}" y="{y + 13}">{middle:,.{digits}f}</text>')
            y += ROW
        y += 16
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" '
        'aria-label="What each peer reached: medians, lowest and highest">'
        "<style>text{font:13px sans-serif;fill:#24292f}.title{font-size:14px;font-weight:bold}"
        ".spread{stroke:#24292f;fill:none}.cut{stroke:#fff;stroke-width:3;fill:none}</style>"
        '<rect width="100%" height="100%" fill="#fff"/>'
    )
    yield from parts
    yield "</svg>"


def main():
    work, out = map(pathlib.Path, sys.argv[1:3])
    samples = defaultdict(lambda: defaultdict(dict))
    for number, peer, figure, value in table(work / "samples.tsv"):
        samples[peer][figure][int(number)] = float(value)
    about, absent = table(work / "about.tsv"), table(work / "absent.tsv")
    peers = [peer for peer in PEERS if peer in samples]
    pieces = {figure: float(value) for figure, value in table(work / "pieces.tsv")}
    parts = (work / "parts.txt").read_text() if pieces else ""
    targets = [*judged(samples), *judged_pieces(pieces)]
    out.mkdir(parents=True, exist_ok=True)
    (out / "RESULTS.md").write_text("\n".join(markdown(samples, peers, absent, about, targets, pieces, parts)) + "\n")
    (out / "results.svg").write_text("\n".join(svg(samples, peers)) + "\n")
    everything = {"about": dict(about), "absent": dict(absent), "targets": targets, "pieces": pieces, "samples": samples}
    (out / "results.json").write_text(json.dumps(everything, indent=1) + "\n")
    lines = []
    for target in targets:
        value = "-" if target["value"] is None else f"{target['value']:.2f}"
        lines.append(f"{value:>8}  {target['verdict']:12}  {target['what']}")
    (work / "summary.txt").write_text("\n".join(lines) + "\n")


main()
