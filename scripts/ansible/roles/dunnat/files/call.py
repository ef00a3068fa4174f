"""Calls a TCP service once, as a client does, and prints the port that it called from: so the call is found in traces."""

import socket
import sys

address, port = sys.argv[1], int(sys.argv[2])
with socket.create_connection((address, port), timeout=5) as connection:
    print(connection.getsockname()[1])
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    connection.settimeout(2)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        pass  # it waits for something else to be asked: it has been reached
