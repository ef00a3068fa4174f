use std::path::PathBuf;

use clap::Args;
use dunnat::cluster::unfit_name;
use dunnat::doctor::Surroundings;
use dunnat::init::Draft;

use super::{Failure, named, note, written};

/// Look at this host, and write a cluster file to go on with
///
/// Interfaces, bridge, addresses and the guests that the bridge has seen are those of this host. What one host cannot know (services,
/// other nodes) is a comment in the file that begins with TODO. Changes nothing on this host.
#[derive(Args)]
pub(super) struct Init {
    /// Write the cluster file here; one that is there is not overwritten [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// What to call this node [default: the name of this host]
    #[arg(long, short, value_name = "NAME")]
    node: Option<String>,
}

impl Init {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if let Some(path) = named(self.write.as_deref()).filter(|path| path.exists()) {
            return Err(Failure::Refused(format!(
                "{} is there already, and was not overwritten",
                path.display()
            )));
        }
        let mut around = Surroundings::read().map_err(Failure::Refused)?;
        if let Some(name) = &self.node {
            around.name.clone_from(name);
        }
        // What `check` would say of the file.
        if let Some((wrong, right)) = unfit_name(&around.name) {
            return Err(Failure::Usage(format!("--node: {wrong}: {right}")));
        }
        let Draft { file, unknown } = Draft::new(&around);
        written(self.write.as_deref(), &[], |out| out.write_all(file.as_bytes()))?;
        for what in unknown {
            note(format_args!("to fill in: {what}"))?;
        }
        Ok(())
    }
}
