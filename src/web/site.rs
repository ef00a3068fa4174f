//! What the page asks for, and gets.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use serde::Serialize;
use serde_json::{Value, json};

use super::door::Door;
use super::hub::{Hub, MOST, View};
use super::kept::Kept;
use crate::cluster::Cluster;
use crate::conversations::{self, svg};
use crate::explain::{self, StoryText};
use crate::http::{Answer, Request, Sender, Status, parameter};
use crate::policy::of_cluster;
use crate::trace::{Event, Filter};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const ICON: &str = include_str!("icon.svg");
const SCRIPTS: [(&str, &str); 4] = [
    ("/picture.js", include_str!("picture.js")),
    ("/player.js", include_str!("player.js")),
    ("/details.js", include_str!("details.js")),
    ("/page.js", include_str!("page.js")),
];

/// Nothing but what comes from here: no script in the page, no form, no frame, no other host.
const HEADERS: [(&str, &str); 5] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
];
/// A picture has its style in itself, and no script.
const OF_PICTURES: [(&str, &str); 4] = [
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
];

/// So many decisions are given at once.
const AT_ONCE: usize = 500;
/// So many of the last ones does one get who begins to look on.
const AT_FIRST: usize = 200;
/// How often the counts are told; who is gone is found by that, too.
const TELL: Duration = Duration::from_secs(1);
/// A conversation with itself, in many pieces, is shown as far as this.
const CONVERSATIONS: usize = 20;

/// Answers the page.
#[derive(Debug)]
pub struct Site {
    hub: Arc<Hub>,
    door: Door,
    /// Nodes that run, not saved traces.
    is_live: bool,
}

impl Site {
    /// Of these decisions, for whom the door lets in. `is_live`: more come.
    pub fn new(hub: Arc<Hub>, door: Door, is_live: bool) -> Self {
        Self { hub, door, is_live }
    }

    /// The answer to a request.
    pub fn answer(&self, request: &Request) -> Answer {
        let page = match &*request.path {
            "/" => Some(("text/html", PAGE)),
            "/icon.svg" => Some(("image/svg+xml", ICON)),
            "/style.css" => Some(("text/css", STYLE)),
            path => {
                SCRIPTS.iter().find(|(name, _)| *name == path).map(|(_, text)| ("text/javascript", *text))
            }
        };
        let answer = match page {
            Some((kind, text)) => self.door.lets_in(request).map(|()| Answer::new(Status::Ok, kind, text)),
            None => self.door.lets_see(request).and_then(|()| self.data(request)),
        };
        let of_pictures = request.path == "/ladder.svg";
        answer.unwrap_or_else(Answer::refusal).with_headers(if of_pictures { &OF_PICTURES } else { &HEADERS })
    }

    fn data(&self, request: &Request) -> Result<Answer, Status> {
        let text = |name: &str| parameter(&request.query, name);
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let kept = || number("id").and_then(|id| self.hub.find(id)).ok_or(Status::NotFound);
        let filter = || match text("filter") {
            Some(text) if !text.trim().is_empty() => text.parse::<Filter>().map(Some),
            _ => Ok(None),
        };
        let checked = || filter().map_err(|_| Status::BadRequest);
        match &*request.path {
            "/cluster" => json_of(&self.cluster()),
            "/filter" => json_of(&match filter() {
                Ok(_) => json!({}),
                Err(error) => json!({ "error": error.to_string() }),
            }),
            "/events" if self.is_live => {
                let view = self.hub.view(checked()?, AT_FIRST);
                let hub = Arc::clone(&self.hub);
                Ok(Answer::stream("text/event-stream", move |sender| going_on(&hub, &view, sender)))
            }
            "/past" => {
                let filter = checked()?;
                let count = number("count").map_or(AT_ONCE, |count| AT_ONCE.min(count as usize));
                let (found, looked) = match (number("before"), number("after")) {
                    (Some(before), None) => (self.hub.before(before, count, filter.as_ref()), 0),
                    (None, after) => self.hub.after(after.unwrap_or(0), count, filter.as_ref()),
                    (Some(_), Some(_)) => return Err(Status::BadRequest),
                };
                let lines: Vec<String> = found.iter().map(|kept| kept.json()).collect();
                let last = self.hub.count();
                let text =
                    format!("{{\"looked\":{looked},\"last\":{last},\"events\":[{}]}}", lines.join(","));
                Ok(Answer::new(Status::Ok, "application/json", text))
            }
            "/why" => json_of(&json!({ "text": self.why(&kept()?.event) })),
            "/flow" => self.flow(&*kept()?),
            "/ladder.svg" => {
                let kept = kept()?;
                let (found, _) = self.hub.conversations(kept.flow.ok_or(Status::NotFound)?);
                let place = number("conversation").and_then(|place| usize::try_from(place).ok()).unwrap_or(0);
                let conversation = found.get(place).ok_or(Status::NotFound)?;
                Ok(Answer::new(Status::Ok, "image/svg+xml", svg(conversation)))
            }
            _ => Err(Status::NotFound),
        }
    }

