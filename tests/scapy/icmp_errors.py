"""ICMP errors before and after translation, as Scapy builds them: one case a line, as JSON.

Each case is a packet at a stage of a node of rules/example.toml, which here offers UDP port 80, too. What it must become is not computed from it: the same
error is built once more, by Scapy, about the packet with the other address. Only where a checksum is wrong is there
arithmetic: the field is off by as much as it was.
"""

import functools
import itertools
import json
import sys

from scapy.all import ICMP, IP, TCP, UDP, IPOption_NOP, Raw, SCTP, checksum
from scapy.layers.inet import in4_chksum

CLIENT, PUBLIC2, GUEST = "192.168.122.1", "192.168.122.12", "10.5.5.201"
INSIDE_ROUTER, ROUTER = "10.5.5.77", "198.51.100.9"
PAYLOAD = bytes(range(33, 76))  # of odd length

TYPES = [(3, 0), (3, 1), (3, 4), (3, 13), (4, 0), (11, 0), (11, 1), (12, 0), (12, 2)]
WITH_EXTENSIONS = (3, 11, 12)
PROTOCOLS = ["tcp", "tcp-options", "udp", "udp-none", "icmp", "udplite", "dccp", "sctp", "gre"]
SERVICES = ("tcp", "tcp-options", "udp", "udp-none")  # what node2 offers, at port 80
LENGTHS = [8, 12, 16, 17, 18, 20, 21, 40, 1000]  # of what is quoted behind the IP header
WRONG = [None, "inner-ip", "inner", "icmp", "outer-ip"]
# Where the checksum that covers the addresses is.
FIELD = {"tcp": 16, "tcp-options": 16, "udp": 6, "udplite": 6, "dccp": 6}
OFF = 0x1234


def off(field):
    """As far from right as it can be told, in one's complement; of the two zeros the one that a sum yields."""
    total = field + OFF
    total = (total & 0xFFFF) + (total >> 16)
    return 0 if total == 0xFFFF else total


def spoil(packet, at):
    return packet[:at] + off(int.from_bytes(packet[at : at + 2])).to_bytes(2) + packet[at + 2 :]


def raw(number, ip, header, at):
    """A protocol that Scapy has no layer for; its checksum is that of UDP."""
    header = header + PAYLOAD
    if at is None:
        return header
    return header[:at] + in4_chksum(number, ip, header).to_bytes(2) + header[at + 2 :]


@functools.lru_cache(None)
def about(src, dst, sport, dport, protocol, options):
    """The packet that the error is about, whole and right."""
    ip = IP(src=src, dst=dst, ttl=61, id=0x1234, flags="DF", options=[IPOption_NOP()] * 8 if options else [])
    ports = sport.to_bytes(2) + dport.to_bytes(2)
    if protocol == "tcp":
        return bytes(ip / TCP(sport=sport, dport=dport, seq=7, flags="A") / Raw(PAYLOAD))
    if protocol == "tcp-options":
        return bytes(ip / TCP(sport=sport, dport=dport, seq=7, flags="A", options=[("MSS", 1460)]) / Raw(PAYLOAD))
    if protocol == "udp":
        return bytes(ip / UDP(sport=sport, dport=dport) / Raw(PAYLOAD))
    if protocol == "udp-none":
        return bytes(ip / UDP(sport=sport, dport=dport, chksum=0) / Raw(PAYLOAD))
    if protocol == "icmp":
        return bytes(ip / ICMP(type=8, id=1, seq=2) / Raw(PAYLOAD))
    if protocol == "sctp":
        return bytes(ip / SCTP(sport=sport, dport=dport, tag=9) / Raw(PAYLOAD))
    number, header, at = {
        "udplite": (136, ports + bytes([0, 8 + len(PAYLOAD), 0, 0]), 6),
        "dccp": (33, ports + bytes([4, 0, 0, 0]) + bytes(8), 6),
        "gre": (47, bytes([0, 0, 8, 0]), None),
    }[protocol]
    ip.proto = number
    return bytes(ip / Raw(raw(number, ip, header, at)))


