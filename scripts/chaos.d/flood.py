"""Sends small UDP datagrams as fast as it can, or at a rate, until its standard input ends; then prints how many, and in which time, as JSON.

usage: flood.py ADDRESS PORT RATE

RATE is in datagrams a second; 0 is as many as go. They are of 64 flows, and 64 bytes long with their IP header. They leave here as
GSO packets of 8 datagrams (udp(7), UDP_SEGMENT), so that one processor can send more than another one can decide about; the kernel
of the node cuts them before they come into a queue.
"""

import itertools
import json
import os
import select
import socket
import sys
import time

FLOWS, BURST, PAYLOAD, TICK, CATCH_UP = 64, 8, 64 - 20 - 8, 0.001, 8192
ADDRESS, PORT, RATE = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

UDP_SEGMENT = 103  # udp.h
burst = b"\xa5" * PAYLOAD * BURST

family = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET
sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(FLOWS)]
for one in sockets:
    one.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, PAYLOAD)
    one.connect((ADDRESS, PORT))

turns = itertools.cycle(sockets)
sent, began = 0, time.monotonic()
ended = False
while not ended:
    ended = bool(select.select([sys.stdin], [], [], 0)[0])
    due = CATCH_UP if not RATE else RATE * (time.monotonic() - began) - sent
    # Who was late does not make up for it: the burst would be what is measured.
    due = min(due, CATCH_UP)
    for one in itertools.islice(turns, max(0, int(due)) // BURST):
        try:
            one.send(burst)
            sent += BURST
        except OSError:
            # It is told of ICMP errors; they are nothing here.
            pass
    if RATE:
        time.sleep(TICK)
# It ends without closing its sockets one by one, and so without writing what is in a buffer.
print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}), flush=True)
os._exit(0)
