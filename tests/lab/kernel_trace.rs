//! The rules of others that packets meet, shown between the decisions; and what is left of that: nothing that harms.

use serde_json::Value;

use super::host::Host;
use super::*;

/// `dunnat trace --kernel`, which traces.
struct Tracing {
    child: Child,
    /// A pipe that nobody reads would be full at some time.
    stdout: File,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Tracing {
    fn on(host: &Host, arguments: &[&str]) -> Self {
        let words = [&[dunnat(), "trace", "--kernel", "--format", "json"], arguments].concat();
        let mut command = host.command_in(&words);
        let stdout = tempfile::tempfile().unwrap();
        let mut child = command.stdout(stdout.try_clone().unwrap()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("tracing for") {
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "it ended:\n{said}");
        }
        Self { child, stdout, stderr }
    }

    fn signal(&self, signal: &str) {
        must("kill", &["-s", signal, &self.child.id().to_string()]);
    }

    /// What it printed, line by line, and what it said; it has to end well, unless it was killed.
    fn ended(mut self) -> (Vec<Value>, String) {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.stderr, &mut said).unwrap();
        let status = self.child.wait().unwrap();
        assert!(matches!(status.code(), Some(0) | None), "{said}");
        std::io::Seek::rewind(&mut self.stdout).unwrap();
        let lines = std::io::read_to_string(self.stdout).unwrap();
        (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), said)
    }
}

