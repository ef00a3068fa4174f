//! In what two cluster files differ: nodes that work by different ones do not understand each other's packets.

use super::Cluster;

/// What only one of two clusters has, in the words of its [summary](Cluster::summary).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Differences {
    /// Of the first.
    pub here: Vec<String>,
    /// Of the second.
    pub there: Vec<String>,
}

impl Cluster {
    /// In what another cluster differs from this one. Comments and the order of services and nodes mean nothing.
    pub fn differences(&self, other: &Self) -> Differences {
        // The summary has columns, whose widths depend on other lines.
        let lines = |cluster: &Self| -> Vec<String> {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            cluster.summary().lines().map(words).collect()
        };
        let (here, there) = (lines(self), lines(other));
        let only = |of: &[String], others: &[String]| {
            of.iter().filter(|line| !others.contains(line)).cloned().collect::<Vec<_>>()
        };
        Differences { here: only(&here, &there), there: only(&there, &here) }
    }
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.here.is_empty() && self.there.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const EXAMPLE: &str = include_str!("../../rules/example.toml");

    fn cluster(text: &str) -> Cluster {
        Cluster::parse(text, Path::new("c")).unwrap()
    }

    #[test]
    fn what_means_nothing_makes_no_difference() {
        let example = cluster(EXAMPLE);
        let (nodes, marks) = EXAMPLE.split_once("[[node]]").unwrap();
        let (one, rest) = marks.split_once("[[node]]").unwrap();
        let (two, marks) = rest.split_once("[marks]").unwrap();
        let turned = format!("# other\n{nodes}[[node]]{two}[[node]]{one}[marks]{marks}");
        let other = cluster(&turned);
        assert_ne!(example.digest(), other.digest());
        assert!(example.differences(&other).is_empty());
    }

    #[test]
    fn every_line_that_differs_is_shown_from_both_sides() {
        let example = cluster(EXAMPLE);
        for (from, to) in [
            ("guest = \"10.5.5.201\"", "guest = \"10.5.5.202\""),
            ("tag    = 2", "tag    = 3"),
            ("0e:00:00:00:00:00/24", "0e:01:00:00:00:00/24"),
            ("192.168.122.12\"", "192.168.122.13\""),
            ("xenbr0\"", "xenbr1\""),
            ("port  = 80", "port  = 81"),
            ("port  = 80", "port  = 80\nguest_port = 8080"),
            ("mask = \"0xffffffff\"", "mask = \"0xff\""),
            ("# on_conflict = \"keep\"", "on_conflict = \"drop\""),
            ("[\"eth1.100\", \"eth2.100\"]", "[\"eth1.100\"]"),
        ] {
            let text = EXAMPLE.replacen(from, to, 1);
            assert_ne!(text, EXAMPLE, "{from}");
            let found = example.differences(&cluster(&text));
            assert_eq!((found.here.len(), found.there.len()), (1, 1), "{from}: {found:?}");
            assert_ne!(found.here, found.there);
        }
        let more = EXAMPLE.to_owned()
            + "\n[[service]]\nname = \"x\"\nproto = \"udp\"\nport = 53\nguest = \"10.5.5.202\"\n";
        let found = example.differences(&cluster(&more));
        assert_eq!(found.here, [""; 0]);
        assert_eq!(found.there, ["service x udp port 53 -> guest 10.5.5.202"]);
    }
}
