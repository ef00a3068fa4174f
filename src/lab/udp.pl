# Both ends of the lab's UDP service. All that it uses is in perl-base, which every Debian has.
#
#   udp.pl serve ADDRESS PORT       sends every datagram back; returns once it listens, and goes on in the background
#   udp.pl ask ADDRESS PORT OWN-PORT [--no-checksum] WHAT...
#                                   sends datagrams from OWN-PORT, each after the reply to the one before, and compares the bytes
#     WHAT  LENGTH, FROM-TO         random bytes, as many
#           backwards:LENGTH, shuffled:LENGTH
#                                   the same, cut into fragments here, which leave in that order
#           zero:GUEST              two bytes, chosen so that the checksum between here and GUEST comes out as 0
#
# `ask` prints "COUNT AGAIN" (datagrams, and how many it sent again because a reply was late or lost), then one line for every fault, and exits 0 for these too.
use strict;
use warnings;
use IO::Socket::IP;
use POSIX qw(setsid);
use List::Util qw(shuffle);
use Socket qw(SOL_SOCKET SOCK_RAW AF_INET AF_INET6 inet_pton pack_sockaddr_in pack_sockaddr_in6);

# Linux; Socket has no names for these.
my ($SO_NO_CHECK, $SOL_UDP, $UDP_NO_CHECK6_TX, $UDP_NO_CHECK6_RX) = (11, 17, 101, 102);

my ($verb, $address, $port, $own, @what) = @ARGV;
my $slow = $ENV{DUNNAT_LAB_SLOW} // 1;
if    (@ARGV == 3 && $verb eq 'serve') { serve() }
elsif (@ARGV >= 5 && $verb eq 'ask')   { ask() }
else                                   { die "usage: udp.pl serve ADDRESS PORT | ask ADDRESS PORT OWN-PORT [--no-checksum] WHAT...\n" }

sub serve {
    my $socket = IO::Socket::IP->new(Proto => 'udp', LocalAddr => $address, LocalPort => $port)
        or die "udp port $port of $address: $@\n";
    # With IPv6 a checksum of 0 is for tunnels (RFC 6935), and taken by those only who ask for it.
    six() and setsockopt($socket, $SOL_UDP, $UDP_NO_CHECK6_RX, 1) || die "UDP_NO_CHECK6_RX: $!\n";
    my $child = fork() // die "fork: $!\n";
    return if $child;
    setsid();
    # Whoever reads what the lab prints must not have to wait for this process to end.
    open $_, '+<', '/dev/null' for *STDIN, *STDOUT, *STDERR;
    while (1) {
        my $from = $socket->recv(my $bytes, 65535);
        $socket->send($bytes, 0, $from) if $from;
    }
}

sub ask {
    # Connected: the kernel then passes on only what comes from the address and port that it sends to.
    my $socket = IO::Socket::IP->new(Proto => 'udp', PeerAddr => $address, PeerPort => $port, LocalPort => $own)
        or die "$address, from port $own: $@\n";
    if ($what[0] eq '--no-checksum') {
        my ($level, $option) = six() ? ($SOL_UDP, $UDP_NO_CHECK6_TX) : (SOL_SOCKET, $SO_NO_CHECK);
        setsockopt $socket, $level, $option, 1 or die "no checksum: $!\n";
        shift @what;
    }
    my (%late, @faults);
    my ($count, $again) = (0, 0);
    for my $datagram (map { datagrams($_, $socket) } @what) {
        $count++;
        my ($bytes, $send) = @$datagram;
        my ($fault, $sent) = converse($socket, $bytes, $send, \%late);
        $again += $sent - 1;
        push @faults, length($bytes) . " bytes: $fault" if $fault;
        last if @faults == 3; # the rest would only take long
    }
    print join("\n", "$count $again", @faults), "\n";
}

# The reply to one datagram, or the fault there was, and how often it was sent. A datagram may be lost without anyone's
# fault, and on a busy machine a reply may come after its request was repeated: it then comes twice.
sub converse {
    my ($socket, $bytes, $send, $late) = @_;
    my $fault = 'no reply';
    for my $sent (1 .. 6) {
        $late->{$bytes} = 1 if $sent > 1;
        # An error may be that of an earlier datagram (ICMP), so it counts only if none of these gets a reply.
        defined $send->() or $fault = "send: $!";
        while (readable($socket, 0.1 * $slow * $sent)) {
            defined $socket->recv(my $reply, 65535) or $fault = "no reply: $!", next;
            return ('', $sent) if $reply eq $bytes;
            return ('the reply is not what was sent: ' . difference($bytes, $reply), $sent) if !$late->{$reply};
        }
    }
    return ($fault, 6);
}