@functools.lru_cache(None)
def quote(src, dst, sport, dport, protocol, options, length, wrong, padded):
    packet = about(src, dst, sport, dport, protocol, options)
    header = (packet[0] & 15) * 4
    if wrong == "inner-ip":
        packet = spoil(packet, 10)
    if wrong == "inner" and protocol in FIELD:
        packet = spoil(packet, header + FIELD[protocol])
    packet = packet[: header + length]
    if padded:
        packet = packet[:128].ljust(128, b"\0")
    return packet


def extension():
    """RFC 4884 and RFC 4950: an object with a label stack entry."""
    structure = bytes([0x20, 0, 0, 0]) + bytes([0, 8, 1, 1]) + bytes([0x5D, 0xC0, 0x01, 0x40])
    return structure[:2] + checksum(structure).to_bytes(2) + structure[4:]


def error(src, dst, kind, code, quoted, extended, wrong):
    fields = {"type": kind, "code": code}
    if kind == 3 and code == 4:
        fields["nexthopmtu"] = 1280
    if kind == 12:
        fields["ptr"] = 9
    if extended == "rfc4884":
        fields["length"] = 32
    body = quoted + (extension() if extended else b"")
    packet = bytes(IP(src=src, dst=dst, ttl=60, id=0x4321) / ICMP(**fields) / Raw(body))
    if wrong == "icmp":
        packet = spoil(packet, 22)
    if wrong == "outer-ip":
        packet = spoil(packet, 10)
    return packet


def half_a_checksum(before, after, protocol, length, options):
    """Where the quote ends within the checksum, the byte that is there says nothing and stays."""
    if protocol in FIELD and length == FIELD[protocol] + 1:
        return after[:-1] + before[-1:]
    return after


def cases():
    #        node     stage    ct mark  outer address before, after      inner ends before and after
    reply = ("node2", "dnat", 0, (ROUTER, PUBLIC2), (ROUTER, GUEST), (PUBLIC2, CLIENT), (GUEST, CLIENT), 80, 40000)
    call = [
        ("node1", "spoof", 2, (GUEST, CLIENT), (PUBLIC2, CLIENT)),
        ("node1", "spoof", 2, (INSIDE_ROUTER, CLIENT), (PUBLIC2, CLIENT)),
        ("node2", "spoof", 2, (PUBLIC2, CLIENT), (PUBLIC2, CLIENT)),
        ("node1", "spoof", 2, (ROUTER, CLIENT), (ROUTER, CLIENT)),
    ]
    call = [way + ((CLIENT, GUEST), (CLIENT, PUBLIC2), 40000, 80) for way in call]
    for way, (kind, code), protocol, length, wrong, options, extended in itertools.product(
        [reply] + call, TYPES, PROTOCOLS, LENGTHS, WRONG, (False, True), (None, "rfc4884", "before-rfc4884")
    ):
        node, stage, ct_mark, outer, outer_after, inner, inner_after, sport, dport = way
        if stage == "dnat" and protocol not in SERVICES:
            continue
        # What the length of the quote does is the same for all types.
        if (kind, code) not in ((3, 4), (11, 0), (12, 0)) and length not in (8, 1000):
            continue
        # Extensions come behind 128 bytes, so they tell nothing new about short quotes.
        if extended and (kind not in WITH_EXTENSIONS or length < 40 or wrong == "inner-ip"):
            continue
        if options and (length not in (8, 18, 1000) or extended):
            continue
        if wrong == "inner" and (protocol not in FIELD or length < FIELD[protocol] + 2):
            continue
        inside = [
            quote(*ends, sport, dport, protocol, options, length, wrong, bool(extended)) for ends in (inner, inner_after)
        ]
        inside[1] = half_a_checksum(*inside, protocol, length, options)
        before = error(*outer, kind, code, inside[0], extended, wrong)
        after = error(*outer_after, kind, code, inside[1], extended, wrong)
        yield {
            "name": f"{stage} of {node} from {outer[0]}: type {kind} code {code}, {protocol}, {length} bytes"
            f"{', IP options' if options else ''}, wrong: {wrong}, extension: {extended}",
            "node": node,
            "stage": stage,
            "ct_mark": ct_mark,
            "before": before.hex(),
            "after": after.hex(),
        }


for case in cases():
    json.dump(case, sys.stdout)
    sys.stdout.write("\n")
