//! Help, usage errors, exit statuses, and what may be written where.

use super::*;

#[test]
fn help_tells_what_there_is() {
    let verbs = [
        "run", "step", "trace", "top", "web", "explain", "replay", "path", "rules", "check", "doctor",
        "rehearse",
    ];
    for verb in [""].into_iter().chain(verbs) {
        let arguments: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
        let output = dunnat(&arguments);
        assert!(output.status.success());
        insta::assert_snapshot!(format!("help {verb}").trim(), text(&output.stdout));
    }
}

/// Pipes and files get no codes for a terminal, and no half of a screen.
#[test]
fn top_without_a_terminal_says_so() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/saved/one_connection.jsonl");
    for arguments in [&["top"][..], &["top", "node1"], &["top", "--read", trace]] {
        let (status, message) = refused(arguments);
        assert_eq!(status, 2, "{message}");
        assert!(message.contains("not a terminal") && !message.contains('\u{1b}'), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(refused(&["top", "--read", trace, "--speed", "0"]).0, 2);
    assert_eq!(refused(&["top", "--speed", "2"]).0, 2, "nothing is played");
    assert_eq!(refused(&["top", "--config", "no such file"]).0, 2);
}

/// Two files that say the same, and two that do not: the lines that only one has.
#[test]
fn two_cluster_files_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let example = std::fs::read_to_string(EXAMPLE).unwrap();
    std::fs::write(at("same.toml"), format!("# of node2\n{example}")).unwrap();
    std::fs::write(at("other.toml"), example.replace("tag    = 2", "tag    = 3")).unwrap();
    let compared = |name: &str| {
        let output = dunnat(&["check", "--config", EXAMPLE, "--against", &at(name)]);
        (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let same = "the two files say the same\n".to_owned();
    assert_eq!(compared("same.toml"), (Some(0), same, String::new()));
    let (status, differences, message) = compared("other.toml");
    assert_eq!((status, &*message), (Some(1), "dunnat: the cluster files differ\n"));
    let node = |tag: &str| format!("  node node2 tag {tag} mac 0e:00:00:00:00:00/24 public 192.168.122.12\n");
    let other = at("other.toml");
    assert_eq!(differences, format!("only in {EXAMPLE}:\n{}only in {other}:\n{}", node("0x2"), node("0x3")));
    assert_eq!(compared("none.toml").0, Some(2));
}

/// The help names the words that the parser knows.
#[test]
fn the_words_of_a_filter_are_all_in_the_help() {
    let (status, message) = refused(&["trace", "--read", "/dev/null", "frobnicate"]);
    assert_eq!(status, 2);
    let words = message.rsplit_once("expected one of: ").unwrap().1.replace(['(', '\n'], "");
    let help = dunnat(&["trace", "--help"]);
    let help = text(&help.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let listed = help.split_once("Its words: ").unwrap().1.split_once("parentheses.").unwrap().0;
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        assert!(listed.contains(word), "{word} is not in: {listed}");
    }
}

/// Nobody hears it, and the exit status says so.
#[test]
fn what_cannot_be_said_or_written_is_status_1_and_no_panic() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = |words: &[&str], out: Stdio, error: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dunnat"));
        command.args(words).stdin(Stdio::null()).stdout(out).stderr(error).status().unwrap().code()
    };
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/saved/one_connection.jsonl");
    for words in [
        &["check", "--config", "/nowhere"][..],
        &["rules", "--config", "/nowhere", "--node", "node1"],
        &["run", "--config", "/nowhere", "--node", "node1"],
        &["step", "--config", "/nowhere", "--node", "node1"],
        &["doctor", "--config", "/nowhere", "--node", "node1"],
        &["down", "--config", "/nowhere", "--node", "node1"],
        &["explain", "--config", "/nowhere", "--node", "node1", "tcp"],
        &["replay", "--config", "/nowhere", "x"],
        &["trace", "--read", "/nowhere"],
        &["path", "/nowhere"],
        &["no-such-verb"],
        &[],
        &["lab", "accept", "--name", "there-is-none"],
    ] {
        assert_eq!(status(words, Stdio::null(), full().into()), Some(1), "{words:?}");
        // Its reader has gone.
        let (gone, pipe) = std::io::pipe().unwrap();
        drop(gone);
        assert_eq!(status(words, Stdio::null(), pipe.into()), Some(1), "{words:?}");
    }
    for words in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["check", "--config", EXAMPLE],
        &["rules", "--config", EXAMPLE, "--node", "node1"],
        &["explain", "--config", EXAMPLE, "--node", "node1", "tcp 192.168.122.1:40000 > 192.168.122.11:80"],
        &["trace", "--schema"],
        &["trace", "--read", trace],
        &["trace", "--read", trace, "--format", "json"],
        &["path", trace],
        &["replay", trace, "--config", EXAMPLE],
    ] {
        assert_eq!(status(words, full().into(), Stdio::null()), Some(1), "{words:?}");
    }
}

