mod elsewhere;
mod kernel;
mod reader;

use std::io::{self, IsTerminal as _};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use clap::{Args, ValueEnum};
use dunnat::control::{self, Answer, Client, End, Request, Stopper};
use dunnat::text::counted;
use dunnat::trace::{
    Filter, Flows, Follower as _, Format, Output, RULE_SCHEMA, Replacement, Rotation, SCHEMA, Sample,
    Selection, Text,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::events::{Events, Line};
use super::many::On;
use super::running::RunningArgs;
use super::{Failure, coloured, named, print, warn_of_reasons};
use kernel::Kernel;
use reader::is_left;

/// Show the decisions of a running node live, or those of a saved trace
///
/// A FILTER selects decisions, for example: stage spoof and host 192.168.122.1 and not reason unmarked. Its
/// words: stage, node, entry, service, reason, verdict, host, net, port (each also with src or dst before
/// it), proto, tcp, udp, icmp, icmpv6, tcp flags, icmp type, icmpv6 type, in, out, mac, mark, ct mark, dscp,
/// queue, community-id, rewritten, malformed, carried; and, or, not, parentheses.
#[derive(Args)]
pub(super) struct Trace {
    #[command(flatten)]
    of: RunningArgs,
    #[command(flatten)]
    on: On,
    /// Read a saved JSON trace instead; `-` is standard input
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["node", "socket", "on"])]
    read: Option<PathBuf>,
    /// Which decisions to show
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Output format [default: by the ending of --write, for example .jsonl or .pcapng; else text]
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// In text, add a second line per decision with all details
    #[arg(long, short)]
    verbose: bool,
    /// In JSON, add the first bytes of each packet
    #[arg(long)]
    bytes: bool,
    /// Show at most N decisions per second: the same flows on all nodes, each whole, as far as that is possible. The node makes no event
    /// of the others
    #[arg(long, value_name = "N", conflicts_with = "read")]
    at_most: Option<NonZeroU32>,
    /// Show one decision in N, chosen pseudo-randomly
    #[arg(long, value_name = "1/N")]
    sample: Option<Sample>,
    /// Only the first packet per stage of the first N flows
    #[arg(long, value_name = "N")]
    flows: Option<u32>,
    /// Stop after N decisions
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Write to this file; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Start a new file before FILE exceeds this size, in bytes or with K, M, G; full files are FILE.1 (the
    /// newest), FILE.2, ...
    #[arg(long, value_name = "SIZE", requires = "write", value_parser = size)]
    rotate: Option<NonZeroU64>,
    /// How many full files to keep
    #[arg(long, value_name = "N", requires = "rotate", default_value_t = 4, value_parser = kept())]
    keep: u32,
    /// Have the flows that match FILTER come to the worker packet by packet while this runs, and show all their
    /// packets; for a node that runs with `--decide flow`. FILTER must name addresses or ports
    #[arg(long, conflicts_with_all = ["read", "on", "kernel", "schema"])]
    packets: bool,
    #[command(flatten)]
    kernel: Kernel,
    /// Print the JSON Schema of an output line, with a description of each field; with --kernel, of a line with a rule
    #[arg(long, conflicts_with_all = [
        "node", "socket", "on", "read", "filter", "format", "verbose", "bytes", "sample", "at_most", "flows", "count",
        "write",
    ])]
    schema: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum FormatArg {
    Text,
    Json,
    Pcapng,
    Otlp,
}

impl FormatArg {
    pub(super) fn format(self) -> Format {
        match self {
            Self::Text => Format::Text,
            Self::Json => Format::Json,
            Self::Pcapng => Format::Pcapng,
            Self::Otlp => Format::Otlp,
        }
    }
}

/// How text is written.
pub(super) fn text(terminal: bool, verbose: bool) -> Text {
    Text::new(jiff::tz::TimeZone::system(), coloured(terminal), verbose)
}

/// How a trace is written as text. Who looks on as it happens, at a terminal, knows which day it is.
pub(super) fn text_of_trace(terminal: bool, live: bool, verbose: bool) -> Text {
    let text = text(terminal, verbose);
    if terminal && live { text } else { text.dated() }
}

/// How many full files may be kept: each that is there is moved whenever another is full.
pub(super) fn kept() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=10_000)
}

pub(super) fn size(text: &str) -> Result<NonZeroU64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let number: Option<u64> = if number.starts_with('+') { None } else { number.parse().ok() };
    number
        .and_then(|number| number.checked_mul(unit))
        .and_then(NonZeroU64::new)
        .ok_or_else(|| "a size is a number of bytes, or one with K, M or G, for example 100M".to_owned())
}

