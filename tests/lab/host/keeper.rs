//! A worker that ends, in whatever way: another one takes over, and no packet is lost.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use dunnat::cluster::Cluster;
use dunnat::control::Lookers;
use dunnat::daemon::{self, Apart, Options, OwnRules, WorkOptions};
use dunnat::engine::{Changes, ClusterNat, Decide, Decision, Facts, Reason, Remembered, Witness};
use dunnat::kernel::Capabilities;
use dunnat::ruleset::{Backend, Deciding, Plan, RewriteBy, StandIn, Wishes};
use dunnat::sandbox::Level;

use super::own_file::OwnFile;
use super::*;

/// A worker with this policy ends when it sees a packet to port 666.
struct Fatal(ClusterNat);

impl Decide for Fatal {
    fn name(&self) -> &str {
        "fatal"
    }

    fn reasons(&self) -> &[Reason] {
        Reason::CLUSTER
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        if facts.packet.is_ok_and(|view| view.tuple.ports.is_some_and(|(_, to)| to == 666)) {
            std::process::abort();
        }
        self.0.decide(facts, remembered, changes, witness)
    }
}

/// Set for the processes that play a part in [`a_packet_that_ends_workers_is_dropped_and_kept`]: the socket of the node.
const PART: &str = "DUNNAT_TEST_PART";

fn wishes(cluster: &Cluster) -> Wishes {
    Wishes {
        node: cluster.find("node1").unwrap(),
        backend: Backend::Netlink,
        rewrite_by: RewriteBy::Userspace,
        deciding: Deciding::EveryPacket,
        full: true,
        on_conflict: cluster.on_conflict(),
        queue_base: 100,
        workers: 1,
        stand_in: StandIn::None,
    }
}

/// How this program runs one of its tests in another process.
fn part(name: &str) -> [String; 5] {
    ["--exact", &format!("host::keeper::{name}"), "--ignored", "--nocapture", "--test-threads=1"]
        .map(str::to_owned)
}

/// No test of its own, but a process of another one.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn part_of_the_keeper() {
    let Some(socket) = std::env::var_os(PART) else { return };
    env_logger::Builder::new().filter_level(log::LevelFilter::Info).target(env_logger::Target::Stderr).init();
    let cluster = Arc::new(Cluster::load(Path::new(EXAMPLE)).unwrap());
    let kernel = daemon::capabilities(1, &[]).unwrap();
    let plan = daemon::plan(wishes(&cluster), &kernel).unwrap();
    let policy = Arc::new(ClusterNat::new(&cluster, wishes(&cluster).node));
    let arguments = part("part_of_the_worker").map(std::ffi::OsString::from).to_vec();
    let apart = Some(Apart { program: "/proc/self/exe".into(), arguments, kernel });
    daemon::run(Options {
        cluster,
        plan,
        policy,
        pin: false,
        sandbox: Level::Strict,
        rules: OwnRules::Kept,
        take_over: false,
        socket: socket.into(),
        lookers: Lookers::none(),
        trace: None,
        observer: None,
        once_serving: None,
        apart,
        reload: None,
        taken: None,
    })
    .unwrap();
}

/// No test of its own, but a process of another one.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn part_of_the_worker() {
    if std::env::var_os(PART).is_none() {
        return;
    }
    let make = |cluster: Cluster, kernel: &Capabilities| {
        let cluster = Arc::new(cluster);
        let plan = Plan::new(wishes(&cluster), kernel).unwrap();
        let policy = Arc::new(Fatal(ClusterNat::new(&cluster, wishes(&cluster).node)));
        Ok(WorkOptions { cluster, plan, policy, pin: false, sandbox: Level::Strict, trace: None })
    };
    daemon::work(make).unwrap();
}

/// Where nothing waits, every packet is somewhere.
fn is_accounted_for(status: &serde_json::Value) {
    for queue in status["queues"].as_array().unwrap() {
        assert_eq!(queue["ledger"]["difference"], 0, "{status:#}");
    }
}

/// Sends a datagram to that port of the guest.
fn send_to(client: &Host, port: u16, what: &str) {
    client.must(&["bash", "-c", &format!("echo -n {what} >/dev/udp/10.5.5.201/{port}")]);
}

