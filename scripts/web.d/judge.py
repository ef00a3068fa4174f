"""Asks the page of `dunnat web` in a browser what it shows. Usage: judge.py DUNNAT FOLDER PICTURES"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

from driver import Browser
from flood import Flood

DUNNAT, FOLDER, PICTURES = sys.argv[1:4]
RATE = 10_000
# A name that is a script where text is taken for HTML.
HOSTILE = "<img src=x onerror=document.title='taken'>"


class Web:
    """The program, and the address that it has printed."""

    def __init__(self, *options):
        command = [DUNNAT, "web", "--listen", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r"the page is at (http://\S+)", line)
            if found:
                self.url = found[1]
                break
        else:
            raise SystemExit(f"{command} has said no address")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)

    def memory(self):
        """Of the program, in MiB."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024


def claim(what, holds):
    print(f"{'ok    ' if holds else 'FAILED'}  {what}", flush=True)
    if not holds:
        raise SystemExit(1)


def request(url, path, host=None, more=""):
    """The first line of an answer."""
    place = url.split("/")[2]
    address, port = place.rsplit(":", 1)
    with socket.create_connection((address, int(port)), 10) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {host or place}\r\n{more}\r\n".encode())
        return stream.recv(64).decode().split("\r\n")[0]


def filtered(browser, text):
    browser.run("document.getElementById('filter').value = arguments[0]", text)
    browser.click("#filter-form button")


def listed(browser, stage):
    """Waits until the list has this stage alone; it is drawn a frame after its items are there."""
    return browser.until(
        "const it = [...document.querySelectorAll('#list li')]; return it.length && it.every((row) => row.querySelector('.' + arguments[0]))"
        " && player.items.every((item) => item.event.stage === arguments[0])", stage)


def saved():
    traces = [os.path.join(FOLDER, f"{node}.jsonl") for node in ("node1", "node2")]
    cluster = os.path.join(FOLDER, "cluster.toml")
    options = [word for trace in traces for word in ("--read", trace)]
    table = subprocess.run([DUNNAT, "path", "--format", "json", *traces], capture_output=True, text=True, check=True).stdout
    expected = [json.loads(line)["finding"] for line in table.splitlines()]
    claim(f"the traces have the three connections: {sorted(set(expected))}", {"foreign", "local", "outbound"} <= set(expected))
    with Web("--config", cluster, *options) as web:
        for width, height, dark in ((1280, 900, False), (1280, 900, True), (400, 860, False), (400, 860, True)):
            name = f"{width}-{'dark' if dark else 'light'}"
            browser = Browser(width, height, dark)
            try:
                browser.open(web.url)
                browser.until("return document.querySelectorAll('#list li').length > 3")
                browser.until("return document.querySelector('.packet')")
                time.sleep(1.5)
                browser.picture(f"{PICTURES}/{name}.png")
                if (width, dark) == (1280, False):
                    whole(browser)
                browser.click("#list li:nth-child(2)")
                browser.until("const it = document.getElementById('why'); return it && it.textContent.length > 5")
                browser.picture(f"{PICTURES}/{name}-decision.png")
                browser.click("#show-flow")
                browser.until("const it = document.querySelector('.ladder img'); return it && it.complete && it.naturalWidth")
                browser.run("document.querySelector('#details').scrollIntoView()")
                browser.picture(f"{PICTURES}/{name}-flow.png")
                wide = browser.run("return document.documentElement.scrollWidth")
                claim(f"{name}: nothing is wider than the window ({wide})", wide <= width)
                complaints = browser.log()
                claim(f"{name}: the browser has nothing to complain of {complaints}", not complaints)
            finally:
                browser.close()
        claim("a foreign Host is refused", " 403 " in request(web.url, "/past", "evil.example"))
        claim("a foreign Origin is refused", " 403 " in request(web.url, "/past", more="Origin: http://evil.example\r\n"))
        claim("an address is let in", " 200 " in request(web.url, "/past"))


