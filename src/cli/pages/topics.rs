//! Man pages about files and ideas, made of pages of the manual.

use clap_mangen::roff::Roff;
use dunnat::manual::{Page, blocks};

use super::{Title, roff, see_also};

/// A man page that is no verb's.
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) section: u8,
    about: &'static str,
    /// The pages of the manual that it is made of.
    pages: &'static [&'static str],
}

pub(super) const TOPICS: [Topic; 4] = [
    Topic {
        name: "dunnat-cluster",
        section: 5,
        about: "the cluster file: nodes, guests, services",
        pages: &["cluster", "services", "tags", "families", "conflicts"],
    },
    Topic {
        name: "dunnat-trace",
        section: 5,
        about: "formats of a trace: text, JSON, pcapng",
        pages: &["traces", "reasons"],
    },
    Topic {
        name: "dunnat-filter",
        section: 7,
        about: "the language that chooses decisions",
        pages: &["filters"],
    },
    Topic {
        name: "dunnat-nat",
        section: 7,
        about: "how distributed NAT works, stage by stage",
        pages: &["words", "stages", "icmp", "foreign", "guard", "standin", "once"],
    },
];

impl Topic {
    pub(super) fn render(&self, date: &str) -> String {
        let mut page = Roff::new();
        Title { name: self.name, section: self.section, date }.append(&mut page, self.about);
        let others = |name: &str| self.refer(name);
        for name in self.pages {
            let text = Page::named(name).map_or("", |page| page.text);
            roff::append(&mut page, &blocks(text), &others);
        }
        see_also(&mut page, self.name);
        roff::tidy(&page.render())
    }

    /// Where to find another page of the manual.
    fn refer(&self, name: &str) -> String {
        if self.pages.contains(&name) {
            return Page::named(name).map_or_else(|| name.to_owned(), |page| format!("\"{}\"", page.about()));
        }
        refer(name)
    }
}

/// The man page that has this page of the manual, or the command that prints it.
pub(super) fn refer(name: &str) -> String {
    if Page::named(name).is_none() {
        // No link at all, as in [guests].
        return format!("[{name}]");
    }
    match TOPICS.iter().find(|topic| topic.pages.contains(&name)) {
        Some(topic) => format!("{}({})", topic.name, topic.section),
        None => format!("\"dunnat help {name}\""),
    }
}
