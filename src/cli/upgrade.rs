use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use dunnat::control::{self, Answer, Request, Upgraded};
use dunnat::text::escaped;

use super::running::{RunningArgs, ask};
use super::{Failure, print, print_json};

/// Have a running node go on as another program, without losing a packet
///
/// The new program is tried first, while the node serves. If anything is wrong with it, the node goes on as before. Exit status: 0 the new
/// program serves; 1 the node refused, or there is none; 2 usage error.
#[derive(Args)]
pub(super) struct Upgrade {
    /// The new program [default: the file that the node was started from, as it is now]
    #[arg(value_name = "PROGRAM")]
    program: Option<PathBuf>,
    #[command(flatten)]
    of: RunningArgs,
    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

impl Upgrade {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let socket = self.of.socket()?;
        // The node may be in another directory.
        let absolute = |path: &PathBuf| {
            std::path::absolute(path)
                .map_err(|source| Failure::Input { from: path.display().to_string(), source })
        };
        let program = self.program.as_ref().map(absolute).transpose()?;
        let question = Request::Upgrade(control::Upgrade { program });
        let upgraded = ask(&socket, &question, |answer| match answer {
            Answer::Upgraded(upgraded) => Some(upgraded),
            _ => None,
        })?;
        if self.json { print_json(&upgraded) } else { print(&as_text(&upgraded)) }
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
