//! The acceptance: what a cluster must do, proven from the wire and from conntrack, not from the exit status of curl alone.
//!
//! First all probes are sent: a connection, a ping, a transfer; what can only be seen then (conntrack, what a machine has
//! learned) is looked at then. Meanwhile the LAN and every pipe are captured. Then the captures end, are read once, and every probe is
//! judged: by what it saw and by the frames. A judgement is a [`Claim`] with its evidence. A tool that fails, or a capture that
//! cannot be read or has lost frames, never counts for "there was none".

mod claim;
mod connections;
mod ended;
mod errors;
mod fetch;
mod held;
mod part;
mod transfers;
mod tshark;
mod udp;
mod way;
mod ways;
mod whole;

use std::fs;
use std::net::IpAddr;

use serde::Serialize;

pub use self::claim::{Claim, Evidence, FrameNumber, Outcome};
use self::fetch::Ports;
use self::held::Held;
pub use self::part::Part;
pub use self::ways::Expected;
use super::capture::{Capture, Running};
use super::interrupt::Interrupt;
use super::running::{self, By, Start};
use super::{Error, Lab, Layout, Node, Pipes, tools};
use crate::cluster::TagBy;
use crate::net::Family;

/// Something that was sent or looked at, with what can be seen only at that moment.
trait Probe {
    /// Judges it, when all that was captured is known.
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim;
}

/// All captures of an acceptance.
struct Seen {
    lan: Capture,
    /// Of each pipe, in the order of [`Layout::wires`].
    pipes: Vec<((usize, usize), Capture)>,
    /// The cables that pipes are VLANs of, in the same order.
    trunks: Vec<Capture>,
    /// What the first guest sees, where it must see no code points of the cluster.
    guest: Option<Capture>,
}

impl Seen {
    fn all(&self) -> impl Iterator<Item = &Capture> {
        let pipes = self.pipes.iter().map(|(_, pipe)| pipe);
        [&self.lan].into_iter().chain(pipes).chain(&self.trunks).chain(&self.guest)
    }
}

/// All claims.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The lab.
    pub lab: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// Who translated.
    pub by: &'static str,
    /// The claims, in the order in which they were tried.
    pub claims: Vec<Claim>,
}

impl Report {
    /// How many claims have passed, failed, and could not be asked.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Outcome) -> bool| self.claims.iter().filter(|claim| is(&claim.outcome)).count();
        (
            count(|outcome| *outcome == Outcome::Passed),
            count(|outcome| *outcome == Outcome::Failed),
            count(|outcome| matches!(outcome, Outcome::NotApplicable(_))),
        )
    }

    /// `12 passed, 0 failed`, and more.
    pub fn summary(&self) -> String {
        let (passed, failed, skipped) = self.counts();
        let skipped = if skipped > 0 { format!(", {skipped} not applicable") } else { String::new() };
        format!("{passed} passed, {failed} failed{skipped}")
    }
}

impl Layout {
    /// A claim about a family; it is named only where there are two.
    fn claim(&self, family: Family, title: String) -> Claim {
        let several = self.families().count() > 1;
        Claim::new(several.then_some(family), title)
    }

    fn not_applicable(&self, family: Family, title: &str, why: &str) -> Claim {
        let several = self.families().count() > 1;
        Claim::not_applicable(several.then_some(family), title, why)
    }

    /// The public address of a node in a family that the lab speaks.
    fn public(&self, node: usize, family: Family) -> IpAddr {
        self.nodes[node].public.get(family).copied().unwrap_or(self.at(family).client)
    }

    /// The address of a guest in a family that the lab speaks.
    fn guest(&self, guest: usize, family: Family) -> IpAddr {
        self.guests[guest].address.get(family).copied().unwrap_or(self.at(family).client)
    }

    /// The node that is farthest from the first guest.
    fn last(&self) -> &Node {
        &self.nodes[self.nodes.len() - 1]
    }
}

/// What is to be shown.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// How it must be done.
    pub expected: Vec<Expected>,
    /// Only these parts; all if none is named.
    pub only: Vec<Part>,
}

