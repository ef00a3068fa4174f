"""Another cluster file, or another program, while packets pass."""

import json
import re
import shutil
import signal
import subprocess
import time

from lab import NODES, SLOW, Failed, adds_up, alive, nothing_lost, overrun, readers_of, say


def changes(text, number):
    """The cluster file with something changed, what that is, other words for `dunnat reload`, and the order of the nodes. Tags go by
    code points after the nodes that write them have been reloaded, and by MAC addresses again before they stop."""
    order, options = ["node1", "node2", "node3"], []
    kind = number % 8
    if kind == 0:
        what = "a service more"
        text += f"\n[[service]]\nname = \"more\"\nproto = \"udp\"\nport = {7000 + number}\nguest = [\"10.5.5.201\", \"fd00:5::201\"]\n"
    elif kind == 1:
        what = "a node more"
        text += ("\n[[node]]\nname = \"node9\"\ntag = 0x9999\nmac = \"0a:99:99:00:00:00/24\"\n"
                 "public = [\"192.168.122.99\", \"fd00:122::99\"]\n")
    elif kind == 2:
        what = "all as it was"
    elif kind == 3:
        what = "another tag of every node"
        tags = iter(range(0x100 * (number + 1), 0x100 * (number + 2)))
        text = re.sub(r"(?m)^tag .*$", lambda _: f"tag = {next(tags):#x}", text)
    elif kind == 4:
        what = "another word about conflicts"
        text = text.replace("[marks]\n", "[marks]\non_conflict = \"drop\"\n")
    elif kind == 5:
        what, order = "tags by code points", ["node2", "node3", "node1"]
        codes = iter(range(10, 64))
        text = re.sub(r"(?m)^mac .*$", lambda _: f"dscp = {next(codes)}", text).replace('tag_by = "mac"', 'tag_by = "dscp"')
    elif kind == 6:
        what, options = "tags by MAC addresses, and another number of workers", ["--workers", str(1 + number // 8 % 3)]
    else:
        what = "a network that may see guests"
        text = text.replace("[guests]\n", "[guests]\ninside = [\"10.77.0.0/16\"]\n")
    return text, what, options, order


def reload(lab, short):
    """0 packets lost, 0 requests failed, connections go on, and the trace never has two files under one generation."""
    # A tenth of them, where a processor is emulated.
    times = lab.times or max(9, (18 if short else 90) // SLOW)
    original = (lab.files / "cluster.toml").read_text()
    traces = {node: lab.files / f"reload-{node}.jsonl" for node in ["node1", "node2"]}
    readers = readers_of(lab, traces)
    full = overrun(lab)
    first = {node: lab.status(node)["generation"] for node in NODES}
    took, generation = [], dict(first)
    with lab.load() as result:
        done = number = 0
        while done < times:
            text, what, options, order = changes(original, number)
            path = lab.files / "reloaded.toml"
            # A comment more, or nothing would change where the file is the one before.
            path.write_text(f"# {number}\n{text}")
            for node in order:
                reloaded = subprocess.run(lab.on(node, lab.program, "reload", str(path), "--socket", str(lab.files / f"{node}.sock"),
                                                 "--json", *options), text=True, capture_output=True)
                if reloaded.returncode != 0:
                    raise Failed(f"{node}, {what}: {reloaded.stderr}")
                told = json.loads(reloaded.stdout)
                # Other tags beside another word about conflicts take two.
                if not generation[node] < told["generation"] <= generation[node] + 2 or told["warnings"]:
                    raise Failed(f"{node}, {what}: {told}")
                generation[node] = told["generation"]
                took.append(told["took_ms"])
                done += 1
            number += 1
        # What is on its way has come before the last look.
        time.sleep(0.3 * SLOW)
    for reader in readers:
        reader.send_signal(signal.SIGINT)
        reader.wait()
    say(f"     {done} reloads, in {min(took)} to {max(took)} ms; the median {sorted(took)[len(took) // 2]} ms")
    nothing_lost(lab, result, full)
    for node, trace in traces.items():
        whole(node, trace, generation[node] - first[node] + 1)
        status = lab.status(node)
        if status["lost"] != {"queue_full": 0, "socket_full": 0} or status["generation"] != generation[node]:
            raise Failed(f"{node} says: {status}")


def whole(node, trace, generations):
    """All events of one generation have one cluster file, and no queue of a neighbouring generation."""
    files, queues, events, lost = {}, {}, 0, 0
    with open(trace) as lines:
        for line in lines:
            event = json.loads(line)
            lost += event.get("lost", 0)
            if "generation" not in event:
                continue # what the kernel tells, such as what it has carried
            events += 1
            files.setdefault(event["generation"], set()).add(event["config"])
            queues.setdefault(event["generation"], set()).add(event["queue"])
    mixed = [generation for generation, found in files.items() if len(found) != 1]
    mixed += [generation for generation, found in queues.items() if found & queues.get(generation + 1, set())]
    if mixed or len(files) < generations - 2:
        raise Failed(f"{node}: the trace mixes the generations {mixed}, and has {len(files)} of {generations}")
    say(f"     {node}: {events} events traced, {lost} lost by a slow reader, {len(files)} generations, none mixed")


def upgrade(lab, short):
    """0 packets lost, 0 requests failed, connections go on, traces stay; also where the other program fails after all."""
    times = lab.times or (6 if short else 30)
    traces = {node: lab.files / f"upgrade-{node}.jsonl" for node in ["node1", "node2"]}
    readers = readers_of(lab, traces)
    pids = {node: lab.pid(node) for node in NODES}
    good, later = lab.files / "dunnat-again", lab.files / "dunnat-fails-later"
    # Nodes may be that one already: then it has no name any more, as after an upgrade of a package.
    good.unlink(missing_ok=True)
    shutil.copy(lab.program, good)
    later.write_text(f"#!/bin/sh\n[ -n \"$DUNNAT_TRIAL\" ] && exec {lab.program} \"$@\"\nexec {lab.program} \"$@\" --no-such-option\n")
    later.chmod(0o755)
    full = overrun(lab)
    paused, back = [], 0
    upgrades = {node: lab.status(node)["upgrades"] for node in NODES}
    with lab.load() as result:
        for number in range(times):
            node = NODES[number % 3]
            fails = number % 4 == 3
            asked = lab.on(node, str(lab.program), "upgrade", str(later if fails else good), "--socket", str(lab.files / f"{node}.sock"), "--json")
            done = subprocess.run(asked, text=True, capture_output=True)
            if done.returncode != (1 if fails else 0) or fails and "the node is as before" not in done.stderr:
                raise Failed(f"{node}: {done.stdout}{done.stderr}")
            if fails:
                back += 1
            else:
                upgrades[node] += 1
                paused.append(json.loads(done.stdout)["paused_ms"])
        time.sleep(0.3 * SLOW)
    for node in NODES:
        status = lab.status(node)
        if status["upgrades"] != upgrades[node] or lab.pid(node) != pids[node] or not alive(pids[node]):
            raise Failed(f"{node} was upgraded {upgrades[node]} times, and says: {status}")
        adds_up(node, status)
        if node in traces and status["traces"] != 1:
            raise Failed(f"{node}: {status['traces']} readers")
    for reader in readers:
        if reader.poll() is not None:
            raise Failed("a trace has ended")
        reader.send_signal(signal.SIGINT)
        reader.wait()
    say(f"     {len(paused)} upgrades; packets waited {min(paused)} to {max(paused)} ms; {back} programs failed and were rolled back")
    nothing_lost(lab, result, full)
