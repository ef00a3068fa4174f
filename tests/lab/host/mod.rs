//! One host: rules and queues that come and go, and what doctor says of it.

mod doctor;
mod failing;
mod keeper;
mod many_services;
mod others;
mod overloaded;
mod own_file;
mod places;
mod refused;
mod rehearsing;
mod reloading;
mod rights;
mod rulesets;
mod serving;
mod upgrading;
mod waiting;

use super::*;

/// A network namespace with the interfaces of the example, gone with this value.
pub(super) struct Host(String);

impl Host {
    pub(super) fn bare() -> Self {
        let host = Self(unique("dunnat-host"));
        must("ip", &["netns", "add", &host.0]);
        host
    }

    /// One that is as node1 of the example wants it.
    pub(super) fn new() -> Self {
        let host = Self::bare();
        host.must(
            &[
                &["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"][..],
                &["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"],
                &["net.ipv4.conf.all.arp_filter=1"],
            ]
            .concat(),
        );
        host.add_public();
        host.add_bridge();
        host.add_pipe("eth1.100");
        host.add_pipe("eth2.100");
        host
    }

    pub(super) fn add_public(&self) {
        self.ip("link add xenbr0 type bridge");
        self.ip("addr add 192.168.122.11/24 dev xenbr0");
        self.ip("link set xenbr0 up");
    }

    pub(super) fn add_bridge(&self) {
        self.ip("link add guestbr0 address 0a:00:00:00:01:00 type bridge");
        self.ip("addr add 10.5.5.1/24 dev guestbr0");
        self.ip("addr add 10.5.5.254/24 dev guestbr0");
        self.ip("link set guestbr0 up");
    }

    /// A port of the bridge, with a cable that leads nowhere.
    pub(super) fn add_pipe(&self, name: &str) {
        self.ip(&format!("link add {name} type veth peer name far-{name}"));
        self.ip(&format!("link set far-{name} up"));
        self.ip(&format!("link set {name} master guestbr0 up"));
        // The bridge follows a moment later.
        wait_for("the bridge to have a link", || {
            let link = must("ip", &["-n", &self.0, "-o", "link", "show", "guestbr0"]);
            (link.contains("LOWER_UP") && link.contains(" state UP ")).then_some(())
        });
    }

    /// Another host on the public LAN, 192.168.122.1.
    pub(super) fn neighbour(&self) -> Self {
        let other = Self::bare();
        self.ip(&format!("link add wan type veth peer name wan netns {}", other.0));
        self.ip("link set wan master xenbr0 up");
        other.ip("addr add 192.168.122.1/24 dev wan");
        other.ip("link set wan up");
        other.ip("route add 10.5.5.0/24 via 192.168.122.11");
        // The first packets of all wait until the address is resolved, and only three may.
        other.must(&["ping", "-qc1", "-w10", "192.168.122.11"]);
        // So that nothing is said about datagrams to a guest that is not there: they leave by the pipes.
        self.ip("neigh add 10.5.5.201 lladdr 02:00:00:00:00:01 dev guestbr0 nud permanent");
        other
    }

    /// Sends datagrams by another host to the guest: each is decided about once, at save. Its rules must be full.
    pub(super) fn send(&self, count: u32) {
        let send =
            format!("exec 3>/dev/udp/10.5.5.201/9; for ((i = 0; i < {count}; i++)); do echo $i >&3; done");
        self.must(&["bash", "-c", &send]);
    }

    /// The kernel's table of queues: number, port id, waiting, copy mode, copy range, dropped because the queue was full,
    /// because the socket was, last packet's number.
    pub(super) fn queues(&self) -> Vec<Vec<u64>> {
        let table = self.must(&["cat", "/proc/net/netfilter/nfnetlink_queue"]);
        let columns = |line: &str| line.split_whitespace().map(|column| column.parse().unwrap()).collect();
        table.lines().map(columns).collect()
    }

    /// Waits until so many packets have been queued since the node serves, and none waits any more. A host that is busy may have sent a
    /// few of its own: ICMP errors, which are decided about at spoof.
    pub(super) fn wait_until_decided(&self, count: u64) {
        wait_for("all packets to get their verdicts", || {
            let queues = self.queues();
            let sum = |column: usize| queues.iter().map(|queue| queue[column]).sum::<u64>();
            (sum(7) >= count && sum(2) == 0).then_some(())
        });
    }

    pub(super) fn ip(&self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        must("ip", &[&["-n", &self.0], &words[..]].concat());
    }

    /// Namespaces share /run.
    pub(super) fn socket(&self) -> String {
        format!("/run/{}.sock", self.0)
    }

