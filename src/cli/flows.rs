use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use dunnat::flows::{self, Finding, Flow, Follower, Names, SCHEMA, Settings, Unseen, Wanted};
use dunnat::remote::Place;
use dunnat::text::{counted, escaped};
use dunnat::trace::Filter;

use super::many::{On, answers, say_missing};
use super::running::{LookedAt, Seen};
use super::trace::stopping;
use super::{Failure, note, of_data, print};

/// Show the flows that conntrack knows on this host, by the names of the cluster
///
/// Flows of guests, to public addresses of the cluster, and with a tag are shown; --all shows every flow. What is odd about a flow
/// stands behind `!`, and is explained at the end. A FILTER is as that of `trace`, for example: entry node2 and service web. Its words
/// here: node, entry, service, host, net, port (each also with src or dst before it), proto, tcp, udp, icmp, icmpv6, ct mark,
/// community-id, rewritten; and, or, not, parentheses. Needs root. No node has to run if --config and --node are given.
#[derive(Args)]
pub(super) struct Flows {
    #[command(flatten)]
    of: LookedAt,
    #[command(flatten)]
    on: On,
    /// Which flows to show
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Show flows as they begin, change and end, until Ctrl-C
    #[arg(long, short, conflicts_with = "on")]
    follow: bool,
    /// Also show flows that have nothing to do with the cluster
    #[arg(long)]
    all: bool,
    /// Print JSON: one line for each flow
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of an output line, with a description of each field
    #[arg(long, conflicts_with_all = ["on", "config", "node", "socket", "filter", "follow", "all", "json"])]
    schema: bool,
}

impl Flows {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.schema {
            return print(SCHEMA);
        }
        // The filter is judged before anything is asked.
        let typed = (!self.filter.is_empty()).then(|| self.filter.join(" "));
        if let Some(text) = &typed {
            Wanted::new(text.parse::<Filter>()?)?;
        }
        if let Some(places) = self.on.places() {
            return self.of_many(places, typed);
        }
        let seen = self.of.find()?;
        let wanted = match &typed {
            Some(text) => Some(Wanted::new(Filter::parse_for(text, &seen.cluster)?)?),
            None => None,
        };
        let names = Names::new(Arc::clone(&seen.cluster), Some(seen.node));
        let settings = Settings::read();
        let mut shown = Shown { json: self.json, all: self.all, wanted, found: Vec::new(), count: 0 };
        if self.follow {
            if settings.events == Some(0) {
                return Err(Failure::Refused(
                    "conntrack tells nobody what happens to flows: switch it on with: sysctl -w \
                     net.netfilter.nf_conntrack_events=2. It counts for flows that begin after that"
                        .to_owned(),
                ));
            }
            shown.follow(&names, settings)?;
            return elsewhere(&seen);
        }
        let mut written = Ok(());
        flows::list(&names, |flow| {
            written = shown.show(&flow);
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if written.is_err() {
            return of_data(written);
        }
        shown.explain(settings)?;
        elsewhere(&seen)
    }
}

impl Flows {
    /// Of nodes elsewhere, one after the other; each line with its place, in JSON as it is.
    fn of_many(&self, places: &[Place], filter: Option<String>) -> Result<(), Failure> {
        let asked = [("--json", self.json), ("--all", self.all)];
        let mut words: Vec<String> =
            asked.iter().filter(|(_, is_asked)| *is_asked).map(|(word, _)| (*word).to_owned()).collect();
        words.extend(filter.into_iter().flat_map(|filter| ["--".to_owned(), filter]));
        let answers = answers(places, "flows", &words)?;
        for (place, answered) in &answers {
            let Ok(said) = answered else { continue };
            for line in String::from_utf8_lossy(said).lines() {
                if !self.json {
                    print(&format!("{place}: {}\n", escaped(line)))?;
                } else if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_ok() {
                    print(&format!("{line}\n"))?;
                } else {
                    note(format_args!("{place} says what is no flow: {}", escaped(line)))?;
                }
            }
        }
        match say_missing(&answers)? {
            0 => Ok(()),
            missing => Err(Failure::Refused(format!("{} missing", counted(missing as u64, "place")))),
        }
    }
}

/// What is shown, and what is to be explained of it.
struct Shown {
    json: bool,
    all: bool,
    wanted: Option<Wanted>,
    found: Vec<Finding>,
    count: u64,
}

impl Shown {
    fn show(&mut self, flow: &Flow) -> io::Result<()> {
        let is_ours = flow.way != flows::Way::Other || !flow.tag.is_zero();
        if !(self.all || is_ours) || self.wanted.as_ref().is_some_and(|wanted| !wanted.takes(flow)) {
            return Ok(());
        }
        self.count += 1;
        if let Some(finding) = flow.finding
            && !self.found.contains(&finding)
        {
            self.found.push(finding);
        }
        let mut line = if self.json { serde_json::to_string(flow)? } else { flows::line(flow) };
        line.push('\n');
        io::stdout().lock().write_all(line.as_bytes())
    }

