# The workloads: each measures the peer that runs, records its figures with `sample` and shows them.
# shellcheck shell=bash
#
# The guest of all services lives on node1. "local" is through node1, "foreign" through node2 and the pipe.

# pick QUICK FULL
pick() { if ((QUICK)); then echo "$1"; else echo "$2"; fi; }

# No flow of the last measurement may meet this one's: a client port that comes back through another node would.
fresh() {
    local node
    for node in "${NODE[@]}"; do forget_flows "$node"; done
}

# --- TCP bulk -------------------------------------------------------------------------------------------------------------

measure_bulk() {
    local i way names=('' local foreign)
    show "bulk"
    for i in 1 2; do
        for way in up down; do
            # Quick: up through the one, down through the other.
            if ((QUICK)) && [[ $i$way == 1down || $i$way == 2up ]]; then continue; fi
            bulk "$way.${names[i]}" "${PUBLIC[i]}" "$way"
        done
    done
    show "Gbit/s;"
}

# up: client → guest
bulk() {
    local what=$1 public=$2 options=() gbits
    if [[ $3 == down ]]; then options+=(--reverse); fi
    if ((!QUICK)); then options+=(--omit 1); fi
    fresh
    bulk_server
    gbits=$(within "$CLIENT" timeout 15 iperf3 --client "$public" --port "$BULK_PORT" --time "$(pick 1 3)" --json "${options[@]}" 2>/dev/null |
        jq -r '.end.sum_received.bits_per_second // empty | . / 1e9') || gbits=''
    end_bulk_server
    record "bulk.$what" "$gbits" %.2f
}

# For one flow.
bulk_server() {
    : >"$WORK/iperf3.log"
    ip netns exec "$(namespace "${GUEST[1]}")" iperf3 --server --one-off --port "$BULK_PORT" --forceflush >"$WORK/iperf3.log" 2>&1 &
    BULK_SERVER=$!
    poll 5 grep -q listening "$WORK/iperf3.log" || true
}

end_bulk_server() {
    kill "$BULK_SERVER" 2>/dev/null || true
    wait "$BULK_SERVER" 2>/dev/null || true
}

# record WHAT VALUE FORMAT: a figure, or the fact that there is none
record() {
    if [[ -n $2 ]]; then
        sample "$1" "$2"
        # shellcheck disable=SC2059
        show "$(printf "$3" "$2")"
    else
        show "${RED}-${PLAIN}"
    fi
}

# --- small packets --------------------------------------------------------------------------------------------------------

declare -A HINT=() # where the last round found the rate, so that this one need not search for it

udp_rate() {
    timeout 60 "$WORK/udp_rate" "$(namespace "$CLIENT")" "$(namespace "${GUEST[1]}")" \
        "${PUBLIC[1]}" "${GUEST_ADDRESS[1]}" "$SMALL_PORT" "$@" 2>>"$WORK/udp_rate.log"
}

measure_udp() {
    local rate
    fresh
    show "udp"
    rate=$(udp_rate highest "${HINT[$PEER]:-50000}" "$(pick 0.3 1)") || rate=''
    if [[ -n $rate && $rate != 0 ]]; then HINT[$PEER]=$rate; fi
    record udp.highest "$rate" %.0f
    show "/s;"
}

# CPU time of the peer for each packet that it let through, at a rate that all but the slowest can serve.
CPU_RATE=20000
measure_cpu() {
    local pid=${PIDS[${NODE[1]}]:-} before after sent received seconds
    [[ -n $pid ]] || return 0 # the kernel's work is nobody's
    fresh
    show "cpu"
    before=$(cpu_time "$pid")
    read -r sent received seconds < <(udp_rate fixed "$CPU_RATE" "$(pick 1 3)") || sent=0
    after=$(cpu_time "$pid")
    if ((${received:-0} > 0)); then
        record cpu.packet "$(jq -n "($after - $before) / 1000 / $received")" %.2f
        sample cpu.lost "$(jq -n "1 - $received / $sent")"
        show "us;"
    fi
}

# Where the time goes: of a small packet at a rate that all peers can serve, of a connection, of a request, and of a MiB of TCP.
PROFILE_RATE=40000 PROFILE_FREQUENCY=4000
measure_profile() {
    local seconds service=${SERVICE_PORT[1]} client=(ip netns exec "$(namespace "$CLIENT")" timeout 30)
    seconds=$(pick 2 5)
    show "profile"
    profiled packet '{ print $2 }' timeout 60 "$WORK/udp_rate" "$(namespace "$CLIENT")" "$(namespace "${GUEST[1]}")" \
        "${PUBLIC[1]}" "${GUEST_ADDRESS[1]}" "$SMALL_PORT" fixed "$PROFILE_RATE" "$seconds"
    # A second.
    profiled connection "{ print \$1 * $seconds }" "${client[@]}" "$WORK/connections" "${PUBLIC[2]}" "$service" 8 "$seconds"
    profiled request '/requests in/ { print $1 }' "${client[@]}" \
        wrk --threads 1 --connections 4 --duration "$seconds" "http://${PUBLIC[2]}:$service/"
    bulk_server
    # What the guest has received.
    profiled MiB '/"sum_received"/ { end = 1 } end && /"bytes"/ { print $2 / 1048576; exit }' "${client[@]}" \
        iperf3 --client "${PUBLIC[1]}" --port "$BULK_PORT" --time "$seconds" --json
    end_bulk_server
}

