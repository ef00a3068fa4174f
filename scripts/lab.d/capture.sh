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

# --- what tcpdump has no words for, in the family in use ----------------------------------------------------------------

# udp_port PORT [src|dst]: datagrams from, to, or from and to a port; of those in fragments the first
udp_port() {
    local way="ip6[48:2] = $1 or ip6[50:2] = $1"
    if ((FAMILY == 4)); then
        echo "udp ${2:-} port $1"
        return
    fi
    case ${2:-} in
    src) way="ip6[48:2] = $1" ;;
    dst) way="ip6[50:2] = $1" ;;
    esac
    echo "(udp ${2:-} port $1 or (ip6[6] = 44 and ip6[40] = 17 and ip6[42:2] & 0xfff8 = 0 and ($way)))"
}

# The words of 32 bits of an address.
words() { perl -MSocket=inet_pton,AF_INET,AF_INET6 -e 'printf "%#x ", $_ for unpack "N*", inet_pton($ARGV[0] =~ /:/ ? AF_INET6 : AF_INET, $ARGV[0])' "$1"; }

# field BYTES OFFSET ADDRESS[/LENGTH]: at that place of tcpdump's BYTES is that address, or one of that network
field() {
    local offset=$2 length=128 word bits mask all=''
    if [[ $3 == */* ]]; then length=${3#*/}; fi
    for word in $(words "${3%/*}"); do
        bits=$((length > 32 ? 32 : length)) length=$((length > 32 ? length - 32 : 0))
        if ((bits == 0)); then break; fi
        mask=$((0xffffffff << (32 - bits) & 0xffffffff))
        all+="${all:+ and }$1[$offset:4]"
        # libpcap 1.10 never finds a 0 behind a mask of all bits.
        if ((bits < 32)); then all+=$(printf ' & %#x' "$mask"); fi
        all+=$(printf ' = %#x' "$((word & mask))")
        offset=$((offset + 4))
    done
    echo "($all)"
}

# quoted src|dst ADDRESS[/LENGTH]: an ICMP error quotes a packet from, or to, that address
quoted() {
    case $FAMILY$1 in
    4src) field icmp 20 "$2" ;;
    4dst) field icmp 24 "$2" ;;
    6src) field icmp6 16 "$2" ;;
    6dst) field icmp6 32 "$2" ;;
    esac
}

# What neighbours say and ask about an address.
neighbours_about() {
    if ((FAMILY == 4)); then
        echo "arp host $1"
    else
        echo "icmp6 and (icmp6[0] = 135 or icmp6[0] = 136) and ($(field icmp6 8 "$1") or src host $1 or dst host $1)"
    fi
}

# --- the sniffer on the outside: from start to stop, whatever is done in between ---------------------------------------------

outside() { echo "$STATE/outside.pcap"; }

# Frames with an inside address of any family, redirects that name one, and ICMP errors that quote one. (What an error quotes
# no rule of the kernel's own can change.)
shows_inside() (
    by=$1 all=''
    for family in $FAMILIES; do
        use_family "$family"
        all+="${all:+ or }net $GUESTS"
        if ((FAMILY == 6)); then all+=" or ($(redirects_inside))"; fi
        if [[ $by == dunnat ]]; then all+=" or ($(quotes_inside))"; fi
    done
    echo "$all"
)

# Takes only what must not be there, so it costs little.
watch_outside() {
    local wrong
    wrong=$(shows_inside "$1")
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
    warn "$seen frames with an address of $(addresses GUESTS) were on the public LAN between start and stop, for instance:"
    frames "$(outside)" "" | head -n 3 | sed 's/^/    /' >&2
    return 1
}
