# Captures: what really was on the wire. One on the public LAN, one on every pipe between two nodes.
# shellcheck shell=bash

lan_capture() { echo "$STATE/captures/lan.pcap"; }
# The pipe between two nodes.
pipe_capture() { echo "$STATE/captures/pipe-${NODE[$1]}-${NODE[$2]}.pcap"; }
# What guest1 sees, where it must see no code points of the cluster.
guest_capture() { echo "$STATE/captures/guest.pcap"; }
# The cable that the pipe from a node to the next is a VLAN of.
trunk_capture() { echo "$STATE/captures/trunk-${NODE[$1]}-${NODE[$1 + 1]}.pcap"; }

start_captures() {
    local i a b
    CAPTURES=()
    rm -rf "$STATE/captures"
    mkdir "$STATE/captures"
    capture "$LAN" lan "$(lan_capture)"
    while read -r a b; do
        capture "${NODE[a]}" "$(wire_at "$a" "$b")" "$(pipe_capture "$a" "$b")"
        if [[ $PIPES == vlan ]]; then capture "${NODE[a]}" "$TRUNK_UP" "$(trunk_capture "$a")"; fi
    done < <(wires)
    if [[ $TAG_BY == dscp ]]; then capture "${GUEST[1]}" eth0 "$(guest_capture)"; fi
    for i in "${!CAPTURES[@]}"; do
        poll 5 grep -qs 'listening on' "${CAPTURES[i]}.log" || {
            warn "tcpdump does not start: ${CAPTURES[i]}.log"
            return 1
        }
    done
}

# Headers only, each frame written as soon as it is seen: the file is read while the capture goes on.
# (Not through `within`: a function in the background is a shell of its own, and $! would not be tcpdump.)
capture() {
    ip netns exec "$(namespace "$1")" tcpdump -i "$2" -w "$3" -s 128 -B 16384 -U --immediate-mode -nn -Z root >/dev/null 2>"$3.log" &
    CAPTURES[$!]=$3
}

stop_captures() {
    local pid
    for pid in "${!CAPTURES[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    CAPTURES=()
}

# A capture that lost frames proves nothing about what was not seen. tcpdump tells its losses when it ends.
lost_frames() {
    awk '/dropped by kernel/ { told++; lost += $1 }
         END { if (told == ARGC - 1) print lost; else print "unknown" }' "$STATE"/captures/*.log
}

# frames CAPTURE FILTER: the frames as text, one a line. The last one may be half written, which is no error here.
frames() { tcpdump -r "$1" -nn -e -t "$2" 2>/dev/null || true; }
count() {
    local all
    all=$(tcpdump -r "$1" -nn --count "$2" 2>/dev/null) || true
    echo $((${all%% *}))
}
at_least() { [[ $(count "$1" "$2") -ge $3 ]]; }

# --- the sniffer on the outside: from start to stop, whatever is done in between ---------------------------------------------

outside() { echo "$STATE/outside.pcap"; }

# Takes only what must not be there, so it costs little: frames with an inside address, and ICMP errors that quote one. (What
# an error quotes no rule of the kernel's own can change.)
watch_outside() {
    local by=$1 wrong="net $GUESTS"
    [[ $by == kernel || $by == shadow ]] || wrong+=" or ($(quotes_inside))"
    setsid ip netns exec "$(namespace "$LAN")" tcpdump -i lan -w "$(outside)" -s 128 -U -nn -Z root "$wrong" \
        </dev/null >/dev/null 2>"$(outside).log" &
    echo $! >"$(outside).pid"
    poll 5 grep -qs 'listening on' "$(outside).log" || {
        warn "the sniffer on the public LAN does not start: $(outside).log"
        return 1
    }
}

# Ends it, before anything stops translating, and judges what it has seen. False if that is anything at all.
judge_outside() {
    local pid seen
    pid=$(cat "$(outside).pid" 2>/dev/null) || return 0
    rm "$(outside).pid"
    if gone "$LAN" "$pid"; then
        warn "the sniffer on the public LAN has ended by itself: $(outside).log"
        return 1
    fi
    kill -TERM "$pid"
    poll 5 gone "$LAN" "$pid" || true
    if ! grep -q '^0 packets dropped by kernel' "$(outside).log"; then
        warn "the sniffer on the public LAN has lost frames, so it proves nothing: $(outside).log"
        return 1
    fi
    seen=$(count "$(outside)" "")
    ((seen)) || return 0
    warn "$seen frames with an address of $GUESTS were on the public LAN between start and stop, for instance:"
    frames "$(outside)" "" | head -n 3 | sed 's/^/    /' >&2
    return 1
}
