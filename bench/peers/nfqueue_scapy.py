# SPDX-License-Identifier: MIT OR Apache-2.0
"""A peer of the benchmark: the same rewriting as dunnat's, by NetfilterQueue and Scapy, as their examples are written.

What it is told is in arguments.txt.
"""

import selectors
import socket
import sys

from netfilterqueue import NetfilterQueue
from scapy.layers.inet import IP, TCP, UDP

PROTOS = {"tcp": TCP, "udp": UDP}

own_tag = own_public = None
services, publics, tags, pipes, queues = {}, {}, {}, set(), []


def accept_changed(packet, ip):
    """Scapy computes what has been deleted."""
    del ip.chksum
    if TCP in ip:
        del ip[TCP].chksum
    elif UDP in ip:
        del ip[UDP].chksum
    packet.set_payload(bytes(ip))
    packet.accept()


def dnat(packet):
    ip = IP(packet.get_payload())
    for proto in (TCP, UDP):
        if ip.dst == own_public and proto in ip and (proto, ip[proto].dport) in services:
            ip.dst = services[proto, ip[proto].dport]
            packet.set_mark(own_tag)
            return accept_changed(packet, ip)
    packet.accept()


def tag(packet):
    mac = packet.get_hw()
    if packet.physindev in pipes and mac and mac[:3] in tags:
        packet.set_mark(tags[mac[:3]])
    packet.accept()


def save(packet):
    packet.accept()


def spoof(packet):
    public = publics.get(packet.get_mark())
    if public is None:
        return packet.accept()
    ip = IP(packet.get_payload())
    ip.src = public
    accept_changed(packet, ip)


for argument in sys.argv[1:]:
    key, _, value = argument.partition("=")
    value = value.split(",")
    if key == "own":
        own_tag, own_public = int(value[0]), value[1]
    elif key == "node":
        tags[bytes.fromhex(value[1].replace(":", ""))] = int(value[0])
        publics[int(value[0])] = value[2]
    elif key == "service":
        services[PROTOS[value[0]], int(value[1])] = value[2]
    elif key == "pipe":
        pipes.add(socket.if_nametoindex(value[0]))
    elif key == "queue":
        queue = NetfilterQueue()
        queue.bind(int(value[1]), {"dnat": dnat, "tag": tag, "save": save, "spoof": spoof}[value[0]])
        queues.append(queue)

# A NetfilterQueue has a socket of its own, and there are several.
selector = selectors.DefaultSelector()
for queue in queues:
    selector.register(queue.get_fd(), selectors.EVENT_READ, queue)
print("serving", flush=True)
while True:
    for key, _ in selector.select():
        try:
            key.data.run(block=False)
        except OSError:  # ENOBUFS: the kernel has lost packets
            pass
