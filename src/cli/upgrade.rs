use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use dunnat::control::{self, Answer, Client, Request, Upgraded};
use dunnat::text::escaped;

use super::{Failure, named_socket, print};

/// Have a running node go on as another program, without losing a packet
///
/// The new program is tried first, while the node serves. If anything is wrong with it, the node goes on as before. Exit status: 0 the new
/// program serves; 1 the node refused, or there is none; 2 usage error.
#[derive(Args)]
pub(super) struct Upgrade {
    /// The new program [default: the file that the node was started from, as it is now]
    #[arg(value_name = "PROGRAM")]
    program: Option<PathBuf>,
    /// Name of the node that runs here [default: the only one]
    #[arg(long, short, value_name = "NAME", conflicts_with = "socket")]
    node: Option<String>,
    /// The socket that the node listens on [default: /run/dunnat/NAME.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

impl Upgrade {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let socket = named_socket(self.socket.as_ref(), self.node.as_ref());
        let socket = socket.map_or_else(control::only_node, Ok)?;
        // The node may be in another directory.
        let absolute = |path: &PathBuf| {
            std::path::absolute(path)
                .map_err(|source| Failure::Input { from: path.display().to_string(), source })
        };
        let program = self.program.as_ref().map(absolute).transpose()?;
        let upgraded = ask(&socket, control::Upgrade { program })?;
        if self.json {
            let json = serde_json::to_string(&upgraded).map_err(io::Error::from);
            let json = json.map_err(|source| Failure::Output { to: "standard output".to_owned(), source })?;
            return print(&(json + "\n"));
        }
        print(&as_text(&upgraded))
    }
}

fn ask(socket: &Path, upgrade: control::Upgrade) -> Result<Upgraded, Failure> {
    let connection = |source| Failure::Connection { path: socket.to_owned(), source };
    match Client::ask(socket, &Request::Upgrade(upgrade))?.answer().map_err(connection)? {
        Some(Answer::Upgraded(upgraded)) => Ok(upgraded),
        Some(Answer::Error(error)) => Err(Failure::Refused(error)),
        Some(_) => Err(connection(io::Error::other("the node did not answer what was asked"))),
        None => Err(connection(io::Error::other("the node ended the connection"))),
    }
}

fn as_text(upgraded: &Upgraded) -> String {
    let Upgraded { node, from, to, program, paused_ms, .. } = upgraded;
    let (node, from, to) = (escaped(node), escaped(from), escaped(to));
    let mut out = String::new();
    let program = program.display().to_string();
    let _ = writeln!(
        out,
        "{node} goes on as dunnat {to} ({}), before {from}; packets waited {paused_ms} ms",
        escaped(&program)
    );
    out
}
