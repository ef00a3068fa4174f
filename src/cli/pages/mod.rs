//! `pages`: man pages and completions as files, as a package has them. They are made of what `--help` and the manual say.

mod roff;
mod topics;
mod verbs;

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_mangen::roff::{Roff, bold, roman};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::completions::Shell;
use super::{Cli, Failure, written};

/// Write man pages and completions of shells into a directory, for who packs the program
#[derive(Args)]
#[command(hide = true)]
pub(super) struct Pages {
    /// The directory; it gets man/man1, man/man5, man/man7 and completions
    #[arg(long, value_name = "DIRECTORY")]
    into: PathBuf,
}

impl Pages {
    pub(super) fn run(&self) -> Result<(), Failure> {
        for (file, text) in man_pages(&date()) {
            let section = file.rsplit_once('.').map_or("1", |(_, section)| section);
            self.write(&format!("man/man{section}/{file}"), &text)?;
        }
        for shell in Shell::ALL {
            self.write(&format!("completions/{}", shell.file()), &shell.completions())?;
        }
        Ok(())
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Failure> {
        let path = self.into.join(file);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .map_err(|source| Failure::Output { to: directory.display().to_string(), source })?;
        }
        written(Some(&path), &[], |to| to.write_all(text.as_bytes()))
    }
}

/// Today; or the day that whoever wants the same bytes twice has named (reproducible-builds.org/specs/source-date-epoch).
fn date() -> String {
    let named = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let when = named.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_else(Timestamp::now);
    when.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// All of them: file names, and texts.
fn man_pages(date: &str) -> Vec<(String, String)> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    verbs::render(&command, date, &mut pages);
    pages.extend(
        topics::TOPICS.iter().map(|topic| (format!("{}.{}", topic.name, topic.section), topic.render(date))),
    );
    pages
}

/// How a man page begins.
struct Title<'a> {
    name: &'a str,
    section: u8,
    date: &'a str,
}

impl Title<'_> {
    fn append(&self, roff: &mut Roff, about: &str) {
        let source = format!("dunnat {}", env!("CARGO_PKG_VERSION"));
        roff.control(
            "TH",
            [self.name.to_uppercase().as_str(), &self.section.to_string(), self.date, &source, "dunnat"],
        );
        roff.control("SH", ["NAME"]);
        roff.text([roman(format!("{} - {about}", self.name))]);
    }
}

/// How one ends: the other pages, but not this one.
fn see_also(roff: &mut Roff, this: &str) {
    let mut names = vec![("dunnat", 1)];
    names.extend(topics::TOPICS.iter().map(|topic| (topic.name, topic.section)));
    names.push(("nft", 8));
    names.retain(|(name, _)| *name != this);
    roff.control("SH", ["SEE ALSO"]);
    let last = names.len() - 1;
    for (number, (name, section)) in names.into_iter().enumerate() {
        let sign = if number == last { "" } else { "," };
        roff.text([bold(name), roman(format!("({section}){sign}"))]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Command;

    use super::*;

    fn verbs(command: &Command, before: &str, all: &mut BTreeSet<String>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let name = format!("{before}-{}", verb.get_name());
            verbs(verb, &name, all);
            all.insert(format!("{name}.1"));
        }
    }

    #[test]
    fn every_verb_has_a_page_and_no_page_is_of_nothing() {
        let pages = man_pages("2026-01-02");
        let mut wanted = BTreeSet::from(
            ["dunnat.1", "dunnat-cluster.5", "dunnat-trace.5", "dunnat-filter.7", "dunnat-nat.7"]
                .map(str::to_owned),
        );
        verbs(&Cli::command(), "dunnat", &mut wanted);
        assert_eq!(pages.iter().map(|(file, _)| file.clone()).collect::<BTreeSet<_>>(), wanted);
        assert_eq!(pages.len(), wanted.len());
    }

    #[test]
    fn a_page_has_every_option_and_the_picture() {
        let pages = man_pages("2026-01-02");
        let text = |file: &str| &pages.iter().find(|(name, _)| name == file).unwrap().1;
        for argument in Cli::command().find_subcommand("run").unwrap().get_arguments() {
            let Some(long) = argument.get_long().filter(|_| !argument.is_hide_set()) else { continue };
            let written = format!("\\-\\-{}", long.replace('-', "\\-"));
            assert!(text("dunnat-run.1").contains(&written), "{written}");
        }
        assert!(text("dunnat-reload.1").contains("sudo dunnat reload new.toml"));
        assert!(text("dunnat-nat.7").contains("node1, home node"));
    }
}
