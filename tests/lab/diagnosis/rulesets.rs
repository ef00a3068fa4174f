//! The rulesets of others in `tests/rulesets`, on the node that the guest lives on, with real clients.

use std::fs;

use super::*;

/// What each says of a ruleset is quoted in the table. That doctor and rehearse name the rule is what
/// `every_ruleset_has_its_culprit` proves; here path is not to be wrong, and the kernel's own words are joined.
#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn rulesets_of_others_are_diagnosed() {
    let lab = cluster::Lab::up(&["--nodes", "3", "--family", "both"]);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rulesets");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        let rules = fs::read_to_string(&file).unwrap();
        let culprit = rules.lines().nth(1).and_then(|line| line.strip_prefix("# culprit: ")).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let tables: Vec<&str> = rules.lines().filter(|line| line.starts_with("table ")).collect();
        let delete: String =
            tables.iter().map(|line| format!("nft delete {}; ", line.trim_end_matches(" {"))).collect();
        let case = Case {
            name: Box::leak(format!("ruleset {name}").into_boxed_str()),
            before: vec![sh("node1", &format!("nft -f {}", file.display()))],
            undo: vec![sh("node1", &delete)],
            node: "node1",
            with_kernel: true,
            ..Case::default()
        };
        let said = session::run(&lab, &case);
        rows.push(table::row(&case, &said));
        let dropped = !culprit.starts_with("after ") && !["nothing", "unknown"].contains(&culprit);
        wrong.extend(
            said.misjudged(dropped.then_some(culprit)).into_iter().map(|fault| format!("{name}: {fault}")),
        );
    }
    table::write("rulesets", &rows);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
