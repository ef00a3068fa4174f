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
