//! UDP: datagrams of every length, and checksums and fragments of every sort, come back as they were sent.

use std::time::{Duration, Instant};

use super::claim::Claim;
use super::fetch::{Flow, Ports};
use super::way::Way;
use super::{Probe, Seen};
use crate::lab::{Error, Frame, Lab, Layout, servers};
use crate::net::{Family, Proto};

/// A conversation from one port, and what `udp.pl ask` said of it.
struct Conversation {
    port: u16,
    /// What was sent, in the words of `udp.pl`.
    what: Vec<String>,
    datagrams: usize,
    again: usize,
    faults: Vec<String>,
    took: Duration,
}

impl Conversation {
    fn make(lab: &Lab, family: Family, via: usize, ports: &mut Ports, what: &[&str]) -> Result<Self, Error> {
        let layout = &lab.layout;
        let (port, public) = (ports.udp(), layout.public(via, family));
        let mut perl = servers::udp(lab, lab.on(layout.client));
        perl.args(["ask", &public.to_string(), &layout.echo_port.to_string(), &port.to_string()]).args(what);
        let start = Instant::now();
        let output = perl.output().map_err(|error| crate::lab::machine::failed(&perl, &error.to_string()))?;
        let took = start.elapsed();
        let (said, trouble) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut lines = said.lines();
        let counts: Vec<usize> = lines
            .next()
            .into_iter()
            .flat_map(|line| line.split(' ').map_while(|word| word.parse().ok()))
            .collect();
        let mut faults: Vec<String> = lines.map(str::to_owned).collect();
        let [datagrams, again] = counts[..] else {
            let said = [&*said, &*trouble].concat();
            faults = vec![format!("udp.pl: {}", said.trim())];
            let what = what.iter().map(|word| (*word).to_owned()).collect();
            return Ok(Self { port, what, datagrams: 0, again: 0, faults, took });
        };
        if !output.status.success() {
            faults.push(format!("udp.pl: {}: {}", output.status, trouble.trim()));
        }
        let what = what.iter().map(|word| (*word).to_owned()).collect();
        Ok(Self { port, what, datagrams, again, faults, took })
    }

    fn is_well(&self) -> bool {
        self.faults.is_empty()
    }

    fn again(&self) -> String {
        if self.again == 0 { String::new() } else { format!("; {} were sent again", self.again) }
    }

    /// All that was said must be in the captures, so that what is not found in them was not there.
    fn must_be_seen(&self, claim: &mut Claim, way: &Way, layout: &Layout, seen: &Seen) {
        for fault in &self.faults {
            claim.fault(fault.clone());
        }
        if !self.is_well() {
            return;
        }
        let is_ours = |frame: &Frame| frame.is(Proto::UDP) && frame.port(self.port);
        let on_lan = seen.lan.count(is_ours);
        claim.must(on_lan >= 2 * self.datagrams, || {
            format!("LAN: {on_lan} datagrams of port {}, expected {}", self.port, 2 * self.datagrams)
        });
        for (wire, pipe) in &seen.pipes {
            if layout.on_way(*wire, way.via, layout.guests[way.guest].home) {
                let there = pipe.count(|frame| is_ours(frame) && frame.sport() == Some(self.port));
                claim.must(there >= self.datagrams, || {
                    format!(
                        "{}: {there} requests of port {}, expected {}",
                        pipe.name, self.port, self.datagrams
                    )
                });
            }
        }
    }
}

/// The first guest sends back what the workstation sends to a node.
pub(super) struct Echo {
    way: Way,
    lengths: Conversation,
    flow: Flow,
    /// A checksum that comes out as 0; none; fragments; fragments in another order. Not tried where the first did not work.
    zero: Option<Conversation>,
    none: Option<Conversation>,
    long: Option<Conversation>,
    disordered: Option<Conversation>,
    is_slow: bool,
}

/// The longest datagram that a queue hands over whole: a netlink attribute holds 65,531 bytes.
fn longest(family: Family) -> usize {
    65_531 - 8 - if family == Family::V4 { 20 } else { 40 }
}

