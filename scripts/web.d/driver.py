"""A browser, by the WebDriver protocol (W3C): Chromium without a screen, and what is asked of it."""

import base64
import json
import subprocess
import time
import urllib.error
import urllib.request


class Browser:
    def __init__(self, width, height, dark=False):
        self.process = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        port = None
        for line in self.process.stdout:
            if "successfully on port" in line:
                port = line.rsplit("on port", 1)[1].strip(" .\n")
                break
        self.base = f"http://127.0.0.1:{port}"
        # The page is ours, and root may not use the browser's sandbox.
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        if dark:
            options.append("--blink-settings=preferredColorScheme=0")
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": options},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        try:
            began = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        except Exception:
            self.process.kill()
            raise
        self.session = f"/session/{began['sessionId']}"
        # A window is not made as narrow as a telephone; what the page sees is.
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.read().decode()[:500]}") from None

    def devtools(self, command, **parameters):
        return self.call("POST", self.session + "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, url):
        self.call("POST", self.session + "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", self.session + "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script, *arguments, seconds=15):
        """Waits until the script returns something that is true, and returns it."""
        end = time.monotonic() + seconds
        while True:
            value = self.run(script, *arguments)
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not in {seconds} s: {script}\n{self.run('return document.body.innerText.slice(0, 1500)')}")
            time.sleep(0.1)

    def click(self, selector):
        self.run("document.querySelector(arguments[0]).dispatchEvent(new MouseEvent('click', {bubbles: true}))", selector)

    def text(self, selector):
        return self.run("const it = document.querySelector(arguments[0]); return it ? it.textContent : ''", selector)

    def log(self):
        """What the browser complains of since this was last asked: errors of scripts, and what the content policy stopped."""
        return [entry["message"] for entry in self.call("POST", self.session + "/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def picture(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", self.session + "/screenshot")))

    def close(self):
        try:
            self.call("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait()
