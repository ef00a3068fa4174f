"""Asks for a web page again and again, with a connection each, until its standard input ends; then prints what came of it, as JSON.

usage: latency.py RATE ADDRESS...

RATE is in requests a second, to each address in turn; none waits for another. Of each: when it began, in seconds of the monotonic
clock; how many seconds it took until the whole reply was there (none if it failed or took more than ten); and the address.
"""

import asyncio
import gc
import itertools
import json
import sys
import time

RATE, ADDRESSES = float(sys.argv[1]), itertools.cycle(sys.argv[2:])
done = []
ending = asyncio.Event()


async def request(address):
    began, took, writer = time.monotonic(), None, None
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(address, 80)
            host = f"[{address}]" if ":" in address else address
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            await reader.read()
            took = time.monotonic() - began
    except (OSError, TimeoutError, asyncio.TimeoutError):
        pass
    if writer:
        writer.close()
    done.append((began, took, address))


async def main():
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: (loop.remove_reader(sys.stdin), ending.set()))
    running, due = set(), time.monotonic()
    while not ending.is_set():
        task = asyncio.create_task(request(next(ADDRESSES)))
        running.add(task)
        task.add_done_callback(running.discard)
        due += 1 / RATE
        await asyncio.sleep(max(0, due - time.monotonic()))
    if running:
        await asyncio.wait(running)
    print(json.dumps(done))


# What is measured is the node, and not this program.
gc.freeze()
gc.disable()
asyncio.run(main())