/// A name of a file may be any bytes.
#[test]
fn an_argument_that_is_no_utf_8_is_no_panic() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"cluster-\xff.toml"));
    std::fs::copy(EXAMPLE, &odd).unwrap();
    let said = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dunnat"));
        let output = command.args(words).arg("--config").arg(&odd).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for words in [&["check"][..], &["rules", "--node", "node1"]] {
        assert_eq!(said(words).0, Some(0), "{words:?}: {}", said(words).1);
    }
    // Here it lacks rights, or what a node has.
    for words in [&["run", "--node", "node1"][..], &["doctor", "--node", "node1"]] {
        let (status, message) = said(words);
        assert!(matches!(status, Some(0..=2)), "{words:?}: {message}");
        assert!(!message.contains("panicked"), "{words:?}: {message}");
    }
}

#[test]
fn a_wrong_cluster_file_is_status_2_with_its_place_for_every_verb() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let wrong = std::fs::read_to_string(EXAMPLE).unwrap().replace("tag    = 2", "tag    = 1");
    file.write_all(wrong.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    for verb in ["check", "rules", "run", "doctor"] {
        let (status, message) = refused(&[verb, "--config", path, "--node", "node1"]);
        assert_eq!(status, 2);
        assert!(
            message.starts_with(&format!("{path}:30:10: tag 0x1 is already used by \"node1\"\n")),
            "{message}"
        );
    }
}

