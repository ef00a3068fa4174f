//! One fault as a person meets it: connections that fail, three commands, and what they say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::cluster::Lab;

/// A connection of the workstation.
#[derive(Debug)]
pub(super) struct Tried {
    /// Its own port, by which the traces have it.
    port: u16,
    original: String,
    original_port: u64,
    works: bool,
}

/// What was said of a fault.
pub(super) struct Said {
    tried: Vec<Tried>,
    /// Of each node: what doctor said as JSON, and as text.
    doctor: BTreeMap<&'static str, (Value, String)>,
    /// What rehearse said, and its exit status.
    pub(super) rehearse: (Option<i32>, String),
    /// The conversations, and what `path --faults` said, with its exit status.
    conversations: Vec<Value>,
    path: (Option<i32>, String),
    pub(super) seconds: f64,
}

const NODES: [&str; 3] = ["node1", "node2", "node3"];

fn all(lab: &Lab, commands: &[(&'static str, String)]) {
    for (machine, script) in commands {
        let output = lab.on(machine, &["sh", "-ec", script]).env("LAB", lab.state("")).output().unwrap();
        assert!(output.status.success(), "{machine}: {script}\n{}", text(&output.stderr));
    }
}

/// The cluster file that a node was started with; that of the lab, if its process is gone.
fn file(lab: &Lab, node: &str) -> String {
    let started_with = || {
        let process = std::fs::read_to_string(lab.state(&format!("{node}.pid"))).ok()?;
        let words = std::fs::read_to_string(format!("/proc/{}/cmdline", process.trim())).ok()?;
        let mut words = words.split('\0').skip_while(|word| *word != "--config").skip(1);
        words.next().map(str::to_owned)
    };
    let of_lab = || lab.state("cluster.toml").to_str().unwrap().to_owned();
    started_with().unwrap_or_else(of_lab)
}

/// Makes the fault, tries connections, and asks.
pub(super) fn run(lab: &Lab, case: &Case) -> Said {
    for node in NODES {
        lab.must(&["shell", node, "--", "conntrack", "-F"]);
    }
    all(lab, &case.before);
    let fault: &[&str] = match case.fault {
        Some(fault) => &["--fault", fault],
        None => &[],
    };
    let started = lab.run_with(case.run_with, &[&["start", "--trace-json"], fault].concat());
    assert!(started.status.success(), "{}: {}", case.name, text(&started.stderr));
    all(lab, &case.after);
    let mut kernel = Vec::new();
    if case.with_kernel {
        kernel = NODES.map(|node| traced(lab, node)).into();
    }
    let tried = try_connections(lab);
    for mut child in kernel.drain(..) {
        must("kill", &["-s", "INT", &child.id().to_string()]);
        assert!(child.wait().unwrap().success());
    }
    let (mut doctor, mut seconds) = (BTreeMap::new(), 0.0);
    for node in NODES {
        let begun = Instant::now();
        let ask = |more: &[&str]| {
            let file = file(lab, node);
            let words = [&[dunnat(), "doctor", "-c", &file, "-n", node], more].concat();
            text(&lab.on(node, &words).output().unwrap().stdout)
        };
        let shown = ask(&[]);
        if node == case.node {
            seconds = begun.elapsed().as_secs_f64();
        }
        let json = ask(&["--json"]);
        let json = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        doctor.insert(node, (json, shown));
    }
    let begun = Instant::now();
    let own = file(lab, case.node);
    let words = [&[dunnat(), "rehearse", "-c", &own, "-n", case.node], case.rehearse_with].concat();
    let output = lab.on(case.node, &words).output().unwrap();
    let rehearse = (output.status.code(), text(&output.stdout) + &text(&output.stderr));
    seconds += begun.elapsed().as_secs_f64();
    all(lab, &case.undo_before_stop);
    // A node that was killed is missed.
    lab.run(&["stop"]);
    all(lab, &case.undo);
    if let Some(spoil) = case.spoils_traces {
        spoil(lab);
    }
    let begun = Instant::now();
    let mut files: Vec<String> = Vec::new();
    for node in NODES {
        let extensions: &[&str] = if case.with_kernel { &["jsonl", "kernel.jsonl"] } else { &["jsonl"] };
        files.extend(
            extensions.iter().map(|it| lab.state(&format!("{node}.{it}")).to_str().unwrap().to_owned()),
        );
    }
    let path = |more: &[&str]| {
        Command::new(dunnat()).arg("path").args(&files).args(more).stdin(Stdio::null()).output().unwrap()
    };
    let output = path(&["--faults"]);
    seconds += begun.elapsed().as_secs_f64();
    let faults = (output.status.code(), text(&output.stdout) + &text(&output.stderr));
    let lines = text(&path(&["--format", "json"]).stdout);
    let conversations = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Said { tried, doctor, rehearse, conversations, path: faults, seconds }
}

/// `dunnat trace --kernel` on a node, about all of the workstation.
fn traced(lab: &Lab, node: &str) -> Child {
    let out = File::create(lab.state(&format!("{node}.kernel.jsonl"))).unwrap();
    let socket = lab.socket(node);
    let words = [dunnat(), "trace", "--kernel", "--format", "json", "--rate", "2000", "--socket"];
    let words = [&words[..], &[&*socket, "host 192.168.122.1 or host fd00:122::1"]].concat();
    let mut child = lab.on(node, &words).stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("tracing for") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "it ended:\n{said}");
    }
    // Nobody reads what it says at its end, which is short.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    child
}

