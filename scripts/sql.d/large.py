"""A large trace, and what it costs to join it."""

import json
import os
import re
import resource
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../installed.d"))

from engines import sql_of, with_files
from said import Failed

CLIENT = re.compile(rb'"(192\.168\.122\.1|fd00:122::1)"')
NUMBER = re.compile(rb'^(\{"v":\d+,"seq":)(\d+)')


def write(files, to, count):
    """The same connections by other clients, again and again, until there are so many events."""
    traces = [[line for line in file.read_bytes().splitlines(keepends=True) if NUMBER.match(line)] for file in files]
    each = sum(len(lines) for lines in traces)
    copies = max(1, count // each)
    with open(to, "wb") as out:
        for lines in traces:
            parts = []
            for line in lines:
                begin = NUMBER.match(line)
                parts.append((begin[1], CLIENT.split(line[begin.end():])))
            number = 0
            for copy in range(copies):
                v4 = b'"10.%d.%d.%d"' % (copy >> 16, copy >> 8 & 255, copy & 255)
                v6 = b'"fd00:9::%x:%x"' % (copy >> 16, (copy & 65535) + 1)
                for begin, pieces in parts:
                    number += 1
                    text = [pieces[0]]
                    for kind, rest in zip(pieces[1::2], pieces[2::2]):
                        text += [v4 if b"." in kind else v6, rest]
                    out.write(begin + b"%d" % number + b"".join(text))
    return copies * each


def measured(dunnat, python, file, folder):
    """Name, seconds, peak memory in KiB, and conversations of each who joins it."""
    begun = time.monotonic()
    child = subprocess.Popen([dunnat, "path", "--format", "json", "--write", folder / "large.path", file], stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status != 0:
        raise Failed("dunnat path has failed")
    with open(folder / "large.path", "rb") as lines:
        rows = sum(1 for _ in lines)
    yield "dunnat path", time.monotonic() - begun, used.ru_maxrss, rows
    # Another process, whose memory is its own. It tells each step when it is done.
    with subprocess.Popen([python, __file__, dunnat, file, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            yield tuple(json.loads(line))
        said = child.stderr.read()
    if child.returncode != 0:
        raise Failed(f"DuckDB: {said.strip().splitlines()[-1] if said.strip() else child.returncode}")


def main():
    import duckdb
    dunnat, file, folder = sys.argv[1:]
    engine = duckdb.connect(f"{folder}/large.duckdb")
    for setting in ["SET threads = 2", "SET memory_limit = '2GB'", f"SET temp_directory = '{folder}/spill'"]:
        engine.execute(setting)
    table, view = with_files(sql_of(dunnat, "duckdb"), [file]).split("CREATE OR REPLACE VIEW")

    def step(name, do):
        begun = time.monotonic()
        rows = do()
        print(json.dumps((name, time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, rows)), flush=True)

    step("DuckDB: read", lambda: engine.execute(table) and 0)
    engine.execute("CREATE OR REPLACE VIEW" + view)
    step("DuckDB: join", lambda: sum(row[1] for row in engine.execute(
        "SELECT finding, count(*) FROM conversations GROUP BY finding").fetchall()))


if __name__ == "__main__":
    main()
