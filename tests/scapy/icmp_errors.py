"""ICMP errors before and after translation, as Scapy builds them: one case a line, as JSON.

Each case is a packet at a stage of a node of rules/dual.toml, which here offers UDP port 80, too. What it must become is
not computed from it: the same error is built once more, by Scapy, about the packet with the other address. Only where a
checksum is wrong is there arithmetic: the field is off by as much as it was.
"""

import functools
import itertools
import json
import sys

from scapy.all import (
    ICMP, IP, SCTP, TCP, UDP, ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6ParamProblem,
    ICMPv6TimeExceeded, IPOption_NOP, IPv6, IPv6ExtHdrDestOpt, PadN, Raw, checksum,
)
from scapy.layers.inet import in4_chksum
from scapy.layers.inet6 import in6_chksum

PAYLOAD = bytes(range(33, 76))  # of odd length
PROTOCOLS = ["tcp", "tcp-options", "udp", "udp-none", "icmp", "udplite", "dccp", "sctp", "gre"]
SERVICES = ("tcp", "tcp-options", "udp", "udp-none")  # what node2 offers, at port 80
LENGTHS = [8, 12, 16, 17, 18, 20, 21, 40, 1000]  # of what is quoted behind the IP header
WRONG = [None, "inner-ip", "inner", "icmp", "outer-ip"]
OFF = 0x1234


class V4:
    """What is IPv4's own."""

    name = "IPv4"
    client, public2, guest = "192.168.122.1", "192.168.122.12", "10.5.5.201"
    inside_router, router = "10.5.5.77", "198.51.100.9"
    types = [(3, 0), (3, 1), (3, 4), (3, 13), (4, 0), (11, 0), (11, 1), (12, 0), (12, 2)]
    # Of which one is tried with quotes of all lengths.
    of_all_lengths = ((3, 4), (11, 0), (12, 0))
    with_extensions = (3, 11, 12)
    wrong = WRONG
    # Where the checksum that covers the addresses is.
    field = {"tcp": 16, "tcp-options": 16, "udp": 6, "udplite": 6, "dccp": 6}
    icmp_checksum_at = 22
    checksum = staticmethod(in4_chksum)

    @staticmethod
    def inner(src, dst, number, options):
        return IP(src=src, dst=dst, ttl=61, id=0x1234, flags="DF", options=[IPOption_NOP()] * 8 if options else [],
                  **({"proto": number} if number else {}))

    @staticmethod
    def inner_len(packet):
        return (packet[0] & 15) * 4

    @staticmethod
    def echo():
        return ICMP(type=8, id=1, seq=2)

    @staticmethod
    def error(src, dst, kind, code, extended):
        fields = {"type": kind, "code": code}
        if kind == 3 and code == 4:
            fields["nexthopmtu"] = 1280
        if kind == 12:
            fields["ptr"] = 9
        if extended == "rfc4884":
            fields["length"] = 32  # words of 32 bits
        return IP(src=src, dst=dst, ttl=60, id=0x4321) / ICMP(**fields)


class V6:
    """What is IPv6's own: its header has no checksum, and that of ICMP covers the addresses."""

    name = "IPv6"
    client, public2, guest = "fd00:122::1", "fd00:122::12", "fd00:5::201"
    inside_router, router = "fd00:5::77", "2001:db8:100::9"
    types = [(1, 0), (1, 1), (1, 3), (1, 4), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1)]
    of_all_lengths = ((1, 4), (2, 0), (3, 0))
    with_extensions = (1, 3)
    wrong = [None, "inner", "icmp"]
    field = V4.field | {"icmp": 2}
    icmp_checksum_at = 42
    checksum = staticmethod(in6_chksum)

    @staticmethod
    def inner(src, dst, number, options):
        ip = IPv6(src=src, dst=dst, hlim=61, fl=0x12345)
        header = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]) if options else None
        if number:
            (ip if header is None else header).nh = number
        return ip if header is None else ip / header

    @staticmethod
    def inner_len(packet):
        return 40 + (8 + 8 * packet[41] if packet[6] == 60 else 0)

    @staticmethod
    def echo():
        return ICMPv6EchoRequest(id=1, seq=2)

    @staticmethod
    def error(src, dst, kind, code, extended):
        fields = {"code": code}
        if extended == "rfc4884":
            fields["length"] = 16  # words of 64 bits
        layer = {1: ICMPv6DestUnreach, 2: ICMPv6PacketTooBig, 3: ICMPv6TimeExceeded, 4: ICMPv6ParamProblem}[kind]
        if kind == 2:
            fields["mtu"] = 1280
        if kind == 4:
            fields["ptr"] = 9
        return IPv6(src=src, dst=dst, hlim=60, fl=0x54321) / layer(**fields)


def off(field):
    """As far from right as it can be told, in one's complement; of the two zeros the one that a sum yields."""
    total = field + OFF
    total = (total & 0xFFFF) + (total >> 16)
    return 0 if total == 0xFFFF else total


def spoil(packet, at):
    return packet[:at] + off(int.from_bytes(packet[at : at + 2])).to_bytes(2) + packet[at + 2 :]


def raw(family, number, ip, header, at):
    """A protocol that Scapy has no layer for; its checksum is that of UDP."""
    header = header + PAYLOAD
    if at is None:
        return header
    return header[:at] + family.checksum(number, ip, header).to_bytes(2) + header[at + 2 :]


