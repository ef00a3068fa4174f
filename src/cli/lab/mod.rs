//! `lab`: a cluster to try things on, one file for each of its verbs.

mod accept;
mod passed;
mod program;
mod shell;
mod start;
mod status;
mod stop;
mod up;

use std::process::Command;

use clap::{Args, Subcommand};
use dunnat::lab::{self, Anchor, Error, Interrupt, Pace, Place, faults};

use crate::cli::{Failure, print, this_program};
use accept::Accept;
use passed::{OfNode, Passed, path};
use program::become_it;
use shell::Shell;
use start::{Starting, start};
use status::status;
use stop::{down, stop};
use up::Up;

/// A test cluster in network namespaces, with real packets and servers; nothing reaches the outside
///
/// It has a public LAN with a workstation, one to nine nodes, and two guests. Without root, it runs in its
/// own user namespace. `up` builds it, `start` starts dunnat on every node, `accept` proves that all works,
/// `down` removes everything.
#[derive(Args)]
pub(super) struct Lab {
    /// Name of the lab (several can exist at once): letters, digits and '_'
    #[arg(long = "lab", value_name = "NAME", default_value = "lab", env = "DUNNAT_LAB", global = true)]
    name: String,
    /// How many times slower than usual this machine is (for example, emulated): wait longer, and send less
    #[arg(long, value_name = "TIMES", default_value = "1", env = "DUNNAT_LAB_SLOW", global = true)]
    slow: Pace,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the lab: public LAN, workstation, nodes, guests, and their servers
    Up(Up),
    /// Run dunnat on every node, or load the pure-kernel ruleset instead
    Start(Starting),
    /// Stop dunnat, and check that the rules of every node are as before
    ///
    /// Also fails if an inside address was seen on the public LAN since `start`.
    Stop,
    /// Start, prove from captures and conntrack that all works, and stop
    ///
    /// If dunnat runs already, it is tested as it is, and keeps running. Exit status: 0 if all claims pass,
    /// else 1.
    Accept(Accept),
    /// Remove the lab; does nothing if there is none
    Down,
    /// Show the lab, and what runs in it
    Status,
    /// Open a shell, or run one command, on a machine of the lab
    Shell(Shell),
    /// Run `dunnat path` on the traces of all nodes, with its options
    ///
    /// The traces come from `start --trace-json`.
    Path(Passed),
    /// Run `dunnat trace` for a node, with its options
    Trace(OfNode),
    /// Run `dunnat step` on a node, with its options
    Step(OfNode),
    /// Run `dunnat doctor` on a node, with its options
    Doctor(OfNode),
    /// Run `dunnat explain` with the cluster file of the lab, with its options
    Explain(Passed),
    /// Tell which fault `start --fault` made, and show it
    Reveal,
}

impl Lab {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (home, needs_anchor) = lab::home()?;
        let place = Place::new(&self.name, &home)?;
        if needs_anchor {
            return self.without_root(&place);
        }
        // Those that become another program leave signals to that.
        let interrupt = match &self.verb {
            Verb::Up(_) | Verb::Down | Verb::Start(_) | Verb::Stop | Verb::Accept(_) => Interrupt::watch()
                .map_err(|error| Failure::Refused(format!("cannot catch signals: {error}")))?,
            _ => Interrupt::default(),
        };
        let outcome = self.inside(place, &interrupt);
        match (outcome, interrupt.check()) {
            // What then failed did so because of that.
            (Err(_), Err(interrupted)) => Err(interrupted.into()),
            (outcome, _) => outcome,
        }
    }

    /// What the verb does, as root.
    fn inside(&self, place: Place, interrupt: &Interrupt) -> Result<(), Failure> {
        match &self.verb {
            Verb::Up(up) => up.run(place, self.slow),
            Verb::Down => down(&place, self.slow),
            Verb::Status if !place.file("lab").exists() => {
                print(&format!("there is no lab '{}'\n", place.name()))
            }
            verb => {
                let lab = lab::Lab::open(place, self.slow)?;
                match verb {
                    Verb::Up(_) | Verb::Down => Ok(()),
                    Verb::Start(starting) => start(&lab, starting),
                    Verb::Stop => stop(&lab),
                    Verb::Accept(accept) => accept.run(&lab, interrupt),
                    Verb::Status => status(&lab),
                    Verb::Shell(shell) => shell.run(&lab),
                    Verb::Path(passed) => path(&lab, passed),
                    Verb::Trace(of) => of.trace(&lab),
                    Verb::Step(of) => of.on_its_machine(&lab, "step"),
                    Verb::Doctor(of) => of.on_its_machine(&lab, "doctor"),
                    Verb::Explain(passed) => {
                        let mut explain = Command::new(this_program());
                        explain.args(["explain", "--config"]).arg(lab.file("cluster.toml"));
                        Err(become_it(explain.args(&passed.options)))
                    }
                    Verb::Reveal => print(&faults::reveal(&lab, &lab.place.invocation())?),
                }
            }
        }
    }

    /// Everything is done inside of the lab's own namespaces; here they are made, entered, and given up.
    fn without_root(&self, place: &Place) -> Result<(), Failure> {
        let anchor = match (Anchor::of(place), &self.verb) {
            (Some(anchor), Verb::Down) => {
                // What serves is stopped in good order before all ends with its namespaces.
                let program = this_program();
                let mut inside = anchor.command(place, &program);
                let stopped = inside.args(std::env::args_os().skip(1)).status();
                anchor.end(place, self.slow)?;
                place.remove_dir()?;
                return match stopped {
                    Ok(status) if status.success() => Ok(()),
                    _ => Err(Failure::Refused(
                        "the lab is removed, but there were errors: see above".to_owned(),
                    )),
                };
            }
            (Some(anchor), _) => anchor,
            (None, Verb::Up(_)) => {
                // One that was killed, or that the machine's last start left behind.
                place.remove_dir()?;
                let anchor = Anchor::start(place)?;
                let status =
                    anchor.command(place, &this_program()).args(std::env::args_os().skip(1)).status();
                return match status {
                    Ok(status) if status.success() => Ok(()),
                    other => {
                        anchor.end(place, self.slow)?;
                        // What went wrong has been said.
                        std::process::exit(other.ok().and_then(|status| status.code()).unwrap_or(1));
                    }
                };
            }
            (None, Verb::Down | Verb::Status) => {
                place.remove_dir()?;
                return print(&format!("there is no lab '{}'\n", place.name()));
            }
            (None, _) => {
                return Err(Error::Refused(format!(
                    "there is no lab '{}' of yours: build it with '{} up'",
                    place.name(),
                    place.invocation()
                ))
                .into());
            }
        };
        Err(become_it(anchor.command(place, &this_program()).args(std::env::args_os().skip(1))))
    }
}
