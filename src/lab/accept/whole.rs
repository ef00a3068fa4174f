//! What is claimed of all that was sent: nothing inside was shown outside, the gateway is each node's own affair, no checksum is wrong,
//! pipes are what they are said to be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::claim::Claim;
use super::errors::quotes_inside;
use super::{Probe, Seen};
use crate::lab::{Error, Frame, Lab, Layout};
use crate::net::{Family, OfFamily as _};

/// The addresses that an ARP packet speaks of (RFC 826): its sender's, and the one that is asked for.
fn arp(frame: &Frame) -> Option<[IpAddr; 2]> {
    if frame.ether_type != 0x0806 {
        return None;
    }
    let address = |at| Some(IpAddr::from(*frame.bytes.get(at..)?.first_chunk::<4>()?));
    Some([address(14)?, address(24)?])
}

/// The address that an ICMPv6 message of that type has at that place (RFC 4861 §4).
fn icmp6_address(frame: &Frame, kinds: &[u8], at: usize) -> Option<IpAddr> {
    let (view, (kind, _)) = (frame.view?, frame.icmp()?);
    if view.tuple.src.is_ipv4() || !kinds.contains(&kind) {
        return None;
    }
    Some(IpAddr::from(*frame.bytes.get(view.transport_at() + at..)?.first_chunk::<16>()?))
}

/// No address of the guests' network on the public LAN.
pub(super) struct LanIsClean(pub(super) Family);

impl Probe for LanIsClean {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let guests = layout.at(self.0).guests;
        let (lan, total) = (&seen.lan, seen.lan.frames.len());
        let mut claim = layout.claim(
            self.0,
            format!("no address of {guests} on the public LAN, also none quoted in ICMP errors"),
        );
        let inside = |frame: &Frame| {
            let ip =
                frame.tuple().is_some_and(|tuple| guests.contains(&tuple.src) || guests.contains(&tuple.dst));
            ip || arp(frame).is_some_and(|addresses| addresses.iter().any(|address| guests.contains(address)))
        };
        let count = lan.count(inside);
        claim.must_be(format_args!("frames with an inside address (of {total})"), count, 0);
        if let Some(frame) = lan.first(inside) {
            claim.fault(format!("for example frame {}: {frame}", frame.number));
        }
        // A redirect's destination, behind type, code, checksum, four bytes and the target.
        let redirects =
            lan.count(|frame| icmp6_address(frame, &[137], 24).is_some_and(|to| guests.contains(&to)));
        claim.must_be("redirects that name a guest", redirects, 0);
        let quoted = lan.count(|frame| quotes_inside(layout, self.0, frame));
        claim.must_be("ICMP errors that quote a packet with an inside address", quoted, 0);
        claim.must(total > 0, || "the capture of the LAN is empty, so it proves nothing".to_owned());
        let unread = lan.count(|frame| [0x0800, 0x86dd].contains(&frame.ether_type) && frame.view.is_none());
        claim.must_be("IP packets that cannot be read", unread, 0);
        for capture in seen.all() {
            claim.must_be(format_args!("{}: frames that the capture lost", capture.name), capture.lost, 0);
        }
        let errors = lan.count(|frame| frame.error().is_some());
        claim.proof(
            "LAN",
            format!(
                "{total} frames captured during all checks, none lost, none with an inside address; {errors} ICMP errors"
            ),
        );
        claim
    }
}

/// Where guests find the gateway, that every node has for itself.
pub(super) struct Gateway {
    family: Family,
    /// Of each guest: the MAC address that it knows.
    macs: Vec<Option<String>>,
}

impl Gateway {
    pub(super) fn look(lab: &Lab, family: Family) -> Result<Self, Error> {
        let gateway = lab.layout.at(family).gateway.to_string();
        let wait = lab.pace.seconds(2).as_secs().to_string();
        let mac = |name: &str| {
            // One that has sent nothing yet has not looked for it. Whether it replies is no matter.
            lab.on(name).output(&["ping", "-n", "-c", "1", "-W", &wait, &gateway])?;
            let text = lab.on(name).must(&["ip", "neigh", "show", &gateway])?;
            let mut words = text.split_whitespace().skip_while(|word| *word != "lladdr").skip(1);
            Ok(words.next().map(str::to_owned))
        };
        let macs = lab.layout.guests.iter().map(|guest| mac(&guest.name)).collect::<Result<_, Error>>()?;
        Ok(Self { family, macs })
    }
}

impl Probe for Gateway {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let gateway = layout.at(self.family).gateway;
        let mut claim =
            layout.claim(self.family, format!("each node alone is the gateway {gateway} of its own guests"));
        for (guest, mac) in layout.guests.iter().zip(&self.macs) {
            let home = &layout.nodes[guest.home];
            let got = mac.as_deref().unwrap_or("nothing");
            claim.must_be(format_args!("{}: MAC address of the gateway", guest.name), got, &*home.mac);
            claim.proof("near", format!("{} reaches it at {got} ({})", guest.name, home.name));
        }
        let is_about = |frame: &Frame| {
            let discovery = frame.icmp().is_some_and(|(kind, _)| [135, 136].contains(&kind));
            arp(frame).is_some_and(|addresses| addresses.contains(&gateway))
                || icmp6_address(frame, &[135, 136], 8) == Some(gateway)
                || gateway.family() == Family::V6 && discovery && frame.has(gateway)
        };
        for (_, pipe) in &seen.pipes {
            let what = format!("{}: ARP or neighbour discovery about {gateway}", pipe.name);
            claim.must_be(what, pipe.count(is_about), 0);
        }
        if layout.nodes.len() > 1 {
            claim.proof("pipe", "no ARP or neighbour discovery about it crossed a pipe");
        }
        claim
    }
}

