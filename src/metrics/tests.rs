use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::http::{self, Limits, Read, read, serve};

fn status() -> Status {
    let json = r#"{"v":1,"node":"node1","dunnat":"0.2.0","process":7,"since":"2026-11-26T17:00:00Z","serving":"serving node1",
        "config":"abc","packets":12,"decisions":[{"stage":"dnat","reason":"service","packets":12}],
        "kinds":[{"stage":"dnat","reason":"service","family":"ip6","verdict":"accept","packets":11},
                 {"stage":"dnat","reason":"ip-header","verdict":"drop","packets":1}],
        "services":[{"service":"web","packets":11}],
        "times":{"deciding":{"count":3,"sum_ns":1500,"buckets":[1,0,2]},"waiting":{"count":0,"sum_ns":0,"buckets":[]}},
        "dropped":1,"lost":{"queue_full":5,"socket_full":0},
        "queues":[{"number":100,"waiting":2,"lost":{"queue_full":5,"socket_full":0},
                   "ledger":{"numbered":12,"answered":9,"repeated":0,"difference":-1}}],
        "guard":[{"counter":"untranslated","packets":4}],"elsewhere":["10.5.5.202"],
        "rehearsal":{"flows":8,"stopped":["one"]},"traces":1,"restarts":2,"repairs":3,"traces_lost":9,
        "amiss":["something"]}"#;
    serde_json::from_str(json).unwrap()
}

fn node(name: &str, status: Option<Status>) -> Scraped {
    Scraped { node: name.to_owned(), status: status.map(Box::new) }
}

/// As it was accepted; `promtool` judges what a real node says (`tests/lab/metrics.rs`).
#[test]
fn what_a_node_says_is_there_with_its_labels() {
    let text = text(vec![node("node1", Some(status())), node("node2", None)]);
    let lines = text.lines().filter(|line| !line.starts_with("# ") && !line.contains("_wait_"));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    for reason in crate::engine::Reason::ALL {
        let about = format!("{}: {}", reason.name(), reason.row().unwrap().about);
        assert!(text.contains(&about), "the help of the decisions does not say: {about}");
    }
}

#[test]
fn requests_are_answered_or_refused() {
    let answered = |text: &str| match read(text.as_bytes()) {
        Read::Whole(request) => {
            let answer = super::answer(&request, || "metric 1\n".to_owned());
            (answer.status(), String::from_utf8(answer.body().unwrap().to_vec()).unwrap())
        }
        other => panic!("{text}: {other:?}"),
    };
    let metrics = (http::Status::Ok, "metric 1\n".to_owned());
    assert_eq!(answered("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"), metrics);
    assert_eq!(answered("HEAD /metrics?x=1 HTTP/1.0\r\n\r\n"), metrics);
    assert_eq!(answered("GET / HTTP/1.1\r\n\r\n").0, http::Status::Ok);
    assert_eq!(answered("GET /../etc/passwd HTTP/1.1\r\n\r\n").0, http::Status::NotFound);
}

fn server(connections: usize, time: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let limits = Limits { connections, request: 512, time };
    thread::spawn(move || {
        serve(&listener, limits, |request| super::answer(request, || "metric 1\n".to_owned()))
    });
    at
}

fn answer(at: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(request).unwrap();
    let mut all = Vec::new();
    // What was refused before it was read comes with a reset.
    let _ = stream.read_to_end(&mut all);
    String::from_utf8(all).unwrap()
}

#[test]
fn who_is_slow_or_long_is_let_go_and_has_given_back_its_place_when_it_has_its_answer() {
    let at = server(1, Duration::from_millis(400));
    let whole = answer(at, b"GET /metrics HTTP/1.1\r\n\r\n");
    assert!(
        whole.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{whole}"
    );
    assert!(whole.ends_with("\r\n\r\nmetric 1\n") && whole.contains("Content-Length: 9\r\n"), "{whole}");
    let head = answer(at, b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.contains("Content-Length: 9\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let long = answer(at, format!("GET /metrics HTTP/1.1\r\na: {}", "b".repeat(600)).as_bytes());
    assert!(long.starts_with("HTTP/1.1 431 "), "{long}");
    let began = Instant::now();
    let slow = answer(at, b"GET /metrics HTTP/1.1\r\n");
    assert!(slow.starts_with("HTTP/1.1 408 ") && began.elapsed() < Duration::from_secs(5), "{slow}");
    let next = answer(at, b"GET / HTTP/1.1\r\n\r\n");
    assert!(next.starts_with("HTTP/1.1 200 "), "{next}");
}

/// Two say nothing; the third is told to come again, and later gets in.
#[test]
fn one_too_many_is_told_to_come_again() {
    // Longer than any machine takes to come to the third.
    let at = server(2, Duration::from_secs(60));
    let held: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(at).unwrap()).collect();
    let busy = answer(at, b"");
    assert!(busy.starts_with("HTTP/1.1 503 "), "{busy}");
    drop(held);
    // That they are gone is seen some time after.
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let later = answer(at, b"GET / HTTP/1.1\r\n\r\n");
        if later.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(later.starts_with("HTTP/1.1 503 ") && Instant::now() < until, "{later}");
    }
}

/// The manual has each metric, with its labels.
#[test]
fn every_metric_is_in_the_manual() {
    let page = crate::manual::Page::named("prometheus").unwrap();
    let rows = crate::manual::rows(page.text, "metric");
    let written: std::collections::BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(written.len(), rows.len());
    let mut known: std::collections::BTreeSet<String> = families::names().collect();
    known.extend(
        ["dunnat_up", "dunnat_decision_duration_seconds", "dunnat_wait_duration_seconds"].map(str::to_owned),
    );
    assert_eq!(written, known);
}
