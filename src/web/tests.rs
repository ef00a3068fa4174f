use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::http::{self, Limits};
use crate::trace::samples;

fn serve(token: Option<&str>, is_live: bool) -> (SocketAddr, Arc<Hub>) {
    let hub = Arc::new(Hub::new(100, 1000));
    let door = Door::new(Vec::new(), token.map(str::to_owned));
    let site = Site::new(Arc::clone(&hub), door, is_live);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || http::serve(&listener, Limits::default(), move |request| site.answer(request)));
    (at, hub)
}

fn filled() -> (SocketAddr, Arc<Hub>) {
    let (at, hub) = serve(None, false);
    hub.learn(samples::cluster());
    // One foreign connection, whole.
    for mut event in samples::events().into_iter().take(4) {
        if let Some(tcp) = event.tcp.as_mut().filter(|tcp| tcp.ack > 0) {
            // It acknowledges the SYN of this connection.
            tcp.ack = 1001;
        }
        hub.add(event);
    }
    (at, hub)
}

fn asked(at: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn json(at: SocketAddr, path: &str) -> Value {
    let (head, body) = asked(at, path);
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}\n{body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn the_page_is_there_and_nothing_of_it_comes_from_elsewhere() {
    let (at, _) = filled();
    for path in ["/", "/icon.svg", "/style.css", "/picture.js", "/player.js", "/details.js", "/page.js"] {
        let (head, body) = asked(at, path);
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        assert!(head.contains("Content-Security-Policy: default-src 'none'; script-src 'self';"), "{head}");
        let names = body.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !names.contains("//cdn") && !names.contains("http://") && !names.contains("https://"),
            "{path}"
        );
        // Names that a stranger has chosen are text, and nothing else.
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
            assert!(!body.contains(way), "{path} has {way}");
        }
        if path == "/" {
            assert!(
                !body.contains("<style") && !body.contains(" style=") && !body.contains(" onclick"),
                "{body}"
            );
        }
    }
    let (head, _) = asked(at, "/../Cargo.toml");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
}

#[test]
fn a_decision_its_reason_and_its_flow_are_told() {
    let (at, hub) = filled();
    let past = json(at, "/past?after=0&count=3");
    let events = past["events"].as_array().unwrap();
    assert_eq!(events.len(), 3);
    assert_eq!((&events[0]["id"], &past["last"]), (&Value::from(1), &Value::from(hub.count())));
    assert_eq!(events[0]["flow"], "tcp 192.168.122.1:40000 > 10.5.5.201:80");
    let spoof = json(at, "/past?filter=stage+spoof+and+not+icmp");
    let all = spoof["events"].as_array().unwrap();
    assert!(!all.is_empty() && all.iter().all(|it| it["event"]["stage"] == "spoof"), "{spoof}");
    let before = json(at, "/past?before=3");
    assert_eq!(before["events"].as_array().unwrap().len(), 2);
    let why = json(at, "/why?id=1");
    assert!(why["text"].as_str().unwrap().contains("service"), "{why}");
    let flow = json(at, "/flow?id=1");
    assert_eq!(flow["conversations"][0]["finding"], "foreign", "{flow}");
    let (head, svg) = asked(at, "/ladder.svg?id=1");
    assert!(head.contains("Content-Type: image/svg+xml") && svg.starts_with("<svg"), "{head}\n{svg}");
    let cluster = json(at, "/cluster");
    assert_eq!(cluster["cluster"]["nodes"][1]["public"][0], "192.168.122.12");
    assert_eq!(cluster["cluster"]["guests"][0]["address"], "10.5.5.201");
    assert!(json(at, "/filter?filter=stage+nowhere")["error"].as_str().unwrap().contains("nowhere"));
    assert_eq!(json(at, "/filter?filter=tcp"), serde_json::json!({}));
    for (path, status) in [
        ("/why?id=100000", "404"),
        ("/why", "404"),
        ("/past?before=1&after=2", "400"),
        ("/past?filter=stage+nowhere", "400"),
        ("/events", "404"),
    ] {
        let (head, _) = asked(at, path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    }
}

#[test]
fn decisions_are_told_as_they_are_made_and_only_to_who_has_the_token() {
    let (at, hub) = serve(Some("secret"), true);
    assert!(asked(at, "/events").0.starts_with("HTTP/1.1 403 "));
    assert!(asked(at, "/past?token=secre").0.starts_with("HTTP/1.1 403 "));
    assert!(asked(at, "/").0.starts_with("HTTP/1.1 200 "));
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!("GET /events?filter=stage+spoof&token=secret HTTP/1.1\r\nHost: {at}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut said, mut piece) = (String::new(), [0; 4096]);
    let mut until = |wanted: &str| {
        while !said.contains(wanted) {
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "{said}");
            said += std::str::from_utf8(&piece[..read]).unwrap();
        }
        said.clone()
    };
    until("event: counts");
    samples::events().into_iter().for_each(|event| hub.add(event));
    let said = until("\"stage\":\"spoof\"");
    assert!(
        said.contains("event: decision\ndata: {\"id\":") && !said.contains("\"stage\":\"dnat\""),
        "{said}"
    );
}
