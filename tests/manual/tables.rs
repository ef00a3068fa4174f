//! Tables of the documents, and what they are of.

use dunnat::conversations::{Cause, Finding};
use dunnat::engine::Reason;
use dunnat::kernel::tool::Tool;
use dunnat::manual::rows;
use dunnat::net::Stage;
use dunnat::policy::Named;
use dunnat::simulate::PacketSpec;
use dunnat::trace::Filter;
use serde_json::Value;

use super::examples::workplace;
use super::*;

/// The rows of the tables of a page whose first head is that.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let rows = rows(Page::named(page).unwrap().text, head);
    assert!(!rows.is_empty(), "{page} has no table of: {head}");
    rows
}

/// The first cells of those rows: no two are alike.
fn tabulated(page: &str, head: &str) -> BTreeSet<String> {
    let rows = table(page, head);
    let names: BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(names.len(), rows.len(), "{page}: one {head} has two lines");
    names
}

#[test]
fn every_reason_is_in_the_manual() {
    assert_eq!(tabulated("reasons", "reason"), set(Reason::ALL.map(Reason::name)));
    for row in table("reasons", "reason") {
        let reason: Reason = row[0].parse().unwrap();
        let known = reason.row().unwrap();
        // Where a table is of more than one stage, they stand before the meaning.
        let of_policy = row.len() == 3 && Named::NAMES.contains(&&*row[1]);
        let (stages, meaning) = match row.len() {
            4 => (Some(&row[1]), &row[2]),
            _ if of_policy => (None, &row[2]),
            _ => (None, &row[1]),
        };
        assert!(meaning.starts_with(known.about), "{reason}: {meaning}; in the table: {}", known.about);
        let all = known.stages.len() == Stage::ALL.len();
        let names: Vec<&str> = known.stages.iter().map(|stage| stage.name()).collect();
        let said = if all { "all".to_owned() } else { names.join(", ") };
        assert!(stages.is_none_or(|stages| *stages == said), "{reason}: {said}");
    }
}

#[test]
fn every_finding_and_cause_is_in_the_manual() {
    assert_eq!(tabulated("findings", "finding"), set(Finding::ALL.map(Finding::name)));
    assert_eq!(tabulated("findings", "cause"), set(Cause::ALL.map(Cause::name)));
    for row in table("findings", "finding") {
        let finding = Finding::ALL.into_iter().find(|finding| finding.name() == row[0]).unwrap();
        assert_eq!(row[1] == "yes", finding.is_right(), "{finding}");
    }
    let facts = tabulated("facts", "fact");
    for row in table("findings", "cause") {
        let cause = Cause::ALL.into_iter().find(|cause| cause.name() == row[0]).unwrap();
        let clue = cause.clue();
        let ways = clue.fact.into_iter().chain(clue.command);
        assert!(ways.clone().all(|way| row[2].contains(way)), "{cause}: {ways:?} is not in: {}", row[2]);
        assert!(ways.count() > 0 || row[2].is_empty(), "{cause}: {}", row[2]);
        // What is to be looked up is there.
        assert!(clue.fact.is_none_or(|fact| facts.contains(fact)), "{cause}");
    }
}

/// The fields of a schema.
fn fields(schema: &str) -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn every_field_of_json_is_in_the_manual() {
    assert_eq!(tabulated("traces", "field"), fields(dunnat::trace::SCHEMA));
    let rule: Value = serde_json::from_str(dunnat::trace::RULE_SCHEMA).unwrap();
    assert_eq!(tabulated("traces", "of a rule"), fields(&rule["properties"]["kernel"].to_string()));
    assert_eq!(tabulated("findings", "field"), fields(dunnat::conversations::SCHEMA));
    assert_eq!(tabulated("conntrack", "field"), fields(dunnat::flows::SCHEMA));
}

/// What stands behind "expected one of: " in a message.
fn expected(said: &str) -> BTreeSet<String> {
    let words = said.split_once("expected one of: ").unwrap().1.replace(['(', ')', '\n', '`'], "");
    words.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_word_of_a_filter_and_of_a_packet_is_in_the_manual() {
    let known = expected(&"frobnicate".parse::<Filter>().unwrap_err().to_string());
    let of_tests: Vec<String> = table("filters", "words").into_iter().map(|row| row[0].clone()).collect();
    for tests in &of_tests {
        for filter in tests.split(", ") {
            assert!(filter.parse::<Filter>().is_ok(), "{filter}");
        }
    }
    let written = of_tests.join(" ");
    let written: BTreeSet<&str> = written.split([' ', ',']).collect();
    for word in known.iter().flat_map(|word| word.split(' ')).filter(|word| *word != "not") {
        assert!(written.contains(word), "'{word}' is not in the table of the page filters");
    }

    let start = "tcp 192.168.122.1:40000 > 192.168.122.12:80";
    let known = expected(&format!("{start} frobnicate").parse::<PacketSpec>().unwrap_err().to_string());
    let words: Vec<String> = table("packets", "words").into_iter().map(|row| row[0].clone()).collect();
    for word in &known {
        assert!(words.iter().any(|words| words.starts_with(&format!("{word} "))), "{word}");
    }
    for words in &words {
        assert!(format!("{start} {words}").parse::<PacketSpec>().is_ok(), "{words}");
    }
}

#[test]
fn every_finding_about_a_flow_is_in_the_manual() {
    let findings = dunnat::flows::Finding::ALL;
    assert_eq!(tabulated("conntrack", "finding"), set(findings.map(dunnat::flows::Finding::name)));
}

#[test]
fn every_key_of_a_cluster_file_is_in_the_manual() {
    let directory = workplace();
    let example = fs::read_to_string(directory.path().join("cluster.toml")).unwrap();
    let mut known = BTreeSet::new();
    for table in ["[guests]", "[public]", "[[service]]", "[[node]]", "[marks]"] {
        let odd = example.replacen(table, &format!("{table}\nfrobnicate = 1"), 1);
        fs::write(directory.path().join("odd.toml"), odd).unwrap();
        let said = run(directory.path(), "dunnat check -c odd.toml");
        let keys = said.split_once("expected ").unwrap().1.lines().next().unwrap().to_owned();
        known.extend(keys.split('`').skip(1).step_by(2).map(|key| format!("{table} {key}")));
    }
    let written: BTreeSet<String> =
        table("cluster", "table").into_iter().map(|row| format!("{} {}", row[0], row[1])).collect();
    assert_eq!(written, known);
}

#[test]
fn what_a_node_needs_is_in_the_readme_and_the_manual() {
    let node = Page::named("node").unwrap().text;
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    for tool in [Tool::Nft, Tool::Ip, Tool::Ethtool] {
        let package = tool.package();
        assert!(node.contains(&format!("`{tool}`, Debian package `{package}`")), "{package}");
        assert!(
            readme.lines().any(|line| line.starts_with("sudo apt install") && line.contains(package)),
            "{package}"
        );
    }
}

#[cfg(feature = "lab")]
#[test]
fn every_fault_of_a_lab_is_in_the_manual() {
    let faults = dunnat::lab::faults::Fault::ALL;
    assert_eq!(tabulated("labs", "fault"), set(faults.map(|(_, name, _)| name)));
}
