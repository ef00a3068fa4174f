//! Which modules a file uses, and which it declares.

use crate::tokens::{Token, is_word, tokens};

/// What one file says of modules.
#[derive(Default)]
pub(crate) struct Source {
    /// Line, and the module of the first level that is used there.
    pub(crate) uses: Vec<(usize, String)>,
    /// `mod name;`: modules with a file of their own.
    pub(crate) modules: Vec<Module>,
}

#[derive(Clone)]
pub(crate) struct Module {
    pub(crate) path: Vec<String>,
    pub(crate) only_for_tests: bool,
}

/// In the place of a module's name: everything (`use crate::*`).
pub(crate) const WHOLE: &str = "*";

/// What an item begins with. `#[cfg(test)]` before anything else (a field, a statement) takes nothing out: rather a use too
/// many is found than one too few.
const ITEMS: [&str; 13] = [
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "macro_rules",
    "static",
    "struct",
    "trait",
    "type",
    "unsafe",
    "use",
];

impl Source {
    /// Reads the file of the module `path`, which is empty for the root.
    pub(crate) fn read(source: &str, path: &[String]) -> Self {
        let tokens = tokens(source);
        let mut reader = Reader { tokens: &tokens, module: path.to_vec(), found: Self::default() };
        reader.items(0, tokens.len());
        reader.found
    }
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    /// The module that is read, also one in braces.
    module: Vec<String>,
    found: Source,
}

