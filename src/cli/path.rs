use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::iter::{once, once_with};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use dunnat::conversations::{Conversation, Joiner, Live, Paths, SCHEMA, Text, json, mermaid, svg};
use dunnat::remote::Place;
use dunnat::sql::Dialect;
use dunnat::text::counted;
use dunnat::trace::{Event, Filter, Format, Name, RuleEvent, RuleVerdict};

use super::events::{Events, Line};
use super::many::{self, Came};
use super::progress::Progress;
use super::{Failure, coloured, named, note, print, warn_of_reasons, written};

/// Join the traces of several nodes into conversations, and give a finding for each
///
/// The files are JSON traces from `run --trace FILE.jsonl` or `dunnat trace --write FILE.jsonl`: one or more
/// per node, in any order. The clocks of the nodes may differ. A single conversation is drawn as a ladder,
/// from the client to the guest and back, with its finding and the events that prove it. Several
/// conversations are listed in a table.
#[derive(Args)]
pub(super) struct Path {
    /// The traces; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["schema", "live", "sql"])]
    files: Vec<PathBuf>,
    /// Join the decisions of nodes that run, and show each conversation when it has ended, or as soon as something is wrong with it;
    /// of those that end at the same time, faults first. Until Ctrl-C
    #[arg(long, conflicts_with_all = ["files", "conversation", "guest_on", "write"])]
    live: bool,
    /// With --live: the places of the nodes: ssh:HOST, netns:NAME, unix:SOCKET, or cmd:COMMAND, as for `dunnat trace`
    /// [default: all nodes that run here]
    #[arg(long, value_name = "PLACE,...", value_delimiter = ',', requires = "live")]
    on: Vec<Place>,
    /// With --live: at most N decisions per second of each node: the same flows on all nodes, each whole, as far as that is possible
    #[arg(long, value_name = "N", requires = "live")]
    at_most: Option<NonZeroU32>,
    /// Only conversations with an event that matches FILTER, a filter of `dunnat trace`
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Only the conversation with this number in the table
    #[arg(long, short, value_name = "NUMBER")]
    conversation: Option<usize>,
    /// Only conversations that are not right; the exit status is 1 if there is a fault among them. Where the
    /// traces lack the request, nobody knows whether there is one
    #[arg(long)]
    faults: bool,
    /// The guest with this address lives on this node. Without it, the frames of the guests tell; may be repeated
    #[arg(long, value_name = "ADDRESS=NODE", value_parser = guest_on)]
    guest_on: Vec<(IpAddr, Name)>,
    /// Draw a ladder for each conversation, instead of a table
    #[arg(long)]
    ladders: bool,
    /// Output format [default: by the ending of --write, for example .mmd, .svg or .jsonl; else text]
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// Write to this file; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print the JSON Schema of an output line, with a description of each field
    #[arg(long, exclusive = true)]
    schema: bool,
    /// Print SQL for an engine that has the traces of many nodes: a table of events, and a view that gives the same finding for
    /// each conversation
    #[arg(long, value_name = "ENGINE", exclusive = true)]
    sql: Option<Engine>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    /// DuckDB: `events` is read from *.jsonl, `conversations` is a view
    #[value(name = "duckdb")]
    DuckDb,
    /// ClickHouse: lines go into `lines`, `conversations` is made anew each time
    #[value(name = "clickhouse")]
    ClickHouse,
}

impl From<Engine> for Dialect {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::DuckDb => Self::DuckDb,
            Engine::ClickHouse => Self::ClickHouse,
        }
    }
}

/// As in `10.5.5.201=node1`.
pub(super) fn guest_on(text: &str) -> Result<(IpAddr, Name), String> {
    let wrong = || "give the guest's address and its node, as in 10.5.5.201=node1".to_owned();
    let (address, node) = text.split_once('=').ok_or_else(wrong)?;
    let address = address.parse().map_err(|_| wrong())?;
    if node.is_empty() { Err(wrong()) } else { Ok((address, node.into())) }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Text for people
    Text,
    /// A sequence diagram, for wikis and GitHub
    Mermaid,
    /// A picture (SVG)
    Svg,
    /// For programs: one line per conversation
    Json,
}

