//! The manual: a page for each subject.
//!
//! A page is one Markdown file beside this one, and has three readers: these modules, `dunnat help PAGE`, and whoever
//! looks at the file. So pages keep to the simple Markdown that [`blocks`] reads. `tests/manual` runs their examples, and
//! compares their tables with the code.
//!
//! A page links to another by `[name]`. At its end it says where that is as a file, for those who look at the files; here
//! the same links are given before the page, as paths of modules, and the first ones count. So `cargo doc` checks them.

mod markdown;
mod plain;

pub use markdown::{Block, Code, blocks, rows};

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it is asked for by, and the name of its file.
    pub name: &'static str,
    /// Its Markdown. The first line is `# NAME: what it is about`.
    pub text: &'static str,
}

macro_rules! pages {
    ($($module:ident)*) => {
        macro_rules! links {
            () => {
                concat!($("[", stringify!($module), "]: ", stringify!($module), "\n",)* "[rfc]: crate::rfc\n\n")
            };
        }

        $(
            #[doc = links!()]
            #[doc = include_str!(concat!(stringify!($module), ".md"))]
            pub mod $module {}
        )*

        impl Page {
            /// All pages, in the order in which one would read them.
            pub const ALL: [Self; [$(stringify!($module)),*].len()] = [$(
                Self {
                    name: stringify!($module),
                    text: include_str!(concat!(stringify!($module), ".md")),
                }
            ),*];
        }
    };
}

pages! {
    why
    words
    node
    reloading
    upgrading
    operating
    messages
    faults
    stages
    icmp
    cluster
    importing
    ansible
    tags
    families
    services
    conflicts
    foreign
    guard
    rights
    standin
    once
    reasons
    looking
    browser
    traces
    filters
    conntrack
    prometheus
    findings
    many
    thousand
    packets
    captures
    stepping
    shadow
    policies
    support
    facts
    rehearsal
    labs
    choices
    exit
    limits
}

impl Page {
    /// The page of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.name == name)
    }

    /// What it is about: a line, without its name.
    pub fn about(self) -> &'static str {
        let title = self.text.lines().next().unwrap_or_default();
        title.split_once(": ").map_or(title, |(_, about)| about)
    }

    /// For a terminal.
    pub fn plain(self) -> String {
        plain::render(&blocks(self.text))
    }

    /// The names of all pages, each with what it is about, in two columns.
    pub fn list() -> String {
        let width = Self::ALL.iter().map(|page| page.name.len()).max().unwrap_or(0);
        Self::ALL.iter().map(|page| format!("  {:width$}  {}\n", page.name, page.about())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_by_its_name_and_says_what_it_is_about() {
        for page in Page::ALL {
            assert_eq!(Page::named(page.name), Some(page));
            assert_eq!(page.text.lines().next(), Some(&*format!("# {}: {}", page.name, page.about())));
        }
        assert_eq!(Page::named("no-such-page"), None);
    }

    #[test]
    fn the_list_fits_a_terminal() {
        for line in Page::list().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
