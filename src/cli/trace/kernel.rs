//! `dunnat trace --kernel`: the rules that packets meet, between the decisions about them.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use dunnat::control::{self, Answer, Client, ConnectError, End, Request, Stopper};
use dunnat::doctor;
use dunnat::nftrace::{Counts, Happened, KernelTrace, Options, Timeline, Untraced};
use dunnat::text::counted;
use dunnat::trace::{Event, Filter, Follower as _, Format, Name, Output, RuleEvent, RuleVerdict};
use jiff::Timestamp;

use super::super::Failure;
use super::{Trace, stopping};

/// How often the kernel is asked what it has to tell.
const TURN: Duration = Duration::from_millis(1);
/// How long a node may take to say that it will tell.
const FIRST_WORDS: Duration = Duration::from_secs(5);
/// And to say that it has told all.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct Kernel {
    /// Also show each nft rule that the packets match, of any program, with its verdict; needs root and a FILTER
    /// with addresses or ports
    #[arg(long, conflicts_with_all = ["read", "on", "sample", "flows", "count", "bytes"])]
    kernel: bool,
    /// With --kernel: allow a FILTER without addresses or ports, or none
    #[arg(long, requires = "kernel")]
    all: bool,
    /// With --kernel or --packets: stop after this time [default: 60]
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: Option<u32>,
    /// With --kernel: show the rules of at most N packets per second
    #[arg(long, value_name = "N", requires = "kernel", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
}

impl Kernel {
    pub(super) fn is_asked_for(&self) -> bool {
        self.kernel
    }

    /// Whether a time was given.
    pub(super) fn has_time(&self) -> bool {
        self.seconds.is_some()
    }

    /// After which time it is to stop.
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(60).into())
    }

    /// What is to be traced.
    ///
    /// # Errors
    /// It would be too much.
    pub(super) fn options(&self, filter: Option<Filter>, format: Format) -> Result<Options, Failure> {
        if matches!(format, Format::Pcapng | Format::Otlp) {
            return Err(Failure::Usage(
                "a capture or a span has no rules: with --kernel the format is text or json".to_owned(),
            ));
        }
        let options = Options { filter, all: self.all, rate: self.rate, time: self.time() };
        options.check()?;
        doctor::may_administer()?;
        Ok(options)
    }
}

/// The decisions of a node, as they come.
struct Decisions {
    path: PathBuf,
    answers: Receiver<std::io::Result<Option<Answer<Event>>>>,
    stopper: Stopper,
    /// The name of the node, once it has said so.
    node: Option<Name>,
    /// How many the node has lost, once it has said so; or it is gone.
    lost: Option<u64>,
}

