//! Connections: to a service through any node, to a node's own port, and many at once.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::claim::Claim;
use super::fetch::{CHOICE, Fetched, Flow, Ports, fetch, list, mark, shown, url};
use super::way::Way;
use super::{Probe, Seen};
use crate::lab::{Error, Guest, Lab, Layout};
use crate::net::{Family, Proto};

/// The workstation has connected to a node, and the guest of a service has replied in that node's name.
pub(super) struct Connection {
    way: Way,
    fetched: Fetched,
    flow: Option<Flow>,
}

impl Connection {
    pub(super) fn make(
        lab: &Lab,
        family: Family,
        guest: usize,
        via: usize,
        ports: &mut Ports,
    ) -> Result<Self, Error> {
        let layout = &lab.layout;
        let to = &layout.guests[guest];
        let (public, at_guest) = (layout.public(via, family), layout.guest(guest, family));
        let fetched = fetch(lab, layout.client, ports.tcp(CHOICE), &url(public, to.service_port, "/"), &[])?;
        let way = Way {
            family,
            proto: Proto::TCP,
            via,
            guest,
            client_port: fetched.port,
            port: to.service_port,
            guest_port: to.port,
        };
        let home = lab.on(&layout.nodes[to.home].name);
        let ends = (layout.at(family).client, at_guest);
        let flow = match fetched.fault {
            None => Some(Flow::find(home, "tcp", ends, Some(fetched.port))?),
            Some(_) => None,
        };
        Ok(Self { way, fetched, flow })
    }
}

impl Probe for Connection {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let Way { family, via, port, .. } = self.way;
        let (guest, node) = (&layout.guests[self.way.guest], &layout.nodes[via]);
        let home = &layout.nodes[guest.home];
        let public = layout.public(via, family);
        let kind = if via == guest.home { "local" } else { "foreign" };
        let mut claim = layout.claim(
            family,
            format!(
                "{}, {kind}: {} -> {} {public}:{port} -> {} on {}",
                guest.service, layout.client, node.name, guest.name, home.name
            ),
        );
        if let Some(fault) = &self.fetched.fault {
            claim.fault(fault.clone());
            self.way.show_where_it_ended(&mut claim, seen);
            return claim;
        }
        let page = page(layout, guest, family, self.fetched.port);
        claim.must_be("the page", &*self.fetched.text, &*page);
        claim.proof("page", format!("\"{}\"", self.fetched.text));
        self.way.prove_names_on_lan(&mut claim, layout, seen);
        self.way.prove_way_inside(&mut claim, layout, seen);
        if let Some(flow) = &self.flow {
            flow.must_have(&mut claim, &home.name, node.tag);
            let text = format!("{} has mark {:#x} ({}) on: {}", home.name, node.tag, node.name, flow.text());
            claim.proof("ct", text);
        }
        claim
    }
}

/// What a guest says to the workstation.
fn page(layout: &Layout, guest: &Guest, family: Family, port: u16) -> String {
    let client = layout.at(family).client;
    let address = guest.address.get(family).copied().unwrap_or(client);
    format!("{} saw {} -> {}", guest.name, shown(client, port), shown(address, guest.port))
}

/// A port that is no service: the node itself replies.
pub(super) struct OwnPort {
    family: Family,
    fetched: Vec<Fetched>,
}

impl OwnPort {
    pub(super) fn make(lab: &Lab, family: Family, ports: &mut Ports) -> Result<Self, Error> {
        let layout = &lab.layout;
        let fetch_from = |via| {
            let url = url(layout.public(via, family), layout.node_port, "/");
            fetch(lab, layout.client, ports.tcp(CHOICE), &url, &[])
        };
        let fetched = (0..layout.nodes.len()).map(fetch_from).collect::<Result<_, _>>()?;
        Ok(Self { family, fetched })
    }
}

