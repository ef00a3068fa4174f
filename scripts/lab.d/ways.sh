# How it is done. Every way of doing it passes the acceptance, so a fallback that nobody has asked for would pass it, too:
# what `accept --expect` names is looked for in the rules and in conntrack, and so is what must not be there.
# shellcheck shell=bash

WAYS=(nft-queue iptables-queue no-queue ct-mark-by-verdict ct-mark-by-rule)

# check_way WAY: while it runs, and after there was traffic
check_way() {
    case $1 in
    nft-queue) check_nft_queue ;;
    iptables-queue) check_iptables_queue ;;
    no-queue) check_no_queue ;;
    ct-mark-by-verdict) check_ct_mark_by_verdict ;;
    ct-mark-by-rule) check_ct_mark_by_rule ;;
    esac
}

nft_rules() { within "$1" nft list ruleset 2>/dev/null; } # it warns of tables that are iptables' own
# nft shows the rules of iptables-nft in words of its own; iptables shows its own, and none that are not.
iptables_rules() { within "$1" iptables-nft-save 2>/dev/null || true; }
lines_with() { grep -cE -e "$1" || true; }

# What the queues of a node have handed over: "QUEUES PACKETS".
queued() {
    within "$1" cat /proc/net/netfilter/nfnetlink_queue 2>/dev/null | awk '{ packets += $8 } END { print NR, packets + 0 }'
}

check_nft_queue() {
    local node queues packets rules rule
    begin "packets are queued by nft alone"
    for node in "${NODE[@]}"; do
        read -r queues packets < <(queued "$node")
        rules=$(nft_rules "$node" | lines_with 'queue .*to (symhash mod|jhash|[0-9])')
        must_be "$node: rules of iptables with NFQUEUE" "$(iptables_rules "$node" | lines_with NFQUEUE)" 0
        ((rules > 0)) || fault "$node: no rule of nft with queue"
        ((packets > 0)) || fault "$node: no packet was in a queue"
        # More queues than rules: a rule spreads packets over several, and by symhash both directions meet in one.
        if ((queues > rules)); then
            must_be "$node: rules that spread packets by symhash" \
                "$(nft_rules "$node" | lines_with 'queue .*to symhash mod [0-9]+ offset [0-9]+')" "$rules"
        fi
        rule=$(nft_rules "$node" | grep -oE -m 1 'queue .*to (symhash mod|jhash|[0-9]).*' || true)
        proof "$node: $rules rules as \"$rule\", $queues queues, $packets packets; no NFQUEUE in iptables-save"
    done
    finish
}

check_iptables_queue() {
    local node queues packets rules
    begin "packets are queued by iptables-nft alone"
    for node in "${NODE[@]}"; do
        read -r queues packets < <(queued "$node")
        rules=$(iptables_rules "$node" | lines_with NFQUEUE)
        ((rules > 0)) || fault "$node: no rule of iptables with NFQUEUE"
        ((packets > 0)) || fault "$node: no packet was in a queue"
        must_be "$node: rules of nft with queue" "$(nft_rules "$node" | lines_with 'queue .*to (symhash mod|jhash|[0-9])')" 0
        proof "$node: $rules rules with NFQUEUE in iptables-save, $queues queues, $packets packets; no queue of nft"
    done
    finish
}

check_no_queue() {
    local node queues packets
    begin "no packet is queued"
    for node in "${NODE[@]}"; do
        read -r queues packets < <(queued "$node")
        must_be "$node: queues" "$queues" 0
        must_be "$node: rules that queue" "$({ nft_rules "$node"; iptables_rules "$node"; } | lines_with '[^-]\bqueue\b|NFQUEUE')" 0
        proof "$node: no queue, and no rule that queues"
    done
    finish
}

# Rules of a node that set ct marks.
ct_mark_rules() { { nft_rules "$1"; iptables_rules "$1"; } | lines_with 'ct mark set|CONNMARK'; }
marked_flows() { within "$1" conntrack -L 2>/dev/null | lines_with ' mark=[1-9]'; }

check_ct_mark_by_verdict() {
    local node home=${NODE[${GUEST_HOME[1]}]} marked
    begin "ct marks are set by verdicts"
    for node in "${NODE[@]}"; do must_be "$node: rules that set ct marks" "$(ct_mark_rules "$node")" 0; done
    marked=$(marked_flows "$home")
    ((marked > 0)) || fault "$home: no flow has a mark"
    proof "$home: $marked flows have a mark, and no rule of any node sets one"
    finish
}

check_ct_mark_by_rule() {
    local node rules home=${NODE[${GUEST_HOME[1]}]} marked
    begin "ct marks are set by rules"
    for node in "${NODE[@]}"; do
        rules=$(ct_mark_rules "$node")
        ((rules > 0)) || fault "$node: no rule sets ct marks"
        proof "$node: $rules rules set ct marks"
    done
    marked=$(marked_flows "$home")
    ((marked > 0)) || fault "$home: no flow has a mark"
    proof "$home: $marked flows have a mark"
    finish
}

# Pipes that are VLANs: on the cable every frame has the tag, and the frames of the pipe are there.
check_trunks() {
    local i all tagged piped
    begin "the pipes are VLAN $VLAN of $TRUNK_UP"
    for ((i = 1; i <= NODES; i++)); do
        must_be "${NODE[i]}: 802.1Q devices $PIPE_UP and $PIPE_DOWN" \
            "$(within "${NODE[i]}" ip -d link show type vlan | lines_with "vlan protocol 802.1Q id $VLAN ")" 2
    done
    for ((i = 1; i < NODES; i++)); do
        all=$(count "$(trunk_capture "$i")" "") tagged=$(count "$(trunk_capture "$i")" "vlan $VLAN")
        piped=$(count "$(pipe_capture "$i" $((i + 1)))" "")
        ((all > 0)) || fault "${NODE[i]}-${NODE[i + 1]}: the capture of the cable is empty"
        must_be "${NODE[i]}-${NODE[i + 1]}: frames with the tag of VLAN $VLAN, of $all on the cable" "$tagged" "$all"
        must_be "${NODE[i]}-${NODE[i + 1]}: frames of the pipe, of $all on the cable" "$piped" "$all"
        proof "${NODE[i]}-${NODE[i + 1]}: $all frames on the cable, all with the tag $VLAN; as many in the pipe"
    done
    finish
}
