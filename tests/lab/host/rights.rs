//! Who may do what: users that are not root, at the control socket and as the user of a node.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

use super::*;

/// A group that nobody has, as a number.
const LOOKERS: &str = "42424";

/// A copy of the program that any user may run: where it was built may be closed to them.
struct Program(tempfile::TempDir);

impl Program {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        fs::copy(dunnat(), place.path().join("dunnat")).unwrap();
        Self(place)
    }

    fn path(&self) -> String {
        self.0.path().join("dunnat").to_str().unwrap().to_owned()
    }

    /// What a user of these groups gets who asks.
    fn asked_by(&self, who: &[&str], verb: &[&str], socket: &str) -> (Option<i32>, String) {
        let mut command = Command::new("setpriv");
        command.args(who).arg(self.path()).args(verb).args(["--socket", socket]).stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }
}

const MEMBER: [&str; 3] = ["--reuid=1000", "--regid=1000", "--groups=1000,42424"];
const BY_ITS_FIRST_GROUP: [&str; 3] = ["--reuid=1000", "--regid=42424", "--clear-groups"];
const STRANGER: [&str; 3] = ["--reuid=1001", "--regid=1001", "--groups=1001,100"];

/// Both requests that there are take the right to look. A trace of no packet ends at once.
const VERBS: [&[&str]; 2] = [&["status"], &["trace", "--count", "0"]];

#[test]
#[ignore = "needs root; run by scripts/test"]
fn members_of_a_group_may_look_and_strangers_may_not() {
    let (host, program) = (Host::new(), Program::new());
    let node = host.serve(&["--look-group", LOOKERS]);
    let socket = host.socket();
    let found = fs::metadata(&socket).unwrap();
    assert_eq!((found.mode() & 0o777, found.uid(), found.gid().to_string()), (0o660, 0, LOOKERS.to_owned()));
    for verb in VERBS {
        for who in [&["--reuid=0"][..], &MEMBER, &BY_ITS_FIRST_GROUP] {
            let (status, said) = program.asked_by(who, verb, &socket);
            assert_eq!(status, Some(0), "{who:?} {verb:?}: {said}");
        }
        // The kernel does not let it connect.
        let (status, said) = program.asked_by(&STRANGER, verb, &socket);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("is not for this user: root may use it, and members of the group"), "{said}");
    }
    // And the node does not answer, should somebody open the socket for all.
    must("chmod", &["666", &socket]);
    for verb in VERBS {
        let (status, said) = program.asked_by(&STRANGER, verb, &socket);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("only root, and members of group 42424, may ask"), "{said}");
        assert_eq!(program.asked_by(&MEMBER, verb, &socket).0, Some(0));
    }
    node.end("TERM");
    // Without a group it is for root alone.
    let node = host.serve(&[]);
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    must("chmod", &["666", &socket]);
    let (status, said) = program.asked_by(&MEMBER, VERBS[0], &socket);
    assert_eq!((status, said.contains("only root may ask")), (Some(1), true), "{said}");
    node.end("TERM");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_group_that_is_none_is_told_before_anything_is_done() {
    let host = Host::new();
    let output = host.command(&[], &["--look-group", "no-such-group-here"]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--look-group: there is no group no-such-group-here: make it with groupadd"),
        "{said}"
    );
    assert_eq!(host.ruleset(), "");
}

/// As a unit of systemd with `User=` and `AmbientCapabilities=CAP_NET_ADMIN` starts it.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_user_of_its_own_with_one_capability_serves() {
    let (host, program) = (Host::new(), Program::new());
    // As RuntimeDirectory= makes it.
    let place = tempfile::tempdir().unwrap();
    must("chown", &["4711:4711", place.path().to_str().unwrap()]);
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = place.path().join("node1.sock").to_str().unwrap().to_owned();
    let as_user = ["setpriv", "--reuid=4711", "--regid=4711", "--groups=42424"];
    let with = ["--inh-caps=+net_admin", "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin"];
    let example = place.path().join("example.toml");
    fs::copy(EXAMPLE, &example).unwrap();
    fs::set_permissions(&example, PermissionsExt::from_mode(0o644)).unwrap();
    let run =
        [&*program.path(), "run", "--no-rehearsal", "--config", example.to_str().unwrap(), "--node", "node1"]
            .map(str::to_owned);
    for sandbox in ["auto", "strict"] {
        let mut command = host.command_in(&[&as_user[..], &with].concat());
        command.args(&run).args(["--socket", &socket, "--look-group", LOOKERS, "--sandbox", sandbox]);
        let node = host.served_by(command);
        assert!(
            node.log_so_far().contains("worker threads have these rights: CAP_NET_ADMIN alone, "),
            "{}",
            node.log_so_far()
        );
        assert!(host.ruleset().contains("table ip dunnat {"), "{}", host.ruleset());
        let its_own = ["--reuid=4711", "--regid=4711", "--clear-groups"];
        let (status, said) = program.asked_by(&its_own, &["status"], &socket);
        assert_eq!(status, Some(0), "{said}");
        // Root does not believe what a user says at a place of that user's own, and a member of the group neither.
        for who in [&["--reuid=0"][..], &MEMBER] {
            let (status, said) = program.asked_by(who, &["status"], &socket);
            assert_eq!(
                (status, said.contains("belongs to user 4711, not to root")),
                (Some(1), true),
                "{said}"
            );
        }
        node.end("TERM");
        assert_eq!(host.only_guard(), "");
    }
}

/// In the usual place, as root and as the user that root has given it to. The group is the one of the usual name; what is told
/// of it, and the place, are in a mount namespace that `ip netns exec` has made.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn in_the_usual_place_the_group_of_the_usual_name_looks() {
    const SCRIPT: &str = r#"
        user=$1; shift
        mount -t tmpfs none /run
        { cat /etc/group; echo dunnat:x:42424:; } > /run/group
        mount --bind /run/group /etc/group
        [ "$user" = 0 ] || { mkdir -m 755 /run/dunnat; chown "$user" /run/dunnat; }
        setpriv --reuid="$user" --regid="$user" --groups=42424 --inh-caps=+net_admin --ambient-caps=+net_admin \
            "$@" run --no-rehearsal --config "$CONFIG" --node node1 2> /run/log &
        node=$!
        trap 'kill $node; wait $node; cat /run/log' EXIT
        until grep -q 'serving node1' /run/log; do kill -0 $node; sleep 0.02; done
        stat -c '%a %u %g' /run/dunnat/node1.sock
        stat -c '%a' /run/dunnat
        for who in '--reuid=0' '--reuid=1000 --regid=1000 --groups=42424' '--reuid=1001 --regid=1001 --clear-groups'; do
            setpriv $who "$@" status 2>&1 | head -n 1
        done"#;
    let (host, program) = (Host::new(), Program::new());
    let example = program.0.path().join("example.toml");
    fs::copy(EXAMPLE, &example).unwrap();
    fs::set_permissions(&example, PermissionsExt::from_mode(0o644)).unwrap();
    for user in ["0", "4711"] {
        let mut command = host.command_in(&["sh", "-ec", SCRIPT, "sh", user, &program.path()]);
        let output = command.env("CONFIG", &example).output().unwrap();
        let said = text(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..2], [&*format!("660 {user} 42424"), "755"], "{said}{}", text(&output.stderr));
        for line in &lines[2..4] {
            assert!(line.starts_with("node       node1, process "), "{said}");
        }
        assert!(lines[4].contains("is not for this user"), "{said}");
        assert_eq!(host.only_guard(), "");
    }
}
