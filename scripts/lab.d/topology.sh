# The cluster as network namespaces: a public LAN, a workstation on it, nodes in a chain, guests. No rules are loaded here.
# shellcheck shell=bash
#
#   workstation      node1               node2               node3
#        |          NIC |               NIC |               NIC |
#   =====+==============+===== LAN =========+===================+=======+=====
#                       |                   |                   |      hop - - - far
#                    BRIDGE ---pipe------ BRIDGE ---pipe------ BRIDGE
#                       |                   |
#                    guest1              guest2
#
# No namespace has a way out: there is no link to the machine's own network.

namespace() { printf 'dunnat-%s-%s' "$LAB" "$1"; }
within() {
    local name=$1
    shift
    ip netns exec "$(namespace "$name")" "$@"
}
# Many `ip` commands in one process, from stdin.
ip_in() { ip -n "$(namespace "$1")" -batch -; }

# All namespaces of this lab, with or without a state directory. No name of the lab holds a "-", so that the lab `a` does
# not take those of the lab `a-b` for its own.
namespaces() { ip netns list | awk '{ print $1 }' | grep -x "dunnat-$LAB-[^-]*" || true; }

add_namespace() {
    local name=$1
    shift
    ip netns add "$(namespace "$name")"
    # No IPv6: nothing here needs it, and captures stay free of router solicitations.
    within "$name" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 "$@"
    echo "link set lo up" | ip_in "$name"
}

need_br_netfilter() {
    local proc=/proc/sys/net/bridge/bridge-nf-call-iptables
    [[ -e $proc ]] || modprobe -q br_netfilter 2>/dev/null || true
    [[ -e $proc ]] || die "this kernel has no br_netfilter (no $proc, and modprobe br_netfilter failed):" \
        "bridged frames would never meet an IP rule"
}

add_lan() {
    # A switch, not a router: its frames meet no IP rules.
    add_namespace "$LAN" net.bridge.bridge-nf-call-iptables=0
    ip_in "$LAN" <<IP
link add lan type bridge stp_state 0 forward_delay 0 mcast_snooping 0
link set lan up
IP
}

# plug NAME INTERFACE MAC: a cable from an interface of this namespace into the switch
plug() {
    ip_in "$1" <<IP
link add $2 address $3 type veth peer name $1 netns $(namespace "$LAN")
IP
    echo "link set $1 master lan up" | ip_in "$LAN"
}

add_client() {
    add_namespace "$CLIENT"
    plug "$CLIENT" eth0 "$CLIENT_CARD"
    ip_in "$CLIENT" <<IP
addr add $CLIENT_ADDRESS/$PUBLIC_LENGTH dev eth0
link set eth0 up
IP
}