# profiled WHAT COUNT COMMAND...: `perf record` while the command runs; from what it prints, that awk program tells how many there were
profiled() {
    local what=$1 count=$2 file=$WORK/profile.$1.$PEER.$ROUND number
    shift 2
    fresh
    number=$(perf record --quiet --all-cpus --freq "$PROFILE_FREQUENCY" --output "$file" -- "$@" 2>>"$WORK/profile.log" |
        awk "$count") || number=0
    if ((${number%.*} > 0)); then
        PROFILES+=("$what=$PEER=$number=$file")
        show "${number%.*} ${what}s;"
    else
        show "no ${what}s: ${RED}-${PLAIN}"
    fi
}

# processes PID: it, and those that it has started (dunnat is a keeper, a worker, and one that waits to take its place)
processes() {
    echo "$1"
    pgrep --parent "$1" || true
}

# cpu_time PID: in nanoseconds, all processes and threads together. The scheduler's own account: utime and stime are counted in
# hundredths of a second.
cpu_time() {
    local files=() pid
    for pid in $(processes "$1"); do files+=("/proc/$pid/task/"*/schedstat); done
    if [[ -r ${files[0]} ]]; then
        cat "${files[@]}" | awk '{ sum += $1 } END { printf "%.0f", sum }'
    else
        for pid in $(processes "$1"); do cat "/proc/$pid/stat"; done |
            awk -v tick="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); sum += $12 + $13 } END { printf "%.0f", sum * 1e9 / tick }'
    fi
}

# --- requests -------------------------------------------------------------------------------------------------------------

measure_connections() {
    local i names=('' local foreign) rate failed
    show "connections"
    for i in 1 2; do
        if ((QUICK && i == 1)); then continue; fi
        fresh
        read -r rate failed < <(within "$CLIENT" timeout 30 "$WORK/connections" "${PUBLIC[i]}" "${SERVICE_PORT[1]}" 8 "$(pick 0.5 2)") || rate=''
        record "connections.${names[i]}" "$rate" %.0f
        sample "connections.failed.${names[i]}" "${failed:-0}"
    done
    show "/s;"
}

measure_latency() {
    local text
    fresh
    show "latency"
    text=$(within "$CLIENT" timeout 30 wrk --threads 1 --connections 4 --duration "$(pick 1 3)" --latency \
        "http://${PUBLIC[2]}:${SERVICE_PORT[1]}/" 2>&1) || text=''
    record latency.p50 "$(percentile 50 <<<"$text")" %.0f
    record latency.p99 "$(percentile 99 <<<"$text")" %.0f
    show "us;"
}

# wrk writes 85.00us, 1.20ms or 1.00s
percentile() {
    awk -v want="$1%" '$1 == want { value = $2 + 0
        if ($2 ~ /ms$/) value *= 1000; else if ($2 !~ /us$/) value *= 1000000
        print value }'
}

# --- memory ---------------------------------------------------------------------------------------------------------------

# After all of the above; dunnat also with two workers, once, after a bulk transfer of its own.
measure_memory() {
    [[ -n ${PIDS[*]} ]] || return 0
    show "memory"
    memory_of "$PEER" memory
    if [[ $PEER == dunnat* ]] && ((ROUND == 1)); then
        stop_peer && start_peer "$PEER" 2 2>"$WORK/why" && works 2>"$WORK/why" || return 0
        local sample_file=$SAMPLES
        SAMPLES=/dev/null # the transfer is only there to have been
        bulk up.foreign "${PUBLIC[2]}" up >/dev/null
        bulk down.local "${PUBLIC[1]}" down >/dev/null
        SAMPLES=$sample_file
        memory_of "$PEER" memory2
    fi
    show "MiB"
}

# The larger one of the two nodes, all its processes together, in MiB: now, and at their highest.
memory_of() {
    local node rss=0 peak=0 now highest pid
    for node in "${!PIDS[@]}"; do
        read -r highest now < <(for pid in $(processes "${PIDS[$node]}"); do cat "/proc/$pid/status"; done |
            awk '/^VmHWM/ { peak += $2 } /^VmRSS/ { now += $2 } END { print peak + 0, now + 0 }')
        if ((now > rss)); then rss=$now; fi
        if ((highest > peak)); then peak=$highest; fi
    done
    record "$2.now" "$(jq -n "$rss / 1024")" %.1f
    record "$2.peak" "$(jq -n "$peak / 1024")" %.1f
}