impl Asked {
    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// Starts what translates, unless it runs already, proves that all works, and stops it again.
///
/// # Errors
/// It cannot be proven or disproven: something is missing, does not start, or was interrupted.
pub fn accept(
    lab: &Lab,
    how: &Start,
    asked: &Asked,
    interrupt: &Interrupt,
    progress: &dyn Fn(&str),
) -> Result<Report, Error> {
    tools::for_accept()?;
    let runs = running::running(lab);
    if let Some(by) = runs.filter(|by| *by != how.by) {
        return Err(Error::refused(format!(
            "{} runs already, not {}: run '{} stop' first",
            by.name(),
            how.by.name(),
            lab.place.invocation()
        )));
    }
    let captures = Captures::start(lab)?;
    if runs.is_none() {
        running::start(lab, how)?;
    }
    let stop = || if runs.is_none() { Some(running::stop(lab)) } else { None };
    let claims = match proven(lab, how.by, asked, interrupt, progress, captures) {
        Ok(claims) => claims,
        Err(error) => {
            // Why it could not be proven is the news.
            let _ = stop();
            return Err(error);
        }
    };
    let mut report =
        Report { lab: lab.place.name().to_owned(), nodes: lab.layout.nodes.len(), by: how.by.name(), claims };
    match stop() {
        Some(stopped) => {
            report.claims.push(ended::rules(stopped));
            if how.by == By::Shadow {
                report.claims.push(ended::shadows(lab));
            }
        }
        None => report.claims.push(Claim::not_applicable(
            None,
            "stop leaves the rules as they were",
            &format!(
                "{} was running before and still runs; '{} stop' checks it",
                how.by.name(),
                lab.place.invocation()
            ),
        )),
    }
    Ok(report)
}

/// Captures that are under way.
struct Captures {
    lan: Running,
    pipes: Vec<((usize, usize), Running)>,
    trunks: Vec<Running>,
    guest: Option<Running>,
}

impl Captures {
    fn start(lab: &Lab) -> Result<Self, Error> {
        let (layout, dir) = (&lab.layout, lab.file("captures"));
        let fail = |source| Error::File { path: dir.clone(), source };
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
            _ => fs::create_dir(&dir).map_err(fail)?,
        }
        let start = |machine: &str, interface: &str, name: String| {
            let file = dir.join(format!("{}.pcap", name.replace(' ', "-")));
            Running::start(lab.on(machine), interface, (name, file), lab.pace)
        };
        let lan = start(layout.lan, "lan", "LAN".to_owned())?;
        let (mut pipes, mut trunks) = (Vec::new(), Vec::new());
        for (a, b) in layout.wires() {
            let (from, to) = (&layout.nodes[a].name, &layout.nodes[b].name);
            pipes.push(((a, b), start(from, &layout.wire_at(a, b), format!("pipe {from}-{to}"))?));
            if layout.choice.pipes == Pipes::Vlan {
                trunks.push(start(from, layout.trunk_up, format!("cable {from}-{to}"))?);
            }
        }
        let guest = &layout.guests[0].name;
        let by_dscp = layout.choice.tag_by == TagBy::Dscp;
        let guest = by_dscp.then(|| start(guest, "eth0", guest.clone())).transpose()?;
        Ok(Self { lan, pipes, trunks, guest })
    }

    fn end(self) -> Result<Seen, Error> {
        let pipes = self.pipes.into_iter().map(|(wire, pipe)| Ok((wire, pipe.end()?)));
        Ok(Seen {
            lan: self.lan.end()?,
            pipes: pipes.collect::<Result<_, Error>>()?,
            trunks: self.trunks.into_iter().map(Running::end).collect::<Result<_, Error>>()?,
            guest: self.guest.map(Running::end).transpose()?,
        })
    }
}

