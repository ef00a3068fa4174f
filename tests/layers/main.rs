//! The table of layers in `src/lib.rs` holds: it has every module, and no module uses one that stands below it.
//! What is only for tests may use anything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod examples;
mod source;
mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{Source, WHOLE};

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// The library and the program: each begins a tree of files.
const ROOTS: [&str; 2] = ["lib.rs", "main.rs"];

#[test]
fn no_module_uses_one_below_it() {
    let found = violations(&table(&text("lib.rs")), &Tree::read().uses);
    assert!(
        found.is_empty(),
        "{}\nEither the use is wrong: what both modules need belongs above both. Or the table is: a row has to move.",
        found.join("\n")
    );
}

#[test]
fn the_table_has_every_module_and_no_other() {
    let mut rows = table(&text("lib.rs"));
    let declared = ROOTS.map(|root| Source::read(&text(root), &[]).modules).concat();
    let mut modules: Vec<String> = declared.into_iter().map(|module| module.path.concat()).collect();
    rows.sort();
    modules.sort();
    assert_eq!(
        rows, modules,
        "left: the rows under `# Layers` in src/lib.rs; right: the modules that there are"
    );
}

/// A file that the reading misses would be held to nothing.
#[test]
fn every_file_is_read() {
    let mut there = BTreeSet::new();
    let mut folders = vec![PathBuf::from(SRC)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                there.insert(path.strip_prefix(SRC).unwrap().to_owned());
            }
        }
    }
    let read = Tree::read().files;
    let missed: Vec<_> = there.difference(&read).collect();
    assert!(missed.is_empty(), "no `mod` leads to these files of src: {missed:?}");
}

#[test]
fn what_is_not_above_is_told_with_its_place() {
    let lib = "//! # Layers\n//!\n//! | module | is |\n//! |---|---|\n//! | [`net`] | a | b |\n//! | `cli` | c |\n\
               //! # More\n//! | [`no`] |";
    let table = table(lib);
    assert_eq!(table, ["net", "cli"]);
    let found = |from: &str, to: &str| {
        let used = Use { place: "src/a.rs".to_owned(), line: 7, from: from.to_owned(), to: to.to_owned() };
        violations(&table, &[used]).concat()
    };
    assert_eq!(found("cli", "net"), "");
    assert_eq!(found("net", "net"), "");
    assert_eq!(found("net", "cli"), "src/a.rs:7: net uses cli, which is below it in the table of src/lib.rs");
    assert_eq!(found("net", "new"), "src/a.rs:7: net uses new, which has no row in the table of src/lib.rs");
    assert!(found("cli", WHOLE).starts_with("src/a.rs:7: cli uses the whole crate"));
}

/// The modules under `# Layers`, from above to below.
fn table(lib: &str) -> Vec<String> {
    let section = lib.lines().skip_while(|line| *line != "//! # Layers").skip(1);
    let lines = section.take_while(|line| !line.starts_with("//! # "));
    let cells = lines.filter_map(|line| line.strip_prefix("//! | ")?.split('|').next());
    let names = cells.map(|cell| cell.trim().trim_matches(['[', ']', '`']));
    names.filter(|name| *name != "module").map(str::to_owned).collect()
}

/// One module of the first level uses another.
struct Use {
    place: String,
    line: usize,
    from: String,
    to: String,
}

/// What of `uses` goes to a module that is not above, one line for each.
fn violations(table: &[String], uses: &[Use]) -> Vec<String> {
    let row = |module: &str| table.iter().position(|name| name == module);
    let told = uses.iter().filter(|used| used.from != used.to).filter_map(|Use { place, line, from, to }| {
        let wrong = match (row(from), row(to)) {
            (Some(from), Some(to)) if to < from => return None,
            (Some(_), Some(_)) => format!("{to}, which is below it"),
            (Some(_), None) if to == WHOLE => "the whole crate, and so what is below it".to_owned(),
            (Some(_), None) => format!("{to}, which has no row"),
            // The test of the table's rows tells.
            (None, _) => return None,
        };
        Some(format!("{place}:{line}: {from} uses {wrong} in the table of src/lib.rs"))
    });
    let mut told: Vec<String> = told.collect();
    told.dedup(); // One line may use more than one thing of a module.
    told
}

/// The sources of the library and the program.
#[derive(Default)]
struct Tree {
    files: BTreeSet<PathBuf>,
    uses: Vec<Use>,
}

impl Tree {
    fn read() -> Self {
        let mut tree = Self::default();
        for root in ROOTS {
            tree.add(PathBuf::from(root), &[], false);
        }
        tree
    }

    fn add(&mut self, file: PathBuf, path: &[String], only_for_tests: bool) {
        let Source { uses, modules } = Source::read(&text(&file), path);
        // The root itself has no layer: it only says which modules there are.
        if let (Some(from), false) = (path.first(), only_for_tests) {
            let place = format!("src/{}", file.display());
            let uses = uses.into_iter();
            self.uses.extend(uses.map(|(line, to)| Use {
                place: place.clone(),
                line,
                from: from.clone(),
                to,
            }));
        }
        self.files.insert(file);
        for module in modules {
            let folder = PathBuf::from_iter(&module.path);
            let plain = folder.with_extension("rs");
            let file = if Path::new(SRC).join(&plain).exists() { plain } else { folder.join("mod.rs") };
            self.add(file, &module.path, only_for_tests || module.only_for_tests);
        }
    }
}

fn text(file: impl AsRef<Path>) -> String {
    let path = Path::new(SRC).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
