//! Several nodes asked at once, each in another way: they go and come back, and a fault is found while they run.

use std::sync::mpsc::{Receiver, channel};

use super::cluster::Lab;
use super::stand_in::{kill, serve};
use super::*;

/// A verb with `--on`, and what it prints and says, line by line.
struct Asking {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

/// The three nodes of a lab, each by another way.
pub(super) fn places(lab: &Lab) -> String {
    let program = dunnat();
    let [one, two, three] = ["node1", "node2", "node3"].map(|node| lab.socket(node));
    format!(
        "netns:{}={one},cmd:ip netns exec {} {program}={two},unix:{three}",
        lab.namespace("node1"),
        lab.namespace("node2")
    )
}

impl Asking {
    fn begin(lab: &Lab, verb: &str, words: &[&str]) -> Self {
        let mut child = Command::new(dunnat())
            .args([verb, "--on", &places(lab)])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let also = send.clone();
        std::thread::spawn(move || BufReader::new(out).lines().try_for_each(|line| send.send(line.unwrap())));
        std::thread::spawn(move || BufReader::new(err).lines().try_for_each(|line| also.send(line.unwrap())));
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that is not seen yet; those before it are seen, too.
    fn wait_for(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{what} did not come; this did: {:#?}", self.seen)
            };
            self.seen.push(line.clone());
            if is_it(&line) {
                return line;
            }
        }
    }

