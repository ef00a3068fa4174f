# The guided tour: one foreign connection, held at every stage until the visitor has seen what becomes of the packet.
# shellcheck shell=bash

declare -A KEYS=() PIDS=() HELD=() # of each node: where its keys go, its process, how many packets it has held
PACED=no
CURL=

# Waits for the visitor. One who has left (the end of the input) is not waited for any more.
pause() {
    [[ $PACED == yes ]] || return 0
    printf '\n%s[Enter] %s%s ' "$DIM" "$1" "$PLAIN"
    read -r || PACED=no
}

# Every node runs as with `dunnat step`: what it shows goes to a file, its keys come from a pipe.
start_stepping() {
    local node machine keys
    if [[ -n $BOLD ]]; then export CLICOLOR_FORCE=1; fi
    for node in "${NODES[@]}"; do
        mkfifo "$STATE/$node.keys"
        # A session of its own: Ctrl-C in this terminal is for the tour, which then stops the node in good order.
        setsid scripts/lab step "$node" --flows 1 tcp flags syn \
            <"$STATE/$node.keys" >"$STATE/$node.step" 2>"$STATE/$node.log" &
        PIDS[$node]=$!
    done
    for node in "${NODES[@]}"; do
        exec {keys}>"$STATE/$node.keys"
        KEYS[$node]=$keys HELD[$node]=0
    done
    for node in "${NODES[@]}"; do
        await "$node does not serve" grep -qsw serving "$STATE/$node.log"
    done
    # Until now both nodes answered ARP for the gateway, and a guest may have learned the wrong one.
    for machine in guest1 guest2; do lab shell "$machine" -- ip neigh flush all; done
}

# await WHAT_IT_MEANS_IF_NOT COMMAND...
await() {
    local fault=$1 tries node
    shift
    for ((tries = 0; tries < 200 * ${DUNNAT_LAB_SLOW:-1}; tries++)); do
        if "$@"; then return; fi
        sleep 0.05
    done
    echo "demo: $fault; this is what the nodes say:" >&2
    for node in "${NODES[@]}"; do sed "s/^/    /" "$STATE/$node.log" >&2; done
    exit 1
}

holds_another() { (($(grep -c '^held: ' "$STATE/$1.step") > HELD[$1])); }

# The screen of the packet that is held, without the question.
held_screen() {
    tac "$STATE/$1.step" | sed '/^\(\x1b\[1m\)\?\(dnat\|tag\|save\|spoof\) on /q' | tac | grep -v '^held: '
}

# station NODE STAGE HEADING TEXT...: the next station of the way, shown as it happens
station() {
    local node=$1 stage=$2
    heading "$3"
    text "${@:4}"
    await "no packet has come to $stage on $node" holds_another "$node"
    HELD[$node]=$((HELD[$node] + 1))
    pause "see what $stage on $node decides: the packet is held there now"
    printf '\n'
    held_screen "$node"
    pause "let it go"
    echo >&"${KEYS[$node]}"
}

stop_stepping() {
    local node
    for node in "${NODES[@]}"; do
        if [[ -n ${KEYS[$node]:-} ]]; then echo q >&"${KEYS[$node]}"; fi
    done
    for node in "${NODES[@]}"; do
        if [[ -n ${PIDS[$node]:-} ]]; then wait "${PIDS[$node]}"; fi
    done
    PIDS=()
}

# After Ctrl-C, too: nodes take their rules out before the lab goes.
end_tour() {
    local pid
    for pid in $CURL "${PIDS[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in $CURL "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    lab down >/dev/null
}

tour() {
    trap end_tour EXIT
    heading "A guided tour: one connection, by way of two nodes"
    text "The workstation connects to node2 at 192.168.122.12, port 80. The web server is a guest of node1, with the inside" \
        "address 10.5.5.201. node1 sends the reply directly to the workstation. The source of the reply must be 192.168.122.12," \
        "or the workstation refuses it. No node sees the whole connection, and nodes do not talk to each other. Four decisions" \
        "are enough. Each is about one packet, which waits in a queue. Here it waits until you have seen it."
    start_stepping
    pause "begin: the workstation runs curl http://192.168.122.12/"
    lab shell ws -- curl -s --max-time 3600 http://192.168.122.12/ >"$STATE/page" &
    CURL=$!

    station node2 dnat "1. The SYN reaches node2:  workstation ──> node2" \
        "Its destination is 192.168.122.12:80. node2 has a service for port 80, with the guest 10.5.5.201. It changes the" \
        "destination to the guest, and marks the packet with its own tag, 2. The source stays, so the guest sees the real client." \
        "All this is before conntrack. The guest lives on another node, so no reply will pass here, and conntrack on node2 does not" \
        "track the flow. Then the frame goes into the pipe. Its source is the MAC address of node2's bridge. This address alone" \
        "tells node1 which node has sent the frame."
    station node1 tag "2. It comes out at node1:  pipe ══> node1" \
        "A frame, bridged on to the guest; br_netfilter shows it to the IP hooks. Its source MAC address begins as node2's do, so" \
        "packet and flow get node2's tag. From now on node1 knows that node2 is the entry node of this flow."
    station node1 spoof "3. The guest replies, through its gateway:  guest ──> node1 ──> workstation" \
        "Every node has the gateway's address, so the reply goes to the guest's own node. Conntrack on node1 knows the flow. Its" \
        "ct mark is 2, so node2 is the entry node. The source becomes 192.168.122.12, and the reply goes directly to the" \
        "workstation, not back through node2."

    heading "4. The workstation has its page"
    await "curl has no page" grep -qs saw "$STATE/page"
    wait "$CURL"
    CURL=
    cat "$STATE/page"
    text "The packets after the first ones were decided about in the same way, and not held." \
        "" "What conntrack remembers, on node1 and on node2: the flow, and its mark. node2 does not track it."
    for node in node1 node2; do
        printf '\n%s%s$ conntrack -L -p tcp --dport 80%s\n' "$BOLD" "$node" "$PLAIN"
        lab shell "$node" -- conntrack -L -p tcp --dport 80 2>/dev/null
    done
    pause "stop the nodes"
    stop_stepping
    heading "That was it"
    for node in "${NODES[@]}"; do sed -n 's/.*INFO \] \(.* has stopped\)/\1/p' "$STATE/$node.log"; done
    text "" "Hold packets yourself:  scripts/lab up, then: scripts/lab step node1" \
        "All at once, and more:   scripts/demo"
}
