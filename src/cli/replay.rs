use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use dunnat::cluster::{Cluster, NodeId};
use dunnat::replay::Changes;
use dunnat::simulate::Context;
use dunnat::trace::{Follower as _, Format, Name, Output};

use super::events::Events;
use super::path::guest_on;
use super::saved::{Packets, Saved};
use super::trace::{FormatArg, output};
use super::{Failure, PolicyArgs, note, print};

/// Run a capture through the engine, or repeat the decisions of a trace with another cluster file; needs no
/// root and no network
///
/// For a capture (pcap, pcapng), the decisions are written in the formats of `trace`. For a trace (JSON),
/// only decisions that would change are listed, as: old => new.
#[derive(Args)]
pub(super) struct Replay {
    /// The capture or trace; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Facts true of every packet in the capture, for example `in xenbr0 ct mark 0x2`
    #[arg(value_name = "KNOWN")]
    known: Vec<String>,
    /// The cluster file; for a trace, the new one
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// For a capture, the node that receives the packets [default: the owner of their public address]; for a
    /// trace, show only this node
    #[arg(long, short, value_name = "NAME")]
    node: Option<String>,
    /// For a capture, the home node of a guest, for example `10.5.5.201=node1`; may be repeated [default:
    /// `home` in the cluster file]
    #[arg(long, value_name = "ADDRESS=NODE", value_parser = guest_on)]
    guest_on: Vec<(IpAddr, Name)>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Write the decisions to this file; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Output format [default: by the ending of --write, for example .jsonl or .pcapng; else text]
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// In text, add a second line per decision with all details
    #[arg(long, short)]
    verbose: bool,
}

impl Replay {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let cluster = Cluster::load(&self.config)?;
        let node = self.node.as_ref().map(|name| cluster.find(name)).transpose()?;
        match Saved::open(&self.file)? {
            Saved::Capture(packets) => self.capture(&cluster, node, packets),
            Saved::Trace(events) => self.trace(&cluster, node, events),
        }
    }

    fn capture(&self, cluster: &Cluster, node: Option<NodeId>, mut packets: Packets) -> Result<(), Failure> {
        let by = self.policy.for_packets_at_hand(cluster)?;
        let context: Context = self.known.join(" ").parse()?;
        let mut replay = dunnat::replay::Replay::with_policy(cluster, node, context, &by);
        for (guest, home) in &self.guest_on {
            replay.guest_on(*guest, cluster.find(home)?);
        }
        packets.pipe.end_at_signal()?;
        let (mut output, to) = self.output()?;
        let mut decisions = 0;
        let mut write = || -> Result<Result<(), Failure>, io::Error> {
            loop {
                if packets.pipe.is_drained() {
                    output.idle()?;
                }
                match packets.next() {
                    Ok(Some(captured)) => {
                        for event in replay.pass(&captured) {
                            output.event(&event)?;
                            decisions += 1;
                        }
                    }
                    Ok(None) => return output.end(0).map(Ok),
                    Err(failure) => return output.end_at_fault().map(|()| Err(failure)),
                }
            }
        };
        let read = write().or_else(|source| ended(source, to))?;
        packets.account(&replay, decisions);
        read
    }

    fn trace(&self, cluster: &Cluster, node: Option<NodeId>, mut events: Events) -> Result<(), Failure> {
        if !self.known.is_empty() || !self.guest_on.is_empty() {
            let all = "facts about packets and guests are for a capture only; a trace already has them";
            return Err(Failure::Usage(all.to_owned()));
        }
        let by = self.policy.for_packets_at_hand(cluster)?;
        let mut changes = Changes::with_policy(cluster, &by);
        let zone = jiff::tz::TimeZone::system();
        // Asked for in a format, it is the decisions as they would be; else the changes.
        let asked = self.write.is_some() || self.format.is_some();
        events.pipe.end_at_signal()?;
        let mut decisions = asked.then(|| self.output()).transpose()?;
        loop {
            if let Some((output, to)) = &mut decisions
                && events.pipe.is_drained()
                && let Err(source) = output.idle()
            {
                return ended(source, std::mem::take(to))?;
            }
            let Some(was) = events.next()? else { break };
            if node.is_some_and(|id| cluster.node(id).name != *was.node) {
                continue;
            }
            let Some(now) = changes.again(&was) else { continue };
            let change = changes.compare(&was, &now);
            match (&mut decisions, change) {
                (Some((output, to)), _) => {
                    if let Err(source) = output.event(&now) {
                        return ended(source, std::mem::take(to))?;
                    }
                }
                (None, Some(change)) => print(&(change.line(&zone) + "\n"))?,
                (None, None) => {}
            }
        }
        match decisions {
            Some((mut output, to)) => {
                output.end(0).or_else(|source| ended(source, to).map(|_| ()))?;
                note(changes)
            }
            None => print(&changes.to_string()),
        }
    }

    fn output(&self) -> Result<(Output, String), Failure> {
        let by_name = || self.write.as_deref().map_or(Format::Text, Format::of_file);
        let format = self.format.map_or_else(by_name, FormatArg::format);
        output(format, self.write.as_deref(), None, self.verbose, std::slice::from_ref(&self.file))
    }
}

/// A reader that has seen enough is no error.
fn ended(source: io::Error, to: String) -> Result<Result<(), Failure>, Failure> {
    if source.kind() == io::ErrorKind::BrokenPipe { Ok(Ok(())) } else { Err(Failure::Output { to, source }) }
}
