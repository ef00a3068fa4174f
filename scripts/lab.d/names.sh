# Every name, address, port and tag of the lab. The rest of the lab knows them only through these variables, so that
# `--names other` can change all of them: what passes under both sets of names has nothing hard-wired.
# shellcheck shell=bash

# choose_names plain|other NODES [veth|vlan] [mac|pipe|dscp] [FAMILIES]
#
# Arrays are counted from 1, and one index means one node (or one guest) in all of them. Guest g has service g, a web
# server, some with another port at the guest; guest1 has a second service, a range of ports of which one sends UDP
# datagrams back, and a third, a port within that range and another one at the guest, where nobody listens.
choose_names() {
    local i
    NAMES=$1 NODES=$2 PIPES=${3:-veth} TAG_BY=${4:-mac} FAMILIES=${5:-4 6}
    NODE=() CARD=() MAC=() PREFIX=() TAG=()
    GUEST=() GUEST_CARD=() GUEST_HOME=() SERVICE=() SERVICE_PORT=() GUEST_PORT=()

    # guest1 lives on the first node, guest2 on the second, if there is one.
    GUEST_HOME[1]=1
    GUEST_HOME[2]=$((NODES > 1 ? 2 : 1))
    GUEST_CARD[1]=52:54:00:00:02:01
    GUEST_CARD[2]=52:54:00:00:02:02

    case $NAMES in
    plain) plain_names ;;
    other) other_names ;;
    *) usage_error "--names is plain or other, not '$NAMES'" ;;
    esac

    for ((i = 1; i <= NODES; i++)); do
        CARD[i]=$(printf '52:54:00:00:01:%02x' "$i")
    done
    CLIENT_CARD=52:54:00:00:00:01
    use_family "${FAMILIES%% *}"
}

# use_family 4|6: the variables for addresses are of that family from now on, and the words that tools have for it.
use_family() {
    local i
    FAMILY=$1
    PUBLIC=() INSIDE=() GUEST_ADDRESS=()
    "${NAMES}_addresses_$FAMILY"
    GUESTS_LENGTH=${GUESTS#*/}
    case $FAMILY in
    4) IP=ip IPTABLES=iptables-nft ICMP=icmp MSS=1460 NODAD='' ;;
    6) IP=ip6 IPTABLES=ip6tables-nft ICMP=icmpv6 MSS=1440 NODAD=nodad ;;
    esac
    filter_words
}

# What tcpdump has no words for, in the family in use.
# libpcap looks into TCP, UDP and ICMP behind an IPv4 header only. Nothing here sends extension headers but fragments.
filter_words() {
    case $FAMILY in
    4)
        DSCP='ip[1] >> 2' TCP_FLAGS='tcp[tcpflags]' UDP_SUM='udp[6:2]'
        ECHO_REQUEST='icmp and icmp[0] = 8'
        ICMP_ERROR="icmp and (icmp[0] = 3 or icmp[0] = 4 or icmp[0] = 5 or icmp[0] = 11 or icmp[0] = 12)"
        TOO_BIG='icmp[0] = 3 and icmp[1] = 4' TOO_BIG_NAME='fragmentation needed'
        PORT_UNREACHABLE='icmp[0] = 3 and icmp[1] = 3'
        ;;
    6)
        DSCP='(ip6[0:2] >> 6 & 0x3f)' TCP_FLAGS='ip6[53]' UDP_SUM='ip6[46:2]'
        ECHO_REQUEST='icmp6 and icmp6[0] = 128'
        ICMP_ERROR="icmp6 and icmp6[0] < 128"
        TOO_BIG='icmp6 and icmp6[0] = 2' TOO_BIG_NAME='packet too big'
        PORT_UNREACHABLE='icmp6 and icmp6[0] = 1 and icmp6[1] = 4'
        ;;
    esac
    SYN="$TCP_FLAGS & (tcp-syn|tcp-ack) == tcp-syn"
    SYN_ACK="$TCP_FLAGS & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack)"
    FIN="$TCP_FLAGS & tcp-fin != 0"
}

in_each_family() {
    local family
    for family in $FAMILIES; do
        use_family "$family"
        "$@" || return
    done
    use_family "${FAMILIES%% *}"
}

# addresses VARIABLE: its values in all families, as in 'PUBLIC[1]'
addresses() (
    all=''
    for family in $FAMILIES; do
        use_family "$family"
        all+=${all:+ }${!1}
    done
    echo "$all"
)

# An address as it stands before a port.
at() { if [[ $1 == *:* ]]; then echo "[$1]"; else echo "$1"; fi; }

