//! `lab shell`: a shell, or one command, on a machine of the lab.

use std::fs;
use std::process::Command;

use clap::Args;
use dunnat::lab::{self, Error};

use super::program::become_it;
use crate::cli::Failure;

#[derive(Args)]
pub(super) struct Shell {
    /// Name of the machine, from `status`
    machine: String,
    /// The command [default: a shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Shell {
    pub(super) fn run(&self, lab: &lab::Lab) -> Result<(), Failure> {
        let machines: Vec<&str> = [lab.layout.lan].into_iter().chain(lab.layout.machines()).collect();
        if !machines.contains(&&*self.machine) {
            return Err(Failure::Usage(format!(
                "no machine '{}' in the lab '{}'. There are: {}",
                self.machine,
                lab.place.name(),
                machines.join(" ")
            )));
        }
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &lab.place.namespace(&self.machine)]);
        if let Some((program, rest)) = self.command.split_first() {
            return Err(become_it(inside.arg(program).args(rest)));
        }
        // Its own prompt, behind whatever is usual here.
        let prompt = format!("[{}] {} \\w \\$ ", lab.place.name(), self.machine);
        let file = lab.file("bashrc");
        let text = "[[ ! -r ~/.bashrc ]] || source ~/.bashrc\nPS1=$DUNNAT_LAB_PROMPT\n";
        fs::write(&file, text).map_err(|source| Error::File { path: file.clone(), source })?;
        Err(become_it(
            inside.arg("bash").arg("--rcfile").arg(file).arg("-i").env("DUNNAT_LAB_PROMPT", prompt),
        ))
    }
}
