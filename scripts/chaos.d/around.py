"""What others do to the host on which a node runs."""

import difflib
import json
import os
import re
import signal
import subprocess
import time

from lab import PUBLIC, SLOW, Failed, judge, say, tail, wait

# The first namespace of process numbers has this inode (include/linux/proc_ns.h, PROC_PID_INIT_INO).
OUTSIDE = os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC


def flush(lab, short):
    """The rules are back within a second, and the log says who it was."""
    longest = 0
    with lab.load() as result:
        for node in ["node1", "node2"] * (2 if short else 10):
            before, told = in_order(lab.rules(node)), lab.log(node).count("they are restored")
            nft = subprocess.Popen(lab.on(node, "nft", "flush", "ruleset"))
            nft.wait()
            began = time.monotonic()
            wait(1, f"the rules of {node} to be back", lambda: lab.log(node).count("they are restored") > told)
            longest = max(longest, time.monotonic() - began)
            after = in_order(lab.rules(node))
            if after != before:
                differs = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="")
                raise Failed(f"{node}: not all rules are back:\n" + "\n".join(differs))
            # The kernel tells the number that a process has outside of all containers.
            number = nft.pid if OUTSIDE else r"\d+"
            if not re.search(rf"process {number} \(nft\)", lab.log(node)):
                raise Failed(f"{node} does not say that it was process {number}:\n{tail(lab.log(node))}")
            time.sleep(0.2 * SLOW)
    say(f"     back after {longest * 1000:.0f} ms at the most")
    judge(result)


def in_order(rules):
    """Tables and chains by their names: a reload puts its chains behind the others, and what is put back is written in one order. A chain
    at a hook that the last reload has emptied is not put back, and neither is what sets remember for a time: flows are decided about
    again."""
    rules = re.sub(r"^(\t\ttimeout \S+\n)\t\telements = {[^}]*}\n", r"\1", rules, flags=re.M)
    tables = []
    for table in re.split(r"^(?=table )", rules, flags=re.M):
        head, *chains = re.split(r"^(?=\tchain )", table.rstrip().removesuffix("}"), flags=re.M)
        chains = [chain for chain in chains if not re.fullmatch(r"\tchain \S+ {\n\t\ttype [^\n]*\n\t}\s*", chain)]
        tables.append("\n".join([head.rstrip(), *sorted(chain.rstrip() for chain in chains)]))
    return "\n".join(sorted(tables))


def rename(lab, short):
    # Before Linux 6.2 an interface that is up keeps its name.
    if re.match(r"[1-5]\.|6\.[01]\.", os.uname().release):
        say("     this kernel does not rename an interface that is up: left out")
        return
    with lab.load() as result:
        for _ in range(1 if short else 5):
            for node in ["node1", "node2"]:
                lab.run(node, "ip", "link", "set", "xenbr0", "name", "other0")
                time.sleep(0.7 * SLOW)
                lab.run(node, "ip", "link", "set", "other0", "name", "xenbr0")
                time.sleep(0.3 * SLOW)
    # The entry node is not reached by its name: only what is refused or reset counts.
    judge(result)


def route(lab, short):
    """A second interface of node1 is on the public LAN, and routes to the client lead there."""
    for line in ["link add way2 type veth peer name way2-lan", f"link set way2-lan netns dunnat-{lab.name}-lan",
                 "addr add 192.168.122.111/24 dev way2", "addr add fd00:122::111/64 dev way2 nodad", "link set way2 up"]:
        lab.run("node1", "ip", *line.split())
    bridge = json.loads(lab.run("lan", "ip", "-json", "link", "show", "type", "bridge"))[0]["ifname"]
    lab.run("lan", "ip", "link", "set", "way2-lan", "master", bridge, "up")
    with lab.load() as result:
        for _ in range(1 if short else 5):
            for there in ["192.168.122.1", "fd00:122::1"]:
                lab.run("node1", "ip", "route", "add", there, "dev", "way2")
            time.sleep(1 * SLOW)
            for there in ["192.168.122.1", "fd00:122::1"]:
                lab.run("node1", "ip", "route", "del", there, "dev", "way2")
            time.sleep(0.5 * SLOW)
    lab.run("node1", "ip", "link", "del", "way2")
    judge(result)