impl Probe for OwnPort {
    fn judge(&self, layout: &Layout, _seen: &Seen) -> Claim {
        let mut claim = layout
            .claim(self.family, format!("port {} is no service: the node itself replies", layout.node_port));
        let client = layout.at(self.family).client;
        for (via, fetched) in self.fetched.iter().enumerate() {
            if let Some(fault) = &fetched.fault {
                claim.fault(fault.clone());
                continue;
            }
            let name = &layout.nodes[via].name;
            let public = layout.public(via, self.family);
            let page = format!(
                "{name} itself saw {} -> {}",
                shown(client, fetched.port),
                shown(public, layout.node_port)
            );
            claim.must_be(format_args!("the page of {name}"), &*fetched.text, &*page);
            claim.proof("page", format!("\"{}\"", fetched.text));
        }
        claim
    }
}

/// Many connections at once, through all nodes in turn, to the first guest.
pub(super) struct Many {
    family: Family,
    at_once: usize,
    /// Of each: the entry node, and what came of it.
    fetched: Vec<(usize, Fetched)>,
    /// Client port and mark of every flow that the guest's node knows.
    marks: Vec<(u16, u32)>,
}

impl Many {
    pub(super) fn make(lab: &Lab, family: Family, ports: &mut Ports) -> Result<Self, Error> {
        let layout = &lab.layout;
        let (total, at_once) = (lab.pace.sized(200, 30), lab.pace.sized(20, 10));
        let guest = &layout.guests[0];
        let first = ports.tcp(CHOICE * total as u16);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut fetched = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= total {
                    return Ok(fetched);
                }
                let via = place % layout.nodes.len();
                let url = url(layout.public(via, family), guest.service_port, "/");
                fetched.push((via, fetch(lab, layout.client, first + CHOICE * place as u16, &url, &[])?));
            }
        };
        let fetched: Result<Vec<Vec<_>>, Error> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
            let end = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(Error::refused("a thread that ran curl panicked")))
            };
            threads.into_iter().map(end).collect()
        });
        let fetched = fetched?.into_iter().flatten().collect();
        let ends = (layout.at(family).client, layout.guest(0, family));
        let flows = list(lab.on(&layout.home().name), "tcp", ends, None)?;
        let marks = flows.lines().filter_map(|line| Some((sport(line)?, mark(line)?))).collect();
        Ok(Self { family, at_once, fetched, marks })
    }
}

/// The client's port in a line of conntrack's.
fn sport(line: &str) -> Option<u16> {
    line.split_whitespace().find_map(|word| word.strip_prefix("sport=")?.parse().ok())
}

impl Probe for Many {
    fn judge(&self, layout: &Layout, _seen: &Seen) -> Claim {
        let (guest, home, total) = (&layout.guests[0], layout.home(), self.fetched.len());
        let mut claim = layout.claim(
            self.family,
            format!(
                "{total} connections, {} at a time, through all nodes in turn, to {} on {}",
                self.at_once, guest.name, home.name
            ),
        );
        if let Some(fault) = self.fetched.iter().find_map(|(_, fetched)| fetched.fault.as_ref()) {
            let count = self.fetched.iter().filter(|(_, fetched)| fetched.fault.is_some()).count();
            claim.fault(format!("{count} of {total} failed, for example {fault}"));
        }
        let is_right = |fetched: &Fetched| fetched.text == page(layout, guest, self.family, fetched.port);
        let mut right: Vec<_> = self.fetched.iter().filter(|(_, fetched)| is_right(fetched)).collect();
        right.sort_by_key(|(_, fetched)| fetched.port);
        right.dedup_by_key(|(_, fetched)| fetched.port);
        claim.must_be(
            format_args!("connections served by {}, each from its own client port", guest.name),
            right.len(),
            total,
        );
        claim.proof("pages", format!("{} from {}, to as many client ports", right.len(), guest.name));
        let has_mark = |via: usize, port: u16| self.marks.contains(&(port, layout.nodes[via].tag));
        let of = |place: usize| {
            right.iter().filter(|(via, fetched)| *via == place && has_mark(place, fetched.port)).count()
        };
        let marked: Vec<usize> = (0..layout.nodes.len()).map(of).collect();
        claim.must_be(
            format_args!("conntrack of {}: flows with the entry node's mark", home.name),
            marked.iter().sum::<usize>(),
            total,
        );
        let spread = layout.nodes.iter().zip(&marked);
        let spread: Vec<String> =
            spread.map(|(node, count)| format!("{} {count} with {:#x}", node.name, node.tag)).collect();
        claim.proof("ct", format!("{} knows {}", home.name, spread.join(", ")));
        claim
    }
}

