"""A node that decides very often: it listens on a socket as `dunnat run` does, and tells decisions that a trace has, again and again."""

import json
import os
import re
import socket
import threading
import time


class Flood:
    def __init__(self, path, lines, rate):
        self.events = [json.loads(line) for line in lines]
        self.rate = rate
        self.sent = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        os.chmod(path, 0o600)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        asked = client.makefile().readline()
        if '"trace"' not in asked:
            client.sendall(b'{"error":"this is no node"}\n')
            client.close()
            return
        client.sendall(b'{"hello":{"v":1,"node":"node1","dunnat":"0"}}\n')
        # Of a decision only its number and the client's port (one of five digits) change: to make them all anew would be too slow here.
        shapes = []
        for event in self.events:
            event.pop("seq", None)
            text = json.dumps(event)
            shapes.append('{"event":{"seq":%d,' + re.sub(r'"([sd]port)": \d{5}\b', r'"\1": %d', text[1:].replace("%", "%%")) + "}\n")
        began, seq = time.monotonic(), 0
        while True:
            lines = []
            for _ in range(self.rate // 50):
                seq += 1
                shape = shapes[seq % len(shapes)]
                ports = shape.count("%d") - 1
                lines.append(shape % (seq, *[20000 + seq // len(shapes) % 40000] * ports))
            try:
                client.sendall("".join(lines).encode())
            except OSError:
                return
            self.sent = seq
            wait = began + seq / self.rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
