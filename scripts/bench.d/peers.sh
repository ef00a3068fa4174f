# The peers: starting and stopping each of them on both nodes, with the rules it needs.
# shellcheck shell=bash

namespace() { printf 'dunnat-%s-%s' "$LAB" "$1"; }
within() {
    local name=$1
    shift
    ip netns exec "$(namespace "$name")" "$@"
}

BULK_PORT=5201 SMALL_PORT=5202

# The lab's cluster, with two services more.
cluster_file_of_bench() {
    cat "/run/dunnat-lab/$LAB/cluster.toml"
    service bulk tcp "$BULK_PORT" 1
    service small udp "$SMALL_PORT" 1
}

declare -A PIDS=() # of the peer's process on each node
LOOKING=()         # those who look at it

# start_peer PEER [WORKERS]: on both nodes. False if it does not start; the reason is then the last line on stderr.
start_peer() {
    local peer=$1 workers=${2:-$WORKERS} node guest
    PIDS=()
    for node in "${NODE[@]}"; do
        case $peer in
        kernel) rules "$node" --kernel | within "$node" nft -f - ;;
        dunnat) run_dunnat "$node" "$workers" --backend netlink ;;
        dunnat-looked) run_dunnat "$node" "$workers" --backend netlink && look "$node" ;;
        dunnat-zoomed) run_dunnat "$node" "$workers" --backend netlink --decide flow && zoom "$node" ;;
        dunnat-trace) run_dunnat "$node" "$workers" --backend netlink --trace "$WORK/$node.jsonl" ;;
        dunnat-kernel) run_dunnat "$node" "$workers" --backend netlink --rewrite kernel ;;
        dunnat-flow) run_dunnat "$node" "$workers" --backend netlink --decide flow ;;
        dunnat-nfq) run_dunnat "$node" "$workers" --backend nfq ;;
        lnfq) run_loop "$node" "$WORK/lnfq" ;;
        nfq-plain) run_loop "$node" "${CARGO_TARGET_DIR:-$ROOT/target}/release/examples/nfq_plain" ;;
        scapy) run_loop "$node" "$WORK/venv/bin/python3" "$ROOT/bench/peers/nfqueue_scapy.py" ;;
        floor) run_floor "$node" ;;
        floor-payload) run_floor "$node" payloads ;;
        esac || return 1
    done
    # Until now all nodes answered ARP for the gateway, and a guest may have learned the wrong one.
    for guest in "${GUEST[@]}"; do within "$guest" ip neigh flush all || return 1; done
}

