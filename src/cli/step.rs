use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use dunnat::control;
use dunnat::daemon::{self, Options, OwnRules};
use dunnat::step::{self, Console};
use dunnat::trace::{Filter, Flows, Selection};

use super::trace::text;
use super::{Failure, ModeArgs, NodeArgs, coloured};

/// Be a node as with `run`, and hold each packet that is decided about until you say so, with its bytes before and after
///
/// A FILTER in the language of `trace` says which packets are held, as in: tcp flags syn and host 192.168.122.1; without
/// one, all are. Others pass at once, but not past one that is held: all that is queued on this node waits behind it. TCP
/// that waits is sent again, so hold beginnings (tcp flags syn) or the first packet at every stage (--flows 1).
///
/// Keys, each followed by Enter: Enter alone carries out what was decided; d drops the packet; c shows what follows without
/// asking; q and Ctrl-C let all packets go, remove the rules and stop; ? helps. When the keys end (as from a file) it goes on
/// as with c.
#[derive(Args)]
pub(super) struct Step {
    #[command(flatten)]
    who: NodeArgs,
    /// Which packets to hold
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Hold of each of the first N flows the first packet at every stage
    #[arg(long, value_name = "N")]
    flows: Option<u32>,
    /// Hold N packets; all others pass at once
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Listen here for `dunnat trace` [default: /run/dunnat/NAME.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Install no rules: those that `dunnat rules --workers 1` prints are there already
    #[arg(long)]
    no_rules: bool,
    #[command(flatten)]
    manner: ModeArgs,
}

impl Step {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let words = self.filter.join(" ");
        let selection = Selection {
            filter: (!words.is_empty()).then(|| words.parse::<Filter>()).transpose()?,
            sample: None,
            flows: self.flows.map(|flows| Flows::new(flows as usize)),
            left: self.count,
        };
        let (cluster, node) = self.who.load()?;
        let plan = daemon::plan(self.manner.wishes(&cluster, node, 1)?, &self.manner.unwanted())?;
        let cluster = Arc::new(cluster);
        let terminal = io::stdout().is_terminal();
        let console = Console::new(
            Box::new(io::BufReader::new(io::stdin())),
            io::stdin().is_terminal(),
            Box::new(io::stdout()),
            text(terminal, false),
            coloured(terminal),
        );
        let failed = |source| daemon::Error::System { what: "start a thread", source };
        let observer = step::observer(Arc::clone(&cluster), node, selection, console).map_err(failed)?;
        daemon::run(Options {
            cluster,
            plan,
            socket: self.socket.clone().unwrap_or_else(|| control::socket_of(&self.who.node)),
            pin: false,
            rules: if self.no_rules { OwnRules::None } else { OwnRules::Kept },
            trace: None,
            observer: Some(observer),
        })?;
        Ok(())
    }
}
