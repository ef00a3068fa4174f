use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use dunnat::cluster::Cluster;
use dunnat::text::escaped;

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
    /// Compare with this cluster file, for example that of another node; exit status 1 if they differ
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
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
        let Some(path) = &self.against else { return print(&cluster.summary()) };
        let found = cluster.differences(&Cluster::load(path)?);
        if found.is_empty() {
            return print("the two files say the same\n");
        }
        let mut out = String::new();
        for (path, lines) in [(&self.config, &found.here), (path, &found.there)] {
            let _ = writeln!(out, "only in {}:", escaped(&path.display().to_string()));
            for line in lines {
                let _ = writeln!(out, "  {line}");
            }
        }
        print(&out)?;
        Err(Failure::Differ)
    }
}
