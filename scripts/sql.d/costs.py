"""What traces cost: bytes an event, events and bytes a connection in clusters of some nodes, and a thousand nodes by calculation.

A connection that enters where its guest lives is told by one node, any other by two. With N nodes, and clients that call all of them
alike, 1/N of the connections are of the first kind. What each kind has is measured with two nodes. In a chain of nodes those between have
nothing to tell, because their bridges pass the frames on, but with --full, which two nodes cannot show.
"""

import base64
import hashlib
import json
import pathlib
import re
import sys
import zlib
from typing import NamedTuple

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "installed.d"))

from copied import copied
from engines import ClickHouse, of_path, table_and_view
from labs import Lab
from said import Failed, run, say

# How packets are decided, and the options of `dunnat run`.
WAYS = {"--decide packet": [], "--full": ["--full"], "--decide flow": ["--decide", "flow"]}
# How the lab's nodes are connected, and by what they know each other then.
CABLES = {"chain": "mac", "each to each": "pipe"}
# The first is what all is calculated from.
CLUSTERS = [2, 2, 3, 5]
# Of each node, over IPv4 and over IPv6.
CALLS = 10

# Events of which the bytes are measured.
SPREAD = 200_000

NODES, EACH, DAYS = 1000, 100, 30

TOKEN = re.compile(
    rb'"(time|inside|outside)":"([^"]+)"|"(seq|ack|ip_id|deciding_ns|waited_ns|packet_id|sport|dport)":(\d+)'
    rb'|"(192\.168\.122\.1|fd00:122::1)"')


class Cost(NamedTuple):
    """Of one connection."""
    events: float
    bytes: float

    def __add__(self, other):
        return Cost(self.events + other.events, self.bytes + other.bytes)

    def __mul__(self, times):
        return Cost(self.events * times, self.bytes * times)


NONE = Cost(0, 0)


class Measured(NamedTuple):
    """All of a cluster, and its parts: what comes in where the guest lives, and elsewhere."""
    all: Cost
    local: Cost
    foreign: Cost

    def of(self, nodes):
        """What a connection costs in a cluster of so many nodes."""
        return self.local * (1 / nodes) + self.foreign * (1 - 1 / nodes)


def mean(costs):
    costs = list(costs)
    return sum(costs, NONE) * (1 / len(costs)) if costs else NONE


def ports_of(event):
    carried = (event.get("kernel") or {}).get("carried") or {}
    for ends in [event.get("before"), event.get("after"), carried.get("flow")]:
        yield from (ends.get(name) for name in ["sport", "dport"]) if ends else ()


def measure(lab, name, options):
    """Small requests to each node, one round after the other, and every line of the traces."""
    first = lab.port + 1
    files, through = lab.traces(name, *options, times=CALLS, calls=[(80, 1)])
    ports = set(range(first, lab.port + 1))
    if through != len(ports):
        raise Failed(f"{name}: {len(ports)} calls, and {through} came through")
    found = {}
    for flow, *_, finding, _ in of_path(lab.dunnat, [str(file) for file in files]):
        if tcp := re.match(r"tcp \S+:(\d+) > ", flow):
            found[int(tcp[1])] = finding
    if set(found) != ports or set(found.values()) - {"local", "foreign"}:
        raise Failed(f"{name}: not each call is a connection, local or foreign: {sorted(found.items())}")
    each, total = dict.fromkeys(ports, NONE), NONE
    for file in files:
        for line in file.read_bytes().splitlines(keepends=True):
            event, cost = json.loads(line), Cost(1, len(line))
            total += cost
            port = next((port for port in ports_of(event) if port in ports), None)
            if port is not None:
                each[port] += cost
    local, foreign = (mean(each[port] for port in ports if found[port] == kind) for kind in ["local", "foreign"])
    return Measured(total * (1 / len(ports)), local, foreign)


def clusters(dunnat, folder):
    """Says what was calculated beside what was measured. Gives what was measured with two nodes, by the way of deciding, and files."""
    say("| run | nodes | cables | events a connection | calculated | error | bytes a connection | calculated | error |")
    say("|---|---|---|---|---|---|---|---|---|")
    base, kept = {}, None
    for cables, tag_by in CABLES.items():
        for place, nodes in enumerate(CLUSTERS):
            with Lab(dunnat, nodes, folder, "--tag-by", tag_by) as lab:
                for way, options in WAYS.items():
                    name = f"{place} {cables} {way}".replace(" ", "-")
                    here = measure(lab, name, options)
                    if place == 0:
                        base[cables, way] = here
                        continue
                    if not options and nodes == CLUSTERS[-1]:
                        kept = sorted((pathlib.Path(folder) / name).glob("node?.jsonl"))
                    row(way, nodes, cables, here.all, base[cables, way].of(nodes))
    return {way: base["each to each", way] for way in WAYS}, kept


def row(way, nodes, cables, here, thought):
    def error(one, other):
        return f"{(other - one) / one * 100:+.1f} %"
    say(f"| `{way}` | {nodes} | {cables} | {here.events:.1f} | {thought.events:.1f} | {error(here.events, thought.events)} "
        f"| {here.bytes:.0f} | {thought.bytes:.0f} | {error(here.bytes, thought.bytes)} |")


