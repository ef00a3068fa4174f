#!/bin/sh -e
# dunnat on node1: what the kernel does itself, and which packets it queues for dunnat.
# This kernel's nft has no `queue`. Each queue has a chain; `dunnat fill-queues` adds its one rule.

nft -f - <<'END'
table inet dunnat-guard { comment "dunnat guard; remove it with: dunnat down"; }
flush table inet dunnat-guard
table inet dunnat-guard {
	counter from-public {
	}

	counter untranslated-requests {
	}

	counter inside-sources {
	}

	counter inside-quotes {
	}

	# A packet from the public LAN with a guest's source address is spoofed.
	chain spoofed {
		type filter hook prerouting priority -302; policy accept;
		ip saddr 10.5.5.0/24 iifname "xenbr0" ip daddr 192.168.122.11/32 meta ipsec missing counter name "from-public" drop
		ip saddr 10.5.5.0/24 iifname "xenbr0" ip daddr 10.5.5.0/24 meta ipsec missing counter name "from-public" drop
		ip6 saddr fd00:5::/64 iifname "xenbr0" ip6 daddr fd00:122::11/128 meta ipsec missing counter name "from-public" drop
		ip6 saddr fd00:5::/64 iifname "xenbr0" ip6 daddr fd00:5::/64 meta ipsec missing counter name "from-public" drop
	}

	# What has this node's own address, and is no request from outside, goes on.
	chain to-us {
		iifname "lo" return
		iifname "guestbr0" return
		ip daddr 192.168.122.11/32 meta l4proto 6 th dport 80 counter name "untranslated-requests" drop
		ip6 daddr fd00:122::11/128 meta l4proto 6 th dport 80 counter name "untranslated-requests" drop
		ip6 daddr fd00:122::11/128 meta l4proto 17 th dport 53 counter name "untranslated-requests" drop
	}

	# A request that still has this node's own address was not translated: no port of the node itself may
	# reply to it.
	chain untranslated-requests {
		type filter hook prerouting priority -290; policy accept;
		ip daddr 192.168.122.11/32 goto to-us
		ip6 daddr fd00:122::11/128 goto to-us
	}

	# Guests, the node itself and tunnels may see a guest's address.
	chain of-guests {
		oifname "lo" accept
		oifname "guestbr0" accept
		rt ipsec exists accept
		counter name "inside-sources" drop
	}

	# An ICMP error quotes the packet that it is about, with its addresses.
	chain errors {
		oifname "lo" accept
		oifname "guestbr0" accept
		rt ipsec exists accept
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
		meta nfproto ipv6 meta l4proto 58 icmpv6 type 1 @th,128,64 0xfd00000500000000 counter name "inside-quotes" drop
		meta nfproto ipv6 meta l4proto 58 icmpv6 type 1 @th,256,64 0xfd00000500000000 counter name "inside-quotes" drop
		meta nfproto ipv6 meta l4proto 58 icmpv6 type 2 @th,128,64 0xfd00000500000000 counter name "inside-quotes" drop
		meta nfproto ipv6 meta l4proto 58 icmpv6 type 2 @th,256,64 0xfd00000500000000 counter name "inside-quotes" drop
		meta nfproto ipv6 meta l4proto 58 icmpv6 type 3 @th,128,64 0xfd00000500000000 counter name "inside-quotes" drop
		meta nfproto ipv6 meta l4proto 58 icmpv6 type 3 @th,256,64 0xfd00000500000000 counter name "inside-quotes" drop
		meta nfproto ipv6 meta l4proto 58 icmpv6 type 4 @th,128,64 0xfd00000500000000 counter name "inside-quotes" drop
		meta nfproto ipv6 meta l4proto 58 icmpv6 type 4 @th,256,64 0xfd00000500000000 counter name "inside-quotes" drop
		meta nfproto ipv6 meta l4proto 58 icmpv6 type 137 @th,192,64 0xfd00000500000000 counter name "inside-quotes" drop
	}

	# No packet goes out with a guest's address, except to networks that may see it. SNAT (100) comes before.
	chain leaving {
		type filter hook postrouting priority 300; policy accept;
		ip daddr 10.5.5.0/24 accept
		ip saddr 10.5.5.0/24 goto of-guests
		meta nfproto ipv4 meta l4proto 1 goto errors
		ip6 daddr fd00:5::/64 accept
		ip6 saddr fd00:5::/64 goto of-guests
		meta nfproto ipv6 meta l4proto 58 goto errors
	}

	# No packet passes here. While a rule needs conntrack, the hooks of conntrack stay. When they go, the
	# kernel drops all packets that wait in queues.
	chain keeps-conntrack {
		ct state invalid continue
	}
}