/// Rules are put back by nft, which takes its time. Meanwhile a worker that ends is replaced, and the service manager hears that all is well.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_slow_tool_keeps_the_node_from_nothing_else() {
    const SLOW: Duration = Duration::from_secs(10);
    let own = OwnFile::new();
    let host = &own.host;
    let [is_slow, notify] = ["slow", "notify"].map(|name| own.path(name));
    let path = own.path_with_nft(&format!("[ -e {is_slow} ] && sleep {}\nexec $NFT \"$@\"", SLOW.as_secs()));
    let manager = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut said = [0; 4096];
        while let Ok(length) = manager.recv(&mut said) {
            if text(&said[..length]).contains("WATCHDOG=1") && tell.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    let socket = format!("NOTIFY_SOCKET={notify}");
    let mut node = host.serve_in(&["env", &path, &socket, "WATCHDOG_USEC=2000000"], &[]);
    let keeper = node.child.as_ref().unwrap().id();
    let before = wait_for("a worker", || worker_of(keeper));
    std::fs::write(&is_slow, "").unwrap();
    let began = Instant::now();
    host.must(&["nft", "flush", "chain", "ip", "dunnat", "ask-dnat"]);
    std::thread::sleep(Duration::from_secs(1));
    node.signal_worker("KILL");
    wait_for("another worker", || worker_of(keeper).filter(|worker| *worker != before));
    assert!(began.elapsed() < SLOW, "the rules are put back already");
    node.reads("they are restored");
    assert!(began.elapsed() >= SLOW, "the tool was not slow");
    // Once a second.
    let heard = told.try_iter().filter(|at| *at > began).count() as u64;
    assert!(heard >= SLOW.as_secs() / 2, "{heard} times in {:?}", began.elapsed());
    std::fs::remove_file(&is_slow).unwrap();
    node.end("TERM");
    assert_eq!(host.only_guard(), "");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_packet_that_ends_workers_is_dropped_and_kept() {
    let host = Host::new();
    let client = host.neighbour();
    let program = std::env::current_exe().unwrap();
    let mut command = host.command_in(&[program.to_str().unwrap()]);
    command.args(part("part_of_the_keeper")).env(PART, host.socket()).stdout(Stdio::null());
    let mut node = host.served_by(command);
    for (port, what) in [(9, "before"), (666, "poison"), (9, "after"), (9, "after-that")] {
        send_to(&client, port, what);
    }
    node.reads("has ended two workers; it is dropped");
    let status = wait_for("all packets to get their verdicts", || {
        let status = host.status();
        let decisions = status["decisions"].as_array().unwrap();
        let decided = |name, packets| {
            decisions
                .iter()
                .any(|it| it["stage"] == "save" && it["reason"] == name && it["packets"] == packets)
        };
        let is_done = decided("unmarked", 3) && decided("poison", 1);
        is_done.then_some(status)
    });
    is_accounted_for(&status);
    assert_eq!(status["restarts"], 2, "{status:#}");
    let [poison] = &status["poison"].as_array().unwrap()[..] else { panic!("{status:#}") };
    let hex: String = b"poison".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(poison["bytes"].as_str().unwrap().ends_with(&hex), "{poison}");
    let log = node.end("TERM");
    assert!(log.contains("save unmarked 3, poison 1; ") && log.contains("; dropped by verdict: 1"), "{log}");
    host.down();
}

/// Whoever looks at decisions goes on to see them, and is told.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn another_worker_takes_over_with_all_counts_and_clients() {
    let host = Host::new();
    let client = host.neighbour();
    let node = host.serve(&["--full", "--workers", "2"]);
    let mut trace = UnixStream::connect(host.socket()).unwrap();
    trace.write_all(b"{\"trace\":{}}\n").unwrap();
    let mut lines = BufReader::new(trace.try_clone().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("{\"hello\""));
    let mut line = |begins: &str| {
        client.send(1);
        lines.find(|line| line.starts_with(begins)).unwrap()
    };
    for round in 0..5 {
        line("{\"event\"");
        let worker = node.worker();
        must("kill", &["-s", if round % 2 == 0 { "KILL" } else { "ABRT" }, &worker.to_string()]);
        wait_for("another worker", || {
            (node.worker() != worker && host.status()["restarts"] == round + 1).then_some(())
        });
        line("{\"resumed\":{\"v\":1,\"node\":\"node1\"");
    }
    let now = wait_for("all packets to get their verdicts", || {
        let now = host.status();
        let is_done = now["queues"].as_array().unwrap().iter().all(|queue| queue["waiting"] == 0);
        (is_done && now["packets"].as_u64() >= Some(10)).then_some(now)
    });
    assert_eq!((&now["restarts"], &now["traces"]), (&5.into(), &1.into()), "{now:#}");
    is_accounted_for(&now);
    trace.shutdown(std::net::Shutdown::Write).unwrap();
    let end = lines.last().unwrap();
    assert!(end.starts_with("{\"end\""), "{end}");
    let log = node.end("TERM");
    assert!(log.contains("node1 has stopped; ") && log.contains(" packets: save unmarked 1"), "{log}");
    host.down();
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_worker_that_hangs_is_replaced_and_one_without_a_keeper_ends() {
    let host = Host::new();
    let client = host.neighbour();
    let mut node = host.serve(&["--full", "--workers", "1"]);
    let worker = node.worker();
    node.signal_worker("STOP");
    client.send(3);
    node.reads("the worker has not answered a packet for 5 seconds, and ");
    host.wait_until_decided(3);
    let now = host.status();
    assert!(now["packets"].as_u64() >= Some(3) && now["restarts"] == 1, "{now:#}");
    assert_ne!(node.worker(), worker);
    let worker = node.worker();
    node.end("KILL");
    wait_for("the worker to end", || is_gone(&worker.to_string()));
    host.down();
}