def drawn(*of):
    """A number that looks random, and is the same each time."""
    return int.from_bytes(hashlib.blake2b(repr(of).encode(), digest_size=8).digest(), "big")


def other(line, copy):
    """A line as another client would have made it, as different as clients are: what a compressor could find again is changed."""
    is_reply = b'"stage":"spoof"' in line
    ports = [int(port) for port in re.findall(rb'"[sd]port":(\d+)', line) if int(port) >= 33000]
    of = (copy, ports[0] if ports else 0)

    def change(found):
        name, text, number_of, number, address = found.groups()
        if address:
            client = drawn(copy)
            ends = tuple(client.to_bytes(8, "big")[:3])
            return b'"10.%d.%d.%d"' % ends if b"." in address else b'"fd00:9::%x:%x"' % (client >> 48, client & 65535)
        if name == b"time":
            # The same second, and another part of it.
            return b'"time":"%s.%09dZ"' % (text[:19], (drawn(of, "time") + int((text[20:-1] + b"0" * 9)[:9])) % 1_000_000_000)
        if name:
            return b'"%s":"1:%s"' % (name, base64.b64encode(hashlib.sha1(text + repr(of).encode()).digest()))
        value = int(number)
        if number_of in [b"seq", b"ack"]:
            of_client = (number_of == b"seq") != is_reply
            value = value and (value + drawn(of, of_client)) % (1 << 32)
        elif number_of in [b"sport", b"dport"]:
            value = 1024 + drawn(of, "port") % 64000 if value >= 33000 else value
        elif number_of == b"ip_id":
            value = value and (value + drawn(of, is_reply)) % 65536
        elif number_of == b"packet_id":
            value += copy
        else:
            value = value * (50 + drawn(of, line, number_of) % 150) // 100
        return b'"%s":%d' % (number_of, value)

    return TOKEN.sub(change, line)


def sizes(python, dunnat, files, folder):
    """Says how many bytes an event has, by where it is kept, and gives it."""
    file = pathlib.Path(folder) / "spread.jsonl"
    events = copied(files, file, SPREAD, lambda line: line, other)
    # Each in a process of its own: engines keep what they hold.
    found = {}
    for what in ["texts", "duckdb", "clickhouse"]:
        done = run(python, __file__, what, dunnat, file, folder, timeout=600)
        found |= {name: size / events for name, size in json.loads(done.stdout.splitlines()[-1]).items()}
    say(f"\n{events} events of connections that have nothing in common but the cluster:\n")
    say("| kept as | bytes an event |")
    say("|---|---|")
    for name, size in found.items():
        say(f"| {name} | {size:.0f} |")
    return found


def of_texts(_, file, __):
    import pyarrow
    text = pathlib.Path(file).read_bytes()
    zstd = pyarrow.Codec("zstd", compression_level=3)
    return {"JSON lines": len(text), "JSON lines, gzip -6": len(zlib.compress(text, 6)), "JSON lines, zstd -3": len(zstd.compress(text))}


def in_duckdb(dunnat, file, folder):
    import duckdb
    at = pathlib.Path(folder) / "sizes.duckdb"
    with duckdb.connect(str(at)) as engine:
        engine.execute(table_and_view(dunnat, [file])[0])
        engine.execute("CHECKPOINT")
    return {"DuckDB, `events`": at.stat().st_size}


def in_clickhouse(dunnat, file, _):
    engine = ClickHouse(dunnat, [file], joins=False)
    engine.session.query("OPTIMIZE TABLE events FINAL")
    (whole,), = engine.ask("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'events'")
    (raw,), = engine.ask("SELECT sum(column_data_compressed_bytes) FROM system.parts_columns "
                         "WHERE active AND table = 'events' AND column = 'raw'")
    if not int(raw):
        raise Failed("too few events for ClickHouse to tell how large a column is")
    return {"ClickHouse, `events`": int(whole), "ClickHouse, `events` without `raw`": int(whole) - int(raw)}


def thousand(base, bytes_of):
    """Says what many nodes cost, by the same calculation."""
    line = bytes_of["JSON lines"]
    say(f"\n{NODES} nodes, each to each, {EACH} such connections a second at each node, kept for {DAYS} days:\n")
    say("| run | events a connection | events/s | MB/s as lines | TB, zstd -3 | TB, ClickHouse | TB, ClickHouse without `raw` |")
    say("|---|---|---|---|---|---|---|")
    for way, here in base.items():
        cost = here.of(NODES)
        each = NODES * EACH * cost.bytes
        kept = [each * DAYS * 86400 * bytes_of[name] / line / 1e12
                for name in ["JSON lines, zstd -3", "ClickHouse, `events`", "ClickHouse, `events` without `raw`"]]
        say(f"| `{way}` | {cost.events:.1f} | {NODES * EACH * cost.events:,.0f} | {each / 1e6:,.0f} "
            + " ".join(f"| {size:,.0f}" for size in kept) + " |")


def costs(dunnat, python, folder):
    base, files = clusters(dunnat, folder)
    thousand(base, sizes(python, dunnat, files, folder))


def main():
    """Runs one of the three alone: WHAT DUNNAT FILE FOLDER prints JSON."""
    what, *words = sys.argv[1:]
    print(json.dumps({"texts": of_texts, "duckdb": in_duckdb, "clickhouse": in_clickhouse}[what](*words)))


if __name__ == "__main__":
    main()