/// A guest has begun it: through the SNAT of its node, and without a mark.
pub(super) struct Outbound {
    family: Family,
    what: What,
    flow: Flow,
}

enum What {
    /// What ping printed.
    Ping(String),
    Page(Fetched),
}

impl Outbound {
    pub(super) fn ping(lab: &Lab, family: Family) -> Result<Self, Error> {
        let layout = &lab.layout;
        let (guest, client) = (&layout.guests[0], layout.at(family).client);
        let wait = lab.pace.seconds(2).as_secs().to_string();
        let ping = ["ping", "-n", "-c", "2", "-i", "0.2", "-W", &wait, &client.to_string()];
        let output = lab.on(&guest.name).output(&ping)?;
        let said = [output.stdout, output.stderr].concat();
        let proto = if family == Family::V4 { "icmp" } else { "icmpv6" };
        let flow = Self::flow(lab, family, proto, client, None)?;
        Ok(Self { family, what: What::Ping(String::from_utf8_lossy(&said).into_owned()), flow })
    }

    pub(super) fn page(lab: &Lab, family: Family, ports: &mut Ports) -> Result<Self, Error> {
        let layout = &lab.layout;
        let client = layout.at(family).client;
        let url = url(client, layout.client_port, "/");
        let fetched = fetch(lab, &layout.guests[0].name, ports.tcp(CHOICE), &url, &[])?;
        let flow = Self::flow(lab, family, "tcp", client, Some(fetched.port))?;
        Ok(Self { family, what: What::Page(fetched), flow })
    }

    fn flow(
        lab: &Lab,
        family: Family,
        proto: &str,
        client: IpAddr,
        sport: Option<u16>,
    ) -> Result<Flow, Error> {
        let home = lab.on(&lab.layout.home().name);
        Flow::find(home, proto, (lab.layout.guest(0, family), client), sport)
    }
}

impl Probe for Outbound {
    fn judge(&self, layout: &Layout, seen: &Seen) -> Claim {
        let (guest, home) = (&layout.guests[0], layout.home());
        let public = layout.public(0, self.family);
        let what = if matches!(self.what, What::Ping(_)) { "ping" } else { "HTTP" };
        let mut claim = layout.claim(
            self.family,
            format!("outbound {what}: {} -> {} through the SNAT of {}", guest.name, layout.client, home.name),
        );
        match &self.what {
            What::Ping(said) => {
                let line = |words: &[&str]| {
                    said.lines()
                        .find(|line| words.iter().any(|word| line.contains(word)))
                        .unwrap_or("no output")
                };
                claim.must(said.contains(" 2 received"), || {
                    format!("ping: {}", line(&["received", "rror", "nreach"]))
                });
                claim.proof("ping", line(&["received"]));
                let kind = if self.family == Family::V4 { 8 } else { 128 };
                let is_request = |frame: &crate::lab::Frame| {
                    frame.icmp().is_some_and(|(its, _)| its == kind) && frame.from(public)
                };
                let count = seen.lan.count(is_request);
                claim.must(count >= 2, || format!("LAN: {count} echo requests from {public}, expected 2"));
                claim.proof_by(
                    "LAN",
                    format!("the requests come from {public}"),
                    Some(&seen.lan),
                    is_request,
                );
            }
            What::Page(fetched) => {
                if let Some(fault) = &fetched.fault {
                    claim.fault(fault.clone());
                    return claim;
                }
                let before = format!("{} saw {public}:", layout.client);
                let after = format!(" -> {}", shown(layout.at(self.family).client, layout.client_port));
                let port = fetched.text.strip_prefix(&*before).and_then(|rest| rest.strip_suffix(&*after));
                claim.must(port.is_some_and(|port| port.parse::<u16>().is_ok()), || {
                    format!("the workstation did not see {public}: \"{}\"", fetched.text)
                });
                claim.proof("page", format!("\"{}\"", fetched.text));
            }
        }
        self.flow.must_have(&mut claim, &home.name, 0);
        claim.must(self.flow.text().contains(&format!("dst={public}")), || {
            format!("conntrack of {}: it expects no replies at {public}: {}", home.name, self.flow.text())
        });
        claim.proof("ct", self.flow.text());
        claim
    }
}
