//! What nodes say to Prometheus: judged by promtool, and by a Prometheus that scrapes a real cluster.

use serde_json::Value;

use super::cluster::{Lab, curl};
use super::host::Host;
use super::*;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/metrics");

/// A host with a loopback interface: ports on it are nobody else's. What runs there ends with it.
struct Place {
    host: Host,
    running: Vec<Child>,
}

impl Place {
    fn new() -> Self {
        let host = Host::bare();
        host.ip("link set lo up");
        Self { host, running: Vec::new() }
    }

    fn start(&mut self, words: &[&str]) {
        let child = self.host.command_in(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.running.push(child);
    }

    /// The body of an answer; none if nobody answers.
    fn get(&self, url: &str, more: &[&str]) -> Option<String> {
        let curl = [&["curl", "-s", "--max-time", "5"], more, &[url]].concat();
        let output = self.host.command_in(&curl).output().unwrap();
        output.status.success().then(|| text(&output.stdout))
    }

    /// What Prometheus answers to a question: labels and value of each series.
    fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let data = format!("query={query}");
        let answer = self.get("http://127.0.0.1:9090/api/v1/query", &["-G", "--data-urlencode", &data]);
        let Some(answer) = answer else { return Vec::new() };
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        // While it starts it says so, in other words.
        let Some(result) = answer["data"]["result"].as_array() else {
            assert_ne!(answer["errorType"], "bad_data", "{query}: {answer}");
            return Vec::new();
        };
        let value = |it: &Value| (it["metric"].clone(), it["value"][1].as_str().unwrap().parse().unwrap());
        result.iter().map(value).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A process that is stopped, and goes on when this is gone: nothing would end it.
struct Stopped(String);

impl Stopped {
    fn new(process: String) -> Self {
        assert!(Command::new("kill").args(["-STOP", &process]).status().unwrap().success());
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.0]).status();
    }
}

/// All queries of the dashboard, as Grafana would ask them.
fn dashboard() -> Vec<String> {
    let text = std::fs::read_to_string(format!("{FILES}/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().flat_map(|it| it["targets"].as_array().unwrap());
    let queries = targets.map(|it| it["expr"].as_str().unwrap());
    queries.map(|it| it.replace("$node", ".*").replace("$__rate_interval", "20s")).collect()
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn a_prometheus_scrapes_a_cluster_and_the_files_fit_what_it_gets() {
    let lab = Lab::up(&["--nodes", "2"]);
    let started = lab.run_with("--look-group 65534", &["start"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    let [first, second] = ["node1", "node2"].map(|node| lab.socket(node));
    let mut place = Place::new();
    // It needs no right but to look.
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let metrics =
        [dunnat(), "metrics", "--listen", "127.0.0.1:17517", "--socket", &first, "--socket", &second];
    place.start(&[&nobody[..], &metrics].concat());
    curl(&lab);
    let url = "http://127.0.0.1:17517/metrics";
    let told =
        wait_for("metrics", || place.get(url, &[]).filter(|it| it.contains("dunnat_service_packets_total")));

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &told).unwrap();
    let judged = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(File::open(file.path()).unwrap())
        .output()
        .unwrap();
    let said = text(&judged.stdout) + &text(&judged.stderr);
    assert!(judged.status.success() && said.is_empty(), "{said}\n{told}");
    // At rest a node says the same here and there.
    let status = lab.status("node2");
    let number = |line: &str| {
        let line =
            told.lines().find_map(|it| it.strip_prefix(line)).unwrap_or_else(|| panic!("{line}\n{told}"));
        line.trim().parse::<u64>().unwrap()
    };
    assert_eq!(number(r#"dunnat_packets_total{node="node2"}"#), status["packets"].as_u64().unwrap());
    let requests = number(r#"dunnat_service_packets_total{node="node2",service="web"}"#);
    assert!(requests >= 4, "{told}");
    let of_web =
        r#"dunnat_decisions_total{node="node2",stage="dnat",reason="service",family="ip",verdict="accept"}"#;
    assert_eq!(number(of_web), requests);
    let timed = r#"dunnat_decision_duration_seconds_count{node="node1"}"#;
    assert!(number(timed) > 0, "{told}");
    for path in ["/", "/metrics/", "/etc/passwd"] {
        let code =
            place.get(&format!("http://127.0.0.1:17517{path}"), &["-o", "/dev/null", "-w", "%{http_code}"]);
        assert_eq!(code.as_deref(), Some(if path == "/" { "200" } else { "404" }), "{path}");
    }

    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("prometheus.yml");
    let settings = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}}\nrule_files: ['{FILES}/alerts.yml']\n\
         scrape_configs: [{{job_name: dunnat, static_configs: [{{targets: ['127.0.0.1:17517']}}]}}]\n"
    );
    std::fs::write(&config, settings).unwrap();
    let [config, data] = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", directory.path().display()),
    ];
    place.start(&["prometheus", &config, &data, "--web.listen-address=127.0.0.1:9090"]);
    wait_for("both nodes to be scraped", || (place.query("dunnat_up == 1").len() == 2).then_some(()));
    curl(&lab);
    // Two scrapes, between which something happened.
    wait_for("rates", || {
        (!place.query("rate(dunnat_service_packets_total[20s]) > 0").is_empty()).then_some(())
    });
    // What has no numbers in a cluster that is well, and has a capture.
    let may_be_none = |query: &str| {
        query.contains("stand_in") || query.contains("verdict=\"drop\"") || query.contains("wait_duration")
    };
    for query in dashboard() {
        let found = place.query(&query);
        assert!(may_be_none(&query) || !found.is_empty(), "nothing is found by {query}");
    }
    let names = place.get("http://127.0.0.1:9090/api/v1/label/__name__/values", &[]).unwrap();
    for name in [
        "dunnat_start_time_seconds",
        "dunnat_guard_dropped_packets_total",
        "dunnat_wait_duration_seconds_count",
    ] {
        assert!(names.contains(&format!("\"{name}\"")), "{names}");
    }

    // A node that does not answer is seen, and the other one is not kept from it.
    let process = status["process"].to_string();
    let stopped = Stopped::new(process);
    let down = wait_for("a node that does not answer", || {
        let down = place.query("dunnat_up == 0");
        (!down.is_empty()).then_some(down)
    });
    wait_for("the alert", || (!place.query("ALERTS{alertname=\"DunnatNodeDown\"}").is_empty()).then_some(()));
    assert_eq!(place.query("dunnat_up == 1")[0].0["node"], "node1");
    drop(stopped);
    assert_eq!(down[0].0["node"], "node2", "{down:?}");
    lab.must(&["stop"]);
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn alert_rules_do_what_they_say_and_name_what_there_is() {
    must("promtool", &["check", "config", &format!("{FILES}/prometheus.yml")]);
    must("promtool", &["test", "rules", &format!("{FILES}/alerts.test.yml")]);
    // Each of them is tested.
    let [rules, tests] = ["alerts.yml", "alerts.test.yml"]
        .map(|name| std::fs::read_to_string(format!("{FILES}/{name}")).unwrap());
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10);
    for name in names {
        assert!(
            tests.contains(&format!("alertname: {name}\n        exp_alerts")),
            "{name} has no test that raises it"
        );
    }
}