/// Through each node, in both families: to the guest on node1, to the guest on node2, and with a request that fills a packet.
fn try_connections(lab: &Lab) -> Vec<Tried> {
    let slow: f64 = std::env::var("DUNNAT_LAB_SLOW").map_or(1.0, |slow| slow.parse().unwrap());
    let seconds = (2.5 * slow).to_string();
    let mut calls = Vec::new();
    for node in 1..=3 {
        for (host, original) in [
            (format!("192.168.122.1{node}"), format!("192.168.122.1{node}")),
            (format!("[fd00:122::1{node}]"), format!("fd00:122::1{node}")),
        ] {
            for (port, long) in [(80, 1), (8080, 1), (80, 1300)] {
                let header = format!("X-Long: {}", "a".repeat(long));
                let url = format!("http://{host}:{port}/");
                // Another one each time: a port that was used a moment ago is not free.
                static PORTS: AtomicU32 = AtomicU32::new(33_000);
                let own = u16::try_from(PORTS.fetch_add(1, Ordering::Relaxed)).unwrap();
                let mut curl = lab.on(
                    "ws",
                    &["curl", "-s", "--max-time", &seconds, "-o", "/dev/null", "-w", "%{http_code}"],
                );
                curl.args(["--local-port", &own.to_string(), "-H", &header, &url])
                    .stdout(Stdio::piped())
                    .stdin(Stdio::null());
                calls.push((curl.spawn().unwrap(), own, original.clone(), port));
            }
        }
    }
    let tried = |(child, port, original, original_port): (Child, u16, String, u64)| {
        let code = text(&child.wait_with_output().unwrap().stdout);
        Tried { port, original, original_port, works: code == "200" }
    };
    calls.into_iter().map(tried).collect()
}

impl Said {
    /// What was said wrongly, each in a sentence.
    pub(super) fn faults(&self, case: &Case) -> Vec<String> {
        let mut wrong = Vec::new();
        self.judge_doctor(case, &mut wrong);
        self.judge_rehearsal(case, &mut wrong);
        self.judge_path(case, &mut wrong);
        wrong
    }

    fn judge_doctor(&self, case: &Case, wrong: &mut Vec<String>) {
        let (json, shown) = &self.doctor[case.node];
        let amiss: Vec<&str> = amiss(json).filter_map(|fact| fact["name"].as_str()).collect();
        let works = shown.contains("\na node would work here");
        let (is_right, expected) = match case.doctor {
            Doctor::Fact(name) => (amiss.contains(&name) && !works, name),
            Doctor::Unseen(words) => (shown.contains("not seen from here") && shown.contains(words), words),
            Doctor::Well => (works, "all is well"),
        };
        if !is_right {
            wrong.push(format!("doctor on {} does not say '{expected}': {amiss:?}\n{shown}", case.node));
        }
        // No other node is blamed.
        for (node, (json, shown)) in self.doctor.iter().filter(|(node, _)| **node != case.node) {
            if json["works"] != true || !shown.contains("\na node would work here") {
                wrong.push(format!("doctor blames {node}\n{shown}"));
            }
        }
    }

