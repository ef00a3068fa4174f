//! Man pages of verbs: what `--help` says, and what the manual has about typing it.

use std::collections::BTreeSet;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use dunnat::manual::{Block, Page, blocks};

use super::{Title, roff, see_also, topics};

/// At the most so many.
const EXAMPLES: usize = 12;

/// The pages of a command and of all its verbs: file names, and texts.
pub(super) fn render(command: &Command, date: &str, pages: &mut Vec<(String, String)>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    pages.push((format!("{name}.1"), one(command, &name, date)));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        render(verb, date, pages);
    }
}

fn one(command: &Command, name: &str, date: &str) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut head = Roff::new();
    // Of several sentences the first one says what it is.
    let about = about.split(". ").next().unwrap_or_default().trim_end_matches('.');
    Title { name, section: 1, date }.append(&mut head, about);
    let mut out = head.render();
    // The list of the manual's pages is below.
    let man = Man::new(command.clone().after_long_help(""));
    let mut add = |render: fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>| {
        let mut section = Vec::new();
        // Nothing can go wrong in memory.
        let _ = render(&man, &mut section);
        out += less_preamble(&String::from_utf8_lossy(&section));
    };
    add(|man, to| man.render_synopsis_section(to));
    add(|man, to| man.render_description_section(to));
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        add(|man, to| man.render_options_section(to));
    }
    if command.get_subcommands().any(|verb| !verb.is_hide_set()) {
        add(|man, to| man.render_subcommands_section(to));
    }
    let mut rest = Roff::new();
    let typed = name.replace('-', " ");
    if name == "dunnat" {
        manual(&mut rest);
    } else {
        examples(&mut rest, &typed, command.get_name());
    }
    see_also(&mut rest, name);
    roff::tidy(&(out + less_preamble(&rest.render())))
}

/// A page needs what roff says of apostrophes once.
fn less_preamble(text: &str) -> &str {
    text.find(".SH").map_or(text, |begin| &text[begin..])
}

/// Of the whole program: the pages of the manual, exit status, environment, files.
fn manual(page: &mut Roff) {
    page.control("SH", ["MANUAL"]);
    page.text([bold("dunnat help "), roman("PAGE prints one of these pages:")]);
    for of_manual in Page::ALL {
        page.control("TP", []);
        page.text([bold(of_manual.name)]);
        page.text([roman(of_manual.about())]);
    }
    if let Some(exit) = Page::named("exit") {
        roff::append(page, &blocks(exit.text), &topics::refer);
    }
    page.control("SH", ["FILES"]);
    for (file, what) in [
        ("/etc/dunnat/cluster.toml", "the cluster file of the unit dunnat@.service; see dunnat-cluster(5)"),
        ("/run/dunnat/NODE.sock", "where the node NODE answers"),
    ] {
        page.control("TP", []);
        page.text([bold(file)]);
        page.text([roman(what)]);
    }
}

/// What the manual types of this verb.
fn examples(page: &mut Roff, typed: &str, verb: &str) {
    let begins = [format!("{typed} "), format!("sudo {typed} ")];
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    for of_manual in Page::ALL {
        for block in blocks(of_manual.text) {
            let Block::Code(code) = block else { continue };
            let of_verb = code.lines.iter().filter(|line| {
                let line = format!("{line} ");
                begins.iter().any(|begin| line.starts_with(begin.as_str()))
            });
            for line in of_verb.filter(|_| code.class == "sh") {
                let command = line.split(" #").next().unwrap_or_default().trim_end();
                if seen.insert(command) {
                    lines.push(*line);
                }
            }
        }
    }
    if lines.is_empty() || verb.is_empty() {
        return;
    }
    page.control("SH", ["EXAMPLES"]);
    roff::verbatim(page, lines.into_iter().take(EXAMPLES), true);
}
