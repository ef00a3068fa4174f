//! What becomes different when a node goes on with another cluster file, in words.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::{Cluster, Foreign, Node, NodeId};

/// One thing that a new cluster file says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is about: `service web`, or `node node2 tag`.
    pub about: String,
    /// As it is; none if it is new.
    pub was: Option<String>,
    /// As it will be; none if it is not in the new file.
    pub becomes: Option<String>,
}

/// As in `service web: tcp port 80 -> guest 10.5.5.201 becomes tcp port 81 -> guest 10.5.5.201`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, was, becomes } = self;
        match (was, becomes) {
            (Some(was), Some(becomes)) => write!(f, "{about}: {was} becomes {becomes}"),
            (None, Some(becomes)) => write!(f, "{about} is new: {becomes}"),
            (Some(was), None) => write!(f, "{about} is removed: {was}"),
            (None, None) => f.write_str(about),
        }
    }
}

impl Cluster {
    /// What a new file says otherwise, in the order of the file. Comments and the order of services and nodes mean nothing.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let settings = paired(self.settings(), new.settings());
        let services = paired(self.said_of_services(), new.said_of_services());
        let mut all: Vec<Change> = settings.chain(services).collect();
        let find = |cluster: &Self, name: &str| cluster.node_ids().find(|id| cluster.node(*id).name == name);
        let names = |cluster: &Self| cluster.nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
        let more: Vec<String> = names(new).into_iter().filter(|name| find(self, name).is_none()).collect();
        for name in names(self).iter().chain(&more) {
            let whole = |cluster: &Self, id| {
                let said: Vec<String> = cluster
                    .said_of_node(id)
                    .into_iter()
                    .map(|(what, says)| format!("{what} {says}"))
                    .collect();
                Some(said.join(", "))
            };
            let about = format!("node {name}");
            match (find(self, name), find(new, name)) {
                (Some(was), Some(becomes)) => {
                    let of = |cluster: &Self, id| {
                        let said = cluster.said_of_node(id).into_iter();
                        said.map(|(what, says)| (format!("{about} {what}"), says)).collect::<Vec<_>>()
                    };
                    all.extend(paired(of(self, was), of(new, becomes)));
                }
                (Some(was), None) => all.push(Change { about, was: whole(self, was), becomes: None }),
                (None, Some(becomes)) => all.push(Change { about, was: None, becomes: whole(new, becomes) }),
                (None, None) => {}
            }
        }
        all
    }

    fn settings(&self) -> Vec<(String, String)> {
        let guests = &self.guests;
        let words = |all: &[String]| if all.is_empty() { "none".to_owned() } else { all.join(" ") };
        let texts = |all: &mut dyn Iterator<Item = String>| words(&all.collect::<Vec<_>>());
        let foreign = if guests.foreign == Foreign::Track { "track" } else { "notrack" };
        [
            ("guests network", guests.network.to_string()),
            ("guests gateway", guests.gateway.to_string()),
            ("guests bridge", guests.bridge.to_string()),
            ("guests pipes", texts(&mut guests.pipes.iter().map(ToString::to_string))),
            ("guests inside", texts(&mut guests.inside.iter().map(ToString::to_string))),
            ("guests foreign", foreign.to_owned()),
            ("public interface", self.public.to_string()),
            ("marks mask", self.mask.to_string()),
            ("marks on_conflict", self.on_conflict.to_string()),
            ("marks tag_by", self.tag_by.to_string()),
        ]
        .map(|(about, says)| (about.to_owned(), says))
        .to_vec()
    }

    fn said_of_services(&self) -> Vec<(String, String)> {
        let said = |service: &super::Service| {
            let home = service.home.map(|home| format!(", home {}", self.node(home).name));
            (format!("service {}", service.name), service.summary() + &home.unwrap_or_default())
        };
        self.services.iter().map(said).collect()
    }

    fn said_of_node(&self, id: NodeId) -> Vec<(&'static str, String)> {
        let Node { tag, mac, dscp, public, pipes, leads_to, .. } = self.node(id);
        let pipe = |(place, pipe): (usize, &crate::net::IfName)| match leads_to.get(place) {
            Some(to) => format!("{pipe} to {}", self.node(*to).name),
            None => pipe.to_string(),
        };
        let pipes = pipes.as_ref().map(|pipes| {
            let pipes: Vec<String> = pipes.iter().enumerate().map(pipe).collect();
            if pipes.is_empty() { "none".to_owned() } else { pipes.join(" ") }
        });
        [
            ("tag", Some(tag.to_string())),
            ("mac", mac.map(|mac| mac.to_string())),
            ("dscp", dscp.map(|dscp| dscp.to_string())),
            ("public", Some(public.to_string())),
            ("pipes", pipes),
        ]
        .into_iter()
        .filter_map(|(what, says)| Some((what, says?)))
        .collect()
    }
}