    /// Who is in the picture, by the cluster file.
    fn cluster(&self) -> Value {
        let clusters = self.hub.clusters();
        let cluster = clusters.last().map(|cluster| places(cluster));
        let nodes: Vec<Value> =
            self.hub.nodes().into_iter().map(|(socket, node)| of_socket(&socket, node)).collect();
        json!({ "live": self.is_live, "most": MOST, "count": self.hub.count(), "cluster": cluster, "sockets": nodes })
    }

    /// Why it was decided so, and why not otherwise.
    fn why(&self, event: &Event) -> String {
        let clusters = self.hub.clusters();
        let digest = event.config.as_deref();
        // A trace of an older program does not tell which file it was.
        let its_own = |cluster: &&Arc<Cluster>| digest.is_none_or(|digest| cluster.digest() == digest);
        let Some(cluster) = clusters.iter().rev().find(its_own) else {
            return match digest {
                Some(digest) => format!(
                    "To explain it takes the cluster file that this was decided by. Its sha256 begins with {digest}. Give it with \
                     --config FILE."
                ),
                None => "To explain it takes the cluster file. Give it with --config FILE.".to_owned(),
            };
        };
        match explain::of_event(cluster, event, &of_cluster) {
            Ok(story) => StoryText::new(false, false).story(&story),
            Err(why) => format!("This decision cannot be made again: {why}"),
        }
    }

    fn flow(&self, kept: &Kept) -> Result<Answer, Status> {
        let (found, decisions) = self.hub.conversations(kept.flow.ok_or(Status::NotFound)?);
        let mut said = Vec::new();
        for conversation in found.iter().take(CONVERSATIONS) {
            let line = conversations::json(conversation).unwrap_or_default();
            let ladder = conversations::Text::new(false).ladder(conversation);
            let Ok(mut value) = serde_json::from_str::<Value>(&line) else { continue };
            value["text"] = Value::from(ladder);
            value["words"] = Value::from(conversation.judgement.finding.words());
            value["fault"] = Value::from(conversation.judgement.is_fault());
            said.push(value);
        }
        let ids: Vec<u64> = decisions.iter().map(|kept| kept.id).rev().take(AT_ONCE).collect();
        json_of(
            &json!({ "flow": kept.flow.map(|flow| flow.to_string()), "conversations": said, "decisions": ids }),
        )
    }
}

fn of_socket(socket: &str, node: Result<String, String>) -> Value {
    match node {
        Ok(name) => json!({ "socket": socket, "node": name }),
        Err(why) => json!({ "socket": socket, "why": why }),
    }
}

fn json_of(value: &impl Serialize) -> Result<Answer, Status> {
    let text = serde_json::to_string(value).map_err(|_| Status::NotFound)?;
    Ok(Answer::new(Status::Ok, "application/json", text))
}

/// Nodes and guests of a cluster file.
fn places(cluster: &Cluster) -> Value {
    let both =
        |addresses: &crate::net::ByFamily<IpAddr>| -> Vec<IpAddr> { addresses.iter().copied().collect() };
    let nodes: Vec<Value> = cluster
        .nodes()
        .iter()
        .map(|node| json!({ "name": node.name, "public": both(&node.public), "tag": node.tag }))
        .collect();
    let mut guests: BTreeMap<IpAddr, (Option<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for service in cluster.services() {
        for guest in both(&service.guest) {
            let known = guests.entry(guest).or_default();
            known.0 = known.0.or(service.home.map(|home| &*cluster.node(home).name));
            known.1.insert(&service.name);
        }
    }
    let guests: Vec<Value> = guests
        .into_iter()
        .map(|(address, (home, services))| json!({ "address": address, "home": home, "services": services }))
        .collect();
    json!({
        "nodes": nodes,
        "guests": guests,
        "public": cluster.public().to_string(),
        "bridge": cluster.guests().bridge.to_string(),
        "summary": cluster.summary(),
    })
}

/// Decisions as server-sent events, until who looks on is gone.
fn going_on(hub: &Hub, view: &View, sender: &mut Sender<'_>) -> io::Result<()> {
    let mut piece = String::from("retry: 1000\n\n");
    for kept in &view.before {
        piece += &message(kept);
    }
    sender.send(piece.as_bytes())?;
    let mut due = Instant::now();
    loop {
        if due <= Instant::now() {
            sender.send(counts(hub, view).as_bytes())?;
            due = Instant::now() + TELL;
        }
        match view.waiting.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(kept) => {
                let mut piece = message(&kept);
                // What waits beside it goes with it.
                view.waiting.try_iter().take(64).for_each(|kept| piece += &message(&kept));
                sender.send(piece.as_bytes())?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Decisions come no more, and there is nothing to be told.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// JSON has no newline in it, which would end a field.
fn message(kept: &Kept) -> String {
    format!("event: decision\ndata: {}\n\n", kept.json())
}

fn counts(hub: &Hub, view: &View) -> String {
    let nodes: Vec<Value> = hub.nodes().into_iter().map(|(socket, node)| of_socket(&socket, node)).collect();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let told = json!({
        "count": hub.count(),
        "matched": count(&view.counts.matched),
        "sampled_out": count(&view.counts.sampled_out),
        "lost": count(&view.counts.lost),
        "of": count(&view.counts.of),
        "missed": hub.missed(),
        "clusters": hub.clusters().last().map(|cluster| cluster.digest().to_owned()),
        "sockets": nodes,
    });
    format!("event: counts\ndata: {told}\n\n")
}
