//! How faults are told: with their places, all at once, and so that a person can read them.

use super::*;

#[test]
fn a_fault_is_shown_with_its_place_and_what_would_be_right() {
    insta::assert_snapshot!(faults(&example_with("\"10.5.5.201\"", "\"10.9.9.9\"")), @r#"
    cluster.toml:20:9: guest 10.9.9.9 is not in the guests' network 10.5.5.0/24
       |
    20 | guest = "10.9.9.9"
       |         ^^^^^^^^^^
       = give an address of 10.5.5.0/24
    "#);
    insta::assert_snapshot!(faults(&example_with("bridge  =", "brigde  =")), @r#"
    cluster.toml:10:1: unknown field `brigde`, expected one of `network`, `gateway`, `bridge`, `pipes`, `inside`, `foreign`
       |
    10 | brigde  = "guestbr0"            # the bridge that guests and pipes are ports of
       | ^^^^^^
    "#);
}

#[test]
fn every_fault_is_reported_at_once_in_the_order_of_the_file() {
    let text = EXAMPLE.replace("tag    = 2", "tag    = 1").replace("0e:", "0a:").replace("122.12", "122.11");
    let faults = faults(&text);
    let heads: Vec<&str> = faults.lines().filter(|line| line.starts_with("cluster.toml:")).collect();
    insta::assert_snapshot!(heads.join("\n"), @r#"
    cluster.toml:30:10: tag 0x1 is already used by "node1"
    cluster.toml:31:10: the MAC prefix 0a:00:00:00:00:00/24 overlaps with that of "node1", 0a:00:00:00:00:00/24
    cluster.toml:32:10: the public address 192.168.122.11 is already used by "node1"
    "#);
}

/// Whatever is too long, and wherever: a message is one that a person can read.
#[test]
fn messages_are_short_and_fit_for_a_terminal() {
    let long = "x".repeat(10_000);
    for (old, new) in [
        ("name   = \"node2\"", format!("name   = \"{long}\"")),
        ("name   = \"node2\"", format!("name   = \"{long}\"\nmac    = \"{long}\"")),
        ("\"web\"", format!("\"{long}\"")),
        ("\"tcp\"", format!("\"{long}\"")),
        ("port  = 80", format!("port  = \"{long}\"")),
        ("port  = 80", format!("port  = [\"{long}\"]")),
        ("port  = 80", String::new()),
        ("\"10.5.5.201\"", format!("\"{long}\"")),
        ("\"10.5.5.0/24\"", format!("\"{long}\"")),
        ("\"guestbr0\"", format!("\"{long}\"")),
        ("tag    = 2", format!("tag    = \"{long}\"")),
        ("tag    = 2", format!("tag    = {long}")),
        ("\"192.168.122.12\"", format!("\"{long}\"")),
        ("mask = \"0xffffffff\"", format!("tag_by = \"{long}\"")),
        ("mask = \"0xffffffff\"", format!("on_conflict = \"{long}\"")),
        ("[public]", format!("[{long}]")),
        ("[public]", format!("{long} = 1\n[public]")),
        ("\"0e:00:00:00:00:00/24\"", format!("\"{long}\"")),
        ("tag    = 2", format!("tag    = 2 # {long}\ndscp = \"{long}\"")),
        ("tag    = 2", format!("tag = 0 # {long}")),
        ("tag    = 2", format!("pipe_to = {{ {long} = \"eth9\", b = \"{long}\" }}\ntag = 2")),
        ("name   = \"node2\"", "name   = \"a\\u001b]0;x\\u0007\\u202e\\nb\"".to_owned()),
        ("tag    = 2", "tag    = 0 # \u{9b}31m\u{202e}\u{200b}".to_owned()),
    ] {
        // The name is there twice, so that it is told of by the other one, too.
        let text = example_with(old, &new);
        let faults = Cluster::parse(&text, Path::new("cluster.toml"))
            .map_or_else(|error| error.to_string(), |_| String::new());
        let count = faults.matches("cluster.toml:").count();
        assert!(count > 0 || new.is_empty() || new.starts_with("tag    = 2 #"), "{new:.60}: no fault");
        assert!(
            faults.len() < 700 * count.max(1),
            "{new:.60}: {} bytes of {count} faults\n{faults}",
            faults.len()
        );
        let is_odd = |c: char| c != '\n' && c.is_control() || "\u{202e}\u{200b}".contains(c);
        assert!(!faults.chars().any(is_odd), "{faults:?}");
    }
    let twice = EXAMPLE.replace("\"node1\"", &format!("{long:?}")).replace("\"node2\"", &format!("{long:?}"));
    let faults = faults(&twice);
    assert!(faults.contains("the name xxxxxxxx") && faults.len() < 3000, "{faults}");
    let unknown = Cluster::parse(EXAMPLE, Path::new("c")).unwrap().find(&long).unwrap_err().to_string();
    assert!(unknown.len() < 200, "{unknown}");
}

#[test]
fn of_a_long_line_what_is_around_the_fault_is_shown() {
    let before = "y".repeat(300);
    let text = example_with("tag    = 2", &format!("tag = {{ {before} = 1 }} # {}", "z".repeat(300)));
    let shown = faults(&text);
    assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
    assert!(shown.contains("tag = { yyy"), "{shown}");
    // A tab before the fault stays one.
    let tabs = example_with("tag    = 2", &format!("\ttag =\t0 #\t{}", "z".repeat(300)));
    let shown: Vec<String> = faults(&tabs).lines().skip(2).take(2).map(str::to_owned).collect();
    assert_eq!(shown, [format!("30 | \ttag =\t0 #\t{}…", "z".repeat(96)), "   | \t     \t^".to_owned()]);
}
