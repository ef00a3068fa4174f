"""A client of the cluster, while something happens to it."""

import json
import subprocess
import sys
import time

from said import Failed, say

LOAD = r"""
import http.client, json, sys, threading, time
counts, gaps, going = {}, [0.0], True
def ask(address):
    last = time.monotonic()
    while going:
        try:
            connection = http.client.HTTPConnection(address, 80, timeout=10)
            connection.request("GET", "/")
            good = b"guest1" in connection.getresponse().read()
            outcome = "replied" if good else "wrong"
            connection.close()
        except Exception as error:
            outcome = type(error).__name__
        counts[outcome] = counts.get(outcome, 0) + 1
        now = time.monotonic()
        gaps[0] = max(gaps[0], now - last)
        last = now
        time.sleep(0.02)
threads = [threading.Thread(target=ask, args=(address,)) for address in sys.argv[1:]]
for thread in threads: thread.start()
sys.stdin.read()
going = False
for thread in threads: thread.join()
print(json.dumps({"counts": counts, "longest": round(gaps[0], 3)}))
"""


class Load:
    """Requests from the workstation to both nodes, a connection each, until it ends."""

    def __init__(self, lab, what, addresses, least=50):
        self.lab, self.what, self.addresses, self.least = lab, what, addresses, least

    def __enter__(self):
        self.process = subprocess.Popen(["ip", "netns", "exec", f"dunnat-{self.lab}-ws", sys.executable, "-c", LOAD, *self.addresses],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        return self

    def __exit__(self, kind, *_):
        time.sleep(1)
        told, _ = self.process.communicate(timeout=60)
        if kind:
            return
        told = json.loads(told)
        failed = {outcome: count for outcome, count in told["counts"].items() if outcome != "replied"}
        good = told["counts"].get("replied", 0)
        say(f"   {self.what}: {good} requests replied, {sum(failed.values())} failed {failed or ''}; the longest took "
            f"{told['longest']} s")
        if failed or good < self.least:
            raise Failed(f"{self.what}: {told}")