/// What is written, one after the other: all of it together may be larger than the conversations are.
type Pieces<'a> = Box<dyn Iterator<Item = io::Result<String>> + 'a>;

fn write_all(out: impl Write, pieces: Pieces<'_>) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    for piece in pieces {
        out.write_all(piece?.as_bytes())?;
    }
    out.flush()
}

impl Path {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.schema {
            return print(SCHEMA);
        }
        if let Some(engine) = self.sql {
            return print(&Dialect::from(engine).sql());
        }
        let filter = self.filter.as_deref().map(str::parse::<Filter>).transpose()?;
        warn_of_reasons(filter.as_ref());
        if self.live {
            return self.follow(filter.as_ref());
        }
        let paths = self.join(filter.as_ref())?;
        let chosen: Vec<&Conversation> = paths.conversations.iter().filter(|one| self.chooses(one)).collect();
        if let (Some(number), true) = (self.conversation, chosen.is_empty()) {
            return Err(Failure::NoConversation { number, all: paths.conversations.len() });
        }
        let pieces = self.rendered(&paths, &chosen)?;
        written(self.write.as_deref(), &self.files, |out| write_all(out, pieces))?;
        let faults = chosen.iter().filter(|one| one.judgement.is_fault()).count();
        match self.faults && faults > 0 {
            true => Err(Failure::Faults { faults, all: paths.conversations.len() }),
            false => Ok(()),
        }
    }

    /// As they end.
    fn follow(&self, filter: Option<&Filter>) -> Result<(), Failure> {
        let text = match self.format() {
            FormatArg::Text => Some(Text::new(coloured(io::stdout().is_terminal()))),
            FormatArg::Json => None,
            FormatArg::Mermaid | FormatArg::Svg => {
                return Err(Failure::Usage("--live shows conversations as text or JSON".to_owned()));
            }
        };
        let local;
        let places = match self.on.is_empty() {
            true => {
                local = many::of_this_host()?;
                &local
            }
            false => &self.on,
        };
        let mut live = Live::default();
        let mut shown = Shown { text, ladders: self.ladders, faults: self.faults, count: (0, 0) };
        let mut words = vec!["--format=json".to_owned()];
        words.extend(self.at_most.map(|most| format!("--at-most={most}")));
        let mut asked = Instant::now();
        let mut absent = Vec::new();
        many::follow(places, &words, |came| {
            match came {
                Came::Event(event) => {
                    let wanted = filter.is_none_or(|filter| filter.matches(&event));
                    live.add(*event, wanted, Instant::now());
                }
                Came::Carried(carried) => live.add_carried(*carried),
                Came::Idle(missing) if asked.elapsed() >= OFTEN => {
                    asked = Instant::now();
                    absent = missing.to_vec();
                    return shown.show(&live.ended(asked), &absent);
                }
                Came::Idle(_) => {}
            }
            Ok(true)
        })?;
        shown.show(&live.finish(), &absent)?;
        if live.forgotten() > 0 {
            note(format_args!(
                "{} forgotten: there were too many at once",
                counted(live.forgotten(), "flow")
            ))?;
        }
        let (all, faults) = shown.count;
        match self.faults && faults > 0 {
            true => Err(Failure::Faults { faults, all }),
            false => Ok(()),
        }
    }

    fn chooses(&self, conversation: &Conversation) -> bool {
        conversation.wanted
            && self.conversation.is_none_or(|number| number == conversation.number)
            && !(self.faults && conversation.judgement.finding.is_right())
    }

    fn format(&self) -> FormatArg {
        let ending = self.write.as_ref().and_then(|path| path.extension()).and_then(|ending| ending.to_str());
        self.format.unwrap_or(match ending {
            Some("mmd" | "mermaid") => FormatArg::Mermaid,
            Some("svg") => FormatArg::Svg,
            _ if self.write.as_ref().is_some_and(|path| Format::of_file(path) == Format::Json) => {
                FormatArg::Json
            }
            _ => FormatArg::Text,
        })
    }

    fn rendered<'a>(&self, paths: &'a Paths, chosen: &'a [&Conversation]) -> Result<Pieces<'a>, Failure> {
        let one = || match chosen {
            [one] => Ok(*one),
            _ => Err(Failure::NotOne(chosen.len())),
        };
        Ok(match self.format() {
            FormatArg::Mermaid => Box::new(once(Ok(mermaid(one()?)))),
            FormatArg::Svg => Box::new(once(Ok(svg(one()?)))),
            FormatArg::Json => Box::new(chosen.iter().map(|one| json(one).map_err(io::Error::from))),
            FormatArg::Text => {
                let text =
                    Text::new(named(self.write.as_deref()).is_none() && coloured(io::stdout().is_terminal()));
                let totals = once_with(move || Ok(text.totals(paths, chosen)));
                match chosen {
                    [] => Box::new(totals),
                    [one] => Box::new(once(Ok(text.ladder(one)))),
                    [first, rest @ ..] if self.ladders => {
                        let rest = rest.iter().map(move |one| Ok(format!("\n\n{}", text.ladder(one))));
                        Box::new(once(Ok(text.ladder(first))).chain(rest))
                    }
                    _ => Box::new(text.table(chosen).map(Ok).chain(once(Ok("\n".to_owned()))).chain(totals)),
                }
            }
        })
    }

    fn join(&self, filter: Option<&Filter>) -> Result<Paths, Failure> {
        let mut joiner = Joiner::default();
        for (guest, node) in &self.guest_on {
            joiner.guest_on(*guest, Name::clone(node));
        }
        let mut traces = Vec::new();
        for path in &self.files {
            traces.push(TraceFile::begin(path, &mut joiner, filter)?);
        }
        // A trace that was rotated is several files: what came first is read first.
        traces.sort_by_key(|file| file.next.as_ref().map(|event| (event.node.clone(), event.seq)));
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        let mut progress = Progress::new(self.files.iter().map(size).sum());
        let mut files = ClusterFiles::default();
        let (mut count, mut bytes) = (0, 0);
        for mut file in traces {
            while let Some(event) = file.next.take() {
                files.note(&event);
                let wanted = filter.is_none_or(|filter| filter.matches(&event));
                joiner.add(event, wanted);
                count += 1;
                if count % 4096 == 0 {
                    progress.update(bytes + file.events.bytes(), count);
                }
                file.read_on(&mut joiner, filter)?;
            }
            bytes += file.events.bytes();
        }
        files.warn();
        Ok(joiner.finish())
    }
}

