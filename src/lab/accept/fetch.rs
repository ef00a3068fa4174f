//! Fetching a page: curl on a machine, and what conntrack of a node knows of it.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use super::claim::Claim;
use crate::lab::{Error, Lab, Machine};
use crate::net::{Family, OfFamily as _};

/// What curl got.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// The page.
    pub(super) text: String,
    /// The client's port; if curl failed, the one that it tried.
    pub(super) port: u16,
    /// What went wrong.
    pub(super) fault: Option<String>,
}

/// Client ports that no connection of this lab has had. The kernel is content with a port that is free towards one destination;
/// but the same port towards two nodes ends in one and the same tuple at the guest, and conntrack remembers it for a while.
#[derive(Debug)]
pub(super) struct Ports {
    tcp: u16,
    udp: u16,
}

const FILE: &str = "ports";
/// Where each begins again when all have been used.
const FIRST: (u16, u16) = (20_000, 10_000);
const LAST: (u16, u16) = (58_000, 19_000);

impl Ports {
    pub(super) fn of(lab: &Lab) -> Self {
        let text = fs::read_to_string(lab.file(FILE)).unwrap_or_default();
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
        let (tcp, udp) = (numbers.next().unwrap_or(FIRST.0), numbers.next().unwrap_or(FIRST.1));
        let again = |port, first, last| if port < last { port } else { first };
        Self { tcp: again(tcp, FIRST.0, LAST.0), udp: again(udp, FIRST.1, LAST.1) }
    }

    pub(super) fn save(&self, lab: &Lab) -> Result<(), Error> {
        lab.write(FILE, &format!("{} {}\n", self.tcp, self.udp))
    }

    /// A UDP port.
    pub(super) fn udp(&mut self) -> u16 {
        self.udp += 1;
        self.udp
    }

    /// That many TCP ports; the first of them.
    pub(super) fn tcp(&mut self, count: u16) -> u16 {
        let first = self.tcp;
        self.tcp += count;
        first
    }
}

/// How many ports a connection may choose from: one of an earlier run may still be in TIME_WAIT.
pub(super) const CHOICE: u16 = 10;

/// Fetches a page from one of the ports that begin with `from`.
pub(super) fn fetch(lab: &Lab, who: &str, from: u16, url: &str, options: &[&str]) -> Result<Fetched, Error> {
    let mut curl = lab.on(who).command("curl");
    curl.args(["--silent", "--show-error", "--globoff"]);
    let seconds = |seconds| lab.pace.seconds(seconds).as_secs().to_string();
    curl.args(["--connect-timeout", &seconds(3), "--max-time", &seconds(60)]);
    curl.args(["--local-port", &format!("{from}-{}", from + CHOICE - 1)]);
    curl.args(["--write-out", "\n%{http_code} %{local_port}"]).args(options).arg(url);
    let output = curl.output().map_err(|error| crate::lab::machine::failed(&curl, &error.to_string()))?;
    let out = String::from_utf8_lossy(&output.stdout);
    let (text, end) = out.rsplit_once('\n').unwrap_or(("", &out));
    let (code, port) = end.split_once(' ').unwrap_or((end, ""));
    let port = port.parse().ok().filter(|port| *port > 0).unwrap_or(from);
    let said = String::from_utf8_lossy(&output.stderr);
    let fault = (!output.status.success() || !["200", "201"].contains(&code)).then(|| {
        let said = said.trim();
        format!("{url}: {} (HTTP {code})", if said.is_empty() { "no response" } else { said })
    });
    Ok(Fetched { text: text.trim_end_matches('\n').to_owned(), port, fault })
}

/// `http://ADDRESS:PORT` and a path.
pub(super) fn url(address: IpAddr, port: u16, path: &str) -> String {
    format!("http://{}{path}", SocketAddr::new(address, port))
}

/// An address as nginx shows it in front of a port.
pub(super) fn shown(address: IpAddr, port: u16) -> String {
    format!("{address}:{port}")
}

/// What conntrack knows of a flow, as it prints it; nothing if it has none.
#[derive(Clone, Debug)]
pub(super) struct Flow(pub(super) Option<String>);

impl Flow {
    /// Of a protocol, from and to an address, from a port if there is one.
    pub(super) fn find(
        node: Machine<'_>,
        proto: &str,
        (src, dst): (IpAddr, IpAddr),
        sport: Option<u16>,
    ) -> Result<Self, Error> {
        let all = list(node, proto, (src, dst), sport)?;
        Ok(Self(all.lines().last().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))))
    }

    /// Its mark.
    fn mark(&self) -> Option<u32> {
        mark(self.0.as_deref()?)
    }

    /// Its mark must be that.
    pub(super) fn must_have(&self, claim: &mut Claim, node: &str, want: u32) {
        let got = self.mark().map_or_else(|| "no entry".to_owned(), |mark| format!("{mark:#x}"));
        claim.must_be(format_args!("conntrack of {node}: mark"), got, format!("{want:#x}"));
    }

    pub(super) fn text(&self) -> &str {
        self.0.as_deref().unwrap_or("no entry")
    }
}

/// The mark in a line of conntrack's.
pub(super) fn mark(line: &str) -> Option<u32> {
    line.split_whitespace().find_map(|word| word.strip_prefix("mark=")?.parse().ok())
}

/// The flows that conntrack lists, a line each.
pub(super) fn list(
    node: Machine<'_>,
    proto: &str,
    (src, dst): (IpAddr, IpAddr),
    sport: Option<u16>,
) -> Result<String, Error> {
    let family = if src.family() == Family::V4 { "ipv4" } else { "ipv6" };
    let (src, dst) = (src.to_string(), dst.to_string());
    let mut words = vec!["conntrack", "-L", "-f", family, "-p", proto, "-s", &src, "-d", &dst];
    let sport = sport.map(|port| port.to_string());
    if let Some(sport) = &sport {
        words.extend(["--sport", sport]);
    }
    node.must(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_flow_is_read() {
        let line = "tcp 6 119 TIME_WAIT src=192.168.122.1 dst=10.5.5.201 sport=20000 dport=80 src=10.5.5.201 dst=192.168.122.1 \
                    sport=80 dport=20000 [ASSURED] mark=2 use=1";
        assert_eq!(mark(line), Some(2));
        let mut claim = Claim::new(None, "x");
        Flow(Some(line.to_owned())).must_have(&mut claim, "node1", 2);
        assert!(claim.faults.is_empty());
        Flow(None).must_have(&mut claim, "node1", 2);
        assert_eq!(claim.faults, ["conntrack of node1: mark: no entry, expected 0x2"]);
    }
}
