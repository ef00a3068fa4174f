//! The lab itself: without root, several at once, interrupted, and when something wrong is typed.

use super::cluster::{Lab, curl};
use super::*;

/// The program as an ordinary user has it.
struct User {
    dir: tempfile::TempDir,
    lab: String,
}

impl User {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(dunnat(), dir.path().join("dunnat")).unwrap();
        for path in [dir.path(), &dir.path().join("dunnat")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let tmp = dir.path().join("tmp");
        std::fs::create_dir(&tmp).unwrap();
        std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o1777)).unwrap();
        Self { dir, lab: unique("u") }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(self.dir.path().join("dunnat"))
            .arg("lab")
            .args(arguments)
            .env("DUNNAT_LAB", &self.lab)
            .env("TMPDIR", self.dir.path().join("tmp"))
            .env("HOME", "/nonexistent")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "dunnat lab {arguments:?}\n{out}{err}");
        out
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn without_root_all_is_the_same() {
    let user = User::new();
    user.must(&["up", "--nodes", "3"]);
    assert!(!must("ip", &["netns"]).contains(&user.lab), "nothing of it is in the machine's own namespaces");
    let proven = user.must(&["accept", "--trace-json"]);
    assert!(proven.contains(" 0 failed") && proven.contains("tshark sees the same"), "{proven}");
    assert!(user.must(&["path"]).contains("foreign"));
    // A file is named from where one is.
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/rules/policy.py"), user.dir.path().join("policy.py"))
        .unwrap();
    user.must(&["start", "--policy", "./policy.py"]);
    assert!(user.must(&["status"]).contains("node1: dunnat runs"));
    user.must(&["stop"]);
    let here = user.must(&["shell", "ws", "--", "pwd"]);
    assert_eq!(Path::new(here.trim()), user.dir.path());
    user.must(&["start"]);
    let page = user.must(&["shell", "ws", "--", "curl", "-s", "--max-time", "5", "http://192.168.122.12/"]);
    assert!(page.contains("guest1 saw"), "{page}");
    assert!(user.must(&["status"]).contains("node1: dunnat runs"));
    assert!(user.must(&["down"]).contains("is removed"));
    let left: Vec<_> = std::fs::read_dir(user.dir.path().join("tmp/dunnat-lab-65534"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let all = must("ps", &["-e", "-o", "args="]);
    assert!(!all.contains(user.dir.path().to_str().unwrap()), "{all}");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn labs_do_not_disturb_each_other() {
    let labs = [Lab::up(&[]), Lab::up(&["--names", "other"]), Lab::up(&[])];
    labs[0].must(&["start"]);
    labs[2].must(&["start"]);
    std::thread::scope(|scope| {
        let accept = scope.spawn(|| labs[1].accept_with("--workers 1"));
        curl(&labs[0]);
        curl(&labs[2]);
        accept.join().unwrap();
    });
    labs[2].must(&["down"]);
    curl(&labs[0]);
    labs[0].must(&["stop"]);
}

/// At any moment: what was begun is put away, and the next can begin.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn an_interrupted_lab_leaves_nothing() {
    let lab = Lab::planned();
    let interrupted = |verb: &str, after: Duration| {
        let child =
            lab.command_in_a_group(&[verb]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(after);
        // The whole group, as Ctrl-C does.
        must("kill", &["-s", "INT", "--", &format!("-{}", child.id())]);
        let output = child.wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    for after in [30, 70, 110, 160] {
        let (code, said) = interrupted("up", Duration::from_millis(after));
        if code == Some(0) {
            lab.must(&["down"]);
            continue;
        }
        assert!(said.contains("interrupted; everything that was started is cleaned up"), "{said}");
        assert!(!lab.state("").exists() && !lab.has_namespaces(), "{said}");
    }
    lab.must(&["up"]);
    for after in [200, 900, 2500] {
        let (code, said) = interrupted("accept", Duration::from_millis(after));
        assert_eq!(code, Some(1), "{said}");
        assert!(lab.must(&["status"]).contains("nothing translates yet"), "{said}");
        assert!(!lab.must(&["shell", "node1", "--", "nft", "list", "ruleset"]).contains("dunnat"));
    }
    lab.must(&["start"]);
    curl(&lab);
}

/// One that is killed, with nothing put away, is taken down all the same.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_killed_lab_can_be_taken_down() {
    for after in [10, 50, 100, 150] {
        let lab = Lab::planned();
        let mut up = lab.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after));
        let _ = up.kill();
        up.wait().unwrap();
        // What it had started may still be at work.
        std::thread::sleep(Duration::from_millis(100));
        lab.must(&["down"]);
        assert!(!lab.has_namespaces());
    }
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_is_typed_wrong_is_said() {
    let lab = Lab::up(&["--nodes", "1"]);
    for (arguments, code, said) in [
        (&["up"][..], 1, "is up already"),
        (&["up", "--nodes", "0"], 2, "0 is not in 1..=9"),
        (&["up", "--tag-by", "ip"], 2, "give mac, pipe or dscp"),
        (&["start", "--by", "me"], 2, "give dunnat, kernel or shadow"),
        (&["start", "--fault", "swap"], 1, "needs three nodes, but this lab has one"),
        (&["start", "--fault", "nothing"], 2, "give one of mac, swap, tags, service"),
        (&["start", "--by", "kernel", "--fault", "mac"], 2, "--fault works only with --by dunnat"),
        (&["shell", "nobody"], 2, "There are: lan ws hop far node1 guest1 guest2"),
        (&["trace", "node1"], 1, "dunnat does not run on node1"),
        (&["trace", "node2"], 2, "no node 'node2' in the lab"),
        (&["path"], 1, "no node has a trace with events"),
        (&["reveal"], 1, "there is no fault: "),
        (&["accept", "--expect", "wonders"], 2, "give nft-queue, xt-queue"),
    ] {
        let output = lab.run(arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
    // What is advised is about this lab.
    let advice = text(&lab.run(&["up"]).stderr);
    assert!(advice.contains("'dunnat lab --lab ") && advice.contains(" down' removes it"), "{advice}");
    // A fault that cannot be made leaves nothing running.
    assert!(lab.must(&["status"]).contains("nothing translates yet"));
}

/// The log has one line for it, and each line that differs is one.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn rules_that_stay_behind_are_shown_line_by_line() {
    let lab = Lab::up(&["--nodes", "1"]);
    lab.must(&["start"]);
    lab.must(&["shell", "node1", "--", "nft", "add", "table", "inet", "mine"]);
    let said = lab.refuses(&["stop"]);
    assert!(
        said.lines().any(|line| line.contains("D703 the rules of node1 are not what they were")),
        "{said}"
    );
    assert!(said.lines().any(|line| line == "    +table inet mine {"), "{said}");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_node_that_saw_nothing_is_told() {
    let lab = Lab::up(&["--nodes", "3"]);
    lab.must(&["start", "--trace-json"]);
    // The worker process writes it.
    assert_eq!(lab.status("node1")["traces"], 1, "the file");
    curl(&lab);
    lab.must(&["stop"]);
    let path = lab.run(&["path"]);
    assert!(path.status.success());
    assert!(text(&path.stderr).contains("node3: no events"), "{}", text(&path.stderr));
    assert!(text(&path.stdout).contains("foreign and right"), "{}", text(&path.stdout));
}

/// A kernel sends only so many ICMP errors to each address, a few a second; then a hop of a traceroute is missing for no fault of
/// anybody's.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn no_machine_counts_its_icmp_errors() {
    let lab = Lab::up(&["--family", "both"]);
    lab.must(&["start"]);
    for node in ["192.168.122.12", "fd00:122::12"] {
        for asked in 0..20 {
            let words =
                ["shell", "ws", "--", "traceroute", "-T", "-p", "80", "-n", "-q", "1", "-N", "1", node];
            let way = lab.must(&words);
            let hop = way.lines().nth(1).and_then(|line| line.split_whitespace().nth(1));
            assert_eq!(hop, Some(node), "traceroute {asked}\n{way}");
        }
    }
}
