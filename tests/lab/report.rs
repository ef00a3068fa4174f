//! The archive for support, of a real node.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use super::cluster::{Lab, curl};
use super::*;

/// The files of an archive, as another program unpacks it.
fn unpacked(archive: &Path) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    must("tar", &["-xzf", archive.to_str().unwrap(), "-C", directory.path().to_str().unwrap()]);
    let files = std::fs::read_dir(directory.path().join("dunnat-report")).unwrap();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, text(&std::fs::read(path).unwrap()))
    };
    files.map(|file| read(file.unwrap().path())).collect()
}

fn report(lab: &Lab, more: &[&str]) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.tar.gz");
    let socket = lab.socket("node1");
    let own = [dunnat(), "report", "--socket", &socket, "--write", path.to_str().unwrap()];
    let output = lab.on("node1", &[&own[..], more].concat()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left there");
    unpacked(&path)
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn a_report_has_all_of_a_node_and_an_anonymous_one_nothing_that_names_it() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start"]);
    // Somebody's rule, with an address as a number.
    let rule = "table ip somebody { chain c { @nh,128,32 0xa0505c9 counter comment \"to 10.5.5.201\"; }; }";
    assert!(lab.on("node1", &["nft", rule]).status().unwrap().success());
    curl(&lab);
    let open = report(&lab, &["--trace", "0"]);
    for (file, has) in [
        ("status.txt", "node       node1, process "),
        ("status.json", "\"decisions\":["),
        ("doctor.txt", "nft"),
        ("rehearsal.json", "\"flows\":"),
        ("ruleset.txt", "table ip somebody"),
        ("ruleset.txt", "192.168.122.11"),
        ("rules.txt", "queue"),
        ("plan.txt", "queue"),
        ("cluster.toml", "[[node]]"),
        ("interfaces.txt", "xenbr0"),
        ("flows.jsonl", "10.5.5.201"),
        ("versions.txt", concat!("dunnat ", env!("CARGO_PKG_VERSION"))),
        ("README.txt", "  cluster.toml "),
    ] {
        assert!(open[file].contains(has), "{file} has no {has}:\n{}\n{}", open[file], open["not-read.txt"]);
    }
    assert!(!open.contains_key("trace.jsonl"));

    // While it traces something happens.
    let traced = std::thread::scope(|scope| {
        let traced = scope.spawn(|| report(&lab, &["--anonymous", "--trace", "4"]));
        while !traced.is_finished() {
            curl(&lab);
            std::thread::sleep(Duration::from_millis(300));
        }
        traced.join().unwrap()
    });
    let events =
        traced["trace.jsonl"].lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let events: Vec<_> = events.collect();
    assert!(events.iter().any(|event| event["reason"] == "from-node"), "{}", traced["not-read.txt"]);
    let secrets = [
        "192.168.122",
        "10.5.5.",
        "fd00:5:",
        "fd00:122",
        "0a:00:00:00",
        "0e:00:00:00",
        "52:54:00",
        "0xa0505c9",
        "0x0a0505c9",
        "c0a87a",
        "node1",
        "node2",
        "xenbr0",
        "guestbr0",
        "eth1.100",
        "/run/dunnat-lab/",
    ];
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    // A short one may be a part of any word.
    let hostname = Some(hostname.trim()).filter(|name| name.len() > 4 && *name != "localhost");
    for (file, content) in &traced {
        for secret in secrets.into_iter().chain(hostname) {
            let line = content.lines().find(|line| line.to_lowercase().contains(&secret.to_lowercase()));
            assert!(line.is_none(), "{file} has {secret}: {}", line.unwrap());
        }
    }
    // One address is the same in all files, and lies in the same network.
    let flows =
        traced["flows.jsonl"].lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let guest = flows.filter(|flow| flow["way"] == "to-guest" && flow["request"]["proto"] == "tcp");
    let guest = guest.map(|flow| flow["guest"].as_str().unwrap().to_owned()).next().unwrap();
    assert!(traced["cluster.toml"].contains(&format!("\"{guest}\"")), "{guest}: {}", traced["cluster.toml"]);
    assert!(events.iter().any(|event| event["before"]["dst"] == *guest));
    assert!(traced["ruleset.txt"].contains(&guest));
    // What was made of the cluster file is one still.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &traced["cluster.toml"]).unwrap();
    must(dunnat(), &["check", "--config", file.path().to_str().unwrap()]);
    assert!(lab.on("node1", &["nft", "delete table ip somebody"]).status().unwrap().success());
    lab.must(&["stop"]);
}
