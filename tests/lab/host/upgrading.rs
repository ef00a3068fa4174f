//! Another program goes on where one was, while packets come; and what cannot go on is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::own_file::{OwnFile, example, saved};
use super::*;

impl OwnFile {
    fn upgrade(&self, words: &[&str]) -> (i32, String, String) {
        self.says("upgrade", words)
    }

    fn must_upgrade(&self, words: &[&str]) -> Value {
        let (code, said, error) = self.upgrade(&[words, &["--json"]].concat());
        assert_eq!((code, &*error), (0, ""), "{said}");
        serde_json::from_str(&said).unwrap()
    }
}

/// Each datagram is decided once, by one program or the other; who traces sees it, and stays; reloads go on where they were.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn upgrades_under_packets_lose_none_and_clients_stay() {
    const UPGRADES: u64 = 6;
    let upgraded = OwnFile::new();
    let neighbour = upgraded.host.neighbour();
    let node = upgraded.serve(&["--full", "--workers", "2"]);
    let process = upgraded.status()["process"].clone();
    let rules = upgraded.host.ruleset();
    let trace = upgraded.path("trace.jsonl");
    let mut reader = upgraded.traced(File::create(&trace).unwrap().into());
    let mut sent = 0;
    let sending = || {
        neighbour.send(100);
        sent += 100;
    };
    beside(sending, || {
        for number in 1..=UPGRADES {
            let told = upgraded.must_upgrade(&[&upgraded.copy(dunnat(), &format!("dunnat-{number}"))]);
            assert_eq!(told["upgrades"], number, "{told}");
            if number == 1 {
                assert_eq!(without_counters(&upgraded.host.ruleset()), without_counters(&rules));
            }
            if number == 3 {
                upgraded.must_reload(&example().replace("port  = 80", "port  = 81"));
            }
        }
    });
    wait_for("all datagrams to be decided", || (saved(&upgraded.status()) == sent).then_some(()));
    let status = upgraded.status();
    assert_eq!((&status["process"], &status["upgrades"]), (&process, &UPGRADES.into()));
    assert_eq!((&status["dropped"], &status["restarts"]), (&0.into(), &0.into()));
    assert_eq!((&status["generation"], &status["traces"]), (&2.into(), &1.into()));
    assert_eq!(status["lost"], serde_json::json!({"queue_full": 0, "socket_full": 0}), "{status:#}");
    assert_eq!(status["amiss"], serde_json::json!([]), "{status:#}");
    for queue in status["queues"].as_array().unwrap() {
        assert_eq!(
            (&queue["ledger"]["difference"], &queue["ledger"]["repeated"]),
            (&0.into(), &0.into()),
            "{queue}"
        );
    }
    let seen = || fs::read_to_string(&trace).unwrap().lines().count();
    let before = seen();
    neighbour.send(100);
    let sent = sent + 100;
    wait_for("the last ones to be decided", || (saved(&upgraded.status()) == sent).then_some(()));
    wait_for("the last ones to be seen", || (seen() >= before + 100).then_some(()));
    must("kill", &["-s", "INT", &reader.id().to_string()]);
    assert_eq!(reader.wait().unwrap().code(), Some(0));
    let (mut traced, mut generations) = (0, std::collections::BTreeSet::new());
    for line in fs::read_to_string(&trace).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        traced += u64::from(event["stage"] == "save");
        generations.insert(event["generation"].as_u64().unwrap());
    }
    // Of those that waited while there was no worker it may not have seen all.
    assert!(traced <= sent && sent / 2 <= traced, "{traced} of {sent} traced");
    assert_eq!(generations.into_iter().collect::<Vec<_>>(), [1, 2]);
    let log = node.end("TERM");
    assert!(log.contains(&format!(" packets: save unmarked {sent}")), "{log}");
    assert!(!log.contains("left from a run that was killed"), "{log}");
    assert_eq!(upgraded.host.only_guard(), "");
}