impl Decisions {
    fn of(path: PathBuf, request: &Request) -> Result<Self, ConnectError> {
        let mut client = Client::ask(&path, request)?;
        let stopper =
            client.stopper().map_err(|source| ConnectError::Failed { path: path.clone(), source })?;
        let (send, answers) = crossbeam_channel::bounded(1024);
        std::thread::spawn(move || {
            loop {
                let answer = client.answer();
                let is_last = !matches!(
                    answer,
                    Ok(Some(Answer::Hello(_) | Answer::Resumed(_) | Answer::Event(_) | Answer::Carried(_)))
                );
                if send.send(answer).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Self { path, answers, stopper, node: None, lost: None })
    }

    /// Waits until the node has said that it tells from now on, or that it does not.
    fn begin(&mut self) -> Result<(), Failure> {
        let first = self.answers.recv_timeout(FIRST_WORDS).unwrap_or(Ok(None));
        self.take(first).map(|_| ())
    }

    /// What has come until now.
    fn come(&mut self) -> Result<Vec<Event>, Failure> {
        let mut events = Vec::new();
        while let Ok(answer) = self.answers.try_recv() {
            events.extend(self.take(answer)?);
        }
        Ok(events)
    }

    /// All that still comes when no more is asked for.
    fn last(&mut self) -> Result<Vec<Event>, Failure> {
        self.stopper.stop();
        let deadline = Instant::now() + LAST_WORDS;
        let mut events = Vec::new();
        while self.lost.is_none() {
            match self.answers.recv_deadline(deadline) {
                Ok(answer) => events.extend(self.take(answer)?),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(events)
    }

    fn take(&mut self, answer: std::io::Result<Option<Answer<Event>>>) -> Result<Option<Event>, Failure> {
        let path = || self.path.clone();
        match answer.map_err(|source| Failure::Connection { path: path(), source })? {
            Some(Answer::Event(event)) => return Ok(Some(event)),
            Some(Answer::Hello(hello)) => self.node = Some(hello.node.into()),
            Some(Answer::End(End { lost, .. })) => self.lost = Some(lost),
            Some(Answer::Error(error)) => return Err(Failure::Refused(error)),
            Some(_) => {}
            None if self.lost.is_none() => {
                dunnat::messages::message!(
                    NODE_HUNG_UP_RULES_GO_ON,
                    "{} closed the connection: from here on only rules are shown",
                    self.path.display()
                );
                self.lost = Some(0);
            }
            None => {}
        }
        Ok(None)
    }
}

impl Trace {
    pub(super) fn of_kernel(
        &self,
        filter: Option<String>,
        options: &Options,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let stopping = stopping().map_err(Failure::Signals)?;
        let mut decisions = self.decisions(filter)?;
        let node = decisions.as_ref().and_then(|it| it.node.clone());
        let mut trace = KernelTrace::begin(options)?;
        let failed = |source| Failure::Output { to: String::new(), source };
        output.commit().map_err(failed)?;
        let (seconds, rate) = (options.time.as_secs(), options.rate);
        log::info!("tracing for {seconds} s, at most {rate} packets per second; Ctrl-C ends it");
        let shows_all = self.verbose || self.format() != Format::Text;
        let (mut timeline, mut shown) = (Timeline::default(), 0);
        let mut show = |happened: Vec<Happened>, output: &mut Output| {
            for one in happened {
                match one {
                    Happened::Decision(event) => output.event(&event)?,
                    // A chain that lets everything pass has nothing to say.
                    Happened::Rule(rule)
                        if !shows_all && rule.handle.is_none() && rule.verdict == RuleVerdict::Accept =>
                    {
                        continue;
                    }
                    Happened::Rule(rule) => output.rule(&rule)?,
                }
                shown += 1;
            }
            output.idle()
        };
        let deadline = Instant::now() + options.time;
        while !stopping.load(Ordering::Relaxed) && Instant::now() < deadline {
            // What is told of a packet before it waits in a queue is there before its decision is.
            let decided = decisions.as_mut().map_or_else(|| Ok(Vec::new()), Decisions::come)?;
            turn(&mut trace, (node.as_ref(), decided), &mut timeline)?;
            show(timeline.due(Timestamp::now()), output).map_err(failed)?;
            std::thread::sleep(TURN);
        }
        let decided = decisions.as_mut().map_or_else(|| Ok(Vec::new()), Decisions::last)?;
        turn(&mut trace, (node.as_ref(), decided), &mut timeline)?;
        show(timeline.rest(), output).map_err(failed)?;
        let counts = trace.end()?;
        output.end(0).map_err(failed)?;
        let why = if stopping.load(Ordering::Relaxed) {
            "by a signal".to_owned()
        } else {
            format!("after {seconds} s (--for)")
        };
        log::info!("ended {why}; {} shown", counted(shown, "line"));
        say(counts, rate, decisions.and_then(|it| it.lost).unwrap_or(0));
        Ok(())
    }

    /// Those of the node that runs here, if one does.
    fn decisions(&self, filter: Option<String>) -> Result<Option<Decisions>, Failure> {
        let request = Request::Trace(control::Trace {
            filter,
            bytes: self.bytes || self.format().needs_bytes(),
            ..control::Trace::default()
        });
        let named = self.of.named();
        let is_named = named.is_some();
        let path = match named {
            Some(path) => path,
            None if control::sockets()?.is_empty() => {
                log::info!("no node runs here: only rules are shown");
                return Ok(None);
            }
            None => control::only_node()?,
        };
        match Decisions::of(path, &request) {
            Ok(mut decisions) => decisions.begin().map(|()| Some(decisions)),
            Err(ConnectError::Stale(path)) if !is_named => {
                log::info!("nobody listens on {}: only rules are shown", path.display());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes what has come: rules, then the decisions that came before these were asked for.
fn turn(
    trace: &mut KernelTrace,
    (node, decided): (Option<&Name>, Vec<Event>),
    timeline: &mut Timeline,
) -> Result<(), Failure> {
    let rules = trace.told().map_err(Untraced::Kernel)?;
    rules.into_iter().for_each(|rule| timeline.rule(RuleEvent { node: node.cloned(), ..rule }));
    decided.into_iter().for_each(|event| timeline.decision(event));
    Ok(())
}

/// Says what is missing.
fn say(counts: Counts, rate: u32, lost_decisions: u64) {
    let Counts { chosen, traced, lost } = counts;
    if traced < chosen {
        let all = counted(chosen, "packet");
        dunnat::messages::message!(
            RATE_LIMITED,
            "{all} matched, and the rules of {traced} are shown: at most {rate} per second (--rate)"
        );
    }
    if lost > 0 {
        dunnat::messages::message!(
            RULES_MISSED,
            "rules are missing: the kernel had more to tell than this program read ({})",
            counted(lost, "time")
        );
    }
    if lost_decisions > 0 {
        dunnat::messages::message!(
            DECISIONS_LOST,
            "{} lost: they came faster than this program read them",
            counted(lost_decisions, "decision")
        );
    }
    if chosen == 0 {
        log::info!(
            "no packet matched. The filter is compared with the addresses that a packet has when it arrives"
        );
    }
}