/// Everything in each family, one after the other, then what is claimed of all of it.
fn proven(
    lab: &Lab,
    by: By,
    asked: &Asked,
    interrupt: &Interrupt,
    progress: &dyn Fn(&str),
    captures: Captures,
) -> Result<Vec<Claim>, Error> {
    let layout = &lab.layout;
    let before = whole::Checksums::count(lab)?;
    let held = (by == By::Dunnat).then(|| Held::count(lab)).transpose()?;
    let mut ports = Ports::of(lab);
    let mut acts: Vec<Act<'_>> = Vec::new();
    for family in layout.families() {
        progress(&format!("{family}: connections, transfers, datagrams"));
        let done = probes(lab, family, (by, asked), interrupt, &mut ports, &mut acts);
        // They are used up, also if something failed.
        ports.save(lab)?;
        done?;
    }
    let after = whole::Checksums::count(lab)?;
    acts.push(Act::Judged(after.judge(&before, layout)));
    if let Some(before) = held {
        acts.push(Act::Judged(Held::count(lab)?.judge(&before)));
    }
    for way in &asked.expected {
        acts.push(Act::Judged(ways::judge(lab, *way)?));
    }
    for family in layout.families() {
        acts.push(Act::Done(Box::new(whole::Gateway::look(lab, family)?)));
        acts.push(Act::Done(Box::new(whole::LanIsClean(family))));
    }
    if layout.choice.pipes == Pipes::Vlan && layout.nodes.len() > 1 {
        acts.push(Act::Done(Box::new(whole::Trunks::look(lab)?)));
    }
    progress("reading the captures");
    // The last frames may still be on their way: a capture hands them over in blocks.
    std::thread::sleep(lab.pace.seconds(1));
    let seen = captures.end()?;
    let judge = |act: Act<'_>| match act {
        Act::Judged(claim) => claim,
        Act::Done(probe) => probe.judge(layout, &seen),
    };
    let mut claims: Vec<Claim> = acts.into_iter().map(judge).collect();
    claims.push(tshark::judge(&seen));
    interrupt.check()?;
    Ok(claims)
}

/// What is done, and judged later or already.
enum Act<'a> {
    Done(Box<dyn Probe + 'a>),
    Judged(Claim),
}

fn probes<'a>(
    lab: &'a Lab,
    family: Family,
    (by, asked): (By, &Asked),
    interrupt: &Interrupt,
    ports: &mut Ports,
    acts: &mut Vec<Act<'a>>,
) -> Result<(), Error> {
    let layout = &lab.layout;
    let nodes = layout.nodes.len();
    let mut done = |probe: Box<dyn Probe + 'a>| {
        acts.push(Act::Done(probe));
        interrupt.check()
    };
    let alone = |what: &str| Act::Judged(layout.not_applicable(family, what, "there is only one node"));
    let mut none = Vec::new();
    // Through every other node, and then locally.
    for via in (1..nodes).chain([0]).filter(|_| asked.has(Part::Requests)) {
        done(Box::new(connections::Connection::make(lab, family, 0, via, ports)?))?;
    }
    if asked.has(Part::Outbound) {
        done(Box::new(connections::Outbound::ping(lab, family)?))?;
        done(Box::new(connections::Outbound::page(lab, family, ports)?))?;
    }
    if nodes > 1 && asked.has(Part::Transfers) {
        done(Box::new(transfers::Large::down(lab, family, ports)?))?;
        done(Box::new(transfers::Large::up(lab, family, ports)?))?;
    }
    if asked.has(Part::Many) {
        done(Box::new(connections::Many::make(lab, family, ports)?))?;
    }
    if asked.has(Part::Requests) {
        done(Box::new(connections::OwnPort::make(lab, family, ports)?))?;
    }
    for via in (0..nodes).filter(|_| asked.has(Part::Requests)) {
        done(Box::new(connections::Connection::make(lab, family, 1, via, ports)?))?;
    }
    for via in (0..nodes).filter(|_| asked.has(Part::Udp)) {
        done(Box::new(udp::Echo::make(lab, family, via, ports)?))?;
    }
    let errors = asked.has(Part::Errors);
    if errors && by == By::Dunnat {
        for via in 0..nodes.min(2) {
            let public = layout.public(via, family);
            let way = vec![public, public];
            done(Box::new(errors::Traceroute::make(lab, family, layout.client, via, way)?))?;
        }
        let public = layout.public(nodes - 1, family);
        let way = vec![layout.at(family).hop_inside, public, public];
        done(Box::new(errors::Traceroute::make(lab, family, layout.far, nodes - 1, way)?))?;
        done(Box::new(errors::Closed::make(lab, family)?))?;
        done(Box::new(transfers::NarrowOutside::make(lab, family, ports)?))?;
        if nodes > 1 {
            done(Box::new(transfers::NarrowInside::make(lab, family, ports)?))?;
        }
    } else if errors {
        let why = "the kernel's ruleset cannot rewrite the packet that an error quotes";
        let claim = layout.not_applicable(family, "ICMP errors, traceroute, path MTU", why);
        none.push(Act::Judged(claim));
    }
    if nodes == 1 {
        let (web, alt) = (&layout.guests[0].service, &layout.guests[1].service);
        for what in
            [&format!("{web}, {alt}, {}: foreign", layout.echo), "transfers both ways through a foreign node"]
        {
            none.push(alone(what));
        }
    }
    acts.extend(none);
    Ok(())
}