/// Loads rules of somebody else.
fn load(host: &Host, rules: &str) {
    let mut nft = host.command_in(&["nft", "-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

/// The tables that are there for traces, as nft lists them, each with its rules.
fn tables(host: &Host) -> Vec<(String, Vec<String>)> {
    let listing = host.must(&["nft", "-a", "list", "ruleset"]);
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    for line in listing.lines() {
        if line.starts_with("table ") {
            tables.push((line.split_whitespace().take(3).collect::<Vec<_>>().join(" "), Vec::new()));
        } else if line.starts_with("\t\t") && line.contains("# handle") {
            tables.last_mut().unwrap().1.push(line.trim().to_owned());
        }
    }
    tables.retain(|(table, _)| table.ends_with(" dunnat-trace"));
    tables
}

/// Without those tables.
fn others(host: &Host) -> String {
    let listing = host.ruleset();
    let mut is_other = true;
    let lines = listing.lines().filter(|line| {
        if line.starts_with("table ") {
            is_other = !line.contains(" dunnat-trace ");
        }
        is_other
    });
    lines.collect::<Vec<_>>().join("\n")
}

const FIREWALL: &str = "table inet fw {\n\
    \tchain web {\n\t\tcounter\n\t\ttcp dport 80 drop comment \"no web\"\n\t}\n\
    \tchain forward {\n\t\ttype filter hook forward priority 0; policy accept;\n\
    \t\tct state established accept\n\t\tiifname \"xenbr0\" jump web\n\t}\n}\n";

/// Asks for a web page that does not come.
fn call(client: &Host) {
    let connect = "exec 3<>/dev/tcp/192.168.122.11/80";
    let status = client.command_in(&["timeout", "0.5", "bash", "-c", connect]).stderr(Stdio::null()).status();
    assert!(!status.unwrap().success());
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn the_rule_that_drops_a_request_is_shown_behind_the_decision() {
    let host = Host::new();
    let client = host.neighbour();
    load(&host, FIREWALL);
    let node = host.serve(&[]);
    let before = others(&host);
    let socket = host.socket();
    let tracing = Tracing::on(&host, &["--socket", &socket, "dst host 192.168.122.11 and port 80"]);
    assert_eq!(others(&host), before);
    call(&client);
    std::thread::sleep(Duration::from_millis(200));
    tracing.signal("INT");
    let (lines, said) = tracing.ended();
    assert!(said.contains("ended by a signal") && !said.contains("missing"), "{said}");

    let first = lines.iter().position(|line| line["kernel"]["queue"].is_u64()).expect("a queue");
    let decision = &lines[first + 1];
    assert_eq!((&decision["stage"], &decision["reason"]), (&"dnat".into(), &"service".into()), "{lines:#?}");
    assert_eq!(decision["queue"], lines[first]["kernel"]["queue"]);
    assert_eq!(lines[first]["kernel"]["is_ours"], true);
    let of_fw: Vec<&Value> =
        lines[first..].iter().map(|line| &line["kernel"]).filter(|rule| rule["table"] == "fw").collect();
    let [jump, counter, drop, ..] = of_fw[..] else { panic!("{lines:#?}") };
    assert_eq!((&jump["verdict"], &jump["to"]), (&"jump".into(), &"web".into()));
    assert_eq!((&counter["rule"], &counter["verdict"]), (&"counter".into(), &"continue".into()));
    assert_eq!(drop["rule"], "tcp dport 80 drop comment \"no web\"");
    assert_eq!((&drop["verdict"], &drop["hook"]), (&"drop".into(), &"forward".into()));
    assert_eq!((&drop["in"], &drop["out"]), (&"xenbr0".into(), &"guestbr0".into()));
    assert_eq!((&drop["packet"]["dst"], &drop["mark"]), (&"10.5.5.201".into(), &"0x1".into()));
    let listed = host.must(&["nft", "-a", "list", "chain", "inet", "fw", "web"]);
    assert!(listed.contains(&format!("\"no web\" # handle {}\n", drop["handle"])), "{listed}");

    // Its chains stay while packets may wait, and say nothing.
    let left = tables(&host);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|(_, rules)| rules.is_empty()), "{left:?}");
    assert_eq!(others(&host), before);
    node.end("TERM");
    Tracing::on(&host, &["--for", "1", "port 80"]).ended();
    assert_eq!(tables(&host), []);
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn only_one_traces_and_what_is_left_of_one_that_is_killed_does_nothing_in_the_end() {
    let host = Host::new();
    let tracing = Tracing::on(&host, &["--for", "3", "port 80"]);
    let message = host.fails(&["trace", "--kernel", "port 80"]);
    assert!(message.contains("is running in this network namespace already (process "), "{message}");
    let message = host.fails(&["down"]);
    assert!(message.contains("is running in this network namespace already (process "), "{message}");
    // Nobody else takes the chains away, and the packets that wait with them.
    let flush = host.command_in(&["nft", "flush", "ruleset"]).status().unwrap();
    assert!(flush.success());
    assert_eq!(tables(&host).len(), 2);
    tracing.signal("KILL");
    tracing.ended();
    let traced = || {
        let table = host.must(&["nft", "list", "counter", "inet", "dunnat-trace", "traced"]);
        table
            .lines()
            .find_map(|line| line.trim().strip_prefix("packets ")?.split(' ').next()?.parse::<u64>().ok())
            .unwrap()
    };
    host.ip("link set lo up");
    let knock = || {
        _ = host.command_in(&["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/80"]).stderr(Stdio::null()).status();
    };
    knock();
    let before = traced();
    assert!(before > 0, "its rules are there");
    std::thread::sleep(Duration::from_secs(3));
    knock();
    assert_eq!(traced(), before, "its time is over");
    // The next one takes them over.
    Tracing::on(&host, &["--for", "1", "port 80"]).ended();
    assert_eq!(tables(&host), []);
    let tracing = Tracing::on(&host, &["port 80"]);
    tracing.signal("KILL");
    tracing.ended();
    host.down();
    assert_eq!(host.ruleset(), "");
}

/// Packets wait in queues all the time while traces come and go.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn starts_and_stops_lose_no_packet() {
    let host = Host::new();
    let client = host.neighbour();
    load(
        &host,
        "table inet count {\n\tchain out {\n\t\ttype filter hook postrouting priority 400; policy accept;\n\
         \t\tudp dport 9 counter\n\t}\n}\n",
    );
    let node = host.serve(&["--full"]);
    let send = r#"
        use strict; use Socket;
        socket(my $s, AF_INET, SOCK_DGRAM, 0) or die "socket: $!";
        my $to = sockaddr_in(9, inet_aton("10.5.5.201"));
        my ($sent, $ended) = (0, 0);
        $SIG{TERM} = sub { $ended = 1 };
        until ($ended) { send($s, "x", 0, $to) or die "send: $!"; $sent++; select(undef, undef, undef, 0.0005); }
        print $sent;"#;
    let sender = client.command_in(&["perl", "-e", send]).stdout(Stdio::piped()).spawn().unwrap();
    let socket = host.socket();
    for round in 0..20 {
        let with_node = round % 2 == 0;
        let of_node = ["--socket", &*socket];
        let words: &[&str] = if with_node { &of_node } else { &[] };
        let tracing = Tracing::on(&host, &[words, &["--rate", "1000", "net 10.5.5.0/24"]].concat());
        std::thread::sleep(Duration::from_millis(50));
        if !with_node {
            // Now packets are certain to wait while it ends.
            node.signal_worker("STOP");
            wait_for("packets to wait", || host.queues().iter().any(|queue| queue[2] > 0).then_some(()));
        }
        tracing.signal("INT");
        let (lines, said) = tracing.ended();
        assert!(lines.len() > 10, "{said}");
        if !with_node {
            node.signal_worker("CONT");
        }
    }
    must("kill", &[&sender.id().to_string()]);
    let sent: u64 = text(&sender.wait_with_output().unwrap().stdout).parse().unwrap();
    assert!(sent > 2000, "{sent}");
    wait_for("all packets to be answered", || host.queues().iter().all(|queue| queue[2] == 0).then_some(()));
    let counter = host.must(&["nft", "list", "chain", "inet", "count", "out"]);
    let came: u64 = counter.split_once("packets ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(came, sent, "{counter}");
    let log = node.end("TERM");
    assert!(log.contains("stopped"), "{log}");
}
