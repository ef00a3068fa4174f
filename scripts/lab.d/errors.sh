# ICMP errors: a traceroute sees the way, and a path whose middle is narrow still carries large transfers. The kernel's own
# ruleset cannot do this: it leaves what an error quotes as it is.
# shellcheck shell=bash

NARROW=1280 # bytes, the MTU of the link that is narrow

# An ICMP error that quotes a packet from or to an inside address.
quotes_inside() { echo "$ICMP_ERROR and ($(quoted src "$GUESTS") or $(quoted dst "$GUESTS"))"; }
redirects_inside() { echo "icmp6 and icmp6[0] = 137 and $(field icmp6 24 "$GUESTS")"; }

# What a machine has learned of the way to an address.
path_mtu() { within "$1" ip route get "$2" | sed -n 's/.* mtu \([0-9]*\).*/\1/p'; }
forget_path_mtu() { within "$1" ip "-$FAMILY" route flush cache; }

# check_traceroute WHO ENTRY HOPS: by TCP, to the service of guest1 by the node ENTRY
check_traceroute() {
    local who=$1 via=$2 public=${PUBLIC[$2]} port=${SERVICE_PORT[1]} seen
    begin "traceroute by TCP: $who -> ${NODE[via]} $public:$port -> ${GUEST[1]} on ${NODE[${GUEST_HOME[1]}]}"
    seen=$(within "$who" traceroute -T -p "$port" -n -q 1 -N 1 -w $((2 * SLOW)) -m 6 "$public" 2>&1 |
        awk 'NR > 1 { way = way sep $2; sep = " " } END { print way }') || true
    must_be "the way" "$seen" "$3"
    must_be "LAN: ICMP errors that quote an inside address" "$(count "$(lan_capture)" "$(quotes_inside)")" 0
    proof "way:  $seen"
    proof "LAN:  $(count "$(lan_capture)" "$ICMP_ERROR and src host $public") ICMP errors of $public, all about packets to it"
    finish
}

# The errors are about answers: a router outside cannot send them on, and says so to the address that they came from.
check_path_mtu_outside() {
    local via=$NODES public=${PUBLIC[$NODES]} guest=${GUEST_ADDRESS[1]} start a b file
    begin "path MTU $NARROW behind $HOP: $FAR downloads through ${NODE[via]} from ${GUEST[1]} on ${NODE[${GUEST_HOME[1]}]}"
    forget_path_mtu "${GUEST[1]}"
    start=${EPOCHREALTIME/[.,]/}
    if ask "$FAR" "http://$(at "$public"):${SERVICE_PORT[1]}/random" --output "$STATE/download"; then
        proof "$(bytes_in_time "$STATE/download" "$start")"
        must_be "SHA-256 of what arrived" "$(sha "$STATE/download")" "$(sha "$STATE/random")"
        proof "SHA-256 $(sha "$STATE/random" | head -c 16)... on both sides"
        must_be "${GUEST[1]}: path MTU to $FAR_ADDRESS" "$(path_mtu "${GUEST[1]}" "$FAR_ADDRESS")" "$NARROW"
        proof "path: ${GUEST[1]} has learned that the way to $FAR_ADDRESS takes $NARROW bytes"
        poll 5 at_least "$(lan_capture)" "$TOO_BIG and src host $HOP_ADDRESS and dst host $public" 1 ||
            fault "LAN: $HOP did not say \"$TOO_BIG_NAME\" to $public, so this proves nothing"
        while read -r a b; do
            on_way "$a" "$b" "$via" "${GUEST_HOME[1]}" || continue
            file=$(pipe_capture "$a" "$b")
            poll 5 at_least "$file" "$TOO_BIG and dst host $guest and $(quoted src "$guest")" 1 ||
                fault "pipe ${NODE[a]}-${NODE[b]}: no \"$TOO_BIG_NAME\" to $guest about its packets"
        done < <(wires)
        proof "icmp: \"$TOO_BIG_NAME\" from $HOP_ADDRESS to $public, for $guest inside"
    fi
    finish
    rm -f "$STATE/download"
}