/// How often it is looked which conversations have ended.
const OFTEN: Duration = Duration::from_millis(250);

/// Shows conversations as they end.
struct Shown {
    /// None for JSON.
    text: Option<Text>,
    ladders: bool,
    faults: bool,
    /// How many there were, and how many of them were wrong.
    count: (usize, usize),
}

impl Shown {
    /// Shows these; `absent` are the places that are missing now. Whether anybody wants more.
    fn show(&mut self, ended: &[Conversation], absent: &[String]) -> Result<bool, Failure> {
        let failed = |source| Failure::Output { to: "standard output".to_owned(), source };
        let mut out = io::stdout().lock();
        for one in ended {
            let finding = one.judgement.finding;
            self.count.0 += 1;
            self.count.1 += usize::from(one.judgement.is_fault());
            if self.faults && finding.is_right() {
                continue;
            }
            let mut piece = match self.text {
                Some(text) if self.ladders => text.ladder(one) + "\n",
                Some(text) => text.line(one),
                None => json(one).map_err(|error| failed(error.into()))?,
            };
            if self.text.is_some() && !finding.is_right() && !absent.is_empty() {
                piece += &format!("        missing now: {}\n", absent.join(", "));
            }
            match out.write_all(piece.as_bytes()).and_then(|()| out.flush()) {
                // Its reader has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                written => written.map_err(failed)?,
            }
        }
        Ok(true)
    }
}

