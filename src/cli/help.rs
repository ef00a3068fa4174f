//! `help`: clap has the verbs, and the manual the pages. A page is looked for where clap knows no such verb.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory as _;
use dunnat::manual::Page;
use dunnat::text::escaped;

use super::{Cli, Failure, print};

/// What stands below the list of verbs.
pub(super) fn pages() -> String {
    format!("Pages of the manual, for dunnat help PAGE:\n{}", Page::list().trim_end())
}

/// The page that was asked for, or none if it is a verb's help or no help at all.
pub(super) fn page_asked_for(words: &[OsString]) -> Option<Result<Page, Failure>> {
    let [help, name, ..] = words else { return None };
    let name = name.to_string_lossy();
    let is_verb = name == "help" || Cli::command().find_subcommand(&*name).is_some();
    if help != "help" || name.starts_with('-') || is_verb {
        return None;
    }
    let name = words[1..].iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let names = Page::ALL.map(|page| page.name).join(", ");
    Some(Page::named(&name).ok_or_else(|| {
        Failure::Usage(format!(
            "help: there is no verb and no page '{}'. The pages are: {names}",
            escaped(&name)
        ))
    }))
}

/// Prints it.
pub(super) fn show(page: Result<Page, Failure>) -> ExitCode {
    super::ended(page.and_then(|page| print(&page.plain())))
}