impl Echo {
    pub(super) fn make(lab: &Lab, family: Family, via: usize, ports: &mut Ports) -> Result<Self, Error> {
        let layout = &lab.layout;
        // Lengths of one frame: all there are, or where it matters (none, odd and even, about the ends of what is read and copied).
        let lengths: &[&str] = lab.pace.sized(&["0-1472"], &["0-40", "88-104", "1440-1472"]);
        let lengths = Conversation::make(lab, family, via, ports, lengths)?;
        let (guest, public) = (layout.guest(0, family), layout.public(via, family));
        let home = lab.on(&layout.home().name);
        let flow = Flow::find(home, "udp", (layout.at(family).client, guest), Some(lengths.port))?;
        let mut further = |what: &[&str]| match lengths.is_well() {
            true => Conversation::make(lab, family, via, ports, what).map(Some),
            false => Ok(None),
        };
        let longest = longest(family).to_string();
        let zero = further(&[&format!("zero:{guest}"), &format!("zero:{public}")])?;
        let none = further(&["--no-checksum", "0", "1", "512", "1472"])?;
        // Lengths that need several frames: a bit more than one, some, and many.
        let long = further(&["1473", "8000", "8001", "40000", &longest])?;
        let disordered =
            further(&[&format!("backwards:{longest}"), &format!("shuffled:{longest}"), "shuffled:8001"])?;
        let way = Way {
            family,
            proto: Proto::UDP,
            via,
            guest: 0,
            client_port: lengths.port,
            port: layout.echo_port,
            guest_port: layout.echo_port,
        };
        let is_slow = lab.pace.sized(false, true);
        Ok(Self { way, lengths, flow, zero, none, long, disordered, is_slow })
    }
}

impl Probe for Echo {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let (way, node, home) = (&self.way, &layout.nodes[self.way.via], layout.home());
        let public = layout.public(way.via, way.family);
        let kind = if way.via == layout.guests[0].home { "local" } else { "foreign" };
        let lengths = if self.is_slow { "many lengths" } else { "every length" };
        let mut claim = layout.claim(
            way.family,
            format!(
                "{}, {kind}, {lengths}: {} -> {} {public}:{} -> {} on {}",
                layout.echo, layout.client, node.name, layout.echo_port, layout.guests[0].name, home.name
            ),
        );
        self.lengths.must_be_seen(&mut claim, way, layout, seen);
        let Conversation { datagrams, took, .. } = self.lengths;
        claim.proof(
            "udp",
            format!(
                "{datagrams} of {} bytes came back from {public} as they were sent, in {} ms{}",
                self.lengths.what.join(" "),
                took.as_millis(),
                self.lengths.again()
            ),
        );
        if !self.lengths.is_well() {
            way.show_where_it_ended(&mut claim, seen);
            return claim;
        }
        way.prove_names_on_lan(&mut claim, layout, seen);
        way.prove_way_inside(&mut claim, layout, seen);
        self.flow.must_have(&mut claim, &home.name, node.tag);
        claim.proof(
            "ct",
            format!("{} has mark {:#x} ({}) on: {}", home.name, node.tag, node.name, self.flow.text()),
        );
        let everywhere = |is: &dyn Fn(&Frame) -> bool| {
            seen.all().map(|capture| capture.count(|frame| frame.is(Proto::UDP) && is(frame))).sum::<usize>()
        };
        // A checksum of 0 means that there is none. One that comes out as 0 is written as 0xffff, one that is not there stays so.
        if let Some(zero) = &self.zero {
            zero.must_be_seen(&mut claim, way, layout, seen);
            let wrong = everywhere(&|frame| frame.port(zero.port) && frame.checksum() == Some(0));
            claim.must_be("frames with a computed checksum of 0 that was written as 0", wrong, 0);
            claim.proof("sum", "a computed checksum of 0 is written as 0xffff");
        }
        if let Some(none) = &self.none {
            none.must_be_seen(&mut claim, way, layout, seen);
            let made_up = everywhere(&|frame| {
                frame.sport() == Some(none.port) && frame.checksum().is_some_and(|sum| sum != 0)
            });
            claim.must_be("requests without a checksum that got one", made_up, 0);
            claim.proof("sum", "a missing checksum stays missing");
        }
        // Conntrack puts the fragments together before any rule sees them, and the packet leaves as fragments again.
        if let Some(long) = &self.long {
            long.must_be_seen(&mut claim, way, layout, seen);
            let text = format!("{} bytes came back as they were sent{}", long.what.join(" "), long.again());
            claim.proof("frag", text);
        }
        if let Some(disordered) = &self.disordered {
            disordered.must_be_seen(&mut claim, way, layout, seen);
            let again = disordered.again();
            claim.proof("frag", format!("the same with the fragments sent in another order{again}"));
        }
        claim
    }
}