/// Where events are written, and its name: a file, or standard output. `read` are the files that they come from.
pub(super) fn output(
    format: Format,
    write: Option<&Path>,
    rotation: Option<Rotation>,
    verbose: bool,
    read: &[PathBuf],
) -> Result<(Output, String), Failure> {
    let write = named(write);
    let to = write.map_or("standard output".to_owned(), |path| path.display().to_string());
    let failed = |source| Failure::Output { to: to.clone(), source };
    let terminal = write.is_none() && io::stdout().is_terminal();
    if terminal && format == Format::Pcapng {
        return Err(Failure::Terminal);
    }
    let text = text_of_trace(terminal, read.is_empty(), verbose);
    let output = match write {
        Some(path) => rotation
            .as_ref()
            .map_or_else(|| Replacement::begin(path, read), |rotation| rotation.begin(read))
            .and_then(|replacement| Output::replacing(format, text, replacement, rotation)),
        None => Output::new(format, text, Box::new(io::stdout()), None),
    };
    Ok((output.map_err(failed)?, to))
}

impl Trace {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.schema {
            return print(if self.kernel.is_asked_for() { RULE_SCHEMA } else { SCHEMA });
        }
        // The filter is judged here, where it was typed; the node knows which names there are.
        let filter = (!self.filter.is_empty()).then(|| self.filter.join(" "));
        let parsed = filter.as_deref().map(str::parse::<Filter>).transpose()?;
        warn_of_reasons(parsed.as_ref());
        if self.kernel.has_time() && !self.packets && !self.kernel.is_asked_for() {
            return Err(Failure::Usage("--for is for --kernel and --packets".to_owned()));
        }
        if self.packets {
            control::is_narrow(filter.as_deref().unwrap_or_default()).map_err(Failure::Usage)?;
        }
        let of_kernel = match self.kernel.is_asked_for() {
            true => Some(self.kernel.options(parsed.clone(), self.format())?),
            false => None,
        };
        let saved = self.read.as_deref().map(Events::open).transpose()?;
        saved.iter().try_for_each(|events| events.pipe.end_at_signal())?;
        let (mut output, to) = self.output()?;
        let outcome = match (saved, of_kernel) {
            (_, Some(options)) => self.of_kernel(filter, &options, &mut output),
            (Some(events), None) => {
                let selection = Selection {
                    filter: parsed,
                    sample: self.sample,
                    flows: self.flows.map(|flows| Flows::new(flows as usize)),
                    left: self.count,
                };
                self.saved(events, selection, &mut output)
            }
            (None, None) => match self.on.places() {
                Some(places) => self.of_many(places, filter, &mut output),
                None => self.live(filter, &mut output),
            },
        };
        match outcome {
            // Its reader has seen enough.
            Err(Failure::Output { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(Failure::Output { source, .. }) => Err(Failure::Output { to, source }),
            other => other,
        }
    }

    fn format(&self) -> Format {
        let by_name = || self.write.as_deref().map_or(Format::Text, Format::of_file);
        self.format.map_or_else(by_name, FormatArg::format)
    }

    fn output(&self) -> Result<(Output, String), Failure> {
        let write = named(self.write.as_deref());
        if write.is_none() && self.rotate.is_some() {
            return Err(Failure::Usage("--rotate beside --write -: standard output has no files".to_owned()));
        }
        let rotation = write.zip(self.rotate).map(|(path, size)| Rotation {
            path: path.to_owned(),
            size,
            keep: self.keep,
        });
        output(self.format(), write, rotation, self.verbose, self.read.as_slice())
    }

    fn live(&self, filter: Option<String>, output: &mut Output) -> Result<(), Failure> {
        let path = self.of.socket()?;
        let request = Request::Trace(control::Trace {
            filter,
            sample: self.sample.map(|Sample(of)| of),
            flows: self.flows,
            count: self.count,
            bytes: self.bytes || self.format().needs_bytes(),
            packets: self.packets,
            at_most: self.at_most,
            of_flow: None,
        });
        let mut client = Client::ask(&path, &request)?;
        let connection = |source| Failure::Connection { path: path.clone(), source };
        let stopping = stop_on_signal(client.stopper().map_err(connection)?).map_err(connection)?;
        if named(self.write.as_deref()).is_none() {
            let stopper = client.stopper().map_err(connection)?;
            std::thread::spawn(move || {
                if is_left(&io::stdout()) {
                    stopper.stop();
                }
            });
        }
        if self.packets {
            let (time, stopper) = (self.kernel.time(), client.stopper().map_err(connection)?);
            std::thread::spawn(move || {
                std::thread::sleep(time);
                log::info!("stopped after {} s (--for)", time.as_secs());
                stopper.stop();
            });
        }
        let (answers, lines) = crossbeam_channel::bounded(1024);
        // Answers are read ahead, so that what has come can be written out when no more comes.
        std::thread::spawn(move || {
            loop {
                let answer = client.answer();
                let is_last = !matches!(
                    answer,
                    Ok(Some(Answer::Hello(_) | Answer::Resumed(_) | Answer::Event(_) | Answer::Carried(_)))
                );
                if answers.send(answer).is_err() || is_last {
                    return;
                }
            }
        });
        let failed = |source| Failure::Output { to: String::new(), source };
        loop {
            let answer = match lines.try_recv() {
                Ok(answer) => answer,
                Err(_) => {
                    output.idle().map_err(failed)?;
                    lines.recv().unwrap_or(Ok(None))
                }
            };
            match answer.map_err(connection)? {
                Some(Answer::Event(event)) => output.event(&event).map_err(failed)?,
                Some(Answer::Carried(carried)) => output.carried(&carried).map_err(failed)?,
                Some(Answer::Hello(hello)) => {
                    log::debug!("attached to {}, dunnat {}", hello.node, hello.dunnat);
                    output.commit().map_err(failed)?;
                }
                Some(Answer::Resumed(hello)) => {
                    dunnat::messages::message!(
                        OTHER_WORKER,
                        "a new worker of {} has taken over; decisions of the one before may be missing here",
                        hello.node
                    );
                    output.commit().map_err(failed)?;
                }
                Some(Answer::End(End { events, lost, left_out })) => {
                    output.end(0).map_err(failed)?;
                    if left_out > 0 {
                        log::info!("a sample: {} left out", counted(left_out, "decision"));
                    }
                    if lost > 0 {
                        let seen = counted(events, "event");
                        dunnat::messages::message!(
                            EVENTS_LOST,
                            "{seen}, {lost} lost: events came faster than this program read them"
                        );
                    } else {
                        log::info!("{}, none lost", counted(events, "event"));
                    }
                    return Ok(());
                }
                Some(Answer::Error(error)) => {
                    output.end_at_fault().map_err(failed)?;
                    if self.at_most.is_some() && control::is_unknown_word(&error) {
                        return Err(Failure::Refused(
                            "this node runs an older dunnat, which does not know --at-most; use --sample 1/N"
                                .to_owned(),
                        ));
                    }
                    return Err(Failure::Refused(error));
                }
                Some(_) => {}
                None => {
                    output.end(0).map_err(failed)?;
                    if !stopping.load(Ordering::Relaxed) {
                        dunnat::messages::message!(
                            NODE_HUNG_UP,
                            "{} closed the connection unexpectedly: the node was killed, or the trace was \
                             read too slowly",
                            path.display()
                        );
                    }
                    return Ok(());
                }
            }
        }
    }

    fn saved(
        &self,
        mut events: Events,
        mut selection: Selection,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let failed = |source| Failure::Output { to: String::new(), source };
        // Before an event that is left out; it is said at the next that is not.
        let mut lost = 0;
        // A rule is of no stage or flow, and has no number: it cannot be counted with the decisions, nor be a packet of a capture or a span.
        let shows_rules = self.sample.is_none()
            && self.flows.is_none()
            && self.count.is_none()
            && !matches!(self.format(), Format::Pcapng | Format::Otlp);
        while !selection.is_done() {
            if events.pipe.is_drained() {
                output.idle().map_err(failed)?;
            }
            let mut event = match events.line() {
                Ok(Some(Line::Decision(event))) => *event,
                Ok(Some(Line::Rule(rule))) => {
                    if shows_rules
                        && selection.filter.as_ref().is_none_or(|filter| filter.may_want_rule(&rule))
                    {
                        output.rule(&rule).map_err(failed)?;
                    }
                    continue;
                }
                Ok(Some(Line::Carried(carried))) => {
                    if selection.takes_carried(&carried) {
                        output.carried(&carried).map_err(failed)?;
                    }
                    continue;
                }
                Ok(None) => break,
                Err(failure) => {
                    output.end_at_fault().map_err(failed)?;
                    return Err(failure);
                }
            };
            // The file may claim anything.
            lost = u64::saturating_add(lost, std::mem::take(&mut event.lost));
            if selection.takes(&event) {
                event.lost = std::mem::take(&mut lost);
                output.event(&event).map_err(failed)?;
            }
        }
        output.end(lost).map_err(failed)
    }
}

/// Lets the first Ctrl-C end the trace in good order, and the second at once. Says whether there was one.
fn stop_on_signal(stopper: Stopper) -> io::Result<Arc<AtomicBool>> {
    let stopping = stopping()?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for _ in &mut signals {
            stopper.stop();
            std::thread::sleep(Duration::from_secs(2));
            stopper.cut();
        }
    });
    Ok(stopping)
}

/// Whether there was a Ctrl-C; the second one ends the program at once.
pub(super) fn stopping() -> io::Result<Arc<AtomicBool>> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stopping))?;
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
    }
    Ok(stopping)
}
