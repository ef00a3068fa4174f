//! Verbs of this program that are run for a lab, or for a node of it, with the options that were typed.

use std::fs;
use std::process::Command;

use clap::Args;
use dunnat::lab::{self, faults, running};

use super::program::become_it;
use crate::cli::{Failure, this_program};

#[derive(Args)]
pub(super) struct Passed {
    /// Options and arguments of that command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) options: Vec<String>,
}

#[derive(Args)]
pub(super) struct OfNode {
    /// Name of the node
    node: String,
    /// Options and arguments of that command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// The JSON traces that `start` has had written; a node without events is told.
pub(super) fn path(lab: &lab::Lab, passed: &Passed) -> Result<(), Failure> {
    let mut command = Command::new(this_program());
    command.arg("path");
    let mut count = 0;
    for node in &lab.layout.nodes {
        let file = lab.file(&format!("{}.jsonl", node.name));
        match fs::metadata(&file) {
            Ok(about) if about.len() > 0 => {
                command.arg(&file);
                count += 1;
            }
            Ok(_) => dunnat::messages::message!(NODE_SAW_NOTHING, "{}: no events", node.name),
            Err(_) => {
                dunnat::messages::message!(
                    NODE_HAS_NO_TRACE,
                    "{}: no trace at {}",
                    node.name,
                    file.display()
                );
            }
        }
    }
    if count == 0 {
        return Err(Failure::Refused(format!(
            "no node has a trace with events: make one with '{0} start --trace-json' or '{0} accept \
             --trace-json'",
            lab.place.invocation()
        )));
    }
    Err(become_it(command.args(&passed.options)))
}

impl OfNode {
    fn node<'a>(&self, lab: &'a lab::Lab) -> Result<&'a lab::Node, Failure> {
        lab.layout.nodes.iter().find(|node| node.name == self.node).ok_or_else(|| {
            let names: Vec<&str> = lab.layout.nodes.iter().map(|node| &*node.name).collect();
            Failure::Usage(format!(
                "no node '{}' in the lab '{}'. There are: {}",
                self.node,
                lab.place.name(),
                names.join(" ")
            ))
        })
    }

    pub(super) fn trace(&self, lab: &lab::Lab) -> Result<(), Failure> {
        let node = self.node(lab)?;
        if running::process(lab, node).is_none() {
            return Err(Failure::Refused(format!(
                "dunnat does not run on {}: run '{} start' first",
                node.name,
                lab.place.invocation()
            )));
        }
        let mut trace = Command::new(this_program());
        trace.arg("trace").arg("--socket").arg(lab.file(&format!("{}.sock", node.name)));
        Err(become_it(trace.args(&self.options)))
    }

    /// A verb that is for the node's own machine, with the cluster file that the node has there.
    pub(super) fn on_its_machine(&self, lab: &lab::Lab, verb: &str) -> Result<(), Failure> {
        let node = self.node(lab)?;
        let file = faults::cluster_file_of(lab, node, faults::present(lab))?;
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &lab.place.namespace(&node.name)]).arg(this_program());
        inside.arg(verb).arg("--config").arg(file).args(["--node", &node.name]);
        if verb == "step" {
            if let Some(pid) = running::process(lab, node) {
                return Err(Failure::Refused(format!(
                    "dunnat runs on {} already, as process {pid}: run '{} stop' first",
                    node.name,
                    lab.place.invocation()
                )));
            }
            inside.arg("--socket").arg(lab.file(&format!("{}.sock", node.name)));
        }
        Err(become_it(inside.args(&self.options)))
    }
}