table arp dunnat-guard { comment "dunnat guard; remove it with: dunnat down"; }
flush table arp dunnat-guard
table arp dunnat-guard {
	counter inside-arp {
	}

	# No ARP message shows a guest's address, or the gateway's, to another network.
	chain announced {
		type filter hook output priority 0; policy accept;
		oifname != "guestbr0" arp saddr ip 10.5.5.0/24 counter name "inside-arp" drop
	}
}

table ip dunnat { comment "dunnat node1"; }
add set ip dunnat elsewhere { type ipv4_addr; }
flush set ip dunnat elsewhere
flush table ip dunnat
table ip dunnat {
	# Guests that live on other nodes: those with another `home` in the cluster file.
	# dunnat adds those whose frames come in by a pipe.
	set elsewhere {
		type ipv4_addr
	}

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

table ip6 dunnat { comment "dunnat node1"; }
add set ip6 dunnat elsewhere { type ipv6_addr; }
flush set ip6 dunnat elsewhere
flush table ip6 dunnat
table ip6 dunnat {
	# Guests that live on other nodes: those with another `home` in the cluster file.
	# dunnat adds those whose frames come in by a pipe.
	set elsewhere {
		type ipv6_addr
	}

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
	# Guests that live on other nodes: those with another `home` in the cluster file.
	# dunnat adds those whose frames come in by a pipe.
	set elsewhere {
		type ipv4_addr
	}

	# dnat: requests to a service at our public address. Queued before conntrack (-200), so that conntrack
	# knows the flow by the guest's address, as on the home node.
	chain ask-dnat {
		type filter hook prerouting priority -300; policy accept;
		meta length > 65531 iifname "xenbr0" ip daddr 192.168.122.11 tcp dport { 80 } counter symhash mod 2 offset 102 vmap { 102 : jump queue-102, 103 : jump queue-103 }
		iifname "xenbr0" ip daddr 192.168.122.11 tcp dport { 80 } counter symhash mod 2 offset 100 vmap { 100 : jump queue-100, 101 : jump queue-101 }
		iifname "xenbr0" ip daddr 192.168.122.11 icmp type { destination-unreachable, source-quench, time-exceeded, parameter-problem } counter symhash mod 2 offset 102 vmap { 102 : jump queue-102, 103 : jump queue-103 }
	}

	# dnat: a packet that expires on this node needs no flow. The ICMP error about it would belong to that flow,
	# and the kernel queues no packet of a flow that is not confirmed.
	chain expiring {
		type filter hook prerouting priority -296; policy accept;
		iifname "xenbr0" ip daddr 10.5.5.0/24 ip ttl < 2 notrack
	}

	# Foreign flows only pass here: their replies take another way. Conntrack would take what it sees of them
	# for invalid.
	chain pass-foreign {
		type filter hook prerouting priority -297; policy accept;
		iifname "xenbr0" ip daddr @elsewhere notrack
		iifname "guestbr0" ip saddr != 10.5.5.0/24 ip daddr @elsewhere notrack
	}

	# tag: frames that are bridged to a guest, of a flow without a tag. The source MAC address tells which
	# node sent a frame. Frames pass here only with br_netfilter.
	chain ask-tag {
		type filter hook prerouting priority -150; policy accept;
		iifname "guestbr0" ip daddr 10.5.5.0/24 ct mark == 0 counter symhash mod 2 offset 104 vmap { 104 : jump queue-104, 105 : jump queue-105 }
	}

	# Save the tag that dunnat has just set as the ct mark.
	chain save-tag {
		type filter hook prerouting priority -149; policy accept;
		iifname "guestbr0" ip daddr 10.5.5.0/24 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# save: packets with a tag to a guest, of a flow without a tag.
	chain ask-save {
		type filter hook postrouting priority 0; policy accept;
		oifname "guestbr0" ip daddr 10.5.5.0/24 meta mark != 0 ct mark == 0 counter symhash mod 2 offset 106 vmap { 106 : jump queue-106, 107 : jump queue-107 }
	}

	# Save the tag that dunnat has accepted as the ct mark.
	chain save {
		type filter hook postrouting priority 2; policy accept;
		oifname "guestbr0" ip daddr 10.5.5.0/24 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# A queue does not show ct marks: copy the tag to the packet mark.
	chain show-to-spoof {
		type filter hook postrouting priority 89; policy accept;
		oifname "xenbr0" ip saddr 10.5.5.0/24 ct mark { 0x1, 0x2 } meta mark set ct mark
		oifname "xenbr0" ip protocol icmp ct state related ct mark { 0x1, 0x2 } meta mark set ct mark
	}

	# spoof: replies of a guest in a flow with a tag, and ICMP errors that quote a packet to a guest, also if
	# conntrack does not know that packet. Queued before SNAT (100).
	chain ask-spoof {
		type filter hook postrouting priority 90; policy accept;
		meta length > 65531 oifname "xenbr0" ip saddr 10.5.5.0/24 meta l4proto tcp ct mark { 0x1, 0x2 } counter symhash mod 2 offset 110 vmap { 110 : jump queue-110, 111 : jump queue-111 }
		oifname "xenbr0" ip saddr 10.5.5.0/24 meta l4proto tcp ct mark { 0x1, 0x2 } counter symhash mod 2 offset 108 vmap { 108 : jump queue-108, 109 : jump queue-109 }
		oifname "xenbr0" ip protocol icmp ct state { related, invalid } counter symhash mod 2 offset 110 vmap { 110 : jump queue-110, 111 : jump queue-111 }
		oifname "xenbr0" ip saddr 10.5.5.0/24 meta l4proto != tcp ct mark { 0x1, 0x2 } counter symhash mod 2 offset 110 vmap { 110 : jump queue-110, 111 : jump queue-111 }
	}

	# Flows that guests begin get our own address; conntrack keeps their state.
	chain snat-guests {
		type nat hook postrouting priority 100; policy accept;
		oifname "xenbr0" ip saddr 10.5.5.0/24 snat to 192.168.122.11
	}

	# A packet with a guest's source after SNAT was INVALID for conntrack; drop it, or the address leaks.
	chain nothing-inside {
		type filter hook postrouting priority 200; policy accept;
		oifname "xenbr0" ip saddr 10.5.5.0/24 counter drop
	}
}

table ip6 dunnat {
	# Guests that live on other nodes: those with another `home` in the cluster file.
	# dunnat adds those whose frames come in by a pipe.
	set elsewhere {
		type ipv6_addr
	}

	# dnat: requests to a service at our public address. Queued before conntrack (-200), so that conntrack
	# knows the flow by the guest's address, as on the home node.
	chain ask-dnat {
		type filter hook prerouting priority -300; policy accept;
		meta length > 65531 iifname "xenbr0" ip6 daddr fd00:122::11 tcp dport { 80 } counter symhash mod 2 offset 102 vmap { 102 : jump queue-102, 103 : jump queue-103 }
		iifname "xenbr0" ip6 daddr fd00:122::11 tcp dport { 80 } counter symhash mod 2 offset 100 vmap { 100 : jump queue-100, 101 : jump queue-101 }
		iifname "xenbr0" ip6 daddr fd00:122::11 udp dport { 53 } counter symhash mod 2 offset 102 vmap { 102 : jump queue-102, 103 : jump queue-103 }
		iifname "xenbr0" ip6 daddr fd00:122::11 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } counter symhash mod 2 offset 102 vmap { 102 : jump queue-102, 103 : jump queue-103 }
	}

	# dnat: a packet that expires on this node needs no flow. The ICMP error about it would belong to that flow,
	# and the kernel queues no packet of a flow that is not confirmed.
	chain expiring {
		type filter hook prerouting priority -296; policy accept;
		iifname "xenbr0" ip6 daddr fd00:5::/64 ip6 hoplimit < 2 notrack
	}

	# Foreign flows only pass here: their replies take another way. Conntrack would take what it sees of them
	# for invalid.
	chain pass-foreign {
		type filter hook prerouting priority -297; policy accept;
		iifname "xenbr0" ip6 daddr @elsewhere notrack
		iifname "guestbr0" ip6 saddr != fd00:5::/64 ip6 daddr @elsewhere notrack
	}

	# tag: frames that are bridged to a guest, of a flow without a tag. The source MAC address tells which
	# node sent a frame. Frames pass here only with br_netfilter.
	chain ask-tag {
		type filter hook prerouting priority -150; policy accept;
		iifname "guestbr0" ip6 daddr fd00:5::/64 ct mark == 0 counter symhash mod 2 offset 104 vmap { 104 : jump queue-104, 105 : jump queue-105 }
	}

	# Save the tag that dunnat has just set as the ct mark.
	chain save-tag {
		type filter hook prerouting priority -149; policy accept;
		iifname "guestbr0" ip6 daddr fd00:5::/64 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# save: packets with a tag to a guest, of a flow without a tag.
	chain ask-save {
		type filter hook postrouting priority 0; policy accept;
		oifname "guestbr0" ip6 daddr fd00:5::/64 meta mark != 0 ct mark == 0 counter symhash mod 2 offset 106 vmap { 106 : jump queue-106, 107 : jump queue-107 }
	}

	# Save the tag that dunnat has accepted as the ct mark.
	chain save {
		type filter hook postrouting priority 2; policy accept;
		oifname "guestbr0" ip6 daddr fd00:5::/64 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# A queue does not show ct marks: copy the tag to the packet mark.
	chain show-to-spoof {
		type filter hook postrouting priority 89; policy accept;
		oifname "xenbr0" ip6 saddr fd00:5::/64 ct mark { 0x1, 0x2 } meta mark set ct mark
		oifname "xenbr0" meta l4proto ipv6-icmp ct state related ct mark { 0x1, 0x2 } meta mark set ct mark
	}

	# spoof: replies of a guest in a flow with a tag, and ICMP errors that quote a packet to a guest, also if
	# conntrack does not know that packet. Queued before SNAT (100).
	chain ask-spoof {
		type filter hook postrouting priority 90; policy accept;
		meta length > 65531 oifname "xenbr0" ip6 saddr fd00:5::/64 meta l4proto tcp ct mark { 0x1, 0x2 } counter symhash mod 2 offset 110 vmap { 110 : jump queue-110, 111 : jump queue-111 }
		oifname "xenbr0" ip6 saddr fd00:5::/64 meta l4proto tcp ct mark { 0x1, 0x2 } counter symhash mod 2 offset 108 vmap { 108 : jump queue-108, 109 : jump queue-109 }
		oifname "xenbr0" meta l4proto ipv6-icmp ct state { related, invalid } counter symhash mod 2 offset 110 vmap { 110 : jump queue-110, 111 : jump queue-111 }
		oifname "xenbr0" ip6 saddr fd00:5::/64 meta l4proto != tcp ct mark { 0x1, 0x2 } counter symhash mod 2 offset 110 vmap { 110 : jump queue-110, 111 : jump queue-111 }
	}

	# No ICMP redirect may show a guest's address to a client. The kernel sends redirects where the public interface is a bridge.
	chain redirects {
		type filter hook postrouting priority -300; policy accept;
		oifname "xenbr0" icmpv6 type nd-redirect @th,192,64 0xfd00000500000000 drop
	}

	# Flows that guests begin get our own address; conntrack keeps their state.
	chain snat-guests {
		type nat hook postrouting priority 100; policy accept;
		oifname "xenbr0" ip6 saddr fd00:5::/64 snat to fd00:122::11
	}

	# A packet with a guest's source after SNAT was INVALID for conntrack; drop it, or the address leaks.
	chain nothing-inside {
		type filter hook postrouting priority 200; policy accept;
		oifname "xenbr0" ip6 saddr fd00:5::/64 counter drop
	}
}

table bridge dunnat {
	# Every node has the gateway address 10.5.5.254. No guest may learn another node's MAC address for it.
	chain pipe-arp {
		type filter hook postrouting priority -500; policy accept;
		arp saddr ip 10.5.5.254 oifname { "eth1.100", "eth2.100" } drop
		arp daddr ip 10.5.5.254 oifname { "eth1.100", "eth2.100" } drop
	}

	# Every node has the gateway address fd00:5::fe. No guest may learn another node's MAC address for it, or use
	# another node as its router.
	chain pipe-nd {
		type filter hook postrouting priority -500; policy accept;
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } @th,64,128 0xfd0000050000000000000000000000fe oifname { "eth1.100", "eth2.100" } drop
		ip6 saddr fd00:5::fe icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } oifname { "eth1.100", "eth2.100" } drop
		icmpv6 type nd-router-advert oifname { "eth1.100", "eth2.100" } drop
	}
}
END
