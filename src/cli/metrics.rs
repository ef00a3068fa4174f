use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use dunnat::control;
use dunnat::http::{self, Limits};
use dunnat::metrics::{self, Scraped};

use super::running::named_sockets;
use super::{Failure, print};

/// Give the counters of the nodes of this host to Prometheus
///
/// It is a process of its own: each time that it is asked it asks the nodes for their status, for which it needs the right to look
/// alone (root, the node's user, or the group dunnat). It answers GET /metrics, and listens on the loopback interface unless
/// another address is given: whoever can reach it can read it.
#[derive(Args)]
pub(super) struct Metrics {
    /// Address and port to listen on
    #[arg(long, short, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:17517")]
    listen: SocketAddr,
    /// Names of nodes that run here [default: all that run when it is asked]
    #[arg(long, short, value_name = "NAME")]
    node: Vec<String>,
    /// Sockets that nodes listen on [default: /run/dunnat/NAME.sock]
    #[arg(long, value_name = "PATH")]
    socket: Vec<PathBuf>,
    /// Print the metrics once, and do not listen
    #[arg(long, conflicts_with = "listen")]
    print: bool,
}

impl Metrics {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let named = named_sockets(&self.node, &self.socket);
        if self.print {
            let nodes = ask(&named);
            let none = nodes.iter().all(|node| node.status.is_none());
            print(&metrics::text(nodes))?;
            return if none { Err(Failure::Refused("no node has answered".to_owned())) } else { Ok(()) };
        }
        let (listener, at) = listen(self.listen)?;
        if !at.ip().is_loopback() {
            dunnat::messages::message!(
                METRICS_OPEN,
                "{at} is not the loopback interface: whoever can reach it can read what the nodes do"
            );
        }
        log::info!("metrics are at http://{at}/metrics");
        // Nodes are asked by one at a time: who asks often cannot make them busy.
        let one = Mutex::new(());
        let text = move || {
            let _one = one.lock().unwrap_or_else(PoisonError::into_inner);
            metrics::text(ask(&named))
        };
        Err(Failure::Refused(format!(
            "cannot listen any more: {}",
            http::serve(&listener, Limits::default(), move |request| metrics::answer(request, &text))
        )))
    }
}

/// Listens there, and says where that is: port 0 is any that is free.
pub(super) fn listen(on: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => {
            Failure::Refused(format!("somebody listens on {on} already; choose another port with --listen"))
        }
        _ => Failure::Refused(format!("cannot listen on {on}: {source}")),
    };
    let listener = TcpListener::bind(on).map_err(refused)?;
    let at = listener.local_addr().map_err(refused)?;
    Ok((listener, at))
}

/// So long a node may take: less than Prometheus waits for all.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the nodes say; all that run here, if none is named.
fn ask(named: &[PathBuf]) -> Vec<Scraped> {
    let found = if named.is_empty() { control::sockets() } else { Ok(named.to_vec()) };
    let sockets = found.unwrap_or_else(|error| {
        dunnat::messages::message!(NO_SOCKETS, "{error}");
        Vec::new()
    });
    // All at once: one that is stopped does not delay the others.
    let asked: Vec<Scraped> = std::thread::scope(|scope| {
        let asking: Vec<_> = sockets.iter().map(|socket| scope.spawn(|| ask_one(socket))).collect();
        asking.into_iter().filter_map(|one| one.join().ok()).collect()
    });
    // Two nodes of one name cannot be told apart; the first one counts.
    let mut known = BTreeSet::new();
    asked.into_iter().filter(|one| known.insert(one.node.clone())).collect()
}

fn ask_one(socket: &Path) -> Scraped {
    match control::ask_status(socket, PATIENCE) {
        Ok(status) => Scraped { node: status.node.clone(), status: Some(status) },
        Err(error) => {
            log::debug!("{}", Failure::from(error).message());
            Scraped { node: stem(socket), status: None }
        }
    }
}

fn stem(socket: &Path) -> String {
    socket
        .file_stem()
        .map_or_else(|| socket.display().to_string(), |stem| stem.to_string_lossy().into_owned())
}
