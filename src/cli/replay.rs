use std::io;
use std::io::BufRead;
use std::path::PathBuf;

use clap::Args;
use dunnat::cluster::{Cluster, NodeId};
use dunnat::replay::{Capture, Changes};
use dunnat::trace::{Follower as _, Format, Output};
use dunnat::walk::Around;

use super::saved::{self, Saved};
use super::trace::{FormatArg, output};
use super::{Failure, print};

/// Put a capture through the engine, or make the decisions of a trace again under another cluster file; no root, no
/// network
///
/// Of a capture (pcap, pcapng) the decisions are written as `trace` writes them. Of a trace (JSON) those that would be
/// others are listed: what differs, as it was => as it would be.
#[derive(Args)]
pub(super) struct Replay {
    /// The capture or trace; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What is known of all packets of a capture beside, as in: in xenbr0 ct mark 0x2
    #[arg(value_name = "KNOWN")]
    known: Vec<String>,
    /// The cluster file; for a trace, the one to decide by now
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// The node that the packets come to [default: the one whose public address they are for], or only its decisions
    #[arg(long, short, value_name = "NAME")]
    node: Option<String>,
    /// Write the decisions to this file
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// What they are written as [default: what the name of --write ends in, as in .jsonl and .pcapng, else text]
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// A second line of text for each, with all the rest
    #[arg(long, short)]
    verbose: bool,
}

impl Replay {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let cluster = Cluster::load(&self.config)?;
        let node = self.node.as_ref().map(|name| cluster.find(name)).transpose()?;
        match Saved::open(&self.file)? {
            Saved::Capture(capture) => self.capture(&cluster, node, capture),
            Saved::Trace(input) => self.trace(&cluster, node, input),
        }
    }

    fn capture(
        &self,
        cluster: &Cluster,
        node: Option<NodeId>,
        mut capture: Box<Capture>,
    ) -> Result<(), Failure> {
        let around: Around = self.known.join(" ").parse()?;
        let (mut output, to) = self.output()?;
        let mut replay = dunnat::replay::Replay::new(cluster, node, around);
        let read = loop {
            let captured = match saved::packet(&self.file, &mut capture) {
                Ok(Some(captured)) => captured,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            for event in replay.pass(&captured) {
                if let Err(source) = output.event(&event) {
                    return ended(source, to);
                }
            }
        };
        if let Err(source) = output.end(0) {
            return ended(source, to);
        }
        saved::warn_of_left_out(&capture, &replay);
        read
    }

    fn trace(
        &self,
        cluster: &Cluster,
        node: Option<NodeId>,
        mut input: Box<dyn BufRead>,
    ) -> Result<(), Failure> {
        if !self.known.is_empty() {
            return Err(Failure::Usage(
                "of a trace everything is known; only captures need to be told more".to_owned(),
            ));
        }
        let mut changes = Changes::new(cluster);
        let zone = jiff::tz::TimeZone::system();
        // Asked for in a format, it is the decisions as they would be; else the changes.
        let asked = self.write.is_some() || self.format.is_some();
        let mut decisions = asked.then(|| self.output()).transpose()?;
        let read = saved::events(&self.file, &mut input, |was| {
            if node.is_some_and(|id| cluster.node(id).name != *was.node) {
                return Ok(true);
            }
            let Some(now) = changes.again(&was) else { return Ok(true) };
            let change = changes.compare(&was, &now);
            match (&mut decisions, change) {
                (Some((output, to)), _) => {
                    output.event(&now).map_err(|source| Failure::Output { to: to.clone(), source })?;
                }
                (None, Some(change)) => print(&(change.line(&zone) + "\n"))?,
                (None, None) => {}
            }
            Ok(true)
        });
        match decisions {
            Some((mut output, to)) => {
                if let Err(source) = output.end(0) {
                    return ended(source, to);
                }
                eprint!("{changes}");
            }
            None => print(&changes.to_string())?,
        }
        read
    }

    fn output(&self) -> Result<(Output, String), Failure> {
        let by_name = || self.write.as_deref().map_or(Format::Text, Format::of_file);
        let format = self.format.map_or_else(by_name, FormatArg::format);
        output(format, self.write.as_deref(), None, self.verbose)
    }
}

/// A reader that has seen enough is no error.
fn ended(source: io::Error, to: String) -> Result<(), Failure> {
    if source.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(Failure::Output { to, source }) }
}