/// A trace that is read: its next decision, and the node of its rules.
struct TraceFile {
    from: String,
    events: Events,
    next: Option<Event>,
    /// The node of its decisions.
    node: Option<Name>,
    /// Rules that do not tell their node, before the first decision does.
    of_nobody: Vec<RuleEvent>,
}

impl TraceFile {
    fn begin(path: &FilePath, joiner: &mut Joiner, filter: Option<&Filter>) -> Result<Self, Failure> {
        let (from, events) = (path.display().to_string(), Events::open(path)?);
        events.pipe.end_at_signal()?;
        let mut file = Self { from, events, next: None, node: None, of_nobody: Vec::new() };
        file.read_on(joiner, filter)?;
        if !file.of_nobody.is_empty() {
            dunnat::messages::message!(
                RULES_OF_NOBODY,
                "{}: {} left out: there is no decision to tell the node",
                file.from,
                counted(file.of_nobody.len() as u64, "rule")
            );
        }
        Ok(file)
    }

    /// Reads to the next decision. Rules between are told of at once.
    fn read_on(&mut self, joiner: &mut Joiner, filter: Option<&Filter>) -> Result<(), Failure> {
        while let Some(line) = self.events.line()? {
            match line {
                Line::Decision(event) => {
                    let node = self.node.get_or_insert_with(|| Name::clone(&event.node));
                    self.of_nobody.drain(..).for_each(|rule| add_rule(joiner, filter, node, rule));
                    self.next = Some(*event);
                    return Ok(());
                }
                // The others stopped nothing.
                Line::Rule(rule) if rule.verdict == RuleVerdict::Drop => {
                    match rule.node.clone().or_else(|| self.node.clone()) {
                        Some(node) => add_rule(joiner, filter, &node, *rule),
                        None => self.of_nobody.push(*rule),
                    }
                }
                Line::Rule(_) => {}
                Line::Carried(carried) => joiner.add_carried(*carried),
            }
        }
        Ok(())
    }
}

fn add_rule(joiner: &mut Joiner, filter: Option<&Filter>, node: &Name, rule: RuleEvent) {
    let wanted = filter.is_none_or(|filter| filter.may_want_rule(&rule));
    joiner.add_rule(node, rule, wanted);
}

/// The cluster files that the nodes have decided by.
#[derive(Default)]
struct ClusterFiles(BTreeMap<Name, BTreeSet<Name>>);

impl ClusterFiles {
    fn note(&mut self, event: &Event) {
        let Some(config) = &event.config else { return };
        if !self.0.get(&event.node).is_some_and(|known| known.contains(config)) {
            self.0.entry(Name::clone(&event.node)).or_default().insert(Name::clone(config));
        }
    }

    /// Nodes that do not agree about what is whose cannot work together.
    fn warn(&self) {
        let all: BTreeSet<&Name> = self.0.values().flatten().collect();
        // Nodes that were all reloaded have used the same files.
        let as_the_first = self.0.values().all(|files| Some(files) == self.0.values().next());
        if all.len() < 2 || self.0.len() > 1 && as_the_first {
            return;
        }
        let node = |(node, configs): (&Name, &BTreeSet<Name>)| {
            let configs: Vec<&str> = configs.iter().map(|config| &**config).collect();
            format!("{node} used {}", configs.join(" and "))
        };
        let nodes: Vec<String> = self.0.iter().map(node).collect();
        dunnat::messages::message!(
            FILES_DIFFER,
            "the nodes used different cluster files: {}. To identify a file: `sha256sum FILE | cut -c-16`",
            nodes.join(", ")
        );
    }
}
