use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::cluster::Cluster;

/// As somebody would write it who has such a cluster: with names, sets, comments, and a word of a template.
const RULESET: &str = r#"# of every node
define wan = eth0
define lan = br-guests
define pipes = { vx1, vx2 }

flush ruleset

table ip requests {
    chain to-guests {
        type filter hook prerouting priority -300; policy accept;
        iif $wan tcp dport { 80, https } meta mark set 0x2 ip daddr set 10.9.0.5
        iif $wan udp dport 5000-5009 ip daddr set 10.9.0.6
        iif $wan tcp dport 2222 meta mark set 0x2 ip daddr set 10.9.0.6 tcp dport set ssh0
        iif $wan tcp dport 2222 meta mark set 0x2 ip daddr set 10.9.0.6 tcp dport set 22
    }
    chain replies {
        type filter hook postrouting priority 90;
        oif $wan ip saddr 10.9.0.0/16 ct mark == 0x01 ip saddr set 203.0.113.1
        oif $wan ip saddr 10.9.0.0/16 ct mark 0x2 counter packets 5 bytes 300 ip saddr set 203.0.113.2
        oif $wan ip saddr 10.9.0.0/16 ct mark 0x1 ip saddr set 203.0.113.9
    }
}
table netdev cluster {
    chain from-nodes {
        type filter hook ingress devices = $pipes priority -500;
        ether saddr & ff:ff:ff:ff:00:00 == 02:00:00:01:00:00 meta mark set 0x01
        ether saddr 02:00:00:02:00:07 meta mark set 2
    }
    chain to-nodes {
        type filter hook egress devices = $pipes priority -500;
        arp saddr ip 10.9.255.254 drop
        arp daddr ip 10.9.255.254 drop
    }
}
table ip state { chain to-guest { type filter hook postrouting priority 0
        oif $lan ip daddr 10.9.0.0/16 meta mark != 0 ct mark set meta mark
        ip daddr 10.9.0.9 limit rate 5/second accept
} }
table ip nat {
    chain postrouting {
        type nat hook postrouting priority 100;
        oif $wan ip saddr 10.9.0.0/16 snat {{ pub_ip }}
    }
}
"#;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn told(imported: &Imported) -> String {
    imported.lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_ruleset_becomes_a_cluster_file_and_every_line_is_told() {
    let imported = read(&[source("nft.conf", RULESET)]);
    insta::assert_snapshot!("lines", told(&imported));
    insta::assert_snapshot!("cluster-file", imported.cluster_file());
    assert_eq!((imported.not_understood(), imported.missing()), (3, Vec::new()));
    let cluster = Cluster::parse(&imported.cluster_file(), Path::new("made.toml")).unwrap();
    assert_eq!((cluster.nodes().len(), cluster.services().len()), (2, 4));
}

/// Each node has one of its own: what differs is put together, and what contradicts is told.
#[test]
fn rulesets_of_several_nodes_are_put_together() {
    let of_node = |tag: u32, public: &str| {
        let own: String =
            RULESET.replace("meta mark set 0x2 ip daddr", &format!("meta mark set {tag} ip daddr"));
        let others = own.lines().filter(|line| !line.contains("ct mark"));
        others.map(|line| line.replace("{{ pub_ip }}", public) + "\n").collect::<String>() + MORE
    };
    const MORE: &str = "table ip x { chain y { type filter hook postrouting priority 0; oif br-guests ip daddr 10.9.0.0/16 ct mark set mark; } }";
    let sources = [source("one", &of_node(1, "203.0.113.1")), source("two", &of_node(2, "203.0.113.2"))];
    let imported = read(&sources);
    let cluster = Cluster::parse(&imported.cluster_file(), Path::new("made.toml")).unwrap();
    let publics: Vec<String> = cluster.nodes().iter().map(|node| node.public.to_string()).collect();
    assert_eq!(publics, ["203.0.113.1", "203.0.113.2"]);
    let other = source("three", &of_node(1, "203.0.113.3").replace("br-guests", "br7"));
    let said = told(&read(&[sources[0].clone(), other]));
    assert!(
        said.contains("guests get 203.0.113.3, but tag 0x1, which this ruleset gives, is of 203.0.113.1"),
        "{said}"
    );
    assert!(said.contains("the bridge is br7; before it was br-guests"), "{said}");
}

#[test]
fn what_is_not_said_is_missing() {
    let imported = read(&[source("empty", "")]);
    assert_eq!(imported.missing().len(), 4);
    let file = imported.cluster_file();
    assert!(
        file.contains("# MISSING: the network of the guests") && file.contains("\n# bridge = \n"),
        "{file}"
    );
    assert!(Cluster::parse(&file, Path::new("made.toml")).is_err());
}

/// Nothing is asked for that a cluster file does not need: whatever stands together and is taken out, what is left is not both right and
/// lacking something.
#[test]
fn what_is_missing_is_needed() {
    let lines: Vec<String> = RULESET.lines().map(|line| format!("{line}\n")).collect();
    let mut right = 0;
    for (from, count) in (0..lines.len()).flat_map(|from| (1..=6).map(move |count| (from, count))) {
        let to = lines.len().min(from + count);
        let left = lines[..from].concat() + &lines[to..].concat();
        let imported = read(&[source("part", &left)]);
        if Cluster::parse(&imported.cluster_file(), Path::new("made.toml")).is_ok() {
            assert_eq!(imported.missing(), [""; 0], "without {:?}", &lines[from..to]);
            right += 1;
        }
    }
    assert!(right > 50, "{right}");
}

#[test]
fn a_cluster_whose_guests_only_begin_flows_has_no_services() {
    let without: String = RULESET
        .lines()
        .filter(|line| !line.contains("ip daddr set"))
        .map(|line| format!("{line}\n"))
        .collect();
    let imported = read(&[source("outwards", &without)]);
    let file = imported.cluster_file();
    assert_eq!(imported.missing(), [""; 0], "{file}");
    assert!(!imported.has_services() && file.contains("# No service: "), "{file}");
    Cluster::parse(&file, Path::new("made.toml")).unwrap();
}

/// A short text may stand for a long one: names that stand for many words, many times.
#[test]
fn what_names_stand_for_is_not_written_out_without_end() {
    let many = format!("define many = {}\n", "1 ".repeat(1000));
    let often = format!("{many}table ip t {{ chain c {{\n{}\n}} }}\n", "$many ".repeat(20));
    let said = told(&read(&[source("often", &often)]));
    assert!(said.contains("often:3  NOT UNDERSTOOD: it has more than 16384 words"), "{said}");
    let names: String = (0..1030).map(|number| format!("define a{number} = $many\n")).collect();
    let lines = read(&[source("names", &(many + &names))]).lines;
    let not_understood = lines.iter().filter(|line| matches!(line.taken, Taken::NotUnderstood(_))).count();
    assert_eq!((lines.len(), not_understood), (1031, 7));
}

proptest! {
    #[test]
    fn any_text_comes_to_an_end(text in ".{0,400}", cut in 0..RULESET.len(), at in 0..RULESET.len()) {
        let mut spoilt = RULESET.get(cut..).unwrap_or_default().to_owned();
        if spoilt.is_char_boundary(at) {
            spoilt.insert_str(at, &text);
        }
        for text in [&text, &spoilt] {
            let imported = read(&[source("a", text)]);
            // What is written is TOML, whatever the names are.
            prop_assert!(imported.cluster_file().parse::<toml::Table>().is_ok());
        }
    }
}
