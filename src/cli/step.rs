use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use dunnat::control;
use dunnat::daemon::{self, ObserveOptions, Options, OwnRules};
use dunnat::engine::Policy;
use dunnat::ruleset::{ObservePlan, Plan};
use dunnat::sandbox::{Level, WhyOff};
use dunnat::step::{self, Console};
use dunnat::trace::{Filter, Flows, Selection};

use super::trace::text;
use super::{Failure, LookersArgs, ModeArgs, NodeArgs, PolicyArgs, coloured, of_data, warn_of_reasons};

/// What the node is to be.
enum Planned {
    ToServe(Plan, Arc<dyn Policy>),
    ToObserve(ObservePlan),
}

/// Run a node as `run` does, but hold each packet until you release it; show its bytes before and after
///
/// A FILTER of `trace` selects the packets to hold, for example: tcp flags syn and host 192.168.122.1;
/// without one, every packet is held. Other packets pass at once, but all packets queued on this node wait
/// behind a held packet. TCP retransmits a held packet, and the copies queue behind it: hold only first
/// packets (tcp flags syn, or --flows 1).
///
/// Keys, each followed by Enter: Enter alone carries out the decision; d drops the packet; c shows all
/// further packets and holds none; q and Ctrl-C release all packets, remove the rules and stop; ? prints
/// help. At the end of input (from a file) it continues as with c.
#[derive(Args)]
pub(super) struct Step {
    #[command(flatten)]
    who: NodeArgs,
    /// Which packets to hold
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Hold only the first packet per stage of the first N flows
    #[arg(long, value_name = "N")]
    flows: Option<u32>,
    /// Hold N packets in all; later packets pass at once
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Listen here for `dunnat trace` [default: /run/dunnat/NAME.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    lookers: LookersArgs,
    /// Install no rules: the output of `dunnat rules --workers 1` is installed already
    #[arg(long)]
    no_rules: bool,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    manner: ModeArgs,
}

impl Step {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let words = self.filter.join(" ");
        let words = (!words.is_empty()).then_some(&*words);
        words.map(str::parse::<Filter>).transpose()?;
        let (cluster, node) = self.who.load()?;
        let lookers = self.lookers.lookers()?;
        let looks_on = self.policy.looks_on(&self.manner)?;
        let (wishes, unwanted) = (self.manner.wishes(&cluster, node, 1)?, self.manner.unwanted());
        let plan = match looks_on {
            true => Planned::ToObserve(daemon::observe_plan(&cluster, wishes, &unwanted)?),
            false => {
                let policy = self.policy.for_running(&cluster)?(&cluster, node);
                let plan = daemon::plan(wishes, &daemon::capabilities(wishes.workers, &unwanted)?)?;
                self.policy.warn();
                Planned::ToServe(self.policy.of_plan(plan), policy)
            }
        };
        // Only now it is known which reasons the policy has.
        let filter = words.map(|words| Filter::parse_for(words, &cluster)).transpose()?;
        warn_of_reasons(filter.as_ref());
        let selection = Selection {
            filter,
            sample: None,
            flows: self.flows.map(|flows| Flows::new(flows as usize)),
            left: self.count,
        };
        let cluster = Arc::new(cluster);
        let terminal = io::stdout().is_terminal();
        let console = Console::new(
            Box::new(io::BufReader::new(io::stdin())),
            io::stdin().is_terminal(),
            Box::new(io::stdout()),
            text(terminal, false),
            coloured(terminal),
        );
        let no_thread = |source| daemon::Error::System { what: "start a thread", source };
        let (observer, failed) =
            step::observer(Arc::clone(&cluster), node, selection, console).map_err(no_thread)?;
        let observer = Some(observer);
        let socket = self.socket.clone().unwrap_or_else(|| control::socket_of(&self.who.node));
        let rules = if self.no_rules { OwnRules::None } else { OwnRules::Kept };
        match plan {
            Planned::ToObserve(plan) => daemon::observe(ObserveOptions {
                cluster,
                plan,
                pin: false,
                sandbox: Level::Off(WhyOff::Shown),
                rules,
                socket,
                lookers,
                trace: None,
                observer,
            })?,
            Planned::ToServe(plan, policy) => daemon::run(Options {
                policy,
                cluster,
                plan,
                socket,
                lookers,
                pin: false,
                sandbox: Level::Off(WhyOff::Shown),
                rules,
                take_over: false,
                trace: None,
                observer,
                once_serving: None,
                reload: None,
                taken: None,
                apart: None,
            })?,
        }
        // The node has ended in good order, and was to show packets.
        match failed.try_recv() {
            Ok(source) => of_data(Err(source)),
            Err(_) => Ok(()),
        }
    }
}
