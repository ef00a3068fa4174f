//! Large transfers, both ways, through the node that is farthest from the guest; and where the middle of the way is narrow.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::claim::Claim;
use super::fetch::{CHOICE, Fetched, Ports, fetch, url};
use super::{Probe, Seen};
use crate::lab::topology::NARROW;
use crate::lab::{Error, Frame, Lab, Layout, Machine, run};
use crate::net::Family;

/// Bytes that went somewhere, and were looked at there.
struct Transfer {
    fetched: Fetched,
    bytes: u64,
    took: Duration,
    /// SHA-256 of what was sent, and of what arrived.
    sums: (String, String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

impl Transfer {
    /// Between a machine and the first guest, through the last node.
    fn make(
        lab: &Lab,
        family: Family,
        who: &str,
        direction: Direction,
        ports: &mut Ports,
    ) -> Result<Self, Error> {
        let layout = &lab.layout;
        let guest = &layout.guests[0];
        let public = layout.public(layout.nodes.len() - 1, family);
        let sent = lab.file("random");
        let from = ports.tcp(CHOICE);
        let start = Instant::now();
        let (fetched, arrived) = match direction {
            Direction::Down => {
                let arrived = lab.file("download");
                let url = url(public, guest.service_port, "/random");
                (fetch(lab, who, from, &url, &["--output", &arrived.to_string_lossy()])?, arrived)
            }
            Direction::Up => {
                let arrived = lab.file("servers").join(&guest.name).join("upload/file");
                let url = url(public, guest.service_port, "/upload/file");
                (fetch(lab, who, from, &url, &["--upload-file", &sent.to_string_lossy()])?, arrived)
            }
        };
        let took = start.elapsed();
        let (sums, bytes) = match fetched.fault {
            None => ((sum(&sent)?, sum(&arrived)?), fs::metadata(&arrived).map_or(0, |about| about.len())),
            Some(_) => Default::default(),
        };
        // What is not there was not sent.
        let _ = fs::remove_file(arrived);
        Ok(Self { fetched, bytes, took, sums })
    }

    /// Judges what arrived; false if nothing did.
    fn judge(&self, claim: &mut Claim) -> bool {
        if let Some(fault) = &self.fetched.fault {
            claim.fault(fault.clone());
            return false;
        }
        claim.proof("bytes", format!("{} in {} ms", self.bytes, self.took.as_millis()));
        claim.must_be("SHA-256 of what arrived", &self.sums.1, &self.sums.0);
        claim.proof("sum", format!("SHA-256 {}... on both sides", self.sums.0.get(..16).unwrap_or_default()));
        true
    }
}

fn sum(path: &Path) -> Result<String, Error> {
    let text = run(Command::new("sha256sum").arg(path))?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// A large file through a foreign node.
pub(super) struct Large {
    family: Family,
    direction: Direction,
    transfer: Transfer,
}

impl Large {
    pub(super) fn down(lab: &Lab, family: Family, ports: &mut Ports) -> Result<Self, Error> {
        Self::make(lab, family, Direction::Down, ports)
    }

    pub(super) fn up(lab: &Lab, family: Family, ports: &mut Ports) -> Result<Self, Error> {
        Self::make(lab, family, Direction::Up, ports)
    }

    fn make(lab: &Lab, family: Family, direction: Direction, ports: &mut Ports) -> Result<Self, Error> {
        let transfer = Transfer::make(lab, family, lab.layout.client, direction, ports)?;
        Ok(Self { family, direction, transfer })
    }
}

impl Probe for Large {
    fn judge(&self, layout: &Layout, _seen: &Seen) -> Claim {
        let (via, guest, home) = (layout.last(), &layout.guests[0], layout.home());
        let what = match self.direction {
            Direction::Down => format!("download through {} from {} on {}", via.name, guest.name, home.name),
            Direction::Up => format!("upload through {} to {} on {}", via.name, guest.name, home.name),
        };
        let mut claim = layout.claim(self.family, format!("{} MB {what}", self.transfer.bytes / 1_000_000));
        self.transfer.judge(&mut claim);
        claim
    }
}

/// What a machine has learned of the way to an address.
fn path_mtu(machine: Machine<'_>, to: std::net::IpAddr) -> Result<Option<u32>, Error> {
    let route = machine.must(&["ip", "route", "get", &to.to_string()])?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    Ok(words.next().and_then(|word| word.parse().ok()))
}

fn forget_path_mtu(machine: Machine<'_>, family: Family) -> Result<(), Error> {
    let option = if family == Family::V4 { "-4" } else { "-6" };
    machine.must(&["ip", option, "route", "flush", "cache"]).map(drop)
}

fn shown(mtu: Option<u32>) -> String {
    mtu.map_or_else(|| "nothing".to_owned(), |mtu| mtu.to_string())
}

/// Whether a frame says that a packet was too big.
fn too_big(frame: &Frame) -> bool {
    let is_v4 = frame.tuple().is_some_and(|tuple| tuple.src.is_ipv4());
    frame.icmp() == Some(if is_v4 { (3, 4) } else { (2, 0) })
}

fn too_big_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "fragmentation needed",
        Family::V6 => "packet too big",
    }
}

/// The way is narrow outside: the errors are about replies. A router there cannot send them on, and says so to the address that
/// they came from.
pub(super) struct NarrowOutside {
    family: Family,
    transfer: Transfer,
    learned: Option<u32>,
}

impl NarrowOutside {
    pub(super) fn make(lab: &Lab, family: Family, ports: &mut Ports) -> Result<Self, Error> {
        let layout = &lab.layout;
        let guest = lab.on(&layout.guests[0].name);
        forget_path_mtu(guest, family)?;
        let transfer = Transfer::make(lab, family, layout.far, Direction::Down, ports)?;
        let learned = path_mtu(guest, layout.at(family).far)?;
        Ok(Self { family, transfer, learned })
    }
}

impl Probe for NarrowOutside {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let (via, guest, home) = (layout.last(), &layout.guests[0], layout.home());
        let at = layout.at(self.family);
        let (public, inside) =
            (layout.public(layout.nodes.len() - 1, self.family), layout.guest(0, self.family));
        let name = too_big_name(self.family);
        let mut claim = layout.claim(
            self.family,
            format!(
                "path MTU {NARROW} behind {}: {} downloads through {} from {} on {}",
                layout.hop, layout.far, via.name, guest.name, home.name
            ),
        );
        if !self.transfer.judge(&mut claim) {
            return claim;
        }
        let what = format!("{}: path MTU to {}", guest.name, at.far);
        claim.must_be(what, shown(self.learned), NARROW.to_string());
        claim.proof("path", format!("{} has learned the path MTU to {}: {NARROW} bytes", guest.name, at.far));
        let is_error = |frame: &Frame| too_big(frame) && frame.from(at.hop) && frame.to(public);
        claim.must(seen.lan.count(is_error) > 0, || {
            format!("LAN: {} did not send \"{name}\" to {public}, so this proves nothing", layout.hop)
        });
        let quotes = |frame: &Frame| frame.error().is_some_and(|error| error.about.src == inside);
        for (wire, pipe) in &seen.pipes {
            if layout.on_way(*wire, layout.nodes.len() - 1, guest.home) {
                let count = pipe.count(|frame| too_big(frame) && frame.to(inside) && quotes(frame));
                claim.must(count > 0, || {
                    format!("{}: no \"{name}\" to {inside} about its packets", pipe.name)
                });
            }
        }
        let text = format!("\"{name}\" from {} to {public}, for {inside} inside", at.hop);
        claim.proof_by("icmp", text, Some(&seen.lan), is_error);
        claim
    }
}