/// What every machine has received with a wrong checksum, by machine and counter. Between namespaces a checksum is often left for
/// hardware that is not there, and then nobody looks at it. But a packet that was in a queue, and whose bytes changed there, has a
/// real one that the receiver verifies: so this judges each checksum that dunnat has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksums(BTreeMap<(String, String), u64>);

impl Checksums {
    pub(super) fn count(lab: &Lab) -> Result<Self, Error> {
        let layout = &lab.layout;
        let nodes = layout.nodes.iter().map(|node| &*node.name);
        let guests = layout.guests.iter().map(|guest| &*guest.name);
        let mut all = BTreeMap::new();
        for name in [layout.client].into_iter().chain(nodes).chain(guests) {
            let text = lab.on(name).must(&["cat", "/proc/net/snmp", "/proc/net/snmp6"])?;
            all.extend(counters(&text).into_iter().map(|(what, count)| ((name.to_owned(), what), count)));
        }
        Ok(Self(all))
    }

    /// Whether they have grown since.
    pub(super) fn judge(&self, before: &Self, layout: &Layout) -> Claim {
        let mut claim = Claim::new(None, "no wrong TCP, UDP or ICMPv6 checksum was received");
        for ((name, what), count) in &self.0 {
            let old = before.0.get(&(name.clone(), what.clone())).copied().unwrap_or(0);
            claim.must_be(format_args!("{name}: wrong {what} checksums"), count.saturating_sub(old), 0);
        }
        let machines = 1 + layout.nodes.len() + layout.guests.len();
        claim.must_be("counters", self.0.len(), 4 * machines);
        let names: std::collections::BTreeSet<&str> = self.0.keys().map(|(name, _)| &**name).collect();
        let names: Vec<&str> = names.into_iter().collect();
        claim.proof("snmp", format!("InCsumErrors has not grown on {}", names.join(" ")));
        claim
    }
}

/// The counters of wrong checksums in the text of `/proc/net/snmp` and `snmp6`. TCP over IPv6 is counted with the other.
fn counters(text: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for pair in lines.windows(2) {
        let [names, values] = pair else { continue };
        let is_table = ["Tcp:", "Udp:"].contains(names.first().unwrap_or(&""));
        if !is_table || names.first() != values.first() {
            continue;
        }
        let place = names.iter().position(|name| *name == "InCsumErrors");
        if let Some(count) = place.and_then(|place| values.get(place)?.parse().ok()) {
            found.push((names[0].trim_end_matches(':').to_lowercase(), count));
        }
    }
    for line in &lines {
        if let ["Udp6InCsumErrors" | "Icmp6InCsumErrors", count] = line[..]
            && let Ok(count) = count.parse()
        {
            found.push((line[0].trim_end_matches("InCsumErrors").to_lowercase(), count));
        }
    }
    found
}

/// Pipes that are VLANs: on the cable every frame has the tag, and the frames of the pipe are there.
pub(super) struct Trunks {
    /// Of each node: how many of its devices are of that VLAN.
    devices: Vec<usize>,
}

impl Trunks {
    pub(super) fn look(lab: &Lab) -> Result<Self, Error> {
        let words = format!("vlan protocol 802.1Q id {} ", lab.layout.vlan);
        let count = |name: &str| {
            let text = lab.on(name).must(&["ip", "-d", "link", "show", "type", "vlan"])?;
            Ok(text.lines().filter(|line| line.contains(&words)).count())
        };
        let devices = lab.layout.nodes.iter().map(|node| count(&node.name)).collect::<Result<_, Error>>()?;
        Ok(Self { devices })
    }
}

impl Probe for Trunks {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let (vlan, cable) = (layout.vlan, layout.trunk_up);
        let mut claim = Claim::new(None, format!("the pipes are VLAN {vlan} of {cable}"));
        for (node, devices) in layout.nodes.iter().zip(&self.devices) {
            let what = format!("{}: 802.1Q devices {} and {}", node.name, layout.pipe_up, layout.pipe_down);
            claim.must_be(what, *devices, 2);
        }
        for ((wire, pipe), trunk) in seen.pipes.iter().zip(&seen.trunks) {
            let name = format!("{}-{}", layout.nodes[wire.0].name, layout.nodes[wire.1].name);
            let (all, tagged) = (trunk.frames.len(), trunk.count(|frame| frame.vlans == [vlan]));
            claim.must(all > 0, || format!("{name}: the capture of the cable is empty"));
            claim.must_be(format_args!("{name}: frames with the tag of VLAN {vlan}, of {all}"), tagged, all);
            claim.must_be(
                format_args!("{name}: frames of the pipe, of {all} on the cable"),
                pipe.frames.len(),
                all,
            );
            claim.proof(
                "cable",
                format!("{name}: {all} frames, all with the tag {vlan}; as many in the pipe"),
            );
        }
        claim
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_both_files_are_read() {
        let text = "Tcp: RtoMin InErrs OutRsts InCsumErrors\nTcp: 200 0 1 3\nUdp: InDatagrams InCsumErrors IgnoredMulti\n\
                    Udp: 9 4 0\nUdpLite: InDatagrams InCsumErrors\nUdpLite: 0 7\nIp6InReceives 1\nIcmp6InCsumErrors 5\n\
                    Udp6InCsumErrors 6\nUdpLite6InCsumErrors 8\n";
        let counts: Vec<(String, u64)> = counters(text);
        let counts: Vec<(&str, u64)> = counts.iter().map(|(what, count)| (&**what, *count)).collect();
        assert_eq!(counts, [("tcp", 3), ("udp", 4), ("icmp6", 5), ("udp6", 6)]);
    }
}
