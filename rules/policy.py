#!/usr/bin/env python3
"""A policy for dunnat (dunnat help policies): TCP port 80 leads to one guest, and its replies come from where the client sent to."""
import json
import sys

GUEST = ("10.5.5.201", 80)
REASONS = {
    "to-guest": "the packet is a request for the guest",
    "from-guest": "the source becomes the original destination",
    "left-alone": "the packet is none of this policy's business",
}
asked = {}  # the client's address and port: the original destination


def say(line):
    print(json.dumps(line), flush=True)


def decide(facts):
    packet = facts.get("packet", {})  # none if the bytes cannot be read
    if packet.get("proto") == "tcp" and "sport" in packet:
        source, destination = (packet["src"], packet["sport"]), (packet["dst"], packet["dport"])
        if facts["stage"] == "dnat" and packet["dport"] == 80:
            asked[source] = destination
            return "to-guest", {"side": "destination", "to": GUEST[0], "port": GUEST[1]}
        if facts["stage"] == "spoof" and source == GUEST and destination in asked:
            address, port = asked[destination]
            return "from-guest", {"side": "source", "to": address, "port": port}
    return "left-alone", None


say({"protocol": 1, "name": "one-guest", "reasons": [{"name": n, "verdict": "accept", "about": a} for n, a in REASONS.items()]})
for line in sys.stdin:
    facts = json.loads(line)
    reason, rewrite = decide(facts)
    say({"seq": facts["seq"], "verdict": "accept", "reason": reason, "rewrite": rewrite})
