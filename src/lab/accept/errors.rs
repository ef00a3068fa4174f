//! ICMP errors: a traceroute sees the way, and a port where nobody listens is said to be closed. The kernel's own ruleset cannot do
//! this: it leaves what an error quotes as it is.

use std::net::IpAddr;

use super::claim::Claim;
use super::{Probe, Seen};
use crate::lab::{Error, Frame, Lab, Layout};
use crate::net::Family;

/// Whether an ICMP error quotes a packet from or to an inside address.
pub(super) fn quotes_inside(layout: &Layout, family: Family, frame: &Frame) -> bool {
    let guests = layout.at(family).guests;
    frame.error().is_some_and(|error| guests.contains(&error.about.src) || guests.contains(&error.about.dst))
}

/// A traceroute by TCP to the service of the first guest.
pub(super) struct Traceroute<'a> {
    family: Family,
    who: &'a str,
    via: usize,
    /// What printed it, and what it should have been.
    seen: Vec<String>,
    expected: Vec<IpAddr>,
}

impl<'a> Traceroute<'a> {
    pub(super) fn make(
        lab: &'a Lab,
        family: Family,
        who: &'a str,
        via: usize,
        expected: Vec<IpAddr>,
    ) -> Result<Self, Error> {
        let layout = &lab.layout;
        let (port, public) =
            (layout.guests[0].service_port.to_string(), layout.public(via, family).to_string());
        let wait = lab.pace.seconds(2).as_secs().to_string();
        let words =
            ["traceroute", "-T", "-p", &port, "-n", "-q", "1", "-N", "1", "-w", &wait, "-m", "6", &public];
        let output = lab.on(who).output(&words)?;
        let said = String::from_utf8_lossy(&output.stdout);
        // A line of heading, then of each hop its number and address.
        let hops = said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
        let seen = hops.map(str::to_owned).collect();
        Ok(Self { family, who, via, seen, expected })
    }
}

impl Probe for Traceroute<'_> {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let (node, guest, home) = (&layout.nodes[self.via], &layout.guests[0], layout.home());
        let public = layout.public(self.via, self.family);
        let mut claim = layout.claim(
            self.family,
            format!(
                "traceroute by TCP: {} -> {} {public}:{} -> {} on {}",
                self.who, node.name, guest.service_port, guest.name, home.name
            ),
        );
        let expected: Vec<String> = self.expected.iter().map(ToString::to_string).collect();
        claim.must_be("the path", self.seen.join(" "), expected.join(" "));
        let quoting = seen.lan.count(|frame| quotes_inside(layout, self.family, frame));
        claim.must_be("LAN: ICMP errors that quote an inside address", quoting, 0);
        claim.proof("way", self.seen.join(" "));
        let is_error = |frame: &Frame| {
            frame.from(public) && frame.error().is_some_and(|error| error.about.dst == public)
        };
        let text = format!("{} ICMP errors from {public} about packets to it", seen.lan.count(is_error));
        claim.proof_by("LAN", text, Some(&seen.lan), is_error);
        claim
    }
}

/// Nobody listens at a service's port: the guest says so, and it looks as if the entry node said it.
pub(super) struct Closed {
    family: Family,
    /// What the client's socket was told.
    told: String,
}

/// Sends a byte, and prints what the socket gets for it.
const ASK: &str = r#"
    use Errno; use IO::Socket::IP;
    my $s = IO::Socket::IP->new(Proto => "udp", PeerAddr => $ARGV[0], PeerPort => $ARGV[1]) or die "socket: $@\n";
    send($s, "x", 0); my $r = ""; vec($r, fileno($s), 1) = 1;
    if (!select($r, undef, undef, $ARGV[2])) { print "nothing" }
    elsif (defined recv($s, my $b, 9, 0)) { print "a reply" }
    else { print $!{ECONNREFUSED} ? "refused" : "$!" }"#;

impl Closed {
    pub(super) fn make(lab: &Lab, family: Family) -> Result<Self, Error> {
        let layout = &lab.layout;
        let public = layout.public(layout.nodes.len() - 1, family).to_string();
        let (port, wait) = (layout.closed_port.to_string(), lab.pace.seconds(3).as_secs().to_string());
        let told = lab.on(layout.client).must(&["perl", "-e", ASK, &public, &port, &wait])?;
        Ok(Self { family, told })
    }
}

impl Probe for Closed {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let (node, guest) = (layout.last(), &layout.guests[0]);
        let public = layout.public(layout.nodes.len() - 1, self.family);
        let mut claim = layout.claim(
            self.family,
            format!(
                "port unreachable: {} -> {} {public}:{} -> {}, where nobody listens",
                layout.client, node.name, layout.closed_port, guest.name
            ),
        );
        claim.must_be("what the client's socket reported", &*self.told, "refused");
        let unreachable = if self.family == Family::V4 { (3, 3) } else { (1, 4) };
        let is_error = |frame: &Frame| {
            let about_it = || {
                frame.error().is_some_and(|error| {
                    error.about.dst == public
                        && error.about.ports.is_some_and(|(_, to)| to == layout.closed_port)
                })
            };
            frame.icmp() == Some(unreachable) && frame.from(public) && about_it()
        };
        claim.must(seen.lan.count(is_error) > 0, || {
            format!("LAN: no \"port unreachable\" from {public} about a packet to {public}")
        });
        claim.proof_by(
            "icmp",
            format!(
                "the client's socket reports \"connection refused\"; on the LAN the error comes from \
                 {public}, about a packet to it"
            ),
            Some(&seen.lan),
            is_error,
        );
        claim
    }
}