    fn judge_rehearsal(&self, case: &Case, wrong: &mut Vec<String>) {
        let (status, said) = &self.rehearse;
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_right = match case.rehearse {
            Rehearse::Stops(words) => *status == Some(1) && flat.contains(words),
            Rehearse::Unknown(words) => flat.contains(words),
            Rehearse::Through => *status == Some(0) && !said.contains("LOST") && !said.contains("CHANGED"),
        };
        if !is_right {
            wrong.push(format!("rehearse says, with status {status:?}:\n{said}"));
        }
    }

    /// The conversation of a connection: the last by that port and destination, of those with its beginning.
    fn conversation(&self, tried: &Tried) -> Option<&Value> {
        let is_it = |one: &&Value| {
            one["client_port"] == tried.port
                && one["original_dst"] == *tried.original
                && one["original_port"] == tried.original_port
        };
        self.conversations.iter().rfind(is_it)
    }

    fn judge_path(&self, case: &Case, wrong: &mut Vec<String>) {
        let failed = self.tried.iter().filter(|it| !it.works).count();
        if failed == 0 && !matches!(case.path, Path::Well) {
            wrong.push("every connection works: there is no fault".to_owned());
        }
        for tried in &self.tried {
            let found = self.conversation(tried);
            let about =
                || format!("{tried:?}\n{}", found.map_or("in no trace".to_owned(), |one| format!("{one:#}")));
            let is_fault = found.is_some_and(|one| one["right"] == false && one["finding"] != "no-request");
            match (tried.works, case.path) {
                (true, _) if is_fault => {
                    wrong.push(format!("path blames a connection that works: {}", about()));
                }
                (false, Path::Partly(..)) if found.is_none() => {}
                (false, Path::Cause(causes, on) | Path::Partly(causes, on)) => {
                    let named = found.is_some_and(|one| is_named(one, causes, on));
                    if !is_fault || !named {
                        wrong.push(format!("path does not name {causes:?} on {on:?}: {}", about()));
                    }
                }
                (false, Path::Blind) if found.is_some_and(|one| one["right"] == true) => {
                    wrong.push(format!("path finds right what failed: {}", about()));
                }
                (false, Path::Well) => wrong.push(format!("it fails: {}", about())),
                _ => {}
            }
        }
        let (status, said) = &self.path;
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_any_fault =
            self.conversations.iter().any(|one| one["right"] == false && one["finding"] != "no-request");
        if matches!(case.path, Path::Blind)
            && !is_any_fault
            && !flat.contains("not judged: what no trace has")
        {
            wrong.push(format!("path does not say what it cannot judge:\n{said}"));
        }
        if *status != Some(i32::from(is_any_fault)) {
            wrong.push(format!("path --faults ended with {status:?}:\n{said}"));
        }
    }

    /// Where path is wrong about a ruleset that drops by that rule, as `TABLE CHAIN: RULE`: it blames what works, finds right what
    /// failed, or names another rule.
    pub(super) fn misjudged(&self, culprit: Option<&str>) -> Vec<String> {
        let mut wrong = Vec::new();
        for tried in &self.tried {
            let Some(found) = self.conversation(tried) else { continue };
            let is_fault = found["right"] == false && found["finding"] != "no-request";
            if tried.works == is_fault {
                wrong.push(format!("path is wrong about {tried:?}: {found:#}"));
            }
            let rule = &found["rule"];
            if let (true, Some(culprit)) = (rule.is_object(), culprit) {
                let part = |name: &str| rule[name].as_str().unwrap_or_default();
                let named =
                    format!("{} {} {}: {}", part("family"), part("table"), part("chain"), part("rule"));
                if named != culprit || rule["node"] != "node1" {
                    wrong.push(format!("path names {named} on {}, not {culprit}", rule["node"]));
                }
            }
        }
        wrong
    }