@functools.lru_cache(None)
def about(family, src, dst, sport, dport, protocol, options):
    """The packet that the error is about, whole and right."""
    ip = functools.partial(family.inner, src, dst, options=options)
    ports = sport.to_bytes(2) + dport.to_bytes(2)
    layers = {
        "tcp": lambda: TCP(sport=sport, dport=dport, seq=7, flags="A"),
        "tcp-options": lambda: TCP(sport=sport, dport=dport, seq=7, flags="A", options=[("MSS", 1460)]),
        "udp": lambda: UDP(sport=sport, dport=dport),
        "udp-none": lambda: UDP(sport=sport, dport=dport, chksum=0),
        "icmp": family.echo,
        "sctp": lambda: SCTP(sport=sport, dport=dport, tag=9),
    }
    if protocol in layers:
        return bytes(ip(None) / layers[protocol]() / Raw(PAYLOAD))
    number, header, at = {
        "udplite": (136, ports + bytes([0, 8 + len(PAYLOAD), 0, 0]), 6),
        "dccp": (33, ports + bytes([4, 0, 0, 0]) + bytes(8), 6),
        "gre": (47, bytes([0, 0, 8, 0]), None),
    }[protocol]
    return bytes(ip(number) / Raw(raw(family, number, family.inner(src, dst, number, False), header, at)))


@functools.lru_cache(None)
def quote(family, src, dst, sport, dport, protocol, options, length, wrong, padded):
    packet = about(family, src, dst, sport, dport, protocol, options)
    header = family.inner_len(packet)
    if wrong == "inner-ip":
        packet = spoil(packet, 10)
    if wrong == "inner" and protocol in family.field:
        packet = spoil(packet, header + family.field[protocol])
    packet = packet[: header + length]
    if padded:
        packet = packet[:128].ljust(128, b"\0")
    return packet


def extension():
    """RFC 4884 and RFC 4950: an object with a label stack entry."""
    structure = bytes([0x20, 0, 0, 0]) + bytes([0, 8, 1, 1]) + bytes([0x5D, 0xC0, 0x01, 0x40])
    return structure[:2] + checksum(structure).to_bytes(2) + structure[4:]


def error(family, src, dst, kind, code, quoted, extended, wrong):
    body = quoted + (extension() if extended else b"")
    packet = bytes(family.error(src, dst, kind, code, extended) / Raw(body))
    if wrong == "icmp":
        packet = spoil(packet, family.icmp_checksum_at)
    if wrong == "outer-ip":
        packet = spoil(packet, 10)
    return packet


def half_a_checksum(family, before, after, protocol, length):
    """Where the quote ends within the checksum, the byte that is there says nothing and stays."""
    if protocol in family.field and length == family.field[protocol] + 1:
        return after[:-1] + before[-1:]
    return after


def cases(family):
    client, public2, guest = family.client, family.public2, family.guest
    router, inside_router = family.router, family.inside_router
    #        node     stage    ct mark  outer address before, after      inner ends before and after
    reply = ("node2", "dnat", 0, (router, public2), (router, guest), (public2, client), (guest, client), 80, 40000)
    request = [
        ("node1", "spoof", 2, (guest, client), (public2, client)),
        ("node1", "spoof", 2, (inside_router, client), (public2, client)),
        ("node2", "spoof", 2, (public2, client), (public2, client)),
        ("node1", "spoof", 2, (router, client), (router, client)),
    ]
    request = [way + ((client, guest), (client, public2), 40000, 80) for way in request]
    for way, (kind, code), protocol, length, wrong, options, extended in itertools.product(
        [reply] + request, family.types, PROTOCOLS, LENGTHS, family.wrong, (False, True),
        (None, "rfc4884", "before-rfc4884"),
    ):
        node, stage, ct_mark, outer, outer_after, inner, inner_after, sport, dport = way
        if stage == "dnat" and protocol not in SERVICES:
            continue
        # What the length of the quote does is the same for all types.
        if (kind, code) not in family.of_all_lengths and length not in (8, 1000):
            continue
        # Extensions come behind 128 bytes, so they tell nothing new about short quotes.
        if extended and (kind not in family.with_extensions or length < 40 or wrong == "inner-ip"):
            continue
        if options and (length not in (8, 18, 1000) or extended):
            continue
        if wrong == "inner" and (protocol not in family.field or length < family.field[protocol] + 2):
            continue
        inside = [
            quote(family, *ends, sport, dport, protocol, options, length, wrong, bool(extended))
            for ends in (inner, inner_after)
        ]
        inside[1] = half_a_checksum(family, *inside, protocol, length)
        before = error(family, *outer, kind, code, inside[0], extended, wrong)
        after = error(family, *outer_after, kind, code, inside[1], extended, wrong)
        yield {
            "name": f"{family.name}, {stage} of {node} from {outer[0]}: type {kind} code {code}, {protocol}, {length} bytes"
            f"{', IP options' if options else ''}, wrong: {wrong}, extension: {extended}",
            "family": family.name,
            "node": node,
            "stage": stage,
            "ct_mark": ct_mark,
            "before": before.hex(),
            "after": after.hex(),
        }


for case in itertools.chain(cases(V4), cases(V6)):
    json.dump(case, sys.stdout)
    sys.stdout.write("\n")
