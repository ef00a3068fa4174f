# Starting and stopping what translates addresses: the dunnat daemon, or the pure-kernel ruleset that it prints.
# shellcheck shell=bash

running_by() { cat "$STATE/by" 2>/dev/null || true; }

# The rules of a node as one text, without counters: two of these are compared.
ruleset() { within "$1" nft -s list ruleset; }

# A process id alone proves nothing, it may have been given to someone else since. Ours live in the node's namespace.
alive() { [[ /proc/$2/ns/net -ef /run/netns/$(namespace "$1") ]]; }
gone() { ! alive "$@"; }

need_dunnat() {
    [[ -x $DUNNAT ]] || die "no program at $DUNNAT: build it with 'cargo build --release', or set DUNNAT=/path/to/dunnat"
}

# start_nat dunnat|kernel|shadow TRACE(none|trace|jsonl|pcapng): false when not every node has started; stop_nat puts right
# what has
start_nat() {
    local by=$1 trace=$2 node guest
    need_dunnat
    for node in "${NODE[@]}"; do ruleset "$node" >"$STATE/$node.ruleset.before"; done
    echo "$by" >"$STATE/by"
    case $by in
    dunnat | shadow) start_daemons "$by" "$trace" ;;
    kernel) load_kernel_rules ;;
    esac || return 1
    # Until now all nodes answered for the gateway, and a guest may have learned the wrong one.
    for guest in "${GUEST[@]}"; do within "$guest" ip neigh flush all; done
    # Where something is made wrong, what is seen outside may be, too.
    [[ $FAULT != none ]] || watch_outside "$by"
}

start_daemons() {
    local by=$1 trace=$2 node pid out
    local -A pids=()
    for node in "${NODE[@]}"; do
        local options=(--config "$(cluster_file_of "$node")" --node "$node" --socket "$STATE/$node.sock")
        out=$STATE/$node.log
        if [[ $by == shadow ]]; then options+=(--shadow) out=$STATE/$node.report; fi
        rm -f "$STATE/$node.report"
        # What the file's name ends in says what is written.
        if [[ $trace != none ]]; then options+=(--trace "$STATE/$node.$trace"); fi
        # shellcheck disable=SC2086 # several options in one variable
        # A session of its own: Ctrl-C in this terminal is for the lab, which then stops the daemon in good order.
        setsid ip netns exec "$(namespace "$node")" "$DUNNAT" run "${options[@]}" $DUNNAT_RUN_OPTIONS \
            </dev/null 2>"$STATE/$node.log" >>"$out" &
        pids[$node]=$!
        echo $! >"$STATE/$node.pid"
    done
    for node in "${NODE[@]}"; do
        pid=${pids[$node]}
        if ! poll 10 serving_or_dead "$node" "$pid"; then
            warn "dunnat on $node does not say 'serving' within $((10 * SLOW)) seconds. Its log:"
        elif ! kill -0 "$pid" 2>/dev/null; then
            warn "dunnat on $node ended at once. Its log:"
            rm "$STATE/$node.pid"
        else
            continue
        fi
        sed 's/^/    /' "$STATE/$node.log" >&2
        return 1
    done
}
serving_or_dead() { grep -qsw serving "$STATE/$1.log" || ! kill -0 "$2" 2>/dev/null; }

load_kernel_rules() {
    local node
    for node in "${NODE[@]}"; do
        if ! "$DUNNAT" rules --config "$STATE/cluster.toml" --node "$node" --kernel >"$STATE/$node.nft" ||
            ! within "$node" nft -f "$STATE/$node.nft"; then
            warn "the kernel ruleset of $node does not load: $STATE/$node.nft"
            return 1
        fi
    done
}

# Stops everything first and judges afterwards: one stubborn node must not keep the others running.
stop_nat() {
    local faults=0 node by
    by=$(running_by)
    judge_outside || faults=1
    case $by in
    dunnat | shadow) stop_daemons || faults=1 ;;
    kernel) for node in "${NODE[@]}"; do unload_new_tables "$node" || faults=1; done ;;
    *) return 0 ;;
    esac
    rm -f "$STATE/by"
    for node in "${NODE[@]}"; do
        ruleset "$node" >"$STATE/$node.ruleset.after"
        if ! diff -u "$STATE/$node.ruleset.before" "$STATE/$node.ruleset.after" >"$STATE/$node.ruleset.diff"; then
            warn "the rules of $node are not what they were before start (- before, + now):"
            sed -n '3,22s/^/    /p' "$STATE/$node.ruleset.diff" >&2
            faults=1
        fi
    done
    return "$faults"
}

stop_daemons() {
    local node pid faults=0
    for node in "${NODE[@]}"; do
        pid=$(cat "$STATE/$node.pid" 2>/dev/null) || continue
        if alive "$node" "$pid"; then
            kill -TERM "$pid"
        else
            warn "dunnat on $node was no longer running. The end of its log:"
            tail -n 5 "$STATE/$node.log" | sed 's/^/    /' >&2
            faults=1
        fi
    done
    for node in "${NODE[@]}"; do
        pid=$(cat "$STATE/$node.pid" 2>/dev/null) || continue
        if ! poll 10 gone "$node" "$pid"; then
            warn "dunnat on $node did not end within $((10 * SLOW)) seconds of SIGTERM; killing it"
            kill -KILL "$pid"
            faults=1
        fi
        rm -f "$STATE/$node.pid"
    done
    return "$faults"
}

# Only the tables that were not there before: a node may have rules of its own.
unload_new_tables() {
    local node=$1
    comm -13 <(grep -E '^table ' "$STATE/$node.ruleset.before" | sort) <(ruleset "$node" | grep -E '^table ' | sort) |
        sed -n 's/^table \(.*\) {$/delete table \1/p' | within "$node" nft -f -
}