sub six { return $address =~ /:/ }

sub readable {
    my ($socket, $seconds) = @_;
    vec(my $set = '', fileno $socket, 1) = 1;
    return select($set, undef, undef, $seconds) > 0;
}

sub difference {
    my ($sent, $got) = @_;
    return length($got) . ' bytes' if length $got != length $sent;
    ($sent ^ $got) =~ /[^\0]/ or return 'none';
    return "byte $-[0] is " . join ', was ', map { sprintf '0x%02x', ord substr $_, $-[0], 1 } $got, $sent;
}

# Each with its bytes and the way to send it.
sub datagrams {
    my ($what, $socket) = @_;
    my $whole = sub { my $bytes = shift; [$bytes, sub { $socket->send($bytes) }] };
    return map { $whole->(random($_)) } $1 .. $2 // $1 if $what =~ /^(\d+)(?:-(\d+))?$/;
    return $whole->(summing_to_zero($socket, $1)) if $what =~ /^zero:([\da-f.:]+)$/;
    if ($what =~ /^(backwards|shuffled):(\d+)$/) {
        my ($order, $bytes) = ($1, random($2));
        return [$bytes, sub { send_fragments($socket, $bytes, $order) }];
    }
    die "what is '$what'?\n";
}

# The kernel never sends fragments in another order than theirs.
sub send_fragments {
    my ($socket, $bytes, $order) = @_;
    my ($from, $to) = ($socket->sockaddr, inet_pton(six() ? AF_INET6 : AF_INET, $address));
    my $udp = pack 'n4 a*', $socket->sockport, $port, 8 + length $bytes, 0, $bytes;
    my $sum = 0xffff - sum(pack 'a* a* n n a* x![n]', $from, $to, 17, length $udp, $udp);
    substr($udp, 6, 2) = pack 'n', $sum || 0xffff;
    # As many bytes as fit into a frame: a multiple of 8.
    my ($size, $id, @fragments) = (six() ? 1448 : 1480, 1 + int rand 0xffff);
    for (my $at = 0; $at < length $udp; $at += $size) {
        my ($part, $more) = (substr($udp, $at, $size), $at + $size < length $udp);
        push @fragments, six()
            ? pack 'N n C2 a* a*  C2 n N a*', 6 << 28, 8 + length $part, 44, 64, $from, $to, 17, 0, $at | $more, $id, $part
            : pack 'C2 n3 C2 n a* a* a*', 0x45, 0, 20 + length $part, $id, $at / 8 | $more << 13, 64, 17, 0, $from, $to, $part;
    }
    # Of IPPROTO_RAW, which Socket does not name: the header is part of what is sent.
    socket my $raw, six() ? AF_INET6 : AF_INET, SOCK_RAW, 255 or die "raw socket: $!\n";
    my $peer = six() ? pack_sockaddr_in6(0, $to) : pack_sockaddr_in(0, $to);
    for ($order eq 'backwards' ? reverse @fragments : shuffle @fragments) {
        defined send $raw, $_, 0, $peer or return;
    }
    return 1;
}

sub random {
    my $length = shift;
    open my $file, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
    my $bytes = '';
    sysread $file, $bytes, $length or die "/dev/urandom: $!\n" if $length;
    return $bytes;
}

# Pseudo header and header without checksum, and a payload of two bytes that makes all of it sum to 0xffff.
sub summing_to_zero {
    my ($socket, $guest) = @_;
    # The pseudo headers of both families hold the same words.
    my $to = inet_pton(six() ? AF_INET6 : AF_INET, $guest);
    my $all = pack 'a* a* n n  n n n', $socket->sockaddr, $to, 17, 10, $socket->sockport, $port, 10;
    return pack 'n', 0xffff - sum($all);
}

# Of the words of 16 bits, in ones' complement (RFC 1071).
sub sum {
    my $sum = unpack '%32n*', shift;
    $sum = ($sum & 0xffff) + ($sum >> 16) while $sum > 0xffff;
    return $sum;
}