/// Later programs count other things. What was counted goes on, and packets that wait are accounted for.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_program_to_which_the_memory_means_something_else_goes_on() {
    let program = dunnat();
    let upgraded = OwnFile::new();
    let neighbour = upgraded.host.neighbour();
    let node = upgraded.serve(&["--full"]);
    let file = "/proc/self/fd/$(echo \"$DUNNAT_HANDED\" | tr ' ' '\\n' | sed -n s/^state=//p)";
    let other = upgraded.script(
        "other",
        &format!(
            "state={file}\ntext=$(sed 's/\"layout\":\"[^\"]*\"/\"layout\":\"other\"/' $state)\n\
             echo \"$text\" >$state\nexec {program} \"$@\""
        ),
    );
    let mut sent = 0;
    for (number, program) in [&*other, dunnat(), &other].into_iter().enumerate() {
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| neighbour.send(300));
            upgraded.must_upgrade(&[program]);
            sending.join().unwrap();
        });
        sent += 300;
        let status = wait_for("all datagrams to be decided", || {
            let status = upgraded.status();
            (saved(&status) == sent).then_some(status)
        });
        assert_eq!(status["upgrades"], number + 1);
        assert_eq!(status["amiss"], serde_json::json!([]), "{status:#}");
        for queue in status["queues"].as_array().unwrap() {
            let ledger = &queue["ledger"];
            assert_eq!((&ledger["difference"], &ledger["repeated"]), (&0.into(), &0.into()), "{queue}");
        }
    }
    let log = node.end("TERM");
    assert!(log.contains(&format!(" packets: save unmarked {sent}")), "{log}");
    assert_eq!(upgraded.host.only_guard(), "");
}

/// Packets are counted while the two are read, and nft tells the name of the process that has opened the socket.
fn without_counters(rules: &str) -> String {
    let rules = rules.replace(" # progname python3", "").replace(" # progname dunnat", "");
    let words = rules.split(' ').map(|word| if word.parse::<u64>().is_ok() { "N" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The node goes on as before, and says what is wrong.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_could_not_go_on_is_refused() {
    let program = dunnat();
    let upgraded = OwnFile::new();
    let node = upgraded.serve(&[]);
    let (before, process) = (upgraded.host.ruleset(), upgraded.status()["process"].clone());
    let not_executable = upgraded.script("plain", "exit");
    fs::set_permissions(&not_executable, fs::Permissions::from_mode(0o644)).unwrap();
    let of_others = upgraded.script("of-others", "exit");
    std::os::unix::fs::chown(&of_others, Some(1000), None).unwrap();
    let open_to_all = upgraded.script("open-to-all", "exit");
    fs::set_permissions(&open_to_all, fs::Permissions::from_mode(0o777)).unwrap();
    let odd = upgraded.write("odd", "no program");
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o755)).unwrap();
    for (program, expected) in [
        (
            upgraded.script("exits", "echo no such luck >&2; exit 3"),
            "could not go on (exit status: 3): no such luck",
        ),
        (upgraded.script("says-nothing", "exit 0"), "could not go on (exit status: 0): it says nothing"),
        (upgraded.script("hangs", "sleep 100"), "has not said within 10 seconds that it could go on"),
        (upgraded.script("crashes", "kill -s SEGV $$"), "could not go on (signal: 11"),
        (upgraded.script("lies", "echo '{\"dunnat\":\"9\"}'; exit 1"), "could not go on (exit status: 1)"),
        (
            upgraded.script("other-queues", &format!("exec {program} \"$@\" --full --rewrite kernel")),
            "would serve other queues",
        ),
        (
            upgraded.script("other-option", &format!("exec {program} \"$@\" --no-such-option")),
            "could not go on",
        ),
        (not_executable, "is not executable: chmod +x /"),
        (of_others, "belongs to user 1000, who could change it"),
        (open_to_all, "others may write to /"),
        (odd, "could not go on (exit status: 127)"),
        (upgraded.path("none"), "cannot look at /"),
        (upgraded.path(""), "is no file"),
    ] {
        let (code, said, error) = upgraded.upgrade(&[&program]);
        assert_eq!((code, &*said), (1, ""), "{program}: {error}");
        assert!(error.contains(expected), "{program}: {error}");
        let status = upgraded.status();
        assert_eq!(
            (&status["process"], &status["upgrades"], &status["restarts"]),
            (&process, &0.into(), &0.into())
        );
    }
    assert_eq!(upgraded.host.ruleset(), before);
    let log = node.end("TERM");
    assert!(log.contains("not upgraded, going on as before: "), "{log}");
    assert_eq!(upgraded.host.only_guard(), "");
}

/// It does well when it is tried, and fails when it is to go on: the one before does.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_program_that_fails_after_all_is_rolled_back() {
    let program = dunnat();
    let upgraded = OwnFile::new();
    let neighbour = upgraded.host.neighbour();
    let own = upgraded.copy(dunnat(), "dunnat-own");
    let node = upgraded.serve_program(&own, &["--full"]);
    let process = upgraded.status()["process"].clone();
    // Its file may be gone.
    fs::remove_file(&own).unwrap();
    let mut reader = upgraded.traced(Stdio::null());
    let later = |what: &str| {
        format!("[ -n \"$DUNNAT_TRIAL\" ] && exec {program} \"$@\"\nexec {program} \"$@\" {what}")
    };
    let mut sent = 0;
    for (what, expected) in [
        ("--no-such-option", "it does not understand how it was started"),
        ("--rewrite kernel", "would serve other queues"),
        ("--sandbox nonsense", "it does not understand how it was started"),
    ] {
        let sending = std::thread::scope(|scope| {
            let sending = scope.spawn(|| neighbour.send(300));
            let (code, said, error) = upgraded.upgrade(&[&upgraded.script("fails-later", &later(what))]);
            assert_eq!((code, &*said), (1, ""), "{what}: {error}");
            let told = "the new program could not go on, and the node is as before: ";
            assert!(error.contains(told) && error.contains(expected), "{what}: {error}");
            sending.join()
        });
        sending.unwrap();
        sent += 300;
        let status = upgraded.status();
        assert_eq!((&status["process"], &status["upgrades"]), (&process, &0.into()));
        assert_eq!((&status["traces"], &status["restarts"]), (&1.into(), &0.into()), "{what}");
    }
    wait_for("all datagrams to be decided", || (saved(&upgraded.status()) == sent).then_some(()));
    // Where its file was there is another one now: that is what a signal starts.
    upgraded.copy(dunnat(), "dunnat-own");
    node.signal("USR2");
    wait_for("the upgrade", || (upgraded.status()["upgrades"] == 1).then_some(()));
    must("kill", &["-s", "INT", &reader.id().to_string()]);
    reader.wait().unwrap();
    node.end("TERM");
    assert_eq!(upgraded.host.only_guard(), "");
}

