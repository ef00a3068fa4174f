//! What a node is known by: pipes, code points, MAC addresses.

use super::*;

#[test]
fn a_node_may_have_pipes_of_its_own() {
    let text = example_with("\"192.168.122.12\"", "\"192.168.122.12\"\npipes = [\"eth7\"]");
    let cluster = Cluster::parse(&text, Path::new("c")).unwrap();
    let names = |id| cluster.pipes(NodeId(id)).iter().map(IfName::to_string).collect::<Vec<_>>();
    assert_eq!(names(0), ["eth1.100", "eth2.100"]);
    assert_eq!(names(1), ["eth7"]);
}

#[test]
fn tags_may_go_by_pipes_or_code_points() {
    let summary = |text: &str| {
        let summary = Cluster::parse(text, Path::new("c")).map(|cluster| cluster.summary()).unwrap();
        summary
            .lines()
            .filter(|line| line.starts_with("marks") || line.starts_with("node"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let by_pipe =
        tagged_by("pipe", "pipe_to = { node2 = \"eth1.100\" }", "pipe_to = { node1 = \"eth2.100\" }");
    let by_dscp = tagged_by("dscp", "dscp = \"cs1\"", "dscp = 16");
    insta::assert_snapshot!(summary(&by_pipe), @"
    marks     mask 0xffffffff, tag by pipe
    node      node1  tag 0x1  mac 0a:00:00:00:00:00/24  public 192.168.122.11  pipes eth1.100 to node2
    node      node2  tag 0x2  mac 0e:00:00:00:00:00/24  public 192.168.122.12  pipes eth2.100 to node1
    ");
    insta::assert_snapshot!(summary(&by_dscp), @"
    marks     mask 0xffffffff, tag by dscp
    node      node1  tag 0x1  mac 0a:00:00:00:00:00/24  dscp cs1  public 192.168.122.11
    node      node2  tag 0x2  mac 0e:00:00:00:00:00/24  dscp cs2  public 192.168.122.12
    ");
    // They need no MAC addresses.
    for text in [&by_pipe, &by_dscp] {
        let without: String =
            text.lines().filter(|line| !line.starts_with("mac ")).map(|line| format!("{line}\n")).collect();
        assert!(!summary(&without).contains("mac"));
    }
    let cases = [
        (by_pipe.replace("\"pipe\"", "\"colour\""), "give one of \"mac\", \"pipe\", \"dscp\""),
        (by_pipe.replace("\"pipe\"", "\"mac\""), "pipe_to needs tag_by = \"pipe\""),
        (by_pipe.replace("{ node2 =", "{ node1 ="), "this pipe leads to its own node"),
        (by_pipe.replace("{ node2 =", "{ node3 ="), "there is no node \"node3\""),
        (by_pipe.replace("{ node2 = \"eth1.100\" }", "{}"), "node \"node1\" has no pipe to \"node2\""),
        (by_pipe.replace("pipe_to = { node2 = \"eth1.100\" }", ""), "node \"node1\" has no `pipe_to`"),
        (tagged_by("pipe", "pipes = [\"eth1.100\"]", ""), "so `pipes` is not enough"),
        (by_dscp.replace("\"dscp\"", "\"mac\""), "dscp needs tag_by = \"dscp\""),
        (by_dscp.replace("\"cs1\"", "\"cs2\""), "the code point cs2 is already used by \"node1\""),
        (by_dscp.replace("\"cs1\"", "64"), "64 is no code point"),
        (by_dscp.replace("\"cs1\"", "0"), "choose another: there are 63"),
        (by_dscp.replace("dscp = 16", ""), "node \"node2\" has no `dscp`"),
        (EXAMPLE.replace("mac    = \"0e:00:00:00:00:00/24\"\n", ""), "node \"node2\" has no `mac`"),
        (example_with("pipes   = [\"eth1.100\", \"eth2.100\"]", ""), "[guests] has no `pipes`"),
    ];
    for (text, expected) in cases {
        let faults = faults(&text);
        assert!(faults.contains(expected), "{expected:?} is not in\n{faults}");
    }
    // More nodes than pipes or code points.
    let nodes = |count: u32| -> String {
        let head = EXAMPLE[..EXAMPLE.find("[[node]]").unwrap()].to_owned() + "[marks]\ntag_by = \"dscp\"\n";
        let node = |id| {
            format!("[[node]]\nname = \"n{id}\"\ntag = {id}\ndscp = {id}\npublic = \"192.168.122.{id}\"\n")
        };
        head + &(1..=count).map(node).collect::<String>()
    };
    assert!(Cluster::parse(&nodes(63), Path::new("c")).is_ok());
    assert!(faults(&nodes(64)).contains("64 is no code point"));
}

#[test]
fn mac_prefixes_that_overlap_are_found_whichever_is_first_and_wider() {
    let with = |one: &str, two: &str| {
        let text = EXAMPLE.replace("0a:00:00:00:00:00/24", one).replace("0e:00:00:00:00:00/24", two);
        Cluster::parse(&text, Path::new("c")).map_err(|error| error.to_string())
    };
    let (wide, narrow, beside) = ("0a:00:00:00:00:00/24", "0a:00:00:10:00:00/32", "0a:00:01:00:00:00/24");
    for (one, two) in [(wide, wide), (wide, narrow), (narrow, wide), (narrow, "0a:00:00:00:00:00/8")] {
        let faults = with(one, two).unwrap_err();
        let said = format!("the MAC prefix {two} overlaps with that of \"node1\", {one}");
        assert!(faults.contains(&said), "{faults}");
    }
    for (one, two) in [(wide, beside), (beside, narrow), (narrow, "0a:00:00:11:00:00/32")] {
        assert!(with(one, two).is_ok(), "{one} {two}");
    }
}

#[test]
fn mac_prefixes_that_no_frame_comes_from_are_refused() {
    for (prefix, what) in [
        ("01:00:00:00:00:00/8", "is multicast"),
        ("01:00:5e:00:00:00/25", "is multicast"),
        ("33:33:00:00:00:00/16", "is multicast"),
        ("0f:00:00:00:00:00/24", "is multicast"),
        ("ff:ff:ff:ff:ff:ff/48", "is multicast"),
        ("00:00:00:00:00:00/48", "is the all-zero address"),
    ] {
        let faults = faults(&example_with("\"0e:00:00:00:00:00/24\"", &format!("\"{prefix}\"")));
        assert!(
            faults.contains(&format!("{prefix} {what}")) && faults.contains("= give the MAC addresses"),
            "{faults}"
        );
    }
    for prefix in ["0e:00:00:00:00:00/7", "00:00:00:00:00:00/24", "fe:ff:ff:ff:ff:ff/48"] {
        let text = example_with("\"0e:00:00:00:00:00/24\"", &format!("\"{prefix}\""));
        // The one of node1 lies in the first.
        let text = text.replace("0a:00:00:00:00:00/24", "10:00:00:00:00:00/24");
        assert!(Cluster::parse(&text, Path::new("c")).is_ok(), "{prefix}");
    }
}