/// The way is narrow between nodes: the errors are about requests. The entry node cannot send them on to the home node.
pub(super) struct NarrowInside {
    family: Family,
    transfer: Transfer,
    learned: Option<u32>,
}

impl NarrowInside {
    pub(super) fn make(lab: &Lab, family: Family, ports: &mut Ports) -> Result<Self, Error> {
        let layout = &lab.layout;
        let client = lab.on(layout.client);
        forget_path_mtu(client, family)?;
        set_pipes(lab, NARROW)?;
        let transfer = Transfer::make(lab, family, layout.client, Direction::Up, ports);
        let learned = path_mtu(client, layout.public(layout.nodes.len() - 1, family));
        // Whatever came of it, the pipes are again what they were.
        set_pipes(lab, 1500)?;
        forget_path_mtu(client, family)?;
        Ok(Self { family, transfer: transfer?, learned: learned? })
    }
}

fn set_pipes(lab: &Lab, mtu: u32) -> Result<(), Error> {
    for (place, node) in lab.layout.nodes.iter().enumerate() {
        let pipes = lab.layout.pipes_of(place);
        let lines: Vec<String> = pipes.iter().map(|pipe| format!("link set {pipe} mtu {mtu}")).collect();
        lab.on(&node.name).ip(&lines)?;
    }
    Ok(())
}

impl Probe for NarrowInside {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let (via, guest, home) = (layout.last(), &layout.guests[0], layout.home());
        let client = layout.at(self.family).client;
        let public = layout.public(layout.nodes.len() - 1, self.family);
        let name = too_big_name(self.family);
        let mut claim = layout.claim(
            self.family,
            format!(
                "path MTU {NARROW} between nodes: {} uploads through {} to {} on {}",
                layout.client, via.name, guest.name, home.name
            ),
        );
        if !self.transfer.judge(&mut claim) {
            return claim;
        }
        let what = format!("{}: path MTU to {public}", layout.client);
        claim.must_be(what, shown(self.learned), NARROW.to_string());
        let text = format!("{} has learned the path MTU to {public}: {NARROW} bytes", layout.client);
        claim.proof("path", text);
        let is_error = |frame: &Frame| {
            let quotes = || frame.error().is_some_and(|error| error.about.dst == public);
            too_big(frame) && frame.from(public) && frame.to(client) && quotes()
        };
        claim.must(seen.lan.count(is_error) > 0, || {
            format!("LAN: {} did not send \"{name}\" about packets to {public}", via.name)
        });
        let text = format!("\"{name}\" from {public} about packets to {public}");
        claim.proof_by("icmp", text, Some(&seen.lan), is_error);
        claim
    }
}