    fn follow(&mut self, names: &Names, settings: Settings) -> Result<(), Failure> {
        let stopping = stopping().map_err(Failure::Signals)?;
        let mut follower = Follower::new(Duration::from_millis(500))?;
        if settings.events == Some(2) {
            note("note: flows that began before this are not told of (nf_conntrack_events is 2)")?;
        }
        while !stopping.load(Ordering::Relaxed) {
            let Some(told) = follower.next(names)? else {
                dunnat::messages::message!(
                    FLOW_EVENTS_MISSED,
                    "some events were missed: they came faster than this program read them"
                );
                continue;
            };
            for flow in &told {
                let written = self.show(flow);
                if written.is_err() {
                    return of_data(written);
                }
            }
        }
        self.explain(settings)
    }

    /// What the findings mean, and what was not told.
    fn explain(&self, settings: Settings) -> Result<(), Failure> {
        for finding in &self.found {
            note(format_args!("! {}: {}", finding.name(), finding.meaning()))?;
        }
        for (what, command) in settings.missing().filter(|_| self.count > 0) {
            note(format_args!("note: {what}; for flows that begin from now on: {command}"))?;
        }
        Ok(())
    }
}

/// Where flows are that this node does not track.
fn elsewhere(Seen { cluster, node, status }: &Seen) -> Result<(), Failure> {
    let by_file = || cluster.living_elsewhere(*node);
    let told = status.as_ref().and_then(|status| status.elsewhere.clone());
    let guests: Vec<_> = match (told, status) {
        (Some(guests), _) => guests,
        (None, None) if cluster.passes_foreign(*node) => by_file().into_iter().collect(),
        (None, _) => return Ok(()),
    };
    if guests.is_empty() {
        return Ok(());
    }
    let places: Vec<String> = guests
        .iter()
        .map(|guest| match cluster.home_of(*guest) {
            Some(home) => format!("{guest} on {}", cluster.node(home).name),
            None => guest.to_string(),
        })
        .collect();
    let requests: Option<u64> = status.as_ref().map(|status| {
        let translated = |it: &&dunnat::control::Decided| it.stage == "dnat" && it.reason == "service";
        status.decisions.iter().filter(translated).map(|it| it.packets).sum()
    });
    let seen = requests.map_or(String::new(), |requests| {
        format!(
            " Of {} for services that were translated here, those to these guests are not in this list; to see them: dunnat trace \
             stage dnat.",
            counted(requests, "packet")
        )
    });
    note(format_args!(
        "note: flows to guests that live elsewhere are not tracked here, but on the guest's own node ({}).{seen}",
        places.join(", ")
    ))
}

impl From<Unseen> for Failure {
    fn from(unseen: Unseen) -> Self {
        Self::Refused(unseen.to_string())
    }
}

impl From<flows::NotOfFlows> for Failure {
    fn from(word: flows::NotOfFlows) -> Self {
        Self::Usage(word.to_string())
    }
}