    /// The line of doctor that tells most, for the table.
    pub(super) fn of_doctor(&self, case: &Case) -> String {
        let (json, shown) = &self.doctor[case.node];
        let wanted = if let Doctor::Fact(name) = case.doctor { name } else { "" };
        let fact = amiss(json)
            .find(|fact| fact["name"] == wanted)
            .or_else(|| amiss(json).find(|fact| fact["state"] == "no" && fact["severity"] != "good-to-know"));
        let verdict = shown.lines().find(|line| line.starts_with("a node would")).unwrap_or_default();
        let verdict = verdict.split(':').next().unwrap_or_default();
        match (fact, case.doctor) {
            (Some(fact), _) => {
                let of = |name: &str| fact[name].as_str().unwrap_or_default().to_owned();
                format!("{}: {} {}{}; {verdict}", of("name"), of("about"), of("found"), of("why"))
            }
            (None, Doctor::Unseen(words)) => format!("{verdict}; not seen from here: {words}"),
            (None, _) => verdict.to_owned(),
        }
    }

    /// The same of rehearse.
    pub(super) fn of_rehearse(&self) -> String {
        let said = &self.rehearse.1;
        let lines: Vec<&str> = said.lines().collect();
        let starts = |words: &[&str]| {
            let at =
                lines.iter().position(|line| words.iter().any(|word| line.trim_start().starts_with(word)))?;
            let more = lines[at + 1..]
                .iter()
                .take_while(|line| line.starts_with("    ") || line.starts_with("  after"));
            let all: Vec<&str> = std::iter::once(&lines[at]).chain(more).map(|line| line.trim()).collect();
            Some(all.join(" "))
        };
        let host = || {
            let at = lines.iter().position(|line| line.starts_with("not tried in the copy"))?;
            lines.get(at + 1).map(|line| format!("on this host: {}", line.trim()))
        };
        starts(&["LOST", "CHANGED", "UNKNOWN"])
            .or_else(host)
            .or_else(|| lines.iter().find(|line| line.starts_with("dunnat: ")).map(|line| (*line).to_owned()))
            .unwrap_or_else(|| lines.first().unwrap_or(&"").to_string())
    }

    /// And of path, of the first connection that failed.
    pub(super) fn of_path(&self) -> String {
        let failed = self.tried.iter().filter(|it| !it.works).find_map(|it| self.conversation(it));
        let Some(one) = failed else {
            let warns = self.path.1.lines().find(|line| line.contains("WARN"));
            let warns = warns.map(|line| line.split("WARN ]").last().unwrap_or_default().trim().to_owned());
            let none = "no fault found; not judged: what no trace has".to_owned();
            return warns.map_or(none.clone(), |warns| format!("{none}. {warns}"));
        };
        let of = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let cause = of("cause");
        let causes: Vec<String> = one["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|it| {
                format!(
                    "{} ({})",
                    it["cause"].as_str().unwrap_or_default(),
                    it["on"].as_str().unwrap_or("home node")
                )
            })
            .collect();
        match cause.is_empty() {
            true => format!("{}: {}; fits: {}", of("finding"), of("says"), causes.join(", ")),
            false => format!("{}, {cause}: {}", of("finding"), of("says")),
        }
    }
}

/// Facts that are not so, less those about the kernel.
fn amiss(json: &Value) -> impl Iterator<Item = &Value> {
    json["facts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|fact| fact["state"] != "yes" && fact["section"] != "kernel")
}

/// Whether one of the causes is certain, or nothing is and it is among those that fit.
fn is_named(one: &Value, causes: &[&str], on: Option<&str>) -> bool {
    let is_one = |cause: &Value| cause.as_str().is_some_and(|cause| causes.contains(&cause));
    let is_on = |possible: &&Value| on.is_none_or(|on| possible["on"].is_null() || possible["on"] == on);
    let fits = one["causes"].as_array().into_iter().flatten();
    match &one["cause"] {
        Value::Null => fits.filter(is_on).any(|possible| is_one(&possible["cause"])),
        // A host that is unreachable, or a mark that was not kept, has a reason that is not certain.
        certain => is_one(certain) || fits.filter(is_on).any(|possible| is_one(&possible["cause"])),
    }
}