# Whatever it was. A process gets time to end in good order; then the node's rules go, which are all the peer's, and the
# flows, so that the next peer finds none that has a mark already.
stop_peer() {
    local node faults=0 who
    # By the process groups: each has a shell about it.
    for who in "${LOOKING[@]}"; do kill -TERM -- "-$who" 2>/dev/null || true; done
    LOOKING=()
    for node in "${!PIDS[@]}"; do kill -TERM "${PIDS[$node]}" 2>/dev/null || true; done
    for node in "${!PIDS[@]}"; do
        poll 5 ended "${PIDS[$node]}" || { kill -KILL "${PIDS[$node]}" && faults=1; }
        wait "${PIDS[$node]}" 2>/dev/null || true
    done
    if [[ $PEER == dunnat-trace ]] && ((${#PIDS[@]})); then count_traced; fi
    PIDS=()
    for node in "${NODE[@]}"; do
        within "$node" nft flush ruleset || faults=1
        forget_flows "$node"
    done
    return "$faults"
}
# look NODE: all who may look at a node: a full screen, and somebody who asks for its status and its metrics each second
look() {
    local socket=$WORK/$1.sock
    within "$1" setsid script --quiet --command "stty rows 40 cols 120; exec '$DUNNAT' top --socket '$socket'" /dev/null </dev/null >"$WORK/$1.top" 2>&1 &
    LOOKING+=("$!")
    within "$1" setsid bash -c "while sleep 1; do '$DUNNAT' status --socket '$socket'; '$DUNNAT' metrics --print --socket '$socket'; done" >"$WORK/$1.looked" 2>&1 &
    LOOKING+=("$!")
    poll 10 is_looked_at "$1"
}
is_looked_at() { [[ -s $WORK/$1.looked ]] && is_traced "$1"; }
# zoom NODE: the pages come packet by packet, and all else once a flow
zoom() {
    local socket=$WORK/$1.sock
    within "$1" setsid "$DUNNAT" trace --packets --for 3600 --socket "$socket" --format json "port ${SERVICE_PORT[1]}" >/dev/null 2>&1 &
    LOOKING+=("$!")
    poll 10 is_zoomed "$1"
}
# Its rules come a moment after it.
is_zoomed() { within "$1" nft list ruleset | grep 'goto zoomed-' >/dev/null; }
is_traced() { "$DUNNAT" status --json --socket "$WORK/$1.sock" | jq -e '.traces > 0' >/dev/null; }
# What the traces of all nodes have and have lost, by the last words of the nodes.
count_traced() {
    local node written lost
    read -r written lost < <(for node in "${!PIDS[@]}"; do cat "$WORK/$node.log"; done |
        sed -nE 's/.*trace: ([0-9]+) events written, ([0-9]+) lost.*/\1 \2/p' |
        awk '{ written += $1; lost += $2 } END { print written + 0, lost + 0 }')
    sample trace.written "$written"
    sample trace.lost "$lost"
    show "$written events traced, $lost lost"
    for node in "${!PIDS[@]}"; do rm -f "$WORK/$node.jsonl"; done
}
ended() { [[ ! -e /proc/$1 || $(cut -d ' ' -f 3 "/proc/$1/stat" 2>/dev/null) == Z ]]; }
forget_flows() { within "$1" conntrack -F >/dev/null 2>&1 || true; }

# Does it do what it is there for? A page through each of the nodes; and the packets did come by its queues, unless it is
# the kernel's ruleset, which has none.
works() {
    local i page queued
    for i in 1 2; do
        page=$(within "$CLIENT" curl --silent --show-error --connect-timeout 3 --max-time 5 "http://${PUBLIC[i]}:${SERVICE_PORT[1]}/") ||
            { echo "no page through ${NODE[i]}" >&2 && return 1; }
        [[ $page == "${GUEST[1]} saw $CLIENT_ADDRESS:"* ]] || { echo "not the guest's page: $page" >&2 && return 1; }
    done
    # Of each queue the number of the last packet (net/netfilter/nfnetlink_queue.c, seq_show).
    queued=$(within "${NODE[1]}" awk '{ sum += $8 } END { print sum + 0 }' /proc/net/netfilter/nfnetlink_queue) || return 1
    if [[ $PEER == kernel ]]; then
        ((queued == 0)) || { echo "packets are queued, and there is nobody to ask" >&2 && return 1; }
    elif [[ $PEER == dunnat-flow ]]; then
        # Of each page the SYN at dnat or tag, and at save, and the SYN/ACK at spoof.
        ((queued >= 4 && queued <= 6)) || { echo "$queued packets came by the queues, and not the beginnings alone" >&2 && return 1; }
    else
        # A page is ten packets or so; each of them is for dnat or for spoof.
        ((queued >= 8)) || { echo "only $queued packets came by the queues" >&2 && return 1; }
    fi
}

# --- dunnat itself -------------------------------------------------------------------------------------------------------

# launch NODE COMMAND...: in the background, until it says "serving"
launch() {
    local node=$1 log=$WORK/$1.log
    shift
    : >"$log" # the last one's word is not for this one
    ip netns exec "$(namespace "$node")" "$@" </dev/null >"$log" 2>&1 &
    PIDS[$node]=$!
    if ! poll 10 serving_or_ended "$node" || ended "${PIDS[$node]}"; then
        tail -n 1 "$log" >&2
        return 1
    fi
}
serving_or_ended() { grep -qsw serving "$WORK/$1.log" || ended "${PIDS[$1]}"; }

# run_dunnat NODE WORKERS OPTION...
run_dunnat() {
    local node=$1 workers=$2
    shift 2
    # Before there were backends there was the nfq crate alone.
    if [[ $RUN_HELP != *--backend* ]]; then set --; fi
    # Nodes of a bench share /run with all others.
    if [[ $RUN_HELP == *--socket* ]]; then set -- --socket "$WORK/$node.sock" "$@"; fi
    launch "$node" "$DUNNAT" run --config "$WORK/cluster.toml" --node "$node" --workers "$workers" "$@"
}

rules() {
    local node=$1
    shift
    "$DUNNAT" rules --config "$WORK/cluster.toml" --node "$node" "$@"
}

# --- the other programs, with dunnat's rules ------------------------------------------------------------------------------

# Rules that carry the ct mark by the packet mark, one queue for each stage, by the target NFQUEUE: a program finds the stage of a
# queue by the name of the chain that leads there.
queue_rules() {
    local node=$1 options=(--workers 1 --force-fallback queue)
    if [[ $RULES_HELP == *--backend* ]]; then options+=(--backend nfq); fi
    if [[ $RULES_HELP == *--rewrite* ]]; then options+=(--rewrite userspace); fi
    rules "$node" "${options[@]}"
}

# run_loop NODE PROGRAM...: the program is told what it must know as bench/peers/arguments.txt says
run_loop() {
    local node=$1 script
    shift
    script=$(queue_rules "$node") || return 1
    mapfile -t ARGUMENTS < <(cluster_as_arguments "$node" && queues_as_arguments <<<"$script")
    launch "$node" "$@" "${ARGUMENTS[@]}" && load_rules "$node" <<<"$script"
}

# load_rules NODE: a script of rules on stdin, which runs dunnat by its name
load_rules() { within "$1" env "PATH=$(dirname "$DUNNAT"):$PATH" sh -e; }

cluster_as_arguments() {
    local node=$1 i pipe
    for i in "${!NODE[@]}"; do
        if [[ ${NODE[i]} == "$node" ]]; then echo "own=${TAG[i]},${PUBLIC[i]}"; fi
        echo "node=${TAG[i]},${PREFIX[i]:0:8},${PUBLIC[i]}"
    done
    echo "service=tcp,${SERVICE_PORT[1]},${GUEST_ADDRESS[1]}"
    echo "service=udp,$ECHO_PORT,${GUEST_ADDRESS[1]}"
    echo "service=tcp,$BULK_PORT,${GUEST_ADDRESS[1]}"
    echo "service=udp,$SMALL_PORT,${GUEST_ADDRESS[1]}"
    for pipe in "${PIPE[@]}"; do echo "pipe=$pipe"; done
}

# From the rules on stdin: which stage is behind which queue.
queues_as_arguments() {
    awk '/^\tchain / { stage = $2 ~ /^ask-/ ? substr($2, 5) : "" }
        stage && match($0, /jump queue-[0-9]+/) { print "queue=" stage "," substr($0, RSTART + 11, RLENGTH - 11) }' | sort -u
}

# The floor changes nothing, so the kernel's ruleset does; the packets only come by the queues, at the same hooks and
# before: where both chains have one priority the kernel's takes the next.
# run_floor NODE [payloads]
run_floor() {
    local node=$1 script
    shift
    script=$(queue_rules "$node") || return 1
    mapfile -t ARGUMENTS < <(queues_as_arguments <<<"$script")
    launch "$node" "$WORK/floor" "${ARGUMENTS[@]}" "$@" &&
        rules "$node" --kernel | sed 's/hook prerouting priority -300/hook prerouting priority -299/' | within "$node" nft -f - &&
        awk '/^\tchain / { drop = $2 !~ /^(ask|queue)-/ } !drop; /^\t}/ { drop = 0 }' <<<"$script" | load_rules "$node"
}
