# What can be made wrong, to see whether it is found. Always on the node that guest1 lives on; the others are right.
# shellcheck shell=bash

LAB_FAULTS=(mac swap save spoof)
FAULT=${FAULT:-none}

# The cluster file that a node is started with.
cluster_file_of() {
    local node=$1 file=$STATE/cluster.toml
    if [[ $node == "${NODE[${GUEST_HOME[1]}]}" && ($FAULT == mac || $FAULT == swap) ]]; then
        file=$STATE/$node.wrong.toml
        wrong_cluster_file >"$file"
    fi
    echo "$file"
}

# In a shell of its own: what is changed here is right again afterwards.
wrong_cluster_file() (
    case $FAULT in
    mac) PREFIX[NODES]=fe:dc:ba:98:00:00/32 ;;
    swap)
        last=${PREFIX[NODES]}
        PREFIX[NODES]=${PREFIX[NODES - 1]}
        PREFIX[NODES - 1]=$last
        ;;
    esac
    cluster_file
)

# Behind dunnat's back, in the rules that it has just installed. Chains stay, so that it can remove them.
break_rules() {
    local home=${NODE[${GUEST_HOME[1]}]}
    case $FAULT in
    save)
        if ! in_each_family flush_save "$home"; then
            warn "$home has no rules that save ct marks: verdicts do. Start with DUNNAT_RUN_OPTIONS='--force-fallback ctmark'"
            return 1
        fi
        ;;
    spoof)
        in_each_family flush_spoof "$home"
        ;;
    esac
}

flush_save() { within "$1" nft "flush chain $IP dunnat save-tag; flush chain $IP dunnat save"; }
flush_spoof() {
    if within "$1" nft list chain "$IP" dunnat ask-spoof >/dev/null 2>&1; then
        within "$1" nft flush chain "$IP" dunnat ask-spoof
    else
        within "$1" "$IPTABLES" -t mangle -F dunnat-spoof
    fi
}
