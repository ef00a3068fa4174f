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
    # Until now both nodes answered for the gateway, and a guest may have learned the wrong one.
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
    text "The workstation calls node2 at 192.168.122.12, port 80. The web server is a guest of node1, with an inside address," \
        "10.5.5.201. The answer leaves by node1 directly, and still has to come from 192.168.122.12, or the workstation" \
        "would not take it. No node sees all of it, and none tells another anything. Four decisions do it; each is made" \
        "about one packet, while that packet waits in a queue. Here it waits until you have seen it."
    start_stepping
    pause "begin: the workstation calls curl http://192.168.122.12/"
    lab shell ws -- curl -s --max-time 3600 http://192.168.122.12/ >"$STATE/page" &
    CURL=$!

    station node2 dnat "1. The SYN reaches node2:  workstation ──> node2" \
        "It asks for 192.168.122.12:80. node2 knows a service for port 80, and that its guest is 10.5.5.201; on which node the" \
        "guest lives it does not know. It writes the guest's address over its own, and marks the packet with its own tag, 2." \
        "The source stays: the guest shall see who called. All this is before conntrack, which will see a flow from the" \
        "workstation to the guest, and never hear of 192.168.122.12."
    station node2 save "2. On its way out to the guests' network:  node2 ══> pipe" \
        "A mark belongs to one packet and is gone with it. So the flow's entry in conntrack gets it, too: had the guest lived on" \
        "node2, its answers would be known by that. Then the frame goes into the pipe, with the MAC address of node2's bridge" \
        "as its source. That address is all that will tell node1 where this came from."
    station node1 tag "3. It comes out at node1:  pipe ══> node1" \
        "A frame, bridged on to the guest; br_netfilter shows it to the IP hooks. Its source MAC address begins as node2's do, so" \
        "packet and flow get node2's tag. From here on node1 remembers that this flow was called through node2."
    station node1 spoof "4. The guest answers, through its gateway:  guest ──> node1 ──> workstation" \
        "Every node holds the gateway's address, so the guest answers by its own node. Conntrack on node1 knows the flow, and" \
        "its ct mark is 2: the one who was called is node2. So the source becomes 192.168.122.12, and the answer goes to the" \
        "workstation at once, not back through node2. That is the whole trick."

    heading "5. The workstation has its page"
    await "curl has no page" grep -qs saw "$STATE/page"
    wait "$CURL"
    CURL=
    cat "$STATE/page"
    text "The packets after the first ones were decided about in the same way, and not held." \
        "" "What conntrack remembers, on node1 and on node2: the flow, and its mark. node2 has never seen an answer."
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