def whole(browser):
    """All three connections are shown, and found again by filter, step and click."""
    flows = browser.run("return [...new Set(player.items.map((item) => item.flow).filter(Boolean))]")
    findings = set()
    for flow in flows:
        browser.run("details.flow(player.items.find((item) => item.flow === arguments[0]))", flow)
        finding = browser.until("const it = document.querySelector('.finding'); return it && document.getElementById('details-title').textContent === arguments[0] && it.textContent", flow)
        findings.add(finding)
    claim(f"the flows have their findings: {sorted(findings)}", {"local and right", "foreign and right", "begun by the guest"} <= findings)
    boxes = browser.run("return [...document.querySelectorAll('#picture g title')].map((it) => it.textContent.split(' ')[0])")
    claim(f"the picture has client, nodes and guests: {boxes}", {"client", "node1", "node2", "10.5.5.201"} <= set(boxes))

    filtered(browser, "stage spoof")
    listed(browser, "spoof")
    claim("the filter of trace shows spoof alone", True)
    hasty(browser)
    filtered(browser, "stage nowhere")
    said = browser.until("return document.getElementById('filter-error').textContent")
    claim(f"a wrong filter is told: {said.splitlines()[0]}", "nowhere" in said)
    filtered(browser, "")
    browser.until("return player.items.length > 5 && player.at > 1")

    browser.click("#play")
    at = browser.run("return player.at")
    time.sleep(1.2)
    claim("pause stands still", browser.run("return player.at") == at and browser.text("#play") == "Play")
    browser.click("#back")
    browser.until("return player.at === arguments[0]", at - 1)
    browser.click("#step")
    browser.until("return player.at === arguments[0]", at)
    browser.click(".packet")
    title = browser.until("return document.getElementById('details-title').textContent")
    shown = browser.run("const it = player.items[player.at].event; return `${it.node} ${it.stage} #${it.seq}`")
    claim(f"a click on the packet shows its decision: {title}", title == shown)
    why = browser.until("const it = document.getElementById('why'); return it && it.textContent.length > 5 && it.textContent")
    claim("and why", "=>" in why)


def hasty(browser):
    """Another filter, while the server has not yet answered the one before."""
    browser.run("window.asks = window.fetch; window.fetch = async (...what) => {"
                " const answer = await asks(...what); await new Promise((done) => setTimeout(done, 300)); return answer; }")
    for stage in ("dnat", "spoof", "tag"):
        filtered(browser, f"stage {stage}")
    listed(browser, "tag")
    # The first filter is taken, and its decisions are on their way.
    filtered(browser, "stage spoof")
    time.sleep(0.15)
    filtered(browser, "stage dnat")
    listed(browser, "dnat")
    browser.run("window.fetch = window.asks")
    claim("who changes the filter in haste sees the last one", True)


def flooded():
    with open(os.path.join(FOLDER, "node1.jsonl")) as file:
        lines = [line for line in file if '"stage"' in line and '"tcp"' in line][:20]
    # What a stranger names is in one decision of twenty.
    hostile = json.loads(lines[0])
    hostile["service"] = HOSTILE
    lines[0] = json.dumps(hostile)
    path = os.path.join(FOLDER, "node1.sock")
    flood = Flood(path, lines, RATE)
    with Web("--socket", path, "--config", os.path.join(FOLDER, "cluster.toml")) as web:
        claim("who has no token sees nothing", " 403 " in request(web.url, "/past"))
        token = web.url.split("#token=")[1]
        # A browser that asks and never reads.
        slow = socket.create_connection(("127.0.0.1", int(web.url.split("/")[2].rsplit(":", 1)[1])))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(f"GET /events?token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        browser = Browser(1280, 900)
        try:
            browser.open(web.url)
            browser.until("return document.getElementById('counts').textContent.includes('one flow of')", seconds=30)
            began, first = time.monotonic(), flood.sent
            slowest = 0
            while time.monotonic() < began + 15:
                asked = time.monotonic()
                browser.run("return player.at")
                slowest = max(slowest, time.monotonic() - asked)
                time.sleep(0.1)
            rate = (flood.sent - first) / (time.monotonic() - began)
            print(f"        {rate:.0f} decisions a second; the slowest answer of the page {slowest * 1000:.0f} ms; {web.memory():.0f} MiB")
            print(f"        {browser.text('#counts')}")
            claim("decisions come at the rate that is claimed", rate > 0.9 * RATE)
            claim("the page answers meanwhile", slowest < 2)
            claim("the page says that it passes decisions over", "passed over" in browser.text("#where"))
            claim("no browser that reads nothing makes it grow", web.memory() < 500)
            browser.picture(f"{PICTURES}/flood.png")
            before = browser.run("return player.items.at(-1).id")
            browser.until("return player.items.at(-1).id > arguments[0]", before)
            claim("a name of a stranger is text", HOSTILE in browser.run("return document.body.textContent") or browser.run(
                "return player.items.some((item) => item.event.service === arguments[0])", HOSTILE))
            claim("and nothing else", browser.run("return document.title === 'dunnat' && !document.querySelector('#list img, #picture img')"))
            filtered(browser, "stage dnat")
            browser.until("return player.items.length > 20 && player.items.every((item) => item.event.stage === 'dnat')", seconds=30)
            claim("the filter holds while decisions come", True)
            complaints = browser.log()
            claim(f"the browser has nothing to complain of {complaints}", not complaints)
        finally:
            browser.close()
            slow.close()


saved()
flooded()
