//! A packet that is held waits, and no key keeps the node from ending.

use super::cluster::Lab;
use super::*;

/// A node that somebody steps through, by keys from a pipe.
pub(super) struct Stepping {
    child: Child,
    shown: PathBuf,
    log: PathBuf,
}

impl Stepping {
    pub(super) fn start(lab: &Lab, node: &str, arguments: &[&str]) -> Self {
        let (shown, log) = (lab.state(&format!("{node}.step")), lab.state(&format!("{node}.log")));
        let (config, socket) = (lab.state("cluster.toml"), lab.socket(node));
        let config = config.to_str().unwrap();
        let child = lab
            .on(node, &[dunnat(), "step", "--config", config, "--node", node, "--socket", &socket])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(File::create(&shown).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let node = Self { child, shown, log };
        wait_for("it to serve", || node.log().contains("serving").then_some(()));
        node
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn shown(&self) -> String {
        std::fs::read_to_string(&self.shown).unwrap()
    }

    /// Waits until it holds its so many-th packet, and gives what it shows of that.
    pub(super) fn holds(&self, count: usize) -> String {
        wait_for(&format!("packet {count}"), || {
            let shown = self.shown();
            let asks = shown.ends_with(" > ") && shown.matches("held: ").count() == count;
            asks.then(|| shown.rsplit(" ---").nth(0).unwrap().to_owned())
        })
    }

    pub(super) fn key(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits until it has ended, and gives its log.
    pub(super) fn ended(mut self) -> String {
        let status = wait_for("it to end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{}", self.log());
        self.log()
    }
}

impl Drop for Stepping {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fetches a page by node2, and does not wait for it.
fn fetching(lab: &Lab) -> Child {
    let url = "http://192.168.122.12/";
    lab.on("ws", &["curl", "-s", "--max-time", "60", url]).stdout(Stdio::piped()).spawn().unwrap()
}

fn page(child: Child) -> String {
    text(&child.wait_with_output().unwrap().stdout)
}

/// The packets that wait in the queues of a node, and those that were lost.
fn waiting(lab: &Lab, node: &str) -> (u32, u32) {
    let file = "/proc/net/netfilter/nfnetlink_queue";
    let queues = text(&lab.on(node, &["cat", file]).output().unwrap().stdout);
    let column = |number: usize| {
        let of = |line: &str| line.split_whitespace().nth(number).unwrap().parse::<u32>().unwrap();
        queues.lines().map(of).sum()
    };
    (column(2), column(5) + column(6))
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_packet_that_is_held_waits_for_its_verdict() {
    let lab = Lab::up(&["--nodes", "2"]);
    // But for the guard.
    let rules = || {
        assert!(lab.on("node2", &[dunnat(), "down"]).status().unwrap().success());
        text(&lab.on("node2", &["nft", "-s", "list", "ruleset"]).output().unwrap().stdout)
    };
    let before = rules();
    let home = Stepping::start(&lab, "node1", &["reason service"]);
    let mut node = Stepping::start(&lab, "node2", &["--flows", "1", "tcp", "flags", "syn"]);
    let mut curl = fetching(&lab);
    let screen = node.holds(1);
    assert!(screen.contains("*0a*05*05*c9"), "{screen}");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(waiting(&lab, "node2"), (1, 0));
    assert!(curl.try_wait().unwrap().is_none());
    node.key("");
    let got = page(curl);
    assert!(got.contains("guest1 saw"), "{got}");
    // Nothing is held, and the key is heard all the same.
    node.key("q");
    let log = node.ended();
    assert!(log.contains("stopping on request") && !log.contains("WARN"), "{log}");
    assert_eq!(rules(), before);

    // Dropped, it comes again, as TCP does; and then it may pass.
    let mut node = Stepping::start(&lab, "node2", &["tcp flags syn and stage dnat"]);
    let curl = fetching(&lab);
    node.holds(1);
    node.key("d");
    node.holds(2);
    node.key("c");
    let got = page(curl);
    assert!(got.contains("guest1 saw"), "{got}");
    must("kill", &["-s", "INT", &node.child.id().to_string()]);
    let log = node.ended();
    assert!(log.contains("by-hand 1") && log.contains("dropped by verdict: 1"), "{log}");
    assert_eq!(home.shown(), "", "nothing was held there");
}

/// Whatever ends it: rules go, and the packet goes on as was decided.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_stops_while_a_packet_is_held_lets_it_go() {
    let lab = Lab::up(&["--nodes", "2"]);
    // But for the guard.
    let rules = || {
        assert!(lab.on("node2", &[dunnat(), "down"]).status().unwrap().success());
        text(&lab.on("node2", &["nft", "-s", "list", "ruleset"]).output().unwrap().stdout)
    };
    let before = rules();
    // What comes there is shown, and not held: there are no keys.
    let mut home = Stepping::start(&lab, "node1", &["stage tag"]);
    drop(home.child.stdin.take());
    for (backend, by) in [("netlink", "INT"), ("nfq", "TERM"), ("netlink", "q")] {
        let mut node = Stepping::start(&lab, "node2", &["--backend", backend, "tcp flags syn"]);
        let mut curl = fetching(&lab);
        let screen = node.holds(1);
        let client = screen.split_once("tcp 192.168.122.1:").unwrap().1;
        let client = format!("tcp 192.168.122.1:{} > 10.5.5.201:80 S ", client.split_once(' ').unwrap().0);
        assert!(!home.shown().contains(&client));
        match by {
            "q" => node.key("q"),
            signal => drop(must("kill", &["-s", signal, &node.child.id().to_string()])),
        }
        let log = node.ended();
        assert!(log.contains("dnat service "), "{log}");
        // A SYN that the client sends again in the moment of the end meets the guard alone.
        let again = "requests to services that nobody translated";
        assert!(log.lines().all(|line| !line.contains("WARN") || line.contains(again)), "{log}");
        assert_eq!(rules(), before);
        wait_for("the packet at node1", || home.shown().contains(&client).then_some(()));
        curl.kill().unwrap();
        curl.wait().unwrap();
    }
}

/// A screen that takes nothing ends the node in good order, and that it has shown nothing is its exit status.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_screen_that_cannot_be_written_is_status_1() {
    let lab = Lab::up(&["--nodes", "2"]);
    let (config, log) = (lab.state("cluster.toml"), lab.state("node2.log"));
    let config = config.to_str().unwrap();
    let mut node = lab
        .on(
            "node2",
            &[dunnat(), "step", "--config", config, "--node", "node2", "--socket", &lab.socket("node2")],
        )
        .stdin(Stdio::null())
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    wait_for("it to serve", || said().contains("serving").then_some(()));
    let mut curl = fetching(&lab);
    let status = wait_for("it to end", || node.try_wait().unwrap());
    curl.kill().unwrap();
    curl.wait().unwrap();
    let said = said();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("D118 ") && said.contains("cannot write to standard output: "), "{said}");
}
