"""What came of each conversation, as three programs say: dunnat path, DuckDB and ClickHouse (chDB)."""

import collections
import json
import re
import resource
import subprocess
import sys
import time

COLUMNS = ["flow", "original_dst", "original_port", "guest", "entry", "service", "home", "finding", "is_right"]
QUESTION = f"SELECT {', '.join(COLUMNS)} FROM conversations"


def end(address, port):
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def sql_of(dunnat, engine):
    return subprocess.run([dunnat, "path", "--sql", engine], check=True, capture_output=True, text=True).stdout


def of_path(dunnat, files, lines=None):
    """Of each conversation what is compared; `lines` is standard input."""
    done = subprocess.run([dunnat, "path", "--format", "json", *files], check=True, capture_output=True, text=True, input=lines)
    for line in done.stdout.splitlines():
        one = json.loads(line)
        port = one.get("guest_port", one.get("original_port"))
        # What is dropped before it is translated has no guest: then the flow goes to the original destination.
        last = end(one["guest"], port) if "guest" in one else end(one["original_dst"], one.get("original_port"))
        flow = f"{one['proto']} {end(one['client'], one.get('client_port'))} > {last}"
        yield (flow, one.get("original_dst"), one.get("original_port"), one.get("guest"), one.get("entry"), one.get("service"),
               one.get("home"), one["finding"], one["right"])


def with_files(text, files):
    """The printed SQL, with these files for the pattern in it."""
    assert "'*.jsonl'" in text
    return text.replace("'*.jsonl'", str([str(file) for file in files]))


def table_and_view(dunnat, files):
    """What is printed for DuckDB, with these files: the table, and the view."""
    view = "CREATE OR REPLACE VIEW"
    before, behind = with_files(sql_of(dunnat, "duckdb"), files).split(view)
    return before, view + behind


def of_duckdb(dunnat, files, settings=()):
    import duckdb
    engine = duckdb.connect()
    for setting in settings:
        engine.execute(setting)
    engine.execute(with_files(sql_of(dunnat, "duckdb"), files))
    return engine, engine.execute(QUESTION).fetchall()


def statements(text):
    """The statements one by one, as clients send them."""
    parts = re.split(r";\s*\n", text)
    return [part for part in parts if re.sub(r"--[^\n]*", "", part).strip()]


class ClickHouse:
    """ClickHouse in this process: tables, then lines, then the question, unless it is not asked."""

    def __init__(self, dunnat, files, joins=True):
        from chdb import session
        self.session = session.Session()
        asked = statements(sql_of(dunnat, "clickhouse"))
        tables = [at for at, part in enumerate(asked) if "lines_to_events" in part]
        for part in asked[:tables[0] + 1]:
            self.session.query(part)
        for file in files:
            self.session.query(f"INSERT INTO lines SELECT * FROM file('{file}', LineAsString, 'raw String')")
        for part in asked[tables[0] + 1:] if joins else []:
            self.session.query(part)

    def ask(self, question):
        rows = self.session.query(question, "JSONCompactEachRow").bytes().decode()
        return [json.loads(row) for row in rows.splitlines()]


def of_clickhouse(dunnat, files):
    return [tuple(row[:-1]) + (bool(row[-1]),) for row in ClickHouse(dunnat, files).ask(QUESTION)]


def counted(rows):
    return collections.Counter(tuple("" if value is None else str(value) for value in row) for row in rows)


def differences(one, other):
    """What only one of two has said."""
    one, other = counted(one), counted(other)
    return sorted((one - other).elements()), sorted((other - one).elements())


def findings(rows):
    return collections.Counter(row[-2] for row in rows)


def main():
    """Runs one engine alone, so that time and memory are its own: ENGINE DUNNAT FILE... prints JSON."""
    engine, dunnat, *files = sys.argv[1:]
    begun = time.monotonic()
    if engine == "clickhouse":
        rows = of_clickhouse(dunnat, files)
        raw = {}
    else:
        connection, rows = of_duckdb(dunnat, files)
        chosen = [row[0] for row in rows if row[1] and row[3]][:5]
        lines = "SELECT raw FROM events WHERE flow = ? ORDER BY node, seq"
        raw = {flow: [line for line, in connection.execute(lines, [flow]).fetchall()] for flow in chosen}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": time.monotonic() - begun, "peak_kib": peak, "rows": rows, "raw": raw}, default=str))


if __name__ == "__main__":
    main()
