use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;
use dunnat::cluster::{Cluster, NodeId};
use dunnat::explain::{self, Story, StoryText, Traced};
use dunnat::process::SCHEMA;
use dunnat::replay::Replay;
use dunnat::simulate::{Context, PacketSpec, SimulatedNode};
use dunnat::trace::Filter;

use super::saved::Saved;
use super::{Failure, PolicyArgs, coloured, print, print_json, warn_of_reasons};

/// Explain what would happen to a packet, and why; needs no root and no network
///
/// Example of a PACKET: tcp 192.168.122.1:40000 > 192.168.122.12:80 in xenbr0. Optional after the addresses:
/// in and out with an interface, mac, mark, ct mark, dscp, flags (S. or syn,ack). With --node, it explains
/// what that node does. Without, it explains the whole path of the request through the cluster, and of the
/// reply.
#[derive(Args)]
pub(super) struct Explain {
    /// The cluster file
    #[arg(long, short, value_name = "FILE", required_unless_present = "policy_schema")]
    config: Option<PathBuf>,
    /// Only what this node does
    #[arg(long, short, value_name = "NAME")]
    node: Option<String>,
    /// The guest's home node [default: another node than the entry node]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["node", "read"])]
    guest_on: Option<String>,
    /// Explain the packets of a capture (pcap, pcapng), or the decisions of a trace (JSON); `-` is standard input
    #[arg(long, short, value_name = "FILE")]
    read: Option<PathBuf>,
    /// Stop after N packets or decisions
    #[arg(long, value_name = "N", requires = "read")]
    count: Option<u64>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Also show how checksums change
    #[arg(long, short)]
    verbose: bool,
    /// Print JSON, one line per packet
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of the lines that a policy in another program reads and writes
    #[arg(long, exclusive = true)]
    policy_schema: bool,
    /// The packet. With --read: facts true of every packet in the capture, for example `in xenbr0`; or a
    /// filter for the trace
    #[arg(value_name = "PACKET", required_unless_present_any = ["read", "policy_schema"])]
    packet: Vec<String>,
}

impl Explain {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let Some(config) = &self.config else { return print(SCHEMA) };
        let cluster = Cluster::load(config)?;
        let find = |name: &Option<String>| name.as_ref().map(|name| cluster.find(name)).transpose();
        let (node, home) = (find(&self.node)?, find(&self.guest_on)?);
        let words = self.packet.join(" ");
        if let Some(path) = &self.read {
            return self.read(path, &cluster, node, &words);
        }
        let asked: PacketSpec = words.parse()?;
        let by = self.policy.for_packets_at_hand(&cluster)?;
        let story = match node {
            Some(node) => {
                let mut host = SimulatedNode::with_policy(&cluster, node, by(&cluster, node));
                explain::at_node(&mut host, asked.arrival(&cluster, node))
            }
            None => explain::through_cluster(&cluster, &asked, home, &by)?,
        };
        self.tell(&story)
    }
}

impl Explain {
    fn read(&self, path: &Path, cluster: &Cluster, node: Option<NodeId>, words: &str) -> Result<(), Failure> {
        let by = self.policy.for_packets_at_hand(cluster)?;
        let wanted = self.count.unwrap_or(u64::MAX);
        match Saved::open(path)? {
            Saved::Trace(mut events) => {
                let filter = (!words.is_empty()).then(|| words.parse::<Filter>()).transpose()?;
                warn_of_reasons(filter.as_ref());
                let mut left = wanted;
                let mut traced = Traced::new(cluster, &by);
                while left > 0 {
                    let Some(event) = events.next()? else { break };
                    let is_wanted = node.is_none_or(|id| cluster.node(id).name == *event.node)
                        && filter.as_ref().is_none_or(|filter| filter.matches(&event));
                    if !is_wanted && !traced.remembers() {
                        continue;
                    }
                    left -= u64::from(is_wanted);
                    match traced.explain(&event) {
                        Ok(story) if is_wanted => self.tell(&story)?,
                        Ok(_) => {}
                        Err(why) => dunnat::messages::message!(
                            EVENT_SKIPPED,
                            "skipped event {} of {}: {why}",
                            event.seq,
                            event.node
                        ),
                    }
                }
            }
            Saved::Capture(mut packets) => {
                let context: Context = words.parse()?;
                let mut replay = Replay::with_policy(cluster, node, context, &by);
                let mut told = 0;
                let read = loop {
                    if told == wanted {
                        break Ok(());
                    }
                    match packets.next() {
                        Ok(Some(captured)) => {
                            if let Some((host, arrival)) = replay.admit(&captured) {
                                self.tell(&explain::at_node(host, arrival))?;
                                told += 1;
                            }
                        }
                        end => break end.map(|_| ()),
                    }
                };
                packets.account(&replay, told);
                read?;
            }
        }
        Ok(())
    }

    fn tell(&self, story: &Story) -> Result<(), Failure> {
        if self.json {
            return print_json(story);
        }
        let text = StoryText::new(coloured(io::stdout().is_terminal()), self.verbose).story(story);
        // Between the stories of many packets stands an empty line more.
        print(&if self.read.is_some() { text + "\n" } else { text })
    }
}