# A router on the LAN, and a workstation behind it. The link between them is narrow, and the workstation does not say so.
add_far() {
    add_namespace "$HOP" net.ipv4.ip_forward=1
    plug "$HOP" eth0 52:54:00:00:00:02
    add_namespace "$FAR"
    ip_in "$HOP" <<IP
addr add $HOP_ADDRESS/$PUBLIC_LENGTH dev eth0
link set eth0 up
link add eth1 mtu $NARROW type veth peer name eth0 mtu $NARROW netns $(namespace "$FAR")
addr add $HOP_INSIDE/${FAR_NETWORK#*/} dev eth1
link set eth1 up
IP
    ip_in "$FAR" <<IP
addr add $FAR_ADDRESS/${FAR_NETWORK#*/} dev eth0
link set eth0 up
route add default via $HOP_INSIDE advmss 1460
IP
}

add_node() {
    local i=$1 name=${NODE[$1]}
    add_namespace "$name" net.bridge.bridge-nf-call-iptables=1 \
        net.ipv4.ip_forward=1 net.ipv4.conf.all.arp_filter=1 net.ipv4.conf.default.arp_filter=1 \
        net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0

    if [[ -n $UPLINK ]]; then
        plug "$name" "$UPLINK" "$(printf '52:54:00:00:03:%02x' "$i")"
        ip_in "$name" <<IP
link add $NIC address ${CARD[i]} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
link set $UPLINK master $NIC up
IP
    else
        plug "$name" "$NIC" "${CARD[i]}"
    fi
    # The gateway comes second: the node's own ARP requests must carry an address that only this node has, or the
    # answer would go to another node.
    ip_in "$name" <<IP
link add $BRIDGE address ${MAC[i]} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
addr add ${PUBLIC[i]}/$PUBLIC_LENGTH dev $NIC
addr add ${INSIDE[i]}/$GUESTS_LENGTH dev $BRIDGE
addr add $GATEWAY/$GUESTS_LENGTH dev $BRIDGE
link set $NIC up
link set $BRIDGE up
route add $FAR_NETWORK via $HOP_ADDRESS
IP
}

# What the kernel has against 802.1Q devices; nothing if it has them. Tried, in a namespace of its own, as a module that
# is not loaded yet is loaded by trying.
trouble_with_vlan() {
    local probe
    probe=$(namespace probe)
    ip netns add "$probe"
    ip -n "$probe" link add name trunk type bridge
    ip -n "$probe" link add link trunk name trunk.1 type vlan id 1 2>&1 || true
    ip netns delete "$probe"
}

# The nodes form a chain: PIPE_UP of a node leads to PIPE_DOWN of the next. Every node has both pipes, so that one cluster
# file is right for all; at the ends of the chain a pipe has no cable (its far end stays down, so there is no carrier).
# A pipe is a cable (a veth pair), or a VLAN of a cable.
#
# Where tags go by pipes, each node has one to each other node instead. A bridge sends nothing from one to another
# ("isolated"), or frames would go round for ever.
add_pipes() {
    local i j up=$PIPE_UP down=$PIPE_DOWN
    if [[ $TAG_BY == pipe ]]; then
        for ((i = 1; i <= NODES; i++)); do
            for ((j = i + 1; j <= NODES; j++)); do
                echo "link add $(pipe_to "$j") type veth peer name $(pipe_to "$i") netns $(namespace "${NODE[j]}")" |
                    ip_in "${NODE[i]}"
            done
        done
        for ((i = 1; i <= NODES; i++)); do
            for ((j = 1; j <= NODES; j++)); do
                ((i == j)) || echo "link set $(pipe_to "$j") master $BRIDGE up
link set $(pipe_to "$j") type bridge_slave isolated on" | ip_in "${NODE[i]}"
            done
        done
        return
    fi
    if [[ $PIPES == vlan ]]; then up=$TRUNK_UP down=$TRUNK_DOWN; fi
    echo "link add $down type veth peer name far-$down" | ip_in "${NODE[1]}"
    for ((i = 1; i < NODES; i++)); do
        echo "link add $up type veth peer name $down netns $(namespace "${NODE[i + 1]}")" | ip_in "${NODE[i]}"
    done
    echo "link add $up type veth peer name far-$up" | ip_in "${NODE[NODES]}"
    for ((i = 1; i <= NODES; i++)); do
        join_pipe "${NODE[i]}" "$up" "$PIPE_UP"
        join_pipe "${NODE[i]}" "$down" "$PIPE_DOWN"
    done
}

# join_pipe NODE CABLE PIPE: the pipe on this cable becomes a port of the node's bridge
join_pipe() {
    if [[ $PIPES == vlan ]]; then
        ip_in "$1" <<IP
link add link $2 name $3 type vlan protocol 802.1Q id $VLAN
link set $2 up
IP
    fi
    echo "link set $3 master $BRIDGE up" | ip_in "$1"
}

add_guest() {
    local g=$1 name=${GUEST[$1]} home=${NODE[${GUEST_HOME[$1]}]}
    add_namespace "$name"
    ip_in "$name" <<IP
link add eth0 address ${GUEST_CARD[g]} type veth peer name vif$g netns $(namespace "$home")
IP
    echo "link set vif$g master $BRIDGE up" | ip_in "$home"
    ip_in "$name" <<IP
addr add ${GUEST_ADDRESS[g]}/$GUESTS_LENGTH dev eth0
link set eth0 up
route add default via $GATEWAY
IP
}

build_topology() {
    local i
    need_br_netfilter
    add_lan
    add_client
    add_far
    for ((i = 1; i <= NODES; i++)); do add_node "$i"; done
    add_pipes
    add_guest 1
    add_guest 2
}

# Whatever runs in a namespace of the lab belongs to the lab: it ends with it.
remove_topology() {
    local name signal
    for signal in TERM KILL; do
        for name in $(namespaces); do
            ip netns pids "$name" | xargs -r kill -s "$signal" 2>/dev/null || true
        done
        poll 3 deserted && break
        warn "some processes did not end within 3 seconds of SIG$signal"
    done
    for name in $(namespaces); do ip netns delete "$name"; done
}
deserted() {
    local name
    for name in $(namespaces); do
        [[ -z $(ip netns pids "$name") ]] || return 1
    done
}
