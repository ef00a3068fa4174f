//! `lab status`: what is there, and what runs.

use dunnat::lab;
use dunnat::lab::running::{self, By};

use crate::cli::{Failure, print};

pub(super) fn status(lab: &lab::Lab) -> Result<(), Failure> {
    let mut text = format!("the lab '{}' is up\n\n{}\n", lab.place.name(), lab.picture());
    text += &format!("cluster file: {}\n", lab.file("cluster.toml").display());
    match running::running(lab) {
        None => text += "nothing translates yet\n",
        Some(By::Kernel) => text += "the pure-kernel ruleset is loaded on every node\n",
        Some(by) => {
            for node in &lab.layout.nodes {
                let log = lab.file(&format!("{}.log", node.name));
                let log = log.display();
                text += &match running::process(lab, node) {
                    Some(pid) => format!("{}: {} runs, process {pid}, log {log}\n", node.name, by.name()),
                    None => format!("{}: {} is gone, log {log}\n", node.name, by.name()),
                };
            }
        }
    }
    print(&text)
}