/// Each takes the index of the token that it begins with, and returns that of the one behind.
impl<'a> Reader<'a> {
    fn at(&self, index: usize) -> &'a str {
        self.tokens.get(index).map_or("", |token| token.text)
    }

    fn items(&mut self, mut index: usize, end: usize) {
        while index < end {
            let is_first = index == 0 || self.at(index - 1) != "::";
            index = match self.at(index) {
                "#" if self.at(index + 1) == "[" && self.is_for_tests(index + 2) => self.for_tests(index),
                "mod" if self.at(index + 2) == ";" => self.declared(index, false),
                "mod" if self.at(index + 2) == "{" => {
                    let end = self.brackets(index + 2);
                    self.module.push(self.at(index + 1).to_owned());
                    self.items(index + 3, end);
                    self.module.pop();
                    end
                }
                "use" if self.at(index + 1) != "<" => self.use_tree(index + 1, &[]),
                "crate" | "dunnat" | "self" | "super" if is_first && self.at(index + 1) == "::" => {
                    self.path(index)
                }
                _ => index + 1,
            }
        }
    }

    /// Whether what stands in an attribute keeps an item for tests.
    fn is_for_tests(&self, index: usize) -> bool {
        let words = [0, 1, 2, 3, 4].map(|word| self.at(index + word));
        matches!(words, ["cfg", "(", "test", ")", _] | ["cfg", "(", "all", "(", "test"])
    }

    /// An item, from the attribute that keeps it for tests.
    fn for_tests(&mut self, mut index: usize) -> usize {
        loop {
            match self.at(index) {
                "#" => index = self.brackets(index + 1),
                "pub" if self.at(index + 1) == "(" => index = self.brackets(index + 1),
                "pub" => index += 1,
                _ => break,
            }
        }
        match self.at(index) {
            "mod" if self.at(index + 2) == ";" => self.declared(index, true),
            "mod" => self.brackets(index + 2),
            word if ITEMS.contains(&word) => loop {
                index = match self.at(index) {
                    "{" => break self.brackets(index),
                    "(" | "[" => self.brackets(index),
                    ";" | "" => break index + 1,
                    _ => index + 1,
                }
            },
            _ => index,
        }
    }

    /// `mod name;`
    fn declared(&mut self, index: usize, only_for_tests: bool) -> usize {
        let path = [&self.module[..], &[self.at(index + 1).to_owned()]].concat();
        self.found.modules.push(Module { path, only_for_tests });
        index + 3
    }

    /// Brackets of any kind, with all that is in them.
    fn brackets(&self, mut index: usize) -> usize {
        let mut open = 0;
        loop {
            match self.at(index) {
                "(" | "[" | "{" => open += 1,
                ")" | "]" | "}" => open -= 1,
                "" => return index,
                _ => {}
            }
            index += 1;
            if open == 0 {
                return index;
            }
        }
    }

    /// A path in the code, such as `crate::net::Mark::new`.
    fn path(&mut self, index: usize) -> usize {
        let (mut path, mut next) = (vec![self.at(index)], index + 1);
        while self.at(next) == "::" && is_word(self.at(next + 1)) {
            path.push(self.at(next + 1));
            next += 2;
        }
        // `pub(in super::super)` names the crate, and uses nothing of it.
        if self.resolved(&path).is_some_and(|path| !path.is_empty()) {
            self.used(index, &path);
        }
        next
    }

    /// What stands behind `use`, or in a group of it.
    fn use_tree(&mut self, mut index: usize, prefix: &[&'a str]) -> usize {
        let mut path = prefix.to_vec();
        loop {
            match self.at(index) {
                "{" => {
                    index += 1;
                    while !matches!(self.at(index), "}" | "") {
                        index = if self.at(index) == "," { index + 1 } else { self.use_tree(index, &path) };
                    }
                    return index + 1;
                }
                "::" => index += 1,
                "*" => {
                    path.push(WHOLE);
                    self.used(index, &path);
                    return index + 1;
                }
                word if is_word(word) => {
                    path.push(word);
                    index += 1;
                    if self.at(index) != "::" {
                        self.used(index - 1, &path);
                        return if self.at(index) == "as" { index + 2 } else { index };
                    }
                }
                other => panic!("`{other}` in a use of {}: this test cannot read it", self.module.join("::")),
            }
        }
    }

    fn used(&mut self, index: usize, path: &[&str]) {
        if let Some(path) = self.resolved(path) {
            let module = path.into_iter().next().unwrap_or_else(|| WHOLE.to_owned());
            self.found.uses.push((self.tokens[index].line, module));
        }
    }

    /// The path from the root; nothing for one that begins with another crate, or with a name that a `use` has brought.
    fn resolved(&self, path: &[&str]) -> Option<Vec<String>> {
        let mut from_root = match *path.first()? {
            "crate" | "dunnat" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        for word in path {
            match *word {
                "crate" | "dunnat" | "self" => {}
                "super" => drop(from_root.pop()),
                word => from_root.push(word.to_owned()),
            }
        }
        Some(from_root)
    }
}

/// What a file of the module `walk::way` uses.
#[cfg(test)]
fn uses(source: &str) -> String {
    let found = Source::read(source, &["walk".to_owned(), "way".to_owned()]).uses;
    found.iter().map(|(line, module)| format!("{line} {module}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn each_form_of_a_use_is_found() {
    assert_eq!(uses("use crate::net::Mark;"), "1 net");
    assert_eq!(
        uses("pub(crate) use crate::trace::{\n    Event,\n    Name as Other,\n};"),
        "2 trace, 3 trace"
    );
    assert_eq!(uses("use crate::{\n net,\n trace::{self, tap::*},\n};"), "2 net, 3 trace, 3 trace");
    assert_eq!(uses("fn a() { b(\"crate::net\", crate::trace::Event::new()) }"), "1 trace");
    assert_eq!(uses("fn a() -> super::super::net::Mark { super::b() }"), "1 net, 1 walk");
    assert_eq!(uses("use super::{super::net, Visit};"), "1 net, 1 walk");
    assert_eq!(uses("mod a { use super::super::super::net; use self::b; }"), "1 net, 1 walk");
    assert_eq!(uses("impl From<crate::net::Mark> for Vec<crate::trace::Event> {}"), "1 net, 1 trace");
    assert_eq!(uses("#[b(with = crate::net::text)]\nstruct A(pub(crate) u8);"), "1 net");
    assert_eq!(uses("use dunnat::net; fn a() { dunnat::trace::b() }"), "1 net, 1 trace");
    assert_eq!(uses("use crate::*; use super::super as root; use super::super::{*};"), "1 *, 1 *, 1 *");
    assert_eq!(uses("use std::net::{self, IpAddr}; use clap::Args; pub(in super::super) fn a() {}"), "");
    assert_eq!(uses("//! [`crate::net`]\n/* use crate::net; */ const A: &str = r\"use crate::net;\";"), "");
}

#[test]
fn what_is_only_for_tests_does_not_count() {
    let last = "use crate::net;";
    for before in [
        "#[cfg(test)] mod tests { use crate::daemon; mod a { use crate::daemon; } }",
        "#[cfg(test)] #[allow(a)] pub(crate) fn a(b: [u8; 2]) -> Result<(), crate::daemon::A> { crate::daemon::b() }",
        "#[cfg(all(test, feature = \"lab\"))] use crate::daemon::{A, B};",
        "#[cfg(test)] impl crate::daemon::A for B { fn c() { crate::daemon::d() } }",
    ] {
        assert_eq!(uses(&format!("{before} {last}")), "1 net", "{before}");
    }
    let counted = "#[cfg(not(test))] use crate::daemon; #[cfg(feature = \"test\")] use crate::queue;";
    assert_eq!(uses(&format!("{counted} {last}")), "1 daemon, 1 queue, 1 net");
    let modules =
        Source::read("mod a; #[cfg(test)] pub(crate) mod b; mod c { mod d; }", &["walk".to_owned()]).modules;
    let told = modules.iter().map(|module| (module.path.join("::"), module.only_for_tests));
    let expected = [("walk::a", false), ("walk::b", true), ("walk::c::d", false)];
    assert_eq!(told.collect::<Vec<_>>(), expected.map(|(path, is)| (path.to_owned(), is)));
}
