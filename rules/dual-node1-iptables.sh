#!/bin/sh -e
nft -f - <<'END'
# dunnat on node1: what the kernel does itself, and which packets it asks dunnat about.

create table ip dunnat { comment "dunnat node1 queues 100-111"; }
table ip dunnat {
	# dnat: a packet that goes no further than this node needs no flow. An ICMP error belongs to the flow of
	# what it is about, and while a flow is not confirmed the kernel queues nothing of it.
	chain expiring {
		type filter hook prerouting priority -298; policy accept;
		iifname "xenbr0" ip daddr 10.5.5.0/24 ip ttl < 2 notrack
	}

	# The tag that dunnat has just set becomes the ct mark.
	chain save-tag {
		type filter hook prerouting priority -149; policy accept;
		iifname "guestbr0" ip daddr 10.5.5.0/24 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# The tag that dunnat has agreed to becomes the ct mark.
	chain save {
		type filter hook postrouting priority 0; policy accept;
		oifname "guestbr0" ip daddr 10.5.5.0/24 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# A queue does not show ct marks: the packet mark carries it there.
	chain show-to-spoof {
		type filter hook postrouting priority -160; policy accept;
		oifname "xenbr0" ip saddr 10.5.5.0/24 ct mark { 0x1, 0x2 } meta mark set ct mark
		oifname "xenbr0" ip protocol icmp ct state related ct mark { 0x1, 0x2 } meta mark set ct mark
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

create table ip6 dunnat { comment "dunnat node1 queues 100-111"; }
table ip6 dunnat {
	# dnat: a packet that goes no further than this node needs no flow. An ICMP error belongs to the flow of
	# what it is about, and while a flow is not confirmed the kernel queues nothing of it.
	chain expiring {
		type filter hook prerouting priority -298; policy accept;
		iifname "xenbr0" ip6 daddr fd00:5::/64 ip6 hoplimit < 2 notrack
	}

	# The tag that dunnat has just set becomes the ct mark.
	chain save-tag {
		type filter hook prerouting priority -149; policy accept;
		iifname "guestbr0" ip6 daddr fd00:5::/64 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# The tag that dunnat has agreed to becomes the ct mark.
	chain save {
		type filter hook postrouting priority 0; policy accept;
		oifname "guestbr0" ip6 daddr fd00:5::/64 meta mark { 0x1, 0x2 } ct mark == 0 ct mark set meta mark
	}

	# A queue does not show ct marks: the packet mark carries it there.
	chain show-to-spoof {
		type filter hook postrouting priority -160; policy accept;
		oifname "xenbr0" ip6 saddr fd00:5::/64 ct mark { 0x1, 0x2 } meta mark set ct mark
		oifname "xenbr0" meta l4proto ipv6-icmp ct state related ct mark { 0x1, 0x2 } meta mark set ct mark
	}

	# No client may hear of a guest by a redirect: where the public interface is a bridge, the kernel sends some.
	chain redirects {
		type filter hook postrouting priority -300; policy accept;
		oifname "xenbr0" icmpv6 type nd-redirect @th,192,64 0xfd00000500000000 drop
	}

	# Flows that guests begin leave with our own address; the kernel keeps their states.
	chain snat-guests {
		type nat hook postrouting priority 100; policy accept;
		oifname "xenbr0" ip6 saddr fd00:5::/64 snat to fd00:122::11
	}

	# What has a guest's address behind SNAT is what conntrack calls invalid: it would show that address.
	chain nothing-inside {
		type filter hook postrouting priority 200; policy accept;
		oifname "xenbr0" ip6 saddr fd00:5::/64 counter drop
	}
}

create table bridge dunnat
table bridge dunnat {
	# Every node holds the gateway address 10.5.5.254. No guest may hear of another node's.
	chain pipe-arp {
		type filter hook postrouting priority -500; policy accept;
		oifname { "eth1.100", "eth2.100" } arp saddr ip 10.5.5.254 drop
		oifname { "eth1.100", "eth2.100" } arp daddr ip 10.5.5.254 drop
	}

	# Every node holds the gateway address fd00:5::fe. No guest may hear of another node's, nor take that for
	# its router.
	chain pipe-nd {
		type filter hook postrouting priority -500; policy accept;
		oifname { "eth1.100", "eth2.100" } icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } @th,64,128 0xfd0000050000000000000000000000fe drop
		oifname { "eth1.100", "eth2.100" } ip6 saddr fd00:5::fe icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } drop
		oifname { "eth1.100", "eth2.100" } icmpv6 type nd-router-advert drop
	}
}
END

iptables-nft-restore --noflush <<'END'
*raw
:dunnat-dnat - [0:0]
-A dunnat-dnat -i xenbr0 -d 192.168.122.11 -p tcp -m multiport --dports 80 -j NFQUEUE --queue-balance 100:101
-A dunnat-dnat -i xenbr0 -d 192.168.122.11 -p icmp -m icmp --icmp-type 3 -j NFQUEUE --queue-balance 102:103
-A dunnat-dnat -i xenbr0 -d 192.168.122.11 -p icmp -m icmp --icmp-type 4 -j NFQUEUE --queue-balance 102:103
-A dunnat-dnat -i xenbr0 -d 192.168.122.11 -p icmp -m icmp --icmp-type 11 -j NFQUEUE --queue-balance 102:103
-A dunnat-dnat -i xenbr0 -d 192.168.122.11 -p icmp -m icmp --icmp-type 12 -j NFQUEUE --queue-balance 102:103
-I PREROUTING -j dunnat-dnat
COMMIT
*mangle
:dunnat-tag - [0:0]
:dunnat-save - [0:0]
:dunnat-spoof - [0:0]
-A dunnat-tag -i guestbr0 -d 10.5.5.0/24 -m connmark --mark 0x0 -j NFQUEUE --queue-balance 104:105
-A dunnat-save -o guestbr0 -d 10.5.5.0/24 -m mark ! --mark 0x0 -m connmark --mark 0x0 -j NFQUEUE --queue-balance 106:107
-A dunnat-spoof -o xenbr0 -s 10.5.5.0/24 -p tcp -m connmark ! --mark 0x0 -j NFQUEUE --queue-balance 108:109
-A dunnat-spoof -o xenbr0 -p icmp -m conntrack --ctstate RELATED,INVALID -j NFQUEUE --queue-balance 110:111
-A dunnat-spoof -o xenbr0 -s 10.5.5.0/24 ! -p tcp -m connmark ! --mark 0x0 -j NFQUEUE --queue-balance 110:111
-I PREROUTING -j dunnat-tag
-I POSTROUTING -j dunnat-save
-I POSTROUTING -j dunnat-spoof
COMMIT
END

ip6tables-nft-restore --noflush <<'END'
*raw
:dunnat-dnat - [0:0]
-A dunnat-dnat -i xenbr0 -d fd00:122::11 -p tcp -m multiport --dports 80 -j NFQUEUE --queue-balance 100:101
-A dunnat-dnat -i xenbr0 -d fd00:122::11 -p udp -m multiport --dports 53 -j NFQUEUE --queue-balance 102:103
-A dunnat-dnat -i xenbr0 -d fd00:122::11 -p ipv6-icmp -m icmp6 --icmpv6-type 1 -j NFQUEUE --queue-balance 102:103
-A dunnat-dnat -i xenbr0 -d fd00:122::11 -p ipv6-icmp -m icmp6 --icmpv6-type 2 -j NFQUEUE --queue-balance 102:103
-A dunnat-dnat -i xenbr0 -d fd00:122::11 -p ipv6-icmp -m icmp6 --icmpv6-type 3 -j NFQUEUE --queue-balance 102:103
-A dunnat-dnat -i xenbr0 -d fd00:122::11 -p ipv6-icmp -m icmp6 --icmpv6-type 4 -j NFQUEUE --queue-balance 102:103
-I PREROUTING -j dunnat-dnat
COMMIT
*mangle
:dunnat-tag - [0:0]
:dunnat-save - [0:0]
:dunnat-spoof - [0:0]
-A dunnat-tag -i guestbr0 -d fd00:5::/64 -m connmark --mark 0x0 -j NFQUEUE --queue-balance 104:105
-A dunnat-save -o guestbr0 -d fd00:5::/64 -m mark ! --mark 0x0 -m connmark --mark 0x0 -j NFQUEUE --queue-balance 106:107
-A dunnat-spoof -o xenbr0 -s fd00:5::/64 -p tcp -m connmark ! --mark 0x0 -j NFQUEUE --queue-balance 108:109
-A dunnat-spoof -o xenbr0 -p ipv6-icmp -m conntrack --ctstate RELATED,INVALID -j NFQUEUE --queue-balance 110:111
-A dunnat-spoof -o xenbr0 -s fd00:5::/64 ! -p tcp -m connmark ! --mark 0x0 -j NFQUEUE --queue-balance 110:111
-I PREROUTING -j dunnat-tag
-I POSTROUTING -j dunnat-save
-I POSTROUTING -j dunnat-spoof
COMMIT
END