/// What two lists say differently about the same: in the order of the first, and then what only the second has.
fn paired(was: Vec<(String, String)>, becomes: Vec<(String, String)>) -> impl Iterator<Item = Change> {
    let is_there: HashSet<String> = was.iter().map(|(about, _)| about.clone()).collect();
    let new: Vec<(String, String)> =
        becomes.iter().filter(|(about, _)| !is_there.contains(about)).cloned().collect();
    let mut becomes: HashMap<String, String> = becomes.into_iter().collect();
    let stayed = was.into_iter().map(move |(about, was)| {
        let becomes = becomes.remove(&about);
        Change { about, was: Some(was), becomes }
    });
    let added = new.into_iter().map(|(about, says)| Change { about, was: None, becomes: Some(says) });
    stayed.chain(added).filter(|change| change.was != change.becomes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const EXAMPLE: &str = include_str!("../../rules/example.toml");

    fn cluster(text: &str) -> Cluster {
        Cluster::parse(text, Path::new("c")).unwrap()
    }

    fn told(text: &str) -> Vec<String> {
        assert_ne!(text, EXAMPLE);
        cluster(EXAMPLE).changes(&cluster(text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_change_is_told_once_and_by_its_key() {
        let said = |from: &str, to: &str| told(&EXAMPLE.replacen(from, to, 1));
        assert_eq!(said("# ", "#  "), [""; 0], "a comment means nothing");
        for (from, to, line) in [
            ("tag    = 2", "tag    = 3", "node node2 tag: 0x2 becomes 0x3"),
            (
                "guest = \"10.5.5.201\"",
                "guest = \"10.5.5.202\"",
                "service web: tcp port 80 -> guest 10.5.5.201 becomes tcp port 80 -> guest 10.5.5.202",
            ),
            (
                "guest = \"10.5.5.201\"",
                "guest = \"10.5.5.201\"\nhome = \"node1\"",
                "service web: tcp port 80 -> guest 10.5.5.201 becomes tcp port 80 -> guest 10.5.5.201, home node1",
            ),
            (
                "192.168.122.12\"",
                "192.168.122.13\"",
                "node node2 public: 192.168.122.12 becomes 192.168.122.13",
            ),
            (
                "mac    = \"0e:00:00:00:00:00/24\"",
                "mac    = \"0e:01:00:00:00:00/24\"",
                "node node2 mac: 0e:00:00:00:00:00/24 becomes 0e:01:00:00:00:00/24",
            ),
            ("xenbr0\"", "xenbr1\"", "public interface: xenbr0 becomes xenbr1"),
            ("mask = \"0xffffffff\"", "mask = \"0xff\"", "marks mask: 0xffffffff becomes 0xff"),
            ("# on_conflict = \"keep\"", "on_conflict = \"drop\"", "marks on_conflict: keep becomes drop"),
            (
                "[\"eth1.100\", \"eth2.100\"]",
                "[\"eth1.100\"]",
                "guests pipes: eth1.100 eth2.100 becomes eth1.100",
            ),
        ] {
            assert_eq!(said(from, to), [line]);
        }
    }

    #[test]
    fn what_is_new_and_what_is_removed_is_told_whole() {
        let more = EXAMPLE.to_owned()
            + "\n[[service]]\nname = \"x\"\nproto = \"udp\"\nport = 53\nguest = \"10.5.5.202\"\n\
               [[node]]\nname = \"node9\"\ntag = 9\nmac = \"0a:00:99:00:00:00/24\"\npublic = \"192.168.122.19\"\n";
        let (service, node) =
            ("udp port 53 -> guest 10.5.5.202", "tag 0x9, mac 0a:00:99:00:00:00/24, public 192.168.122.19");
        assert_eq!(
            told(&more),
            [format!("service x is new: {service}"), format!("node node9 is new: {node}")]
        );
        let back: Vec<String> =
            cluster(&more).changes(&cluster(EXAMPLE)).iter().map(ToString::to_string).collect();
        assert_eq!(
            back,
            [format!("service x is removed: {service}"), format!("node node9 is removed: {node}")]
        );
    }
}
