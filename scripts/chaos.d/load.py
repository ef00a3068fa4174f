"""Uses services of the cluster from the workstation, until its standard input ends; then prints what came of it, as JSON.

usage: load.py SLOWNESS FIRST ADDRESS...

To each address: UDP datagrams to port 5350, each of which should come back; HTTP requests to port 80 with a connection each; and
connections that are kept, with a request now and then. All together 1000 datagrams, 200 requests and 20 connections, divided by the
slowness. FIRST says which ports of the workstation are used already: what ended lately keeps its port for a minute.
"""

import asyncio
import collections
import errno
import json
import sys
import time

SLOW = int(sys.argv[1])
FIRST = int(sys.argv[2])
ADDRESSES = sys.argv[3:]
EACH = len(ADDRESSES) * SLOW
# A guest sees requests by way of all nodes from one address: each way has ports of its own, none of them twice.
SHARE = 60_000 // len(ADDRESSES)
used = collections.Counter()
count = collections.Counter()
gaps = []
ending = asyncio.Event()


class Echo(asyncio.DatagramProtocol):
    def __init__(self, address):
        self.address, self.last = address, time.monotonic()

    def datagram_received(self, data, peer):
        count["udp replied"] += 1
        now = time.monotonic()
        if now - self.last > 5 * EACH / 1000:
            gaps.append(round(now - self.last, 4))
        self.last = now

    def error_received(self, error):
        count["udp refused" if isinstance(error, ConnectionRefusedError) else "udp errors"] += 1


async def every(interval, what):
    """Keeps the rate also if a turn came late."""
    due = time.monotonic()
    while not ending.is_set():
        what()
        due += interval
        await asyncio.sleep(max(0, due - time.monotonic()))


def own(address):
    port = 2000 + ADDRESSES.index(address) * SHARE + (FIRST + used[address]) % SHARE
    used[address] += 1
    return ("::" if ":" in address else "0.0.0.0", port)


async def connected(address):
    """A connection from a port of its own. Somebody else on the workstation may have had that one lately: then the next."""
    while True:
        try:
            return await asyncio.open_connection(address, 80, local_addr=own(address))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


async def datagrams(address):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Echo(address), remote_addr=(address, 5350), local_addr=own(address))
    numbers = iter(range(1 << 60))

    def send():
        transport.sendto(b"%d" % next(numbers))
        count["udp sent"] += 1

    await every(EACH / 1000, send)
    await asyncio.sleep(0.3 * SLOW)
    transport.close()


def outcome(error):
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "reset"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "late"
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno, str(error))
    return type(error).__name__


async def ask(reader, writer, address, close):
    host = f"[{address}]" if ":" in address else address
    connection = "close" if close else "keep-alive"
    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    await reader.readexactly(length)
    return b"connection: close" in head.lower()


async def request(address):
    try:
        async with asyncio.timeout(10 * SLOW):
            reader, writer = await connected(address)
            await ask(reader, writer, address, True)
        count["requests replied"] += 1
        writer.close()
    except Exception as error:
        count[f"requests {outcome(error)}"] += 1


async def requests(address):
    running = set()

    def start():
        task = asyncio.create_task(request(address))
        running.add(task)
        task.add_done_callback(running.discard)

    await every(EACH / 200, start)
    if running:
        await asyncio.wait(running)


async def kept(address):
    reader = writer = None
    while not ending.is_set():
        try:
            async with asyncio.timeout(20 * SLOW):
                if writer is None:
                    reader, writer = await connected(address)
                    count["kept begun"] += 1
                # A server ends a connection after so many requests.
                if await ask(reader, writer, address, False):
                    writer.close()
                    writer = None
                count["kept replied"] += 1
        except Exception as error:
            count[f"kept {outcome(error)}"] += 1
            writer = None
        await asyncio.sleep(0.1 * SLOW)


async def main():
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: (loop.remove_reader(sys.stdin), ending.set()))
    tasks = []
    for address in ADDRESSES:
        tasks += [datagrams(address), requests(address)]
        tasks += [kept(address) for _ in range(max(1, 20 // EACH))]
    await asyncio.gather(*tasks)
    print(json.dumps({**count, "ports": FIRST + max(used.values()), "longest gap": round(max(gaps, default=0), 3), "gaps": gaps}))


asyncio.run(main())
