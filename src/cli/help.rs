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
    Some(Page::named(&name).ok_or_else(|| {
        let names = Page::ALL.map(|page| page.name);
        let meant = near(&name, &names).map_or_else(String::new, |near| format!("Did you mean {near}? "));
        Failure::Usage(format!(
            "help: there is no verb and no page '{}'. {meant}The pages are: {}",
            escaped(&name),
            names.join(", ")
        ))
    }))
}

/// The name that begins as what was typed, or with which it begins.
fn near<'a>(typed: &str, names: &[&'a str]) -> Option<&'a str> {
    const LETTERS: usize = 3;
    let typed = typed.to_lowercase();
    let begins = |name: &&&str| name.starts_with(&typed) || typed.starts_with(**name);
    names.iter().find(begins).copied().filter(|_| typed.len() >= LETTERS)
}

/// Prints it.
pub(super) fn show(page: Result<Page, Failure>) -> ExitCode {
    super::ended(page.and_then(|page| print(&page.plain())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_types_nearly_a_name_is_told_it() {
        let names = ["filters", "icmp", "why"];
        for (typed, meant) in [
            ("filter", Some("filters")),
            ("FILT", Some("filters")),
            ("icmpv6", Some("icmp")),
            ("fi", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(near(typed, &names), meant, "{typed}");
        }
    }
}