# The errors are about calls: the node that was called cannot send them on to the guest's.
check_path_mtu_inside() {
    local via=$NODES public=${PUBLIC[$NODES]} start node
    if ((NODES == 1)); then
        not_applicable "path MTU $NARROW between nodes" "there is only one node"
        return
    fi
    begin "path MTU $NARROW between nodes: $CLIENT uploads through ${NODE[via]} to ${GUEST[1]} on ${NODE[${GUEST_HOME[1]}]}"
    forget_path_mtu "$CLIENT"
    for node in "${NODE[@]}"; do pipe_mtu "$node" "$NARROW"; done
    start=${EPOCHREALTIME/[.,]/}
    if ask "$CLIENT" "http://$(at "$public"):${SERVICE_PORT[1]}/upload/narrow" --upload-file "$STATE/random"; then
        proof "$(bytes_in_time "$STATE/servers/${GUEST[1]}/upload/narrow" "$start")"
        must_be "SHA-256 of what arrived" "$(sha "$STATE/servers/${GUEST[1]}/upload/narrow")" "$(sha "$STATE/random")"
        proof "SHA-256 $(sha "$STATE/random" | head -c 16)... on both sides"
        must_be "$CLIENT: path MTU to $public" "$(path_mtu "$CLIENT" "$public")" "$NARROW"
        proof "path: $CLIENT has learned that the way to $public takes $NARROW bytes"
        poll 5 at_least "$(lan_capture)" "$TOO_BIG and src host $public and dst host $CLIENT_ADDRESS and $(quoted dst "$public")" 1 ||
            fault "LAN: ${NODE[via]} did not say \"$TOO_BIG_NAME\" about packets to $public"
        proof "icmp: \"$TOO_BIG_NAME\" from $public about packets to $public"
    fi
    for node in "${NODE[@]}"; do pipe_mtu "$node" 1500; done
    forget_path_mtu "$CLIENT"
    finish
    rm -f "$STATE/servers/${GUEST[1]}/upload/narrow"
}
pipe_mtu() {
    local pipe
    for pipe in $(pipes_of "$1"); do echo "link set $pipe mtu $2"; done | ip_in "$1"
}

# Nobody listens at a service's port: the guest says so, and it looks as if the node that was called said it.
check_port_unreachable() {
    local via=$NODES public=${PUBLIC[$NODES]} said before filter
    begin "port unreachable: $CLIENT -> ${NODE[via]} $public:$CLOSED_PORT -> ${GUEST[1]}, where nobody listens"
    filter="$PORT_UNREACHABLE and src host $public and $(quoted dst "$public")"
    before=$(count "$(lan_capture)" "$filter")
    said=$(within "$CLIENT" perl -MIO::Socket::IP -e '
        my $s = IO::Socket::IP->new(Proto => "udp", PeerAddr => $ARGV[0], PeerPort => $ARGV[1]) or die;
        send($s, "x", 0); my $r = ""; vec($r, fileno($s), 1) = 1;
        select($r, undef, undef, $ARGV[2]) or die "nothing came back\n";
        defined recv($s, my $b, 9, 0) ? print "an answer" : print $!+0 == $!{ECONNREFUSED} || $!{ECONNREFUSED} ? "refused" : $!;
    ' -MErrno "$public" "$CLOSED_PORT" $((3 * SLOW)) 2>&1) || true
    must_be "what the client's socket was told" "$said" refused
    poll 5 at_least "$(lan_capture)" "$filter" $((before + 1)) ||
        fault "LAN: no \"port unreachable\" from $public about a packet to $public"
    proof "icmp: the client's socket says \"connection refused\"; on the LAN the error comes from $public, about a packet to it"
    finish
}

check_errors() {
    local way i
    if [[ $BY == kernel || $BY == shadow ]]; then
        not_applicable "ICMP errors, traceroute, path MTU" "the kernel's ruleset cannot change what an error quotes"
        return
    fi
    for ((i = 1; i <= NODES && i <= 2; i++)); do
        check_traceroute "$CLIENT" "$i" "${PUBLIC[i]} ${PUBLIC[i]}"
    done
    way="$HOP_INSIDE ${PUBLIC[NODES]} ${PUBLIC[NODES]}"
    check_traceroute "$FAR" "$NODES" "$way"
    check_port_unreachable
    check_path_mtu_outside
    check_path_mtu_inside
}