# The names and addresses of the original ruleset.
plain_names() {
    local i
    LAN=lan
    CLIENT=ws CLIENT_PORT=80
    # A router on the LAN, and another workstation behind it.
    HOP=hop FAR=far
    NIC=xenbr0 UPLINK=eth0 # a bridge, with the uplink as its only port
    BRIDGE=guestbr0 PIPE_UP=eth1.100 PIPE_DOWN=eth2.100
    TRUNK_UP=eth1 TRUNK_DOWN=eth2 VLAN=100 # where the pipes are VLANs of a cable
    GUEST[1]=guest1 SERVICE[1]=web SERVICE_PORT[1]=80 GUEST_PORT[1]=80
    GUEST[2]=guest2 SERVICE[2]=alt SERVICE_PORT[2]=8080 GUEST_PORT[2]=80
    ECHO=echo ECHO_PORT=5353 ECHO_PORTS=5350-5359 CLOSED=closed CLOSED_PORT=5354 CLOSED_AT_GUEST=5400
    NODE_PORT=81
    MASK=''
    for ((i = 1; i <= NODES; i++)); do
        NODE[i]=node$i
        # 0a, 0e, 12, 16...: locally administered, one first byte for each node
        PREFIX[i]=$(printf '%02x:00:00:00:00:00/24' $((6 + 4 * i)))
        MAC[i]=$(printf '%02x:00:00:00:01:00' $((6 + 4 * i)))
        TAG[i]=$i
    done
}

plain_addresses_4() {
    CLIENT_ADDRESS=192.168.122.1 PUBLIC_LENGTH=24
    HOP_ADDRESS=192.168.122.2 HOP_INSIDE=198.51.100.1
    FAR_ADDRESS=198.51.100.2 FAR_NETWORK=198.51.100.0/24
    GUESTS=10.5.5.0/24 GATEWAY=10.5.5.254
    GUEST_ADDRESS[1]=10.5.5.201 GUEST_ADDRESS[2]=10.5.5.202
    for ((i = 1; i <= NODES; i++)); do
        PUBLIC[i]=192.168.122.$((10 + i))
        INSIDE[i]=10.5.5.$i
    done
}

plain_addresses_6() {
    CLIENT_ADDRESS=fd00:122::1 PUBLIC_LENGTH=64
    HOP_ADDRESS=fd00:122::2 HOP_INSIDE=2001:db8:100::1
    FAR_ADDRESS=2001:db8:100::2 FAR_NETWORK=2001:db8:100::/64
    GUESTS=fd00:5::/64 GATEWAY=fd00:5::fe
    GUEST_ADDRESS[1]=fd00:5::201 GUEST_ADDRESS[2]=fd00:5::202
    for ((i = 1; i <= NODES; i++)); do
        PUBLIC[i]=fd00:122::$((10 + i))
        INSIDE[i]=fd00:5::$i
    done
}

# Nothing in common with the above: other networks, a public interface that is no bridge, the gateway at the low end,
# long MAC prefixes that share their first bytes, tags in the middle of the mark.
other_names() {
    local i names=(berlin lyon porto oslo torino ghent malmo riga brno)
    LAN=street
    CLIENT=desk CLIENT_PORT=8008
    HOP=corner FAR=cabin
    NIC=pub0 UPLINK=''
    BRIDGE=br-inside PIPE_UP=pipe-a PIPE_DOWN=pipe-b
    TRUNK_UP=fibre-a TRUNK_DOWN=fibre-b VLAN=7
    GUEST[1]=anna SERVICE[1]=shop SERVICE_PORT[1]=8000 GUEST_PORT[1]=88
    GUEST[2]=bruno SERVICE[2]=archive SERVICE_PORT[2]=2222 GUEST_PORT[2]=22222
    ECHO=parrot ECHO_PORT=9907 ECHO_PORTS=9900-9999 CLOSED=vacant CLOSED_PORT=9911 CLOSED_AT_GUEST=23
    NODE_PORT=7999
    MASK=0x0000ff00
    for ((i = 1; i <= NODES; i++)); do
        NODE[i]=${names[i - 1]}
        PREFIX[i]=$(printf '02:d0:70:77:%02x:00/40' $((16 * i)))
        MAC[i]=$(printf '02:d0:70:77:%02x:5e' $((16 * i)))
        TAG[i]=$((0x100 * i))
    done
}

other_addresses_4() {
    CLIENT_ADDRESS=172.30.7.9 PUBLIC_LENGTH=24
    HOP_ADDRESS=172.30.7.3 HOP_INSIDE=203.0.113.129
    FAR_ADDRESS=203.0.113.200 FAR_NETWORK=203.0.113.128/25
    GUESTS=192.168.44.0/24 GATEWAY=192.168.44.1
    GUEST_ADDRESS[1]=192.168.44.77 GUEST_ADDRESS[2]=192.168.44.150
    for ((i = 1; i <= NODES; i++)); do
        PUBLIC[i]=172.30.7.$((60 + 5 * i))
        INSIDE[i]=192.168.44.$((200 + i))
    done
}