    /// What its node says of itself, as JSON.
    pub(super) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&status_of(&self.socket(), &["--json"])).unwrap()
    }

    pub(super) fn must(&self, command: &[&str]) -> String {
        must("ip", &[&["netns", "exec", &self.0], command].concat())
    }

    pub(super) fn ruleset(&self) -> String {
        self.must(&["nft", "-s", "list", "ruleset"])
    }

    /// Removes the guard, and whatever else is there of dunnat.
    pub(super) fn down(&self) {
        self.must(&[dunnat(), "down"]);
    }

    /// Of dunnat there is the guard, or nothing; the other rules.
    pub(super) fn only_guard(&self) -> String {
        let ruleset = self.ruleset();
        let tables = ruleset.lines().filter(|line| line.starts_with("table ") && line.contains("dunnat"));
        let tables: Vec<&str> = tables.collect();
        let guard = ["table inet dunnat-guard {", "table arp dunnat-guard {"];
        assert!(tables.is_empty() || tables == guard, "{tables:?}");
        self.down();
        self.ruleset()
    }

    /// Something of dunnat that must not work; what it said.
    pub(super) fn fails(&self, words: &[&str]) -> String {
        let output =
            Command::new("ip").args(["netns", "exec", &self.0, dunnat()]).args(words).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        message
    }

    pub(super) fn command(&self, wrap: &[&str], more: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.0])
            .args(wrap)
            .args([dunnat(), "run", "--no-rehearsal", "--config", EXAMPLE, "--node", "node1"])
            .args(["--socket", &self.socket()])
            .args(more)
            .stdin(Stdio::null());
        command
    }

    /// What doctor says, as JSON, and its exit status.
    pub(super) fn doctor(&self, wrap: &[&str], file: &str) -> (i32, serde_json::Value) {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.0])
            .args(wrap)
            .args([dunnat(), "doctor", "--config", file, "--node", "node1", "--json"])
            .output()
            .unwrap();
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}\n{}", text(&output.stderr)));
        (output.status.code().unwrap(), json)
    }

    /// The facts that are not so, or not known to be, each with what it is about.
    ///
    /// Less those about the kernel, for which a host can do nothing.
    pub(super) fn amiss(&self) -> Vec<serde_json::Value> {
        let (_, json) = self.doctor(&[], EXAMPLE);
        let facts = json["facts"].as_array().unwrap().iter();
        // Where no node would start, nothing can be rehearsed.
        let is_untried = |fact: &serde_json::Value| fact["name"] == "rehearsal" && fact["state"] == "unknown";
        facts
            .filter(|fact| fact["state"] != "yes" && fact["section"] != "kernel" && !is_untried(fact))
            .cloned()
            .collect()
    }

    pub(super) fn command_in(&self, command: &[&str]) -> Command {
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", &self.0]).args(command).stdin(Stdio::null());
        ip
    }

    /// Starts a node and waits until it serves.
    pub(super) fn serve(&self, more: &[&str]) -> Node {
        self.served_by(self.command(&[], more))
    }

    /// The same by another program, which must leave the node's process to be our child.
    pub(super) fn serve_in(&self, wrap: &[&str], more: &[&str]) -> Node {
        self.served_by(self.command(wrap, more))
    }

    /// With another cluster file.
    pub(super) fn serve_file(&self, file: &str, more: &[&str]) -> Node {
        self.serve_program(dunnat(), file, more)
    }

    /// The same by another file of the program.
    pub(super) fn serve_program(&self, program: &str, file: &str, more: &[&str]) -> Node {
        let mut command =
            self.command_in(&[program, "run", "--no-rehearsal", "--config", file, "--node", "node1"]);
        command.args(["--socket", &self.socket()]).args(more);
        self.served_by(command)
    }

    pub(super) fn served_by(&self, mut command: Command) -> Node {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        while !log.contains("serving node1") {
            if stderr.read_line(&mut log).unwrap() == 0 {
                panic!("it ended without serving, with {}:\n{log}", child.wait().unwrap());
            }
        }
        Node { child: Some(child), stderr, log }
    }

    /// Starts a node that must not come up, and returns what it said. Nothing may be left of it.
    pub(super) fn refuse(&self, wrap: &[&str], more: &[&str]) -> String {
        let before = self.ruleset();
        let output = self.command(wrap, more).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert_eq!(self.ruleset(), before);
        message
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
        // Of a node that was killed.
        let _ = std::fs::remove_file(self.socket());
    }
}

/// A node that serves; killed with this value if nothing else ended it.
pub(super) struct Node {
    child: Option<Child>,
    stderr: BufReader<std::process::ChildStderr>,
    log: String,
}

impl Node {
    /// The process that serves its packets: the keeper's child, or the node itself.
    pub(super) fn worker(&self) -> u32 {
        let node = self.child.as_ref().unwrap().id();
        worker_of(node).unwrap_or(node)
    }

    /// To who serves its packets.
    pub(super) fn signal_worker(&self, signal: &str) {
        must("kill", &["-s", signal, &self.worker().to_string()]);
    }

    pub(super) fn signal(&self, signal: &str) {
        must("kill", &["-s", signal, &self.child.as_ref().unwrap().id().to_string()]);
    }

    /// One right after the other.
    pub(super) fn signals(&self, signals: &[&str]) {
        let all: String = signals.iter().map(|signal| format!("kill -s {signal} $0; ")).collect();
        must("sh", &["-c", &all, &self.child.as_ref().unwrap().id().to_string()]);
    }

    /// Reads on until a line of its log has that text; that line.
    pub(super) fn reads(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.stderr.read_line(&mut line).unwrap(),
                0,
                "it ended without {text:?}:\n{}",
                self.log
            );
            self.log.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(super) fn log_so_far(&self) -> &str {
        &self.log
    }

    /// Waits until it has ended, and returns its log.
    pub(super) fn ended(mut self) -> (std::process::ExitStatus, String) {
        let status = self.child.take().unwrap().wait().unwrap();
        std::io::Read::read_to_string(&mut self.stderr, &mut self.log).unwrap();
        (status, std::mem::take(&mut self.log))
    }

    /// Ends it, by a signal, and returns its log.
    pub(super) fn end(self, signal: &str) -> String {
        self.end_with(signal, (signal != "KILL").then_some(0))
    }

    /// The same, with that exit status; none of a process that is killed.
    pub(super) fn end_with(self, signal: &str, code: Option<i32>) -> String {
        self.signal(signal);
        let (status, log) = self.ended();
        assert_eq!(status.code(), code, "{log}");
        log
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
