# The acceptance: what a node must do, proven from the wire and from conntrack, not from the exit status of curl alone.
# shellcheck shell=bash

# --- reporting: a check collects evidence and faults, then gets one verdict -------------------------------------------

PASSED=0 FAILED=0 SKIPPED=0
FAMILY_NAME='' # said where there are two

begin() { TITLE="${FAMILY_NAME:+$FAMILY_NAME, }$1" EVIDENCE=() FAULTS=() JUDGED=0; }
# What has been proven by the tests since the last proof: said only if none of them found a fault.
proof() {
    if ((${#FAULTS[@]} == JUDGED)); then EVIDENCE+=("$1"); fi
    JUDGED=${#FAULTS[@]}
}
fault() { FAULTS+=("$1"); }
# must_be WHAT GOT WANT
must_be() { [[ $2 == "$3" ]] || fault "$1: ${2:-nothing}, expected $3"; }

finish() {
    local line
    if ((${#FAULTS[@]})); then
        FAILED=$((FAILED + 1))
        say "${RED}FAIL${PLAIN}  ${BOLD}$TITLE${PLAIN}"
    else
        PASSED=$((PASSED + 1))
        say "${GREEN}  ok${PLAIN}  ${BOLD}$TITLE${PLAIN}"
    fi
    for line in "${EVIDENCE[@]}"; do say "        ${DIM}$line${PLAIN}"; done
    for line in "${FAULTS[@]}"; do say "      ${RED}! $line${PLAIN}"; done
}

not_applicable() {
    SKIPPED=$((SKIPPED + 1))
    say "${YELLOW} n/a${PLAIN}  ${BOLD}${FAMILY_NAME:+$FAMILY_NAME, }$1${PLAIN}: $2"
}

# --- asking ------------------------------------------------------------------------------------------------------------

# Every connection gets a client port that no other has. The kernel is content with a port that is free towards one
# destination; but the same port towards two nodes ends in one and the same tuple at the guest. A failed connection gives
# its port back at once, so each question begins its search for a free one a little higher.
CURL=(curl --silent --show-error --globoff --connect-timeout $((3 * SLOW)) --max-time $((60 * SLOW)))
NEXT_PORT=20000

# ask WHO URL [CURL OPTIONS...]: sets ANSWER, CODE and PORT (the client's)
ask() {
    local who=$1 url=$2 all
    shift 2
    all=$(within "$who" "${CURL[@]}" --local-port "$NEXT_PORT-60999" --write-out '\n%{http_code} %{local_port}' "$@" "$url" 2>&1) || true
    read -r CODE PORT <<<"${all##*$'\n'}"
    ANSWER=${all%$'\n'*}
    ANSWER=${ANSWER%$'\n'}
    if ((PORT == 0)); then PORT=$NEXT_PORT; fi # curl does not say when it failed; this is the one it tried
    NEXT_PORT=$((PORT + 10))
    if [[ $CODE != 200 && $CODE != 201 ]]; then
        fault "$url: ${ANSWER:-no answer} (HTTP ${CODE:-000})"
        return 1
    fi
}

# The conntrack entry of a connection in a node. Without one the text is empty.
# entry NODE PROTOCOL SOURCE DESTINATION [SOURCE PORT]
entry() {
    within "${NODE[$1]}" conntrack -L -f "ipv$FAMILY" -p "$2" -s "$3" -d "$4" ${5:+--sport "$5"} 2>/dev/null | tail -n 1 | tr -s ' ' || true
}
mark_of() { [[ $1 =~ mark=([0-9]+) ]] && echo "${BASH_REMATCH[1]}" || echo "no entry"; }
hex() { printf '%#x' "$1"; }

# --- 1, 2, 7: a connection to a service, through any node -----------------------------------------------------------------

# check_service SERVICE ENTRY: the workstation calls the node ENTRY, the guest of SERVICE answers in that node's name
check_service() {
    local g=$1 via=$2 home=${GUEST_HOME[$1]}
    local guest=${GUEST_ADDRESS[g]} port=${SERVICE_PORT[g]} public=${PUBLIC[via]}
    local kind=foreign
    if ((via == home)); then kind=local; fi
    begin "${SERVICE[g]}, $kind: $CLIENT -> ${NODE[via]} $public:$port -> ${GUEST[g]} on ${NODE[home]}"

    if ask "$CLIENT" "http://$(at "$public"):$port/"; then
        must_be "the page" "$ANSWER" "${GUEST[g]} saw $CLIENT_ADDRESS:$PORT -> $guest:${GUEST_PORT[g]}"
        proof "page: \"$ANSWER\""
        prove_names_on_lan
        prove_way_inside
        prove_mark tcp
    else
        show_where_it_ended tcp
    fi
    finish
}

# No answer: how far did the connection get? The first frames at every place that was watched, and what conntrack knows.
show_where_it_ended() {
    local protocol=$1 file line ct
    for file in "$STATE"/captures/*.pcap; do
        while read -r line; do
            fault "$(basename "$file" .pcap): ${line:-no frame of client port $PORT}"
        done < <(frames "$file" "$protocol and port $PORT" | head -n 3 | sed 's/, ethertype IPv[46] ([0-9a-fx]*), length [0-9]*//; s/, options.*//' | grep . || echo)
    done
    ct=$(entry "$home" "$protocol" "$CLIENT_ADDRESS" "$guest" "$PORT")
    fault "conntrack of ${NODE[home]}: ${ct:-no entry}"
}

# On the LAN: the SYN goes to the node that was called, the SYN/ACK bears its address, but comes from the network card of
# the guest's node; and nobody else takes part under this client port.
prove_names_on_lan() {
    local lan flow="tcp and port $PORT and host $CLIENT_ADDRESS" syn synack strangers
    lan=$(lan_capture)
    poll 5 at_least "$lan" "$flow and $FIN" 2 || fault "LAN: the connection was not closed by both sides"
    syn=$(count "$lan" "$flow and dst host $public and $SYN")
    synack=$(frames "$lan" "$flow and src host $public and src port $port and $SYN_ACK")
    strangers=$(count "$lan" "$flow and not host $public")
    must_be "LAN: SYN frames to $public" "$syn" 1
    must_be "LAN: network card that sent the SYN/ACK" "${synack%% *}" "${CARD[home]}"
    must_be "LAN: frames of this connection with another address than $public" "$strangers" 0
    proof "LAN:  $(count "$lan" "$flow") frames, all between $CLIENT_ADDRESS:$PORT and $public:$port; the SYN/ACK left ${NODE[home]} (card ${CARD[home]})"
}

# On the pipes: requests travel from the node that was called to the guest's node, under the MAC address of the former;
# replies never travel back that way. A local connection is not on any pipe.
prove_way_inside() {
    local a b requests=0 replies=0 others=0 here file way=() flow
    local asks="tcp and src host $CLIENT_ADDRESS and dst host $guest and src port $PORT"
    while read -r a b; do
        file=$(pipe_capture "$a" "$b")
        replies=$((replies + $(count "$file" "tcp and src host $guest and dst port $PORT")))
        if on_way "$a" "$b" "$via" "$home"; then
            poll 5 at_least "$file" "$asks and $FIN" 1 || fault "pipe ${NODE[a]}-${NODE[b]}: no FIN of the client"
            here=$(count "$file" "$asks and ether src ${MAC[via]}")
            must_be "pipe ${NODE[a]}-${NODE[b]}: requests with another source MAC than ${MAC[via]}" \
                "$(count "$file" "$asks and not ether src ${MAC[via]}")" 0
            requests=$((requests + here))
            if [[ $TAG_BY == dscp ]]; then
                must_be "pipe ${NODE[a]}-${NODE[b]}: requests with another code point than ${NODE[via]}'s" \
                    "$(count "$file" "$asks and $DSCP != $(code_point "$via")")" 0
            fi
            way+=("${NODE[a]}-${NODE[b]}")
        else
            flow="tcp and port $PORT and host $CLIENT_ADDRESS"
            others=$((others + $(count "$file" "$flow")))
        fi
    done < <(wires)
    if [[ $TAG_BY == dscp ]]; then
        must_be "requests that the guest got with a code point" "$(count "$(guest_capture)" "$asks and ip[1] >> 2 != 0")" 0
    fi
    must_be "pipes: replies that went back over a pipe" "$replies" 0
    must_be "pipes: frames on a pipe where this connection has no business" "$others" 0
    if ((via != home)); then
        ((requests > 0)) || fault "pipes: no request of ${NODE[via]} (${MAC[via]}) was seen"
        proof "pipe: $requests requests to $guest over ${way[*]}, source MAC ${MAC[via]} (${NODE[via]}); no reply went back over a pipe"
    elif ((NODES > 1)); then
        proof "pipe: nothing of this connection on any pipe"
    fi
}

# In the guest's node: the flow is known, and its mark says through which node it came.
prove_mark() {
    local ct
    ct=$(entry "$home" "$1" "$CLIENT_ADDRESS" "$guest" "$PORT")
    must_be "conntrack of ${NODE[home]}: mark" "$(mark_of "$ct")" "${TAG[via]}"
    proof "ct:   ${NODE[home]} has mark $(hex "${TAG[via]}") (${NODE[via]}) on: $ct"
}

# --- 3: outbound -------------------------------------------------------------------------------------------------------

check_ping_out() {
    local home=${GUEST_HOME[1]} guest=${GUEST_ADDRESS[1]} lan out ct
    lan=$(lan_capture)
    begin "outbound ping: ${GUEST[1]} -> $CLIENT through the SNAT of ${NODE[home]}"
    out=$(within "${GUEST[1]}" ping -n -c 2 -i 0.2 -W $((2 * SLOW)) "$CLIENT_ADDRESS" 2>&1) || true
    [[ $out == *" 2 received"* ]] || fault "ping: $(grep -E 'received|rror|nreach' <<<"$out" | head -n 1)"
    proof "ping: $(grep received <<<"$out" || true)"
    poll 5 at_least "$lan" "$ECHO_REQUEST and src host ${PUBLIC[home]}" 2 ||
        fault "LAN: no echo requests from ${PUBLIC[home]}"
    proof "LAN:  the requests bear ${PUBLIC[home]}"
    ct=$(entry "$home" "$ICMP" "$guest" "$CLIENT_ADDRESS")
    must_be "conntrack of ${NODE[home]}: mark" "$(mark_of "$ct")" 0
    [[ $ct == *"dst=${PUBLIC[home]}"* ]] || fault "conntrack of ${NODE[home]}: replies are not expected at ${PUBLIC[home]}: ${ct:-no entry}"
    proof "ct:   $ct"
    finish
}

check_http_out() {
    local home=${GUEST_HOME[1]} guest=${GUEST_ADDRESS[1]} ct
    begin "outbound HTTP: ${GUEST[1]} -> $CLIENT through the SNAT of ${NODE[home]}"
    if ask "${GUEST[1]}" "http://$(at "$CLIENT_ADDRESS"):$CLIENT_PORT/"; then
        [[ $ANSWER =~ ^"$CLIENT saw ${PUBLIC[home]}:"[0-9]+" -> $CLIENT_ADDRESS:$CLIENT_PORT"$ ]] ||
            fault "the workstation did not see ${PUBLIC[home]}: \"$ANSWER\""
        proof "page: \"$ANSWER\""
        ct=$(entry "$home" tcp "$guest" "$CLIENT_ADDRESS" "$PORT")
        must_be "conntrack of ${NODE[home]}: mark" "$(mark_of "$ct")" 0
        proof "ct:   $ct"
    fi
    finish
}

# --- 4: large transfers --------------------------------------------------------------------------------------------------

sha() { sha256sum "$1" | cut -d ' ' -f 1; }

# Through the node that is farthest from the guest.
check_transfers() {
    local via=$NODES home=${GUEST_HOME[1]} url sent start megabytes
    if ((NODES == 1)); then
        not_applicable "transfers both ways through a foreign node" "there is only one node"
        return
    fi
    url=http://$(at "${PUBLIC[via]}"):${SERVICE_PORT[1]}
    sent=$(sha "$STATE/random")
    megabytes=$(($(stat -c %s "$STATE/random") / 1000000))

    begin "$megabytes MB download through ${NODE[via]} from ${GUEST[1]} on ${NODE[home]}"
    start=${EPOCHREALTIME/[.,]/}
    if ask "$CLIENT" "$url/random" --output "$STATE/download"; then
        proof "$(bytes_in_time "$STATE/download" "$start")"
        must_be "SHA-256 of what arrived" "$(sha "$STATE/download")" "$sent"
        proof "SHA-256 ${sent:0:16}... on both sides"
    fi
    finish

    begin "$megabytes MB upload through ${NODE[via]} to ${GUEST[1]} on ${NODE[home]}"
    start=${EPOCHREALTIME/[.,]/}
    if ask "$CLIENT" "$url/upload/file" --upload-file "$STATE/random"; then
        proof "$(bytes_in_time "$STATE/servers/${GUEST[1]}/upload/file" "$start")"
        must_be "SHA-256 of what arrived" "$(sha "$STATE/servers/${GUEST[1]}/upload/file")" "$sent"
        proof "SHA-256 ${sent:0:16}... on both sides"
    fi
    finish
    rm -f "$STATE/download" "$STATE/servers/${GUEST[1]}/upload/file"
}
bytes_in_time() {
    local took=$((${EPOCHREALTIME/[.,]/} - $2))
    echo "$(stat -c %s "$1") bytes in $((took / 1000)) ms"
}

# --- 5: many connections ---------------------------------------------------------------------------------------------------

check_many() {
    local total at_once g=1 i home guest port errors=$STATE/many.errors
    total=$(sized 200 30) at_once=$(sized 20 10)
    home=${GUEST_HOME[g]} guest=${GUEST_ADDRESS[g]} port=${SERVICE_PORT[g]}
    local lines right answered marked=0 ports marks spread=''
    begin "$total connections, $at_once at a time, through all nodes in turn, to ${GUEST[g]} on ${NODE[home]}"

    # Each has some client ports of its own, as one of an earlier run may still be in TIME_WAIT; a port that was used again
    # through another node would be the same flow to the guest's node. Two lines for each, in any order: the page, which names the port, and "PORT called NODE".
    lines=$(for ((i = 0; i < total; i++)); do echo "--local-port $((NEXT_PORT + 20 * i))-$((NEXT_PORT + 20 * i + 19)) http://$(at "${PUBLIC[i % NODES + 1]}"):$port/"; done |
        within "$CLIENT" xargs -P "$at_once" -n 3 "${CURL[@]}" --write-out '%{local_port} called %{remote_ip}\n' 2>"$errors") || true
    NEXT_PORT=$((NEXT_PORT + 20 * total))
    [[ ! -s $errors ]] || fault "curl: $(sort "$errors" | uniq -c | sort -rn | head -n 1)"
    right=$(awk -v page="^${GUEST[g]} saw $CLIENT_ADDRESS:[0-9]+ -> $guest:${GUEST_PORT[g]}\$" '
        $2 == "called" { called[$1] = $3 }
        $0 ~ page { sub(/.*:/, "", $3); answered[$3] = 1 }
        END { for (port in called) if (port in answered) print called[port], port }' <<<"$lines")
    answered=$(grep -c . <<<"$right" || true)
    must_be "connections answered by ${GUEST[g]}, each from a client port of its own" "$answered" "$total"
    proof "pages: $answered from ${GUEST[g]}, to as many client ports"

    # "PORT MARK" of every flow that the guest's node knows, to be met by what was called.
    marks=$(within "${NODE[home]}" conntrack -L -f "ipv$FAMILY" -p tcp -s "$CLIENT_ADDRESS" -d "$guest" 2>/dev/null |
        sed -n 's/.* src=[^ ]* dst=[^ ]* sport=\([0-9]*\) dport=[0-9]* src=.* mark=\([0-9]*\).*/\1 \2/p' | sort -u)
    for ((i = 1; i <= NODES; i++)); do
        ports=$(awk -v node="${PUBLIC[i]}" -v tag="${TAG[i]}" '$1 == node { print $2, tag }' <<<"$right" | sort -u)
        ports=$(comm -12 <(echo "$ports") <(echo "$marks") | grep -c . || true)
        marked=$((marked + ports))
        spread+="${spread:+, }${NODE[i]} $ports with $(hex "${TAG[i]}")"
    done
    must_be "conntrack of ${NODE[home]}: flows with the mark of the node that was called" "$marked" "$total"
    proof "ct:    ${NODE[home]} knows $spread"
    finish
}

# --- 6: what is no service -------------------------------------------------------------------------------------------------

check_own_port() {
    local i
    begin "port $NODE_PORT is no service: the node itself answers"
    for ((i = 1; i <= NODES; i++)); do
        ask "$CLIENT" "http://$(at "${PUBLIC[i]}"):$NODE_PORT/" || continue
        must_be "the page of ${NODE[i]}" "$ANSWER" "${NODE[i]} itself saw $CLIENT_ADDRESS:$PORT -> ${PUBLIC[i]}:$NODE_PORT"
        proof "page: \"$ANSWER\""
    done
    finish
}

# --- 8: what nobody outside may see, and the gateway that every node has for itself ------------------------------------------

check_lan_is_clean() {
    local lan total inside quoted
    lan=$(lan_capture)
    begin "no address of $GUESTS on the public LAN, not in what ICMP errors quote either"
    total=$(count "$lan" "")
    inside=$(count "$lan" "net $GUESTS")
    quoted=$(count "$lan" "$(quotes_inside)")
    if ((FAMILY == 6)); then
        must_be "redirects that name a guest" "$(count "$lan" "$(redirects_inside)")" 0
    fi
    must_be "ICMP errors that quote a packet with an inside address" "$quoted" 0
    must_be "frames with an inside address (of $total)" "$inside" 0
    ((inside == 0)) || fault "for instance: $(frames "$lan" "net $GUESTS" | head -n 1)"
    ((total > 0)) || fault "the capture of the LAN is empty, so it proves nothing"
    must_be "frames that a capture lost" "$(lost_frames)" 0
    proof "LAN:  $total frames captured during all checks, none lost, $inside with an inside address; $(count "$lan" "$ICMP_ERROR") ICMP errors"
    finish
}

check_gateway_is_local() {
    local a b g want got crossed=0
    begin "the shared gateway $GATEWAY is each node's own affair"
    for g in 1 2; do
        want=${MAC[${GUEST_HOME[g]}]}
        got=$(within "${GUEST[g]}" ip neigh show "$GATEWAY" | sed -n 's/.*lladdr \([^ ]*\).*/\1/p')
        must_be "${GUEST[g]}: MAC address of the gateway" "$got" "$want"
        proof "near: ${GUEST[g]} reaches it at $got (${NODE[${GUEST_HOME[g]}]})"
    done
    while read -r a b; do
        crossed=$((crossed + $(count "$(pipe_capture "$a" "$b")" "$(neighbours_about "$GATEWAY")")))
    done < <(wires)
    must_be "pipes: what neighbours say about $GATEWAY" "$crossed" 0
    if ((NODES > 1)); then proof "pipe: nothing that neighbours say about it crossed a pipe"; fi
    finish
}

# --- 10: UDP ---------------------------------------------------------------------------------------------------------------

# Lengths of one frame: all there are, or where it matters (none, odd and even, about the ends of what is read and copied).
LENGTHS=$(sized 0-1472 "0-40 88-104 1440-1472")
# Lengths that need several frames: a bit more than one, some, and many. The longest is what a queue hands over whole: a
# netlink attribute holds 65,531 bytes.
LONG=(1473 8000 8001 40000)
longest() { echo $((65531 - 8 - (FAMILY == 4 ? 20 : 40))); }

# check_udp ENTRY: guest1 sends back what the workstation sends to the node ENTRY
check_udp() {
    local via=$1 home=${GUEST_HOME[1]} guest=${GUEST_ADDRESS[1]} public=${PUBLIC[$1]} kind=foreign start
    if ((via == home)); then kind=local; fi
    begin "$ECHO, $kind, $(sized "every length" "many lengths"): $CLIENT -> ${NODE[via]} $public:$ECHO_PORT -> ${GUEST[1]} on ${NODE[home]}"

    start=${EPOCHREALTIME/[.,]/}
    # shellcheck disable=SC2086
    if converse $LENGTHS; then
        proof "udp:  $DATAGRAMS of $LENGTHS bytes came back from $public as they were sent, in $(((${EPOCHREALTIME/[.,]/} - start) / 1000)) ms$AGAIN"
        prove_udp_ways
        prove_mark udp
    else
        show_where_it_ended udp
        finish
        return
    fi

    # A checksum of 0 means that there is none. One that comes out as 0 is written as 0xffff, one that is not there stays so.
    if converse "zero:$guest" "zero:$public"; then
        must_be "frames whose checksum came out as 0 and was written so" "$(frames_everywhere "$IP and udp port $PORT and $UDP_SUM = 0")" 0
        proof "sum:  one that comes out as 0 is written as 0xffff"
    fi
    if converse --no-checksum 0 1 512 1472; then
        must_be "requests without a checksum that were given one" "$(frames_everywhere "$IP and udp src port $PORT and $UDP_SUM != 0")" 0
        proof "sum:  one that is not there is not made up"
    fi
    # Conntrack puts the fragments together before any rule sees them, and the packet leaves as fragments again.
    if converse "${LONG[@]}" "$(longest)"; then
        proof "frag: ${LONG[*]} $(longest) bytes came back as they were sent$AGAIN"
    fi
    if converse "backwards:$(longest)" "shuffled:$(longest)" shuffled:8001; then
        proof "frag: so they did when the fragments were sent in another order$AGAIN"
    fi
    finish
}

# The same as for a connection: on the LAN one address and one card, over the pipes requests only, and only from the node
# that was called.
prove_udp_ways() {
    local a b lan file replies=0 others=0
    lan=$(lan_capture)
    must_be "LAN: frames of port $PORT with another address than $public" "$(count "$lan" "udp port $PORT and not host $public")" 0
    must_be "LAN: answers that another card than that of ${NODE[home]} has sent" \
        "$(count "$lan" "udp src port $ECHO_PORT and dst port $PORT and not ether src ${CARD[home]}")" 0
    proof "LAN:  all of port $PORT between $CLIENT_ADDRESS and $public; the answers left ${NODE[home]} (card ${CARD[home]})"
    while read -r a b; do
        file=$(pipe_capture "$a" "$b")
        replies=$((replies + $(count "$file" "udp src port $ECHO_PORT and dst port $PORT")))
        if on_way "$a" "$b" "$via" "$home"; then
            others=$((others + $(count "$file" "udp src port $PORT and not ether src ${MAC[via]}")))
        else
            others=$((others + $(count "$file" "udp port $PORT")))
        fi
    done < <(wires)
    must_be "pipes: answers that went back over a pipe" "$replies" 0
    must_be "pipes: frames that have no business there, or not from ${NODE[via]} (${MAC[via]})" "$others" 0
    if ((via != home)); then
        proof "pipe: the requests, source MAC ${MAC[via]} (${NODE[via]}), and no answer"
    elif ((NODES > 1)); then
        proof "pipe: nothing of this on any pipe"
    fi
}

# From one port to two nodes within the time that conntrack remembers a flow would be a conflict, and the kernel gives the
# ports that it chooses again now and then: these are all different, as long as the lab is there.
next_port() {
    local file=$STATE/udp-port
    PORT=$(($(cat "$file" 2>/dev/null || echo 9999) + 1))
    echo "$PORT" >"$file"
}

# converse WHAT...: what lab.d/udp.pl understands. Sets PORT, and DATAGRAMS and AGAIN for a proof. Returns when all that was
# said is in the captures, so that what is not found in them was not there.
converse() {
    local said line a b
    next_port
    said=$(udp "$CLIENT" ask "$public" "$ECHO_PORT" "$PORT" "$@" 2>&1) || true
    read -r DATAGRAMS AGAIN <<<"$said"
    [[ $AGAIN =~ ^[0-9]+$ ]] || { fault "$said"; return 1; }
    AGAIN=$( ((AGAIN == 0)) || echo "; $AGAIN had to be sent again")
    while read -r line; do fault "$line"; done < <(tail -n +2 <<<"$said")
    (($(wc -l <<<"$said") == 1)) || return
    poll 5 at_least "$(lan_capture)" "$(udp_port "$PORT")" $((2 * DATAGRAMS)) || fault "LAN: not all datagrams of port $PORT were seen"
    while read -r a b; do
        on_way "$a" "$b" "$via" "$home" || continue
        poll 5 at_least "$(pipe_capture "$a" "$b")" "$(udp_port "$PORT" src)" "$DATAGRAMS" ||
            fault "pipe ${NODE[a]}-${NODE[b]}: not all requests of port $PORT were seen"
    done < <(wires)
}

frames_everywhere() {
    local file all=0
    for file in "$STATE"/captures/*.pcap; do all=$((all + $(count "$file" "$1"))); done
    echo "$all"
}

# --- 11: checksums ---------------------------------------------------------------------------------------------------------

# What every machine has received with a wrong checksum, "NAME PROTOCOL COUNT" a line. Between namespaces a checksum is often
# left for hardware that is not there, and then nobody looks at it. But a packet that was in a queue, and whose bytes changed
# there, has a real one that the receiver verifies: so this judges each checksum that dunnat has written.
wrong_checksums() {
    local name
    for name in "$CLIENT" "${NODE[@]}" "${GUEST[@]}"; do
        within "$name" cat /proc/net/snmp | awk -v name="$name" '
            $1 != "Tcp:" && $1 != "Udp:" { next }
            !($1 in column) { for (i = 2; i <= NF; i++) if ($i == "InCsumErrors") column[$1] = i; next }
            { print name, tolower(substr($1, 1, 3)), $(column[$1]) }'
        # TCP is counted with the others; there is nothing here without IPv6.
        within "$name" awk -v name="$name" '
            $1 ~ /^(Udp6|Icmp6)InCsumErrors$/ { sub(/InCsumErrors/, "", $1); print name, tolower($1), $2 }' /proc/net/snmp6
    done
}

check_checksums() {
    local name protocol before after lines=0
    begin "no wrong TCP, UDP or ICMPv6 checksum was received"
    while read -r name protocol before after; do
        must_be "$name: wrong $protocol checksums" "$((after - before))" 0
        lines=$((lines + 1))
    done < <(paste -d ' ' <(echo "$WRONG_BEFORE") <(wrong_checksums | cut -d ' ' -f 3))
    must_be "counters" "$lines" "$((4 * (1 + NODES + ${#GUEST[@]})))"
    proof "snmp: InCsumErrors has not grown on $CLIENT ${NODE[*]} ${GUEST[*]}"
    finish
}

# --- all of them -----------------------------------------------------------------------------------------------------------

# Everything in each family, one after the other.
run_checks() {
    local way
    WRONG_BEFORE=$(wrong_checksums)
    in_each_family run_checks_of_family
    FAMILY_NAME=''
    check_checksums
    for way in "${EXPECTED[@]}"; do check_way "$way"; done
    stop_captures # the last ones look at all that was captured, and at what a capture says when it ends
    in_each_family check_what_was_seen
    FAMILY_NAME=''
    if [[ $PIPES == vlan ]] && ((NODES > 1)); then check_trunks; fi
}

name_family() { if [[ $FAMILIES == *' '* ]]; then FAMILY_NAME=IPv$FAMILY; else FAMILY_NAME=''; fi; }

run_checks_of_family() {
    local i home=${GUEST_HOME[1]}
    name_family
    if ((NODES == 1)); then not_applicable "${SERVICE[1]}, foreign" "there is only one node"; fi
    for ((i = 1; i <= NODES; i++)); do
        if ((i != home)); then check_service 1 "$i"; fi
    done
    check_service 1 "$home"
    check_ping_out
    check_http_out
    check_transfers
    check_many
    check_own_port
    if ((NODES == 1)); then not_applicable "${SERVICE[2]}, foreign" "there is only one node"; fi
    for ((i = 1; i <= NODES; i++)); do check_service 2 "$i"; done
    if ((NODES == 1)); then not_applicable "$ECHO, foreign" "there is only one node"; fi
    for ((i = 1; i <= NODES; i++)); do check_udp "$i"; done
    check_errors
}

check_what_was_seen() {
    name_family
    check_gateway_is_local
    check_lan_is_clean
}

# --- 9: nothing is left ----------------------------------------------------------------------------------------------------

# Stops what translates, and judges what it leaves behind.
check_stop() {
    local node line trouble
    begin "stop leaves the rules of every node as they were"
    if trouble=$(stop_nat 2>&1); then
        for node in "${NODE[@]}"; do
            proof "$node: $(wc -l <"$STATE/$node.ruleset.after") lines of rules, the same as before start"
        done
    else
        while read -r line; do fault "$line"; done <<<"$trouble"
    fi
    finish
}

# After a shadow has ended: its reports, of all nodes together as no node has all stages.
check_shadow() {
    local node stage agreed disagreed rest text
    local -A all=()
    begin "dunnat and the kernel's ruleset agree about every packet"
    for node in "${NODE[@]}"; do
        text=''
        while read -r stage agreed disagreed rest; do
            all[$stage]=$((${all[$stage]:-0} + agreed))
            must_be "$node: $stage, packets that there was disagreement about" "$disagreed" 0
            text+="${text:+, }$stage $agreed"
        done < <(grep -E '^(dnat|tag|save|spoof) ' "$STATE/$node.report")
        [[ -n $text ]] || fault "$node: no report at $STATE/$node.report"
        proof "$node: agreed about $text"
    done
    for stage in dnat tag save spoof; do
        ((${all[$stage]:-0} > 0)) || [[ $NODES == 1 && $stage == tag ]] || fault "$stage: no packet was judged"
    done
    finish
}

summary() {
    local text="$PASSED passed, $FAILED failed"
    if ((SKIPPED)); then text+=", $SKIPPED not applicable"; fi
    say
    say "$BOLD$text$PLAIN"
    ((FAILED == 0))
}