# The guests' prefix ends within a word of the address.
other_addresses_6() {
    CLIENT_ADDRESS=2001:db8:7::9 PUBLIC_LENGTH=48
    HOP_ADDRESS=2001:db8:7:30::3 HOP_INSIDE=2001:db8:113:80::1
    FAR_ADDRESS=2001:db8:113:80::c8 FAR_NETWORK=2001:db8:113:80::/60
    GUESTS=fdaa:bb:cc:4400::/56 GATEWAY=fdaa:bb:cc:4400::1
    GUEST_ADDRESS[1]=fdaa:bb:cc:4401::77 GUEST_ADDRESS[2]=fdaa:bb:cc:44ff::150
    for ((i = 1; i <= NODES; i++)); do
        PUBLIC[i]=2001:db8:7:$i::$((60 + 5 * i))
        INSIDE[i]=fdaa:bb:cc:4400::$((200 + i))
    done
}

# The cluster file of this lab, the same for every node.
cluster_file() {
    local i g
    cat <<TOML
# Written by scripts/lab: the cluster that the lab has just built.

[guests]
network = $(typed GUESTS)
gateway = $(typed GATEWAY)
bridge  = "$BRIDGE"
$([[ $TAG_BY == pipe ]] || echo "pipes   = [\"$PIPE_UP\", \"$PIPE_DOWN\"]")

[public]
interface = "$NIC"
TOML
    for g in 1 2; do service "${SERVICE[g]}" tcp "${SERVICE_PORT[g]}" "$g" "${GUEST_PORT[g]}"; done
    service "$ECHO" udp "\"$ECHO_PORTS\"" 1
    service "$CLOSED" udp "$CLOSED_PORT" 1 "$CLOSED_AT_GUEST"
    for ((i = 1; i <= NODES; i++)); do
        cat <<TOML

[[node]]
name   = "${NODE[i]}"
tag    = $(printf '%#x' "${TAG[i]}")
$(known_by "$i")
public = $(typed "PUBLIC[$i]")
TOML
    done
    printf '\n[marks]\ntag_by = "%s"\n' "$TAG_BY"
    if [[ -n $MASK ]]; then echo "mask = \"$MASK\""; fi
}

# typed VARIABLE: its values in all families, as a cluster file has them
typed() {
    local all=()
    read -ra all <<<"$(addresses "$1")"
    if ((${#all[@]} == 1)); then printf '"%s"' "${all[0]}"; else printf '["%s", "%s"]' "${all[@]}"; fi
}

# By what other nodes know the node.
known_by() {
    local i=$1 j pipes=()
    case $TAG_BY in
    mac) echo "mac    = \"${PREFIX[i]}\"" ;;
    dscp) echo "dscp   = $(code_point "$i")" ;;
    pipe)
        for ((j = 1; j <= NODES; j++)); do
            ((j == i)) || pipes+=("${NODE[j]} = \"$(pipe_to "$j")\"")
        done
        local IFS=,
        echo "pipe_to = { ${pipes[*]} }"
        ;;
    esac
}

code_point() { echo $((8 + $1)); }

# The pipes between nodes, each once: the numbers of its two ends.
wires() {
    local i j
    for ((i = 1; i <= NODES; i++)); do
        for ((j = i + 1; j <= NODES; j++)); do
            if [[ $TAG_BY == pipe ]] || ((j == i + 1)); then echo "$i $j"; fi
        done
    done
}

# on_way A B VIA HOME: whether what goes from node VIA to node HOME goes by the pipe between A and B
on_way() {
    local low=$(($3 < $4 ? $3 : $4)) high=$(($3 < $4 ? $4 : $3))
    if [[ $TAG_BY == pipe ]]; then (($1 == low && $2 == high)); else (($1 >= low && $1 < high)); fi
}

# The names of all pipes of a node.
pipes_of() {
    local i
    [[ $TAG_BY == pipe ]] || { echo "$PIPE_UP" "$PIPE_DOWN" && return; }
    for ((i = 1; i <= NODES; i++)); do
        [[ ${NODE[i]} == "$1" ]] || pipe_to "$i"
    done
}

# wire_at A B: what the pipe between A and B is called on node A
wire_at() { if [[ $TAG_BY == pipe ]]; then pipe_to "$2"; else echo "$PIPE_UP"; fi; }

# Where each node has a pipe to each other: the name of the one that leads to this node.
pipe_to() { echo "pipe-to-${NODE[$1]}"; }

# service NAME PROTOCOL PORT GUEST [GUEST'S PORT]
service() {
    cat <<TOML

[[service]]
name  = "$1"
proto = "$2"
port  = $3
guest = $(typed "GUEST_ADDRESS[$4]")
TOML
    if [[ -n ${5:-} && $5 != "$3" ]]; then echo "guest_port = $5"; fi
}
