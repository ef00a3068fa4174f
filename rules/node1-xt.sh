#!/bin/sh -e
# dunnat on node1: what the kernel does itself, and which packets it asks dunnat about.
# This kernel's nft has no word for queues. Each has a chain, which `dunnat fill-queues` gives its one rule.

nft -f - <<'END'
table inet dunnat-guard { comment "dunnat guard; remove it with: dunnat down"; }
flush table inet dunnat-guard
table inet dunnat-guard {
	counter from-public {
	}

	counter untranslated-calls {
	}

	counter inside-sources {
	}

	counter inside-quotes {
	}

	# Nobody on the public LAN has a guest's address.
	chain spoofed {
		type filter hook prerouting priority -302; policy accept;
		iifname "xenbr0" ip saddr 10.5.5.0/24 ip daddr 192.168.122.11/32 meta ipsec missing counter name "from-public" drop
		iifname "xenbr0" ip saddr 10.5.5.0/24 ip daddr 10.5.5.0/24 meta ipsec missing counter name "from-public" drop
	}

	# A call that is still for this node's own address was not translated: no port of the node itself
	# answers it.
	chain untranslated-calls {
		type filter hook prerouting priority -290; policy accept;
		iifname "lo" return
		iifname "guestbr0" return
		ip daddr 192.168.122.11/32 meta l4proto 6 th dport 80 counter name "untranslated-calls" drop
	}

	# No packet leaves with a guest's address, but to who may see it. SNAT (100) comes before.
	chain leaving {
		type filter hook postrouting priority 300; policy accept;
		oifname "lo" accept
		oifname "guestbr0" accept
		rt ipsec exists accept
		ip daddr 10.5.5.0/24 accept
		ip saddr 10.5.5.0/24 counter name "inside-sources" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 3 @th,160,24 0xa0505 counter name "inside-quotes" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 3 @th,192,24 0xa0505 counter name "inside-quotes" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 4 @th,160,24 0xa0505 counter name "inside-quotes" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 4 @th,192,24 0xa0505 counter name "inside-quotes" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 11 @th,160,24 0xa0505 counter name "inside-quotes" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 11 @th,192,24 0xa0505 counter name "inside-quotes" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 12 @th,160,24 0xa0505 counter name "inside-quotes" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 12 @th,192,24 0xa0505 counter name "inside-quotes" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 5 @th,160,24 0xa0505 counter name "inside-quotes" drop
		meta nfproto ipv4 meta l4proto 1 icmp type 5 @th,192,24 0xa0505 counter name "inside-quotes" drop
	}

	# No packet comes by here. While a rule asks for conntrack its hooks stay; when they go the kernel drops
	# all packets that wait in queues.
	chain keeps-conntrack {
		ct state invalid continue
	}
}

table arp dunnat-guard { comment "dunnat guard; remove it with: dunnat down"; }
flush table arp dunnat-guard
table arp dunnat-guard {
	counter inside-arp {
	}

	# No other network hears of a guest's address, or of the gateway's.
	chain announced {
		type filter hook output priority 0; policy accept;
		oifname != "guestbr0" arp saddr ip 10.5.5.0/24 counter name "inside-arp" drop
	}
}

table ip dunnat { comment "dunnat node1"; }
flush table ip dunnat
table ip dunnat {
	chain queue-100 {
	}

	chain queue-101 {
	}

	chain queue-102 {
	}

	chain queue-103 {
	}

	chain queue-104 {
	}

	chain queue-105 {
	}

	chain queue-106 {
	}

	chain queue-107 {
	}

	chain queue-108 {
	}

	chain queue-109 {
	}

	chain queue-110 {
	}

	chain queue-111 {
	}
}

table bridge dunnat { comment "dunnat node1"; }
flush table bridge dunnat
table bridge dunnat {
}
END

dunnat fill-queues

