use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use dunnat::cluster::Cluster;
use dunnat::import::{self, LONGEST, Source};

use super::{Failure, named, note, opened, written};

/// Make a cluster file from nftables rulesets that were written by hand
///
/// Reads the rulesets of one node or of several, as files for nft, templates, or what `nft list ruleset` prints. Says of
/// each line, on standard error, what it was taken for, or that it was not understood. Nothing is loaded or changed. Exit status: 0
/// if the cluster file is right; 1 if something is missing in it.
#[derive(Args)]
pub(super) struct Import {
    /// The rulesets; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write the cluster file here [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Say only which lines were not understood
    #[arg(long, short)]
    quiet: bool,
}

impl Import {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let sources = self.files.iter().map(|path| source(path)).collect::<Result<Vec<_>, _>>()?;
        let imported = import::read(&sources);
        let is_told =
            |line: &&import::Line| !self.quiet || matches!(line.taken, import::Taken::NotUnderstood(_));
        let mut text: String =
            imported.lines.iter().filter(is_told).map(|line| format!("{line}\n")).collect();
        for missing in imported.missing() {
            text += &format!("missing: {missing}\n");
        }
        note(text)?;
        let file = imported.cluster_file();
        written(self.write.as_deref(), &self.files, |out| out.write_all(file.as_bytes()))?;
        let not_understood = match imported.not_understood() {
            0 => "every line was understood".to_owned(),
            1 => "1 line was not understood: what it does, dunnat will not do".to_owned(),
            more => format!("{more} lines were not understood: what they do, dunnat will not do"),
        };
        if !imported.missing().is_empty() {
            let what = format!("{not_understood}; the cluster file is not whole: fill in what is missing");
            return Err(Failure::Refused(what));
        }
        let name = named(self.write.as_deref()).unwrap_or(Path::new("the cluster file"));
        Cluster::parse(&file, name).map_err(|error| Failure::Refused(error.to_string()))?;
        let without = if imported.has_services() { "" } else { ", but has no service" };
        note(format_args!("{not_understood}; the cluster file is right{without}"))
    }
}

fn source(path: &Path) -> Result<Source, Failure> {
    let (name, input, _) = opened::open(path)?;
    let mut bytes = Vec::new();
    // One byte more says that there is more.
    let read = input.take(LONGEST as u64 + 1).read_to_end(&mut bytes);
    let text = read.and_then(|_| String::from_utf8(bytes).map_err(io::Error::other));
    match text {
        Ok(text) => Ok(Source { name, text }),
        Err(source) => Err(Failure::Input { from: name, source }),
    }
}
