"""Lines of `--format otlp` through a real collector (rotel, from PyPI): what is posted to it, and what it sends on."""

import gzip
import http.server
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from engines import table_and_view

LONGEST = 60


def lines_of(dunnat, files):
    """The spans of each trace, a request each."""
    for file in files:
        done = subprocess.run([dunnat, "trace", "--read", file, "--format", "otlp"], check=True, capture_output=True, text=True)
        yield from done.stdout.splitlines()


def sent(line):
    """A span as it was posted: all that is said of it, as texts."""
    for resource in json.loads(line)["resourceSpans"]:
        names = {one["key"]: one["value"]["stringValue"] for one in resource["resource"]["attributes"]}
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                attributes = {one["key"]: str(next(iter(one["value"].values()))) for one in span["attributes"]}
                yield (names["service.instance.id"], span["traceId"], span["spanId"], span["name"], span["startTimeUnixNano"],
                       span["endTimeUnixNano"], str(span["status"].get("code", 0)), sorted(attributes.items()))


def got(body):
    """The same of what the collector has sent: protobuf, which a library of OpenTelemetry reads."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        names = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                attributes = {one.key: str(getattr(one.value, one.value.WhichOneof("value"))) for one in span.attributes}
                yield (names["service.instance.id"], span.trace_id.hex(), span.span_id.hex(), span.name,
                       str(span.start_time_unix_nano), str(span.end_time_unix_nano), str(span.status.code), sorted(attributes.items()))


def flows(dunnat, files):
    """The flow of each decision, as DuckDB finds it in the traces."""
    import duckdb
    engine = duckdb.connect()
    engine.execute(table_and_view(dunnat, files)[0])
    rows = engine.execute("SELECT node, run, seq, flow FROM events WHERE stage <> ''").fetchall()
    return {(node, run, str(seq)): flow for node, run, seq, flow in rows}


class Backend(http.server.ThreadingHTTPServer):
    """What the collector sends on to."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Take)
        self.spans, self.lock = [], threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # rotel does so whatever it is told.
        spans = list(got(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
        with self.server.lock:
            self.server.spans += spans
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Collector:
    def __init__(self, to, folder):
        import rotel
        # Its own client writes to /tmp and has one for all of the machine; the program beside it is the collector.
        program = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        program.chmod(0o755)
        self.at = f"127.0.0.1:{free_port()}"
        self.log = open(pathlib.Path(folder) / "rotel.log", "w+")
        self.child = subprocess.Popen(
            [program, "start", "--otlp-http-endpoint", self.at, "--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}",
             "--pid-file", pathlib.Path(folder) / "rotel.pid",
             "--exporter", "otlp", "--otlp-exporter-protocol", "http",
             "--otlp-exporter-endpoint", f"http://127.0.0.1:{to.server_address[1]}"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, cwd=folder)

    def __enter__(self):
        end = time.monotonic() + LONGEST
        while True:
            try:
                socket.create_connection(self.at.split(":")).close()
                return self
            except OSError:
                if self.child.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"rotel does not listen: {self.said()}") from None
                time.sleep(0.05)

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()
        self.log.close()

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def take(self, line):
        request = urllib.request.Request(f"http://{self.at}/v1/traces", line.encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.loads(answer.read() or b"{}").get("partialSuccess") in (None, {})
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"rotel: {error}: {error.read().decode(errors='replace')}: {line}: {self.said()}") from None


def main():
    """DUNNAT FILE... posts the spans of these traces, and prints what came of them as JSON."""
    dunnat, *files = sys.argv[1:]
    lines = list(lines_of(dunnat, files))
    asked = sorted(one for line in lines for one in sent(line))
    backend = Backend()
    with tempfile.TemporaryDirectory() as folder, Collector(backend, folder) as collector:
        taken = sum(collector.take(line) for line in lines)
        end = time.monotonic() + LONGEST
        while len(backend.spans) < len(asked) and time.monotonic() < end:
            time.sleep(0.1)
        # What comes twice comes now.
        time.sleep(0.5)
    came = sorted(backend.spans)
    known, of_flow, flow_of, nodes = flows(dunnat, files), {}, {}, {}
    for node, trace, *_, attributes in came:
        names = dict(attributes)
        flow = known.get((node, names.get("dunnat.run", ""), names.get("dunnat.seq")))
        if flow:
            of_flow.setdefault(flow, set()).add(trace)
            flow_of.setdefault(trace, set()).add(flow)
            nodes.setdefault(trace, set()).add(node)
    print(json.dumps({"lines": len(lines), "taken": taken, "sent": len(asked), "came": len(came), "equal": asked == came,
                      "flows": len(of_flow), "of_several_nodes": sum(len(each) > 1 for each in nodes.values()),
                      "one_to_one": all(len(each) == 1 for each in [*of_flow.values(), *flow_of.values()])}))


if __name__ == "__main__":
    main()
