use std::path::PathBuf;

use clap::Args;
use dunnat::cluster::Cluster;

use super::{Failure, print};

/// Validate the cluster file and print a summary
#[derive(Args)]
pub(super) struct Check {
    /// The cluster file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Also check that the file has this node
    #[arg(long, short, value_name = "NAME")]
    node: Option<String>,
}

impl Check {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let cluster = Cluster::load(&self.config)?;
        if let Some(node) = &self.node {
            cluster.find(node)?;
        }
        for text in cluster.notes() {
            super::note(format_args!("note: {text}"))?;
        }
        print(&cluster.summary())
    }
}
