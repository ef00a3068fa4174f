"""A large trace, and what it costs to join it."""

import functools
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../installed.d"))

from copied import copied
from engines import table_and_view
from said import Failed

CLIENT = re.compile(rb'"(192\.168\.122\.1|fd00:122::1)"')


@functools.lru_cache(1)
def client(copy):
    return b'"10.%d.%d.%d"' % (copy >> 16, copy >> 8 & 255, copy & 255), b'"fd00:9::%x:%x"' % (copy >> 16, (copy & 65535) + 1)


def other(pieces, copy):
    """A line, cut at the client's addresses, as another client would have made it."""
    first, *rest = pieces
    v4, v6 = client(copy)
    text = [first]
    for kind, piece in zip(rest[::2], rest[1::2]):
        text += [v4 if b"." in kind else v6, piece]
    return b"".join(text)


def write(files, to, count):
    """The same connections by other clients."""
    return copied(files, to, count, CLIENT.split, other)


def measured(dunnat, python, file, folder):
    """Name, seconds, peak memory in KiB, bytes of temporary files at most, and conversations of each who joins it."""
    begun = time.monotonic()
    child = subprocess.Popen([dunnat, "path", "--format", "json", "--write", folder / "large.path", file], stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status != 0:
        raise Failed("dunnat path has failed")
    with open(folder / "large.path", "rb") as lines:
        rows = sum(1 for _ in lines)
    yield "dunnat path", time.monotonic() - begun, used.ru_maxrss, 0, rows
    # Another process, whose memory is its own. It tells each step when it is done.
    with subprocess.Popen([python, __file__, dunnat, file, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            yield tuple(json.loads(line))
        said = child.stderr.read()
    if child.returncode != 0:
        raise Failed(f"DuckDB: {said.strip().splitlines()[-1] if said.strip() else child.returncode}")


class Spilled(threading.Thread):
    """How much of a query was in a folder at most: what does not fit into memory."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.most, self.ended = folder, 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.2):
            total = 0
            for path, _, names in os.walk(self.folder):
                for name in names:
                    try:
                        total += os.stat(os.path.join(path, name)).st_size
                    except FileNotFoundError:
                        pass  # It has just been removed.
            self.most = max(self.most, total)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def main():
    import duckdb
    dunnat, file, folder = sys.argv[1:]
    engine = duckdb.connect(f"{folder}/large.duckdb")
    for setting in ["SET threads = 2", "SET memory_limit = '2GB'", f"SET temp_directory = '{folder}/spill'"]:
        engine.execute(setting)
    table, view = table_and_view(dunnat, [file])

    def step(name, do):
        begun = time.monotonic()
        with Spilled(f"{folder}/spill") as spilled:
            rows = do()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps((name, time.monotonic() - begun, peak, spilled.most, rows)), flush=True)

    step("DuckDB: read", lambda: engine.execute(table) and 0)
    engine.execute(view)
    step("DuckDB: join", lambda: sum(row[1] for row in engine.execute(
        "SELECT finding, count(*) FROM conversations GROUP BY finding").fetchall()))


if __name__ == "__main__":
    main()
