use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use dunnat::cluster::Cluster;
use dunnat::control;
use dunnat::http::{self, Limits};
use dunnat::remote::Target;
use dunnat::text::counted;
use dunnat::trace::{Event, Filter};
use dunnat::web::{Door, Hub, MOST, Site, follow};

use super::events::Events;
use super::many::On;
use super::metrics::listen;
use super::running::named_sockets;
use super::{Failure, warn_of_reasons};

/// Show nodes in a browser: packets on their way through the cluster, each decision with its reason, each flow with its ladder
///
/// It shows the nodes that run here, or saved traces. It prints the address of the page; with the decisions of nodes that run,
/// and for all interfaces but the loopback, there is a token in it, and who does not have the token sees nothing. It only reads.
/// FILTER is one of `dunnat trace`.
#[derive(Args)]
pub(super) struct Web {
    /// Address and port to listen on
    #[arg(long, short, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:17518")]
    listen: SocketAddr,
    /// Names of nodes that run here [default: all that run when it starts]
    #[arg(long, short, value_name = "NAME", conflicts_with = "read")]
    node: Vec<String>,
    /// Sockets that nodes listen on [default: /run/dunnat/NAME.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "read")]
    socket: Vec<PathBuf>,
    #[command(flatten)]
    on: On,
    /// Show a saved JSON trace instead; may be repeated, for the traces of several nodes
    #[arg(long, short, value_name = "FILE", conflicts_with = "on")]
    read: Vec<PathBuf>,
    /// A cluster file, for the picture and to explain decisions by [default: that of each node, if it can be read]
    #[arg(long, short, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// A name by which browsers may call this host; addresses and localhost need not be named
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// At most so many decisions per second are shown; of more, only some flows
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Which decisions to show
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

/// So many browsers: each holds one connection while it looks on, and asks by others.
const CONNECTIONS: usize = 64;

impl Web {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let filter = (!self.filter.is_empty()).then(|| self.filter.join(" "));
        let parsed = filter.as_deref().map(str::parse::<Filter>).transpose()?;
        warn_of_reasons(parsed.as_ref());
        let hub = Arc::new(Hub::new(MOST, self.rate));
        for file in &self.config {
            hub.learn(Arc::new(Cluster::load(file)?));
        }
        let is_live = self.read.is_empty();
        let (listener, at) = listen(self.listen)?;
        if is_live {
            let speakers = Arc::default();
            for (place, target) in self.targets()?.into_iter().enumerate() {
                follow(Arc::clone(&hub), target, (Arc::clone(&speakers), place), filter.clone()).map_err(
                    |error| Failure::Refused(format!("cannot start a thread that follows a node: {error}")),
                )?;
            }
        } else {
            self.saved(&hub, parsed.as_ref())?;
        }
        let token = (is_live || !at.ip().is_loopback()).then(token).transpose()?;
        if !at.ip().is_loopback() {
            dunnat::messages::message!(
                PAGE_OPEN,
                "{at} is not the loopback interface, and there is no TLS: whoever is on the way can read the token, and what the \
                 nodes do"
            );
        }
        let shown = token.as_ref().map(|token| format!("#token={token}")).unwrap_or_default();
        log::info!("the page is at http://{at}/{shown}");
        let site = Site::new(hub, Door::new(self.host.clone(), token), is_live);
        let limits = Limits::default().with_connections(CONNECTIONS);
        let error = http::serve(&listener, limits, move |request| site.answer(request));
        Err(Failure::Refused(format!("cannot listen any more: {error}")))
    }

    fn targets(&self) -> Result<Vec<Target>, Failure> {
        if let Some(places) = self.on.places() {
            return Ok(places.iter().cloned().map(Target::from).collect());
        }
        let named = named_sockets(&self.node, &self.socket);
        let sockets = if named.is_empty() { control::sockets()? } else { named };
        if sockets.is_empty() {
            let why = "no node runs here; start one with dunnat run, name its socket with --socket, or show saved traces with --read";
            return Err(Failure::Refused(why.to_owned()));
        }
        Ok(sockets.into_iter().map(Target::Socket).collect())
    }

    /// Takes the decisions of all files in the order of their times. Clocks of nodes differ; within a node the numbers count.
    fn saved(&self, hub: &Hub, filter: Option<&Filter>) -> Result<(), Failure> {
        let mut traces = Vec::new();
        for path in &self.read {
            let mut events = Events::open(path)?;
            let next = next(&mut events, filter)?;
            traces.push((events, next));
        }
        let mut taken = 0;
        loop {
            let earliest = |(_, next): &&mut (Events, Option<Event>)| next.as_ref().map(|event| event.time);
            let with_next = traces.iter_mut().filter(|(_, next)| next.is_some());
            let Some((events, place)) = with_next.min_by_key(earliest) else { break };
            if taken == MOST {
                dunnat::messages::message!(
                    PAGE_SHOWS_FIRST,
                    "only the first {} are shown; choose with FILTER, for example: host 192.168.122.1",
                    counted(MOST as u64, "decision")
                );
                break;
            }
            if let Some(event) = place.take() {
                hub.add(event);
                taken += 1;
            }
            *place = next(events, filter)?;
        }
        Ok(())
    }
}

/// The next decision that is wanted.
fn next(events: &mut Events, filter: Option<&Filter>) -> Result<Option<Event>, Failure> {
    while let Some(event) = events.next()? {
        if filter.is_none_or(|filter| filter.matches(&event)) {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// 128 bits that nobody guesses.
fn token() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|error| Failure::Refused(format!("cannot read /dev/urandom: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
