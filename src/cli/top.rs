use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::Args;
use dunnat::cluster::Cluster;
use dunnat::control;
use dunnat::remote::{Place, Target};
use dunnat::top::{self, Colours, From, Player, Source};
use dunnat::trace::Event;

use super::events::Events;
use super::{Failure, coloured};

/// Show running nodes on a full screen: rates, losses, queues, the list of flows, and the way of each flow
///
/// It watches the nodes that run here; NODE is the name of one, or the path of its socket. A flow shows the
/// address it was connected to, its way through the nodes, its guest and a finding; Enter opens it: its ladder,
/// its decisions, and why each was made. `/` filters, in the language of `dunnat trace`. `?` shows all keys.
///
/// The findings rest on the nodes that are watched: give all of a cluster, as far as they run here.
#[derive(Args)]
pub(super) struct Top {
    /// Names of the nodes, or paths of their sockets [default: all nodes that run here]
    #[arg(value_name = "NODE", conflicts_with = "read")]
    nodes: Vec<String>,
    /// A socket that a node listens on; may be repeated
    #[arg(long, value_name = "PATH", conflicts_with = "read")]
    socket: Vec<PathBuf>,
    /// The places of the nodes: ssh:HOST, netns:NAME, unix:SOCKET, or cmd:COMMAND, which gets the words for dunnat behind its
    /// own. Behind it =NODE or =SOCKET, if several nodes run there; may be repeated
    #[arg(long, value_name = "PLACE,...", value_delimiter = ',', conflicts_with_all = ["nodes", "socket", "read"])]
    on: Vec<Place>,
    /// Play a saved JSON trace instead; may be repeated, for the traces of several nodes
    #[arg(long, short, value_name = "FILE")]
    read: Vec<PathBuf>,
    /// How many times faster a saved trace is played
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, requires = "read", value_parser = speed)]
    speed: f64,
    /// A cluster file, to explain decisions by [default: that of each node, if it can be read]
    #[arg(long, short, value_name = "FILE")]
    config: Vec<PathBuf>,
}

fn speed(text: &str) -> Result<f64, String> {
    let wrong = "a speed is a number from 0.02 to 4096, for example 4";
    let speed: f64 = text.parse().map_err(|_| wrong)?;
    if (0.02..=4096.0).contains(&speed) { Ok(speed) } else { Err(wrong.to_owned()) }
}

impl Top {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let clusters = self.config.iter().map(|file| Cluster::load(file)).collect::<Result<Vec<_>, _>>()?;
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() || is_dumb {
            return Err(Failure::Usage(
                "top draws on a full screen, and its input and output are not a terminal that can do that. For \
                 programs and files: dunnat status --json, dunnat trace --format json"
                    .to_owned(),
            ));
        }
        let from = self.from()?;
        let colours = if coloured(true) { Colours::Sixteen } else { Colours::None };
        // What is logged would be written over the screen.
        log::set_max_level(log::LevelFilter::Off);
        top::run(from, clusters, colours)
            .map_err(|source| Failure::Output { to: "the terminal".to_owned(), source })
    }

    fn from(&self) -> Result<From, Failure> {
        if self.read.is_empty() {
            return Ok(From::Nodes(self.targets()));
        }
        if self.read.iter().any(|file| file.as_os_str() == "-") {
            let why = "top: a trace is played from a file: keys come by standard input, and to go back it is read again";
            return Err(Failure::Usage(why.to_owned()));
        }
        // What is wrong with a file is best told as other verbs tell it.
        for file in &self.read {
            Events::open(file)?.next()?;
        }
        let files = self.read.clone();
        let reopen = move || {
            let open = |file: &PathBuf| Ok(source(Events::open(file).map_err(|failure| failure.message())?));
            files.iter().map(open).collect()
        };
        Player::start(Box::new(reopen), self.speed).map(From::Saved).map_err(Failure::Refused)
    }

    fn targets(&self) -> Vec<Target> {
        if !self.on.is_empty() {
            return self.on.iter().cloned().map(Target::from).collect();
        }
        let named = self.nodes.iter().map(|node| match node.contains('/') {
            true => PathBuf::from(node),
            false => control::socket_of(node),
        });
        named.chain(self.socket.iter().cloned()).map(Target::Socket).collect()
    }
}

fn source(mut events: Events) -> Source {
    Box::new(std::iter::from_fn(move || {
        let next: Result<Option<Event>, Failure> = events.next();
        next.map_err(|failure| failure.message()).transpose()
    }))
}