    /// Ends it as Ctrl-C does; all lines, and its exit status.
    fn end(mut self) -> (Vec<String>, Option<i32>) {
        must("kill", &["-s", "INT", &self.child.id().to_string()]);
        let status = self.child.wait().unwrap();
        let mut seen = std::mem::take(&mut self.seen);
        seen.extend(self.lines.iter());
        (seen, status.code())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many processes of this program run a verb for a lab's node.
pub(super) fn of_lab(lab: &Lab, verb: &str) -> usize {
    let state = lab.state("").to_str().unwrap().to_owned();
    let is_it = |words: String| {
        let mut words = words.split('\0');
        words.next() == Some(dunnat())
            && words.next() == Some(verb)
            && words.any(|word| word.contains(&state))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|it| std::fs::read_to_string(it.path().join("cmdline")).is_ok_and(is_it)).count()
}

/// How many read decisions.
fn readers(lab: &Lab) -> usize {
    of_lab(lab, "trace")
}

fn curl(lab: &Lab, address: &str) {
    // Whether it works is seen in what is judged.
    lab.run(&[
        "shell",
        "ws",
        "--",
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "--max-time",
        "2",
        &format!("http://{address}/"),
    ]);
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn a_fault_is_found_live_while_a_node_goes_and_comes_back() {
    let lab = Lab::up(&["--nodes", "3"]);
    // node1 takes no frame of node3 for one of a node.
    lab.must(&["start", "--fault", "mac"]);
    let mut path = Asking::begin(&lab, "path", &["--live"]);
    wait_for("three readers", || (readers(&lab) == 3).then_some(()));
    // Those that have just begun are attached soon.
    wait_for("decisions", || {
        let traced = ["node1", "node2", "node3"].map(|node| lab.status(node)["traces"].as_u64());
        (traced == [Some(1); 3]).then_some(())
    });
    curl(&lab, "192.168.122.12");
    let right = path.wait_for("a conversation that is right", |line| line.contains("192.168.122.12:80"));
    assert!(right.contains("foreign") && right.contains("node2 > node1"), "{right}");
    let began = Instant::now();
    curl(&lab, "192.168.122.13");
    let wrong = path.wait_for("the fault", |line| line.contains("192.168.122.13:80"));
    println!("found after {:?}: {wrong}", began.elapsed());
    path.wait_for("its cause", |line| line.contains("unknown-mac: the cluster file of node1"));
    // As the manual has it, who looks elsewhere finds the same node.
    let node1 = format!("netns:{}={}", lab.namespace("node1"), lab.socket("node1"));
    let flows = Command::new(dunnat()).args(["flows", "--on", &node1, "port", "80"]).output().unwrap();
    let flows = text(&flows.stdout);
    assert!(flows.lines().any(|line| line.contains("! untagged")), "{flows}");
    let status = lab.status("node1");
    let is_it = |one: &&serde_json::Value| one["stage"] == "tag" && one["reason"] == "unknown-mac";
    assert!(status["decisions"].as_array().unwrap().iter().any(|one| is_it(&one)), "{status}");

    kill(&lab, &["node2"]);
    path.wait_for("that node2 is missing", |line| line.starts_with("cmd:") && line.contains(" is missing: "));
    curl(&lab, "192.168.122.11");
    let local = path.wait_for("what others do meanwhile", |line| line.contains("192.168.122.11:80"));
    assert!(local.contains("local"), "{local}");
    let mut node2 = serve(&lab, "node2", &[]);
    path.wait_for("that node2 is there again", |line| {
        line.starts_with("cmd:") && line.ends_with("is there again")
    });
    curl(&lab, "192.168.122.12");
    let again = path.wait_for("what node2 does again", |line| line.contains("192.168.122.12:80"));
    assert!(again.contains("foreign"), "{again}");
    let (seen, status) = path.end();
    assert_eq!(status, Some(0), "{seen:#?}");
    wait_for("no reader", || (readers(&lab) == 0).then_some(()));
    lab.must(&["stop"]);
    node2.wait().unwrap();
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn decisions_flows_and_status_of_all_nodes_come_together() {
    let lab = Lab::up(&["--nodes", "3"]);
    lab.must(&["start"]);
    let trace = Asking::begin(&lab, "trace", &["--format", "json", "tcp"]);
    wait_for("decisions", || {
        let traced = ["node1", "node2", "node3"].map(|node| lab.status(node)["traces"].as_u64());
        (traced == [Some(1); 3]).then_some(())
    });
    for address in ["192.168.122.11", "192.168.122.12", "192.168.122.13"] {
        curl(&lab, address);
    }
    std::thread::sleep(Duration::from_secs(1));
    let (lines, status) = trace.end();
    assert_eq!(status, Some(0), "{lines:#?}");
    let events: Vec<dunnat::trace::Event> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let nodes: std::collections::BTreeSet<&str> = events.iter().map(|event| &*event.node).collect();
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    assert!(events.is_sorted_by_key(|event| event.time), "{lines:#?}");

    let ask = |verb: &str, places: &str, words: &[&str]| {
        Command::new(dunnat()).args([verb, "--on", places]).args(words).output().unwrap()
    };
    let said = ask("status", &places(&lab), &["--json"]);
    let all: Vec<serde_json::Value> =
        text(&said.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), 3, "{}", text(&said.stderr));
    for (one, node) in all.iter().zip(["node1", "node2", "node3"]) {
        assert_eq!(one["status"]["node"], node);
    }
    // Conntrack is asked where the node is, and that is not here.
    let here = format!("{},unix:{}", places(&lab), "/nowhere.sock").replacen(
        "unix:",
        &format!("netns:{}=", lab.namespace("node3")),
        1,
    );
    let flows = ask("flows", &here, &["port", "80"]);
    let (out, err) = (text(&flows.stdout), text(&flows.stderr));
    assert!(out.lines().any(|line| line.starts_with("netns:") && line.contains("10.5.5.201")), "{out}{err}");
    assert!(err.contains("unix:/nowhere.sock is missing: "), "{err}");
    assert_eq!(flows.status.code(), Some(1), "{err}");
    lab.must(&["stop"]);
}

/// A page of nodes elsewhere, as a browser asks for it.
struct Page {
    at: String,
    token: String,
}

impl Page {
    fn get(&self, path: &str) -> serde_json::Value {
        let said =
            must("curl", &["-s", "--max-time", "5", &format!("{}{path}token={}", self.at, self.token)]);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// What is known of the nodes: their names, or why they are missing.
    fn nodes(&self) -> Vec<Result<String, String>> {
        let told = self.get("/cluster?");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let sockets = told["sockets"].as_array().unwrap().iter();
        sockets
            .map(|one| if one["node"].is_null() { Err(text(&one["why"])) } else { Ok(text(&one["node"])) })
            .collect()
    }
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn a_page_shows_nodes_elsewhere_which_go_and_come_back() {
    let lab = Lab::up(&["--nodes", "3"]);
    lab.must(&["start"]);
    let mut web = Asking::begin(&lab, "web", &["--listen", "127.0.0.1:0"]);
    let line = web.wait_for("the address", |line| line.contains("the page is at http://"));
    let (at, token) =
        line.split_once("the page is at ").unwrap().1.trim().split_once("/#token=").expect("a token");
    let page = Page { at: at.to_owned(), token: token.to_owned() };
    let are_there = || page.nodes().into_iter().flatten().count() == 3;
    wait_for("all nodes", || are_there().then_some(()));
    // The picture is of the cluster file, which is read where the nodes are.
    let cluster = page.get("/cluster?");
    assert_eq!(cluster["cluster"]["nodes"].as_array().map(Vec::len), Some(3), "{cluster}");
    curl(&lab, "192.168.122.12");
    let decisions = || {
        let past = page.get("/past?filter=port+80&");
        let all = past["events"].as_array().unwrap().clone();
        let nodes: std::collections::BTreeSet<String> =
            all.iter().map(|one| one["event"]["node"].as_str().unwrap_or_default().to_owned()).collect();
        (nodes.len() >= 2).then_some(all)
    };
    let all = wait_for("decisions of two nodes", decisions);
    let why = page.get(&format!("/why?id={}&", all[0]["id"]));
    assert!(why["text"].as_str().unwrap().contains("yes  "), "{why}");

    kill(&lab, &["node2"]);
    let missing = wait_for("that node2 is missing", || page.nodes().into_iter().find_map(Result::err));
    println!("missing: {missing}");
    let mut node2 = serve(&lab, "node2", &[]);
    wait_for("that it is there again", || are_there().then_some(()));
    drop(web);
    wait_for("no command that goes on", || (of_lab(&lab, "relay") == 0).then_some(()));
    lab.must(&["stop"]);
    node2.wait().unwrap();
}