#[test]
fn what_is_typed_wrong_is_status_2_with_what_would_be_right() {
    let run = ["run", "--config", EXAMPLE, "--node", "node1"];
    for (arguments, expected) in [
        (vec![], "Usage:"),
        (vec!["rnu"], "unrecognized subcommand 'rnu'"),
        (vec!["run", "--config", EXAMPLE], "--node <NAME>"),
        (vec!["run", "--config", EXAMPLE, "--node", "node9"], "it has node1, node2"),
        (vec!["doctor", "--config", EXAMPLE], "--node <NAME>"),
        (vec!["doctor", "--node", "node1"], "--config <FILE>"),
        (vec!["doctor", "--config", EXAMPLE, "--node", "node9"], "it has node1, node2"),
        (
            vec!["doctor", "--config", EXAMPLE, "--node", "node1", "--queue-base", "65535"],
            "above 65535, the maximum",
        ),
        (vec!["check", "--config", "/nowhere.toml"], "cannot read the cluster file /nowhere.toml"),
        ([&run[..], &["--workers", "0"]].concat(), "1..=1024"),
        ([&run[..], &["--queue-base", "65535"]].concat(), "above 65535, the maximum"),
        ([&run[..], &["--force-fallback", "gso"]].concat(), "possible values: queue"),
        (
            vec!["trace", "stage", "spoff"],
            "  stage spoff\n        ^^^^^ a stage is one of dnat, tag, save, spoof",
        ),
        (vec!["explain", "--config", EXAMPLE], "PACKET"),
        (
            vec!["explain", "--config", EXAMPLE, "--node", "node9", "icmp 1.2.3.4 > 5.6.7.8"],
            "it has node1, node2",
        ),
        (
            vec!["explain", "--config", EXAMPLE, "tcp 192.168.122.1:40000 > 192.168.122.12"],
            "> 192.168.122.12\n                            ^^^^^^^^^^^^^^ tcp has ports: expected address and port",
        ),
        (
            vec!["explain", "--config", EXAMPLE, "tcp 1.2.3.4:1 > 5.6.7.8:80"],
            "no node would see tcp 1.2.3.4:1",
        ),
        (
            vec![
                "explain",
                "--config",
                EXAMPLE,
                "--node",
                "node1",
                "--guest-on",
                "node1",
                "icmp 1.2.3.4 > 5.6.7.8",
            ],
            "cannot be used with",
        ),
        (vec!["replay", "x"], "--config <FILE>"),
        (
            vec!["rehearse", "--config", EXAMPLE, "--node", "node1", "--client", "::1"],
            "--client ::1: the guests of this cluster have no IPv6 network",
        ),
        (vec!["step", "--config", EXAMPLE], "--node <NAME>"),
        (vec!["step", "--config", EXAMPLE, "--node", "node9"], "it has node1, node2"),
        (
            vec!["step", "--config", EXAMPLE, "--node", "node1", "--workers", "2"],
            "unexpected argument '--workers'",
        ),
        (
            vec!["step", "--config", EXAMPLE, "--node", "node1", "tcp flags sin"],
            "  tcp flags sin\n            ^^^",
        ),
        (vec!["trace", "--sample", "10"], "a sample is written as in 1/100"),
        (vec!["trace", "--rotate", "1M"], "--write <FILE>"),
        (vec!["trace", "--write", "x", "--rotate", "1T"], "a size is a number of bytes"),
        (vec!["trace", "--write", "x", "--rotate", "1M", "--keep", "10001"], "0..=10000"),
        (vec!["trace", "--write", "-", "--rotate", "1M"], "--rotate beside --write -"),
        (vec!["report", "--write", "-"], "a report is written to a file"),
        (vec!["trace", "--read", "x", "--node", "node1"], "cannot be used with"),
        (vec!["trace", "--kernel"], "because there is no filter: give addresses or ports"),
        (vec!["trace", "--kernel", "tcp"], "also selects packets of any address and port"),
        (vec!["trace", "--kernel", "port 80 or stage tag"], "; or add --all"),
        (vec!["trace", "--kernel", "port 80", "--for", "0"], "1..=86400"),
        (vec!["trace", "--kernel", "port 80", "--read", "x"], "cannot be used with"),
        (vec!["trace", "--kernel", "port 80", "--write", "x.pcapng"], "the format is text or json"),
        (vec!["trace", "--rate", "7", "port 80"], "--kernel"),
        (vec!["path"], "<FILE>..."),
        (
            vec!["path", "x", "--filter", "stage spoff"],
            "  stage spoff\n        ^^^^^ a stage is one of dnat, tag, save, spoof",
        ),
        ([&run[..], &["--trace-format", "json"]].concat(), "--trace <FILE>"),
        ([&run[..], &["--trace", "x", "--trace-keep", "4294967295"]].concat(), "0..=10000"),
        ([&run[..], &["--policy", "observe", "--full"]].concat(), "--policy observe changes nothing"),
        (
            [&run[..], &["--policy", "observe", "--rewrite", "kernel"]].concat(),
            "--policy observe changes nothing",
        ),
        ([&run[..], &["--policy", "observe", "--shadow"]].concat(), "give one of them, both look on"),
        ([&run[..], &["--policy", "nat"]].concat(), "a policy is one of cluster, observe"),
        (
            [&run[..], &["--policy", "./mine", "--rewrite", "kernel"]].concat(),
            "--rewrite kernel beside --policy ./mine",
        ),
        (
            [&run[..], &["--policy", "./mine", "--sandbox", "strict"]].concat(),
            "--sandbox strict beside a policy that is a program",
        ),
        ([&run[..], &["--sandbox", "some"]].concat(), "possible values: strict, auto, off"),
        (
            [&run[..], &["--look-group", "no-such-group-here"]].concat(),
            "there is no group no-such-group-here",
        ),
        (vec!["explain", "--policy-schema", "-n", "node1"], "cannot be used with"),
        ([&run[..], &["--policy", "napt:five"]].concat(), "give napt a range of ports"),
        (
            [&run[..], &["--policy", "napt", "--rewrite", "kernel"]].concat(),
            "--rewrite kernel beside --policy napt",
        ),
        (
            [&run[..], &["--policy", "napt", "--stand-in", "kernel"]].concat(),
            "--stand-in kernel beside --policy napt",
        ),
        ([&run[..], &["--policy", "napt", "--shadow", "--full"]].concat(), "cannot be used with"),
        ([&run[..], &["--policy", "./mine", "--shadow"]].concat(), "--policy beside --shadow"),
        (
            [&run[..], &["--policy", "maglev:web=10.5.5.1", "--rewrite", "kernel"]].concat(),
            "--rewrite kernel beside --policy maglev:web=10.5.5.1",
        ),
        (
            [&run[..], &["--policy", "maglev:dns=10.5.5.1"]].concat(),
            "--policy maglev: the cluster file has no service dns; it has web",
        ),
        (
            [&run[..], &["--policy", "maglev:web=10.5.5.1.1"]].concat(),
            "'10.5.5.1.1' is no address of a guest",
        ),
        ([&run[..], &["--shadow", "--no-rules"]].concat(), "'--shadow' cannot be used with '--no-rules'"),
        (
            [&run[..], &["--shadow", "--rewrite", "kernel"]].concat(),
            "'--shadow' cannot be used with '--rewrite",
        ),
        ([&run[..], &["--shadow", "--backend", "nfq"]].concat(), "'--shadow' cannot be used with '--backend"),
        (
            [&run[..], &["--shadow", "--stand-in", "kernel"]].concat(),
            "'--shadow' cannot be used with '--stand-in",
        ),
        (
            [&run[..], &["--policy", "observe", "--stand-in", "kernel"]].concat(),
            "--stand-in kernel beside --policy observe: the kernel's rules do what the policy cluster says",
        ),
        (
            [&run[..], &["--policy", "./mine", "--stand-in", "kernel"]].concat(),
            "--stand-in kernel beside --policy ./mine",
        ),
        (
            vec![
                "rules",
                "--config",
                EXAMPLE,
                "--node",
                "node1",
                "--policy",
                "maglev:web=10.5.5.1",
                "--stand-in",
                "kernel",
            ],
            "--stand-in kernel beside --policy maglev",
        ),
        ([&run[..], &["--shadow", "--decide", "flow"]].concat(), "'--shadow' cannot be used with '--decide"),
        (
            [&run[..], &["--policy", "observe", "--decide", "flow"]].concat(),
            "--decide flow beside --policy observe: the kernel's rules carry what follows a decision",
        ),
        (
            [&run[..], &["--full", "--decide", "flow"]].concat(),
            "--decide flow beside --full: with --full every packet",
        ),
        (
            [&run[..], &["--stand-in", "kernel", "--decide", "flow"]].concat(),
            "--decide flow beside --stand-in kernel: a packet that passed its queue unseen",
        ),
        (
            vec!["step", "--config", EXAMPLE, "--node", "node1", "--decide", "flow"],
            "unexpected argument '--decide' found",
        ),
        (
            vec!["rules", "--config", EXAMPLE, "--node", "node1", "--kernel", "--stand-in", "kernel"],
            "cannot be used with",
        ),
        (
            vec!["step", "--config", EXAMPLE, "--node", "node1", "--stand-in", "kernel"],
            "unexpected argument '--stand-in'",
        ),
        (
            [&run[..], &["--take-over", "--no-rules"]].concat(),
            "'--take-over' cannot be used with '--no-rules'",
        ),
        (
            [&run[..], &["--no-rules", "--stand-in", "kernel"]].concat(),
            "--stand-in kernel beside --no-rules: the stand-in is in the rules",
        ),
        ([&run[..], &["--take-over", "--shadow"]].concat(), "'--take-over' cannot be used with '--shadow'"),
        ([&run[..], &["--take-over", "--policy", "./mine"]].concat(), "--take-over beside --policy"),
        (vec!["down", "--leave", "kernel"], "--config <FILE>"),
        (vec!["down", "--config", EXAMPLE, "--node", "node1"], "--leave"),
        (vec!["down", "--leave", "nobody", "-c", EXAMPLE, "-n", "node1"], "[possible values: kernel]"),
        (vec!["down", "--leave", "kernel", "-c", EXAMPLE, "-n", "node9"], "it has node1, node2"),
        ([&run[..], &["--shadow", "--full"]].concat(), "'--shadow' cannot be used with '--full'"),
        (
            [&run[..], &["--shadow", "--trace", "-"]].concat(),
            "--shadow writes its report to standard output: give --trace a file",
        ),
        (
            vec!["rules", "--config", EXAMPLE, "--node", "node1", "--kernel", "--workers", "2"],
            "cannot be used with",
        ),
    ] {
        let (status, message) = refused(&arguments);
        assert_eq!(status, 2, "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

/// A file is never emptied before what replaces it is certain.
#[test]
fn what_is_written_takes_the_place_of_nothing_that_is_read_or_not_ours() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let trace = include_bytes!("../saved/one_connection.jsonl");
    let [read, link, other, full] = ["read.jsonl", "link.jsonl", "other.jsonl", "other.jsonl.4"].map(at);
    std::fs::write(&read, trace).unwrap();
    std::fs::write(&other, "kept").unwrap();
    std::fs::write(&full, trace).unwrap();
    std::os::unix::fs::symlink(&read, &link).unwrap();
    for (words, says) in [
        (vec!["trace", "--read", &read, "--write", &read], "it is being read"),
        (vec!["replay", &read, "--config", EXAMPLE, "--write", &read], "it is being read"),
        (vec!["path", &read, "--write", &read], "it is being read"),
        (vec!["trace", "--read", &link, "--write", &read], "it is being read"),
        (vec!["trace", "--read", &read, "--write", &link], "it is a symbolic link"),
        (vec!["trace", "--read", &read, "--write", "/dev/null", "--rotate", "1G"], "it is no file"),
        (vec!["trace", "--read", &full, "--write", &other, "--rotate", "1K"], "it is being read"),
        (vec!["trace", "--read", "/nowhere", "--write", &other], "No such file"),
        (vec!["replay", EXAMPLE, "--config", EXAMPLE, "--write", &other], "neither a capture"),
        (vec!["path", EXAMPLE, "--write", &other], "no event"),
        (vec!["trace", "--socket", "/nowhere", "--write", &other], "there is no /nowhere"),
    ] {
        let (status, message) = refused(&words);
        assert_eq!(status, 1, "{words:?}");
        assert!(message.contains(says), "{words:?}: {message}");
        assert_eq!(std::fs::read(&read).unwrap(), trace);
        assert_eq!(std::fs::read(&other).unwrap(), b"kept");
        assert_eq!(std::fs::read(&full).unwrap(), trace);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4, "{words:?}");
    }
    let output = dunnat(&["trace", "--read", &read, "--format", "json", "--write", &other]);
    assert!(output.status.success());
    assert_eq!(std::fs::read(&other).unwrap(), trace);
}

/// As `-` is standard input where something is read.
#[test]
fn a_hyphen_is_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    let trace = saved();
    let trace = trace.path().to_str().unwrap();
    for words in [
        &["trace", "--read", trace, "--format", "json"][..],
        &["replay", trace, "--config", EXAMPLE, "--format", "json"],
        &["path", trace],
    ] {
        let printed = |more: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_dunnat"));
            let output = command.args([words, more].concat()).current_dir(&directory).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
            text(&output.stdout).to_owned()
        };
        assert_eq!(printed(&["--write", "-"]), printed(&[]), "{words:?}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn flows_refuse_what_they_cannot_know_before_they_ask() {
    let of = ["flows", "--config", EXAMPLE, "--node", "node1"];
    for (filter, status, said) in [
        ("stage dnat", 2, "a flow has no stage"),
        ("frobnicate", 2, "is no word of it"),
        ("entry node7", 2, "the cluster has the nodes node1, node2"),
    ] {
        let (code, message) = refused(&[&of[..], &[filter]].concat());
        assert_eq!((code, message.contains(said)), (status, true), "{message}");
    }
    let (code, message) = refused(&["flows", "--config", EXAMPLE]);
    assert_eq!((code, message.contains("--node <NAME>")), (2, true), "{message}");
    let (code, message) = refused(&["flows", "--socket", "/nowhere/node1.sock"]);
    assert_eq!((code, message.contains("there is no /nowhere/node1.sock")), (1, true), "{message}");
}

/// Whatever cannot be read, the rest is there, and why it is missing.
#[test]
fn a_report_says_what_it_has_not_read_and_takes_nobodys_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let report =
        |more: &[&str]| dunnat(&[&["report", "--trace", "0", "--socket", "/nowhere/n.sock"], more].concat());
    let output = report(&["--write", &at("a.tar.gz")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), at("a.tar.gz") + "\n");
    assert!(text(&output.stderr).contains("could not be read"), "{}", text(&output.stderr));
    let unpack = |member: &str| {
        let archive = at("a.tar.gz");
        let tar = Command::new("tar")
            .args(["-xzOf", &archive, &format!("dunnat-report/{member}")])
            .output()
            .unwrap();
        text(&tar.stdout).to_owned()
    };
    let not_read = unpack("not-read.txt");
    assert!(not_read.contains("the node: dunnat: there is no /nowhere/n.sock"), "{not_read}");
    assert!(unpack("versions.txt").contains(concat!("dunnat ", env!("CARGO_PKG_VERSION"))));

    std::os::unix::fs::symlink(at("a.tar.gz"), at("link")).unwrap();
    let (status, message) = refused(&["report", "--trace", "0", "--write", &at("link")]);
    assert_eq!((status, message.contains("it is a symbolic link")), (1, true), "{message}");
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_report_that_is_given_up_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("node1.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut report = Command::new(env!("CARGO_BIN_EXE_dunnat"))
        .args(["report", "--write", "r.tar.gz", "--socket"])
        .arg(&socket)
        .current_dir(&directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It asks a node, and is not answered.
    let asked = listener.accept().unwrap();
    report.kill().unwrap();
    report.wait().unwrap();
    drop(asked);
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["node1.sock"]);
}

/// A ruleset by hand becomes the cluster file that says the same.
#[test]
fn rulesets_by_hand_are_imported() {
    let directory = tempfile::tempdir().unwrap();
    let made = directory.path().join("made.toml");
    let made = made.to_str().unwrap();
    let by_hand = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/by-hand.nft");
    let output = dunnat(&["import", "--quiet", by_hand, "--write", made]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("by-hand.nft:36  NOT UNDERSTOOD: 'meta pkttype' is not known here"), "{said}");
    // But for the name of the service.
    let named = std::fs::read_to_string(made).unwrap().replace("\"tcp-80\"", "\"web\"");
    std::fs::write(made, named).unwrap();
    let output = dunnat(&["check", "-c", made, "--against", EXAMPLE]);
    assert_eq!(text(&output.stdout), "the two files say the same\n");
    // What is missing is said, and it is no success.
    let part = directory.path().join("part.nft");
    std::fs::write(&part, "table ip a { chain b { type nat hook postrouting priority 100; oif x ip saddr 10.0.0.0/8 snat 1.2.3.4; } }").unwrap();
    let output = dunnat(&["import", part.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("# MISSING: the gateway of 10.0.0.0/8"),
        "{}",
        text(&output.stdout)
    );
    assert!(text(&output.stderr).contains("the cluster file is not whole"), "{}", text(&output.stderr));
    assert_eq!(dunnat(&["import", "/nowhere"]).status.code(), Some(1));
}

/// Of whatever host this is: what is written is TOML, and nothing that is there is overwritten.
#[test]
fn a_first_cluster_file_is_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.toml");
    let file = file.to_str().unwrap();
    let output = dunnat(&["init", "--node", "first", "--write", file]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("to fill in: the other nodes"), "{}", text(&output.stderr));
    let written = std::fs::read_to_string(file).unwrap();
    assert!(written.contains("name   = \"first\"") && written.parse::<toml::Table>().is_ok(), "{written}");
    let again = dunnat(&["init", "--write", file]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again.stderr).contains("is there already, and was not overwritten"),
        "{}",
        text(&again.stderr)
    );
    assert_eq!(std::fs::read_to_string(file).unwrap(), written);
    // What `check` refuses is not written.
    let other = directory.path().join("other.toml");
    let (status, said) = refused(&["init", "--node", "a b", "--write", other.to_str().unwrap()]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("--node: \"a b\" cannot be used as a name in rules: a name has 1 to 32"), "{said}");
    assert!(!other.exists());
}