/// A node that does all in one process cannot be upgraded, and says so.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_has_no_worker_process_is_not_upgraded() {
    let upgraded = OwnFile::new();
    let mut node = upgraded.serve(&["--one-process"]);
    let (code, _, error) = upgraded.upgrade(&[]);
    assert_eq!(code, 1);
    assert!(error.contains("this node cannot be upgraded: "), "{error}");
    node.signal("USR2");
    assert!(node.reads("not upgraded").contains("this node cannot be upgraded: "));
    node.end("TERM");
    assert_eq!(upgraded.host.only_guard(), "");
}

/// Whichever program it is by then, and whatever it is just doing.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_signal_that_comes_while_another_program_goes_on_ends_the_node() {
    let upgraded = OwnFile::new();
    for millis in (50..=600).step_by(50) {
        let node = upgraded.serve(&["--full"]);
        node.signal("USR2");
        std::thread::sleep(Duration::from_millis(millis));
        let log = node.end("TERM");
        assert!(log.contains("node1 has stopped; "), "after {millis} ms: {log}");
        assert_eq!(upgraded.host.only_guard(), "", "after {millis} ms");
    }
}

/// A stand-in for systemd, see scripts/chaos.d/keep.py.
const KEEP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/chaos.d/keep.py");

/// Its keeper is killed again and again. Who kept what it had starts it anew; packets wait meanwhile, and none is lost but what a worker had
/// just read.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_keeper_that_is_killed_goes_on_with_what_was_kept() {
    const KILLS: u64 = 5;
    let upgraded = OwnFile::new();
    let neighbour = upgraded.host.neighbour();
    let (pid, said) = (upgraded.path("pid"), upgraded.path("said"));
    let config = upgraded.path("cluster.toml");
    let run =
        ["python3", KEEP, "--pid", &pid, "--said", &said, "--", dunnat(), "run", "--no-rehearsal", "--full"];
    let mut command = upgraded.host.command_in(&run);
    command.args(["--config", &config, "--node", "node1", "--socket", &upgraded.host.socket()]);
    let mut node = upgraded.host.served_by(command);
    wait_for("what is told", || {
        fs::read_to_string(&said).unwrap_or_default().contains("READY=1").then_some(())
    });
    let rules = without_counters(&upgraded.host.ruleset());
    let mut sent = 0;
    for kill in 0..KILLS {
        if kill == 2 {
            // What is kept then is of the second generation alone.
            upgraded.must_reload(&example().replace("port  = 80", "port  = 81"));
        }
        if kill == 3 {
            let told = upgraded.must_upgrade(&[]);
            assert_eq!(told["upgrades"], 1, "{told}");
        }
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| neighbour.send(400));
            std::thread::sleep(Duration::from_millis(30));
            must("kill", &["-s", "KILL", fs::read_to_string(&pid).unwrap().trim()]);
            node.reads("going on, serving node1");
            sending.join().unwrap();
        });
        sent += 400;
        if kill == 0 {
            assert_eq!(without_counters(&upgraded.host.ruleset()), rules);
        }
    }
    let asked = |status: &Value| {
        let all = status["queues"].as_array().unwrap().iter();
        all.map(|queue| queue["ledger"]["numbered"].as_u64().unwrap() + queue["waiting"].as_u64().unwrap())
            .sum::<u64>()
    };
    wait_for("packets to be answered", || {
        let status = upgraded.status();
        (asked(&status) > 0 && status["amiss"] == serde_json::json!([])).then_some(())
    });
    let status = upgraded.status();
    for queue in status["queues"].as_array().unwrap() {
        assert_eq!(queue["ledger"]["difference"], 0, "{queue}");
    }
    assert_eq!(status["generation"], 2);
    // What a worker had read and not written down when it was killed: a batch at the most, each time.
    let decided = saved(&status);
    assert!(decided + 64 * KILLS >= sent, "{decided} of {sent}");
    let log = node.end("TERM");
    assert!(log.contains("kept at the end: 0"), "{log}");
    let told = fs::read_to_string(&said).unwrap();
    for what in ["READY=1", "WATCHDOG=1", "RELOADING=1", "STOPPING=1", "FDPOLL=0"] {
        assert!(told.lines().any(|line| line == what), "{what}: {told}");
    }
    assert_eq!(upgraded.host.only_guard(), "");
}