nft -f - <<'END'
table ip dunnat {
	# dnat: a client calls a service at our public address. Asked before conntrack (-200), which so
	# knows the flow by the guest's address, as on the guest's node.
	chain ask-dnat {
		type filter hook prerouting priority -300; policy accept;
		meta length > 65531 iifname "xenbr0" ip daddr 192.168.122.11 tcp dport { 80 } counter symhash mod 2 offset 102 vmap { 102 : jump queue-102, 103 : jump queue-103 }
		iifname "xenbr0" ip daddr 192.168.122.11 tcp dport { 80 } counter symhash mod 2 offset 100 vmap { 100 : jump queue-100, 101 : jump queue-101 }
		iifname "xenbr0" ip daddr 192.168.122.11 icmp type { destination-unreachable, source-quench, time-exceeded, parameter-problem } counter symhash mod 2 offset 102 vmap { 102 : jump queue-102, 103 : jump queue-103 }
	}

	# dnat: a packet that goes no further than this node needs no flow. An ICMP error belongs to the flow of
	# what it is about, and while a flow is not confirmed the kernel queues nothing of it.
	chain expiring {
		type filter hook prerouting priority -298; policy accept;
		iifname "xenbr0" ip daddr 10.5.5.0/24 ip ttl < 2 notrack
	}

	# tag: a frame is bridged to a guest, and its flow has no tag. Its source MAC address says which
	# node sent it. Seen here only with br_netfilter.
	chain ask-tag {
		type filter hook prerouting priority -150; policy accept;
		iifname "guestbr0" ip daddr 10.5.5.0/24 ct mark == 0 counter symhash mod 2 offset 104 vmap { 104 : jump queue-104, 105 : jump queue-105 }
	}

	# The tag that dunnat has just set becomes the ct mark.
	chain save-tag {
		type filter hook prerouting priority -149; policy accept;
		iifname "guestbr0" ip daddr 10.5.5.0/24 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# save: a packet with a tag goes to a guest, and its flow has none yet.
	chain ask-save {
		type filter hook postrouting priority 0; policy accept;
		oifname "guestbr0" ip daddr 10.5.5.0/24 meta mark != 0 ct mark == 0 counter symhash mod 2 offset 106 vmap { 106 : jump queue-106, 107 : jump queue-107 }
	}

	# The tag that dunnat has agreed to becomes the ct mark.
	chain save {
		type filter hook postrouting priority 1; policy accept;
		oifname "guestbr0" ip daddr 10.5.5.0/24 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# A queue does not show ct marks: the packet mark carries it there.
	chain show-to-spoof {
		type filter hook postrouting priority 89; policy accept;
		oifname "xenbr0" ip saddr 10.5.5.0/24 ct mark { 0x1, 0x2 } meta mark set ct mark
		oifname "xenbr0" ip protocol icmp ct state related ct mark { 0x1, 0x2 } meta mark set ct mark
	}

	# spoof: a guest answers a flow with a tag, or an ICMP error quotes a packet to a guest, which
	# conntrack need not know. Asked before SNAT (100).
	chain ask-spoof {
		type filter hook postrouting priority 90; policy accept;
		meta length > 65531 oifname "xenbr0" ip saddr 10.5.5.0/24 meta l4proto tcp ct mark { 0x1, 0x2 } counter symhash mod 2 offset 110 vmap { 110 : jump queue-110, 111 : jump queue-111 }
		oifname "xenbr0" ip saddr 10.5.5.0/24 meta l4proto tcp ct mark { 0x1, 0x2 } counter symhash mod 2 offset 108 vmap { 108 : jump queue-108, 109 : jump queue-109 }
		oifname "xenbr0" ip protocol icmp ct state { related, invalid } counter symhash mod 2 offset 110 vmap { 110 : jump queue-110, 111 : jump queue-111 }
		oifname "xenbr0" ip saddr 10.5.5.0/24 meta l4proto != tcp ct mark { 0x1, 0x2 } counter symhash mod 2 offset 110 vmap { 110 : jump queue-110, 111 : jump queue-111 }
	}

	# Flows that guests begin leave with our own address; the kernel keeps their states.
	chain snat-guests {
		type nat hook postrouting priority 100; policy accept;
		oifname "xenbr0" ip saddr 10.5.5.0/24 snat to 192.168.122.11
	}

	# What has a guest's address behind SNAT is what conntrack calls invalid: it would show that address.
	chain nothing-inside {
		type filter hook postrouting priority 200; policy accept;
		oifname "xenbr0" ip saddr 10.5.5.0/24 counter drop
	}
}

table bridge dunnat {
	# Every node holds the gateway address 10.5.5.254. No guest may hear of another node's.
	chain pipe-arp {
		type filter hook postrouting priority -500; policy accept;
		oifname { "eth1.100", "eth2.100" } arp saddr ip 10.5.5.254 drop
		oifname { "eth1.100", "eth2.100" } arp daddr ip 10.5.5.254 drop
	}
}
END