def links(lab, short):
    """A pipe, a bridge and the public interface go down and come back; a pipe is taken away and made again."""
    pipe, back = re.search(r'pipes += \["([^"]+)", "([^"]+)"\]', (lab.files / "cluster.toml").read_text()).groups()
    bridge = re.search(r'bridge += "([^"]+)"', (lab.files / "cluster.toml").read_text())[1]
    # Else an interface that comes back has no address of IPv6.
    lab.run("node2", "sysctl", "-qw", "net.ipv6.conf.all.keep_addr_on_down=1")
    with lab.load() as result:
        for _ in range(1 if short else 5):
            for node, link in [("node1", pipe), ("node2", bridge), ("node2", "xenbr0")]:
                routes = [f"{family} route replace {route}" for family in ["-4", "-6"]
                          for route in lab.run(node, "ip", family, "route", "show", "dev", link, "proto", "boot").splitlines()]
                lab.run(node, "ip", "link", "set", link, "down")
                time.sleep(1 * SLOW)
                lab.run(node, "ip", "link", "set", link, "up")
                # What an administrator's tool would do; the kernel does not.
                for route in routes:
                    lab.run(node, "ip", *route.split(), "dev", link)
                time.sleep(1 * SLOW)
            lab.run("node1", "ip", "link", "del", pipe)
            time.sleep(1 * SLOW)
            there = f"dunnat-{lab.name}-node2"
            lab.run("node1", "ip", "link", "add", pipe, "type", "veth", "peer", "name", back, "netns", there)
            lab.run("node1", "ip", "link", "set", pipe, "master", bridge, "up")
            lab.run("node2", "ip", "link", "set", back, "master", bridge, "up")
            time.sleep(1 * SLOW)
        time.sleep(2 * SLOW)
    # A host without a way to the guests says so, by ICMP.
    no_way = [what for what in result if re.search("E(NET|HOST)UNREACH|udp errors", what)]
    say("     no way meanwhile: " + (", ".join(f"{what} {result.pop(what)}" for what in no_way) or "nothing"))
    judge(result)
    for address in PUBLIC:
        host = f"[{address}]" if ":" in address else address
        lab.run("ws", "curl", "-s", "-f", "-o", "/dev/null", "--max-time", str(5 * SLOW), f"http://{host}/")


FOREIGN = """
table inet theirs {
	chain early { type filter hook prerouting priority -310; policy accept; tcp dport 9999 accept; }
	chain raw { type filter hook prerouting priority -300; policy accept; tcp dport 9999 accept; }
	chain mangle { type filter hook prerouting priority -150; policy accept; tcp dport 9999 accept; }
	chain forward { type filter hook forward priority 0; policy accept; tcp dport 9999 accept; }
	chain post { type filter hook postrouting priority 0; policy accept; tcp dport 9999 accept; }
	chain late { type filter hook postrouting priority 300; policy accept; tcp dport 9999 accept; }
}
table bridge theirs {
	chain post { type filter hook postrouting priority -500; policy accept; ether type 0x9999 accept; }
}
table ip dunnats {
	chain ask-dnat { }
}
"""


def foreign(lab, short):
    def without_ours(rules):
        keep, out = True, []
        for line in rules.splitlines():
            if line.startswith("table "):
                keep = not re.match(r"table \w+ dunnat(-guard|-serving|-kernel)? \{", line)
            if keep:
                out.append(line)
        return out

    with lab.load() as result:
        for node in ["node1", "node2"]:
            before = without_ours(lab.rules(node))
            lab.run(node, "nft", "-f", "-", input=FOREIGN)
            for tool in ["iptables-nft", "ip6tables-nft"]:
                for table, chain in [("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("mangle", "POSTROUTING"), ("mangle", "FORWARD")]:
                    lab.run(node, tool, "-t", table, "-A", chain, "-p", "tcp", "--dport", "9999", "-j", "ACCEPT")
            theirs = without_ours(lab.rules(node))
            # In a chain of ours nobody else's rule stays.
            told = lab.log(node).count("they are restored")
            lab.run(node, "nft", "insert", "rule", "ip", "dunnat", "ask-dnat", "accept")
            wait(1, "our chain to be ours again", lambda: lab.log(node).count("they are restored") > told)
            for how in [signal.SIGTERM, signal.SIGKILL] * (1 if short else 5):
                lab.end(node, how)
                if without_ours(lab.rules(node)) != theirs:
                    raise Failed(f"{node}: rules of others are not as they were:\n{lab.rules(node)}")
                lab.serve(node)
                if without_ours(lab.rules(node)) != theirs:
                    raise Failed(f"{node}: rules of others are not as they were:\n{lab.rules(node)}")
            for family in ["ip", "ip6"]:
                lab.run(node, "nft", "delete", "table", family, "raw")
                lab.run(node, "nft", "delete", "table", family, "mangle")
            lab.run(node, "nft", "-f", "-", input="delete table inet theirs\ndelete table bridge theirs\ndelete table ip dunnats\n")
            if without_ours(lab.rules(node)) != before:
                raise Failed(f"{node}: {lab.rules(node)}")
    judge(result)