/// The node that is rehearsed, a program that is tried, and a worker do not look like the node to the service manager.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn nobody_but_the_node_talks_to_the_service_manager() {
    let upgraded = OwnFile::new();
    let (said, config) = (upgraded.path("said"), upgraded.path("cluster.toml"));
    let mut command = upgraded.host.command_in(&["python3", KEEP, "--said", &said, "--", dunnat(), "run"]);
    command.args(["--config", &config, "--node", "node1", "--socket", &upgraded.host.socket()]);
    let node = upgraded.host.served_by(command);
    wait_for("the rehearsal", || upgraded.status()["rehearsal"].is_object().then_some(()));
    upgraded.must_upgrade(&[]);
    node.end("TERM");
    let told = fs::read_to_string(&said).unwrap();
    assert!(told.lines().any(|line| line == "READY=1") && !told.contains("STRANGER="), "{told}");
    assert_eq!(upgraded.host.only_guard(), "");
}

/// Somebody hands over what is of no use: it is said, and the node starts as usual.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_was_kept_and_does_not_fit_is_given_up() {
    let program = dunnat();
    let upgraded = OwnFile::new();
    let state = upgraded.path("state");
    for (text, expected) in [
        ("{\"format\":7}\n", "has format 7, and this program knows format 1"),
        ("not whole", "is not understood"),
        ("", "is not understood"),
    ] {
        fs::write(&state, text).unwrap();
        let run = format!(
            "exec 3<{state}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=state; exec {program} run --no-rehearsal \
             --config {EXAMPLE} --node node1 --socket {}",
            upgraded.host.socket()
        );
        let node = upgraded.host.served_by(upgraded.host.command_in(&["sh", "-c", &run]));
        let log = node.log_so_far().to_owned();
        assert!(log.contains("what the service manager has kept is of no use here: "), "{log}");
        assert!(log.contains(expected) && log.contains("This is a usual start"), "{log}");
        node.end("TERM");
    }
    assert_eq!(upgraded.host.only_guard(), "");
}
