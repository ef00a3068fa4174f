//! What people and programs get to see.

use std::sync::OnceLock;

use super::cluster::{FILE, Sim};
use crate::conversations::{Conversation, Finding, Paths, SCHEMA, Text, json, mermaid, svg};

/// A local one, a foreign one, one by way of another node, and one that is not right.
fn some() -> &'static Paths {
    static SOME: OnceLock<Paths> = OnceLock::new();
    SOME.get_or_init(|| {
        let wrong = FILE.replace("12:00:00:00:00:00/24", "16:00:00:00:00:00/24");
        let mut sim = Sim::with_files([&wrong, FILE, FILE]);
        sim.connect(1, 40001);
        sim.connect(2, 40002);
        sim.try_to_connect(3, 40003);
        sim.paths()
    })
}

fn foreign() -> &'static Conversation {
    some().conversations.iter().find(|one| one.judgement.finding == Finding::Foreign).unwrap()
}

fn wrong() -> &'static Conversation {
    some().conversations.iter().find(|one| !one.judgement.finding.is_right()).unwrap()
}

#[test]
fn the_table_has_what_is_wrong_in_words() {
    let paths = some();
    let all: Vec<&Conversation> = paths.conversations.iter().collect();
    let text = Text::new(false);
    insta::assert_snapshot!(format!(
        "{}\n{}",
        text.table(&all).collect::<String>(),
        text.totals(paths, &all)
    ));
}

#[test]
fn the_ladder_is_good_at_a_hundred_columns() {
    let text = Text::new(false);
    let ladders = format!("{}\n{}", text.ladder(foreign()), text.ladder(wrong()));
    assert!(ladders.lines().all(|line| line.chars().count() <= 100), "{ladders}");
    insta::assert_snapshot!(ladders);
    let colours = Text::new(true).ladder(wrong());
    let plain: String = colours
        .split("\x1b[")
        .enumerate()
        .map(|(place, part)| if place == 0 { part } else { part.split_once('m').unwrap().1 })
        .collect();
    assert!(colours.contains("\x1b[31m") && plain == text.ladder(wrong()));
}

#[test]
fn mermaid_is_stable() {
    insta::assert_snapshot!(format!("{}\n{}", mermaid(foreign()), mermaid(wrong())));
}

#[test]
fn svg_is_stable() {
    insta::assert_snapshot!(svg(foreign()));
}

#[test]
fn names_in_a_trace_cannot_break_out_of_a_diagram() {
    let mut conversation = foreign().clone();
    let name: crate::trace::Name = "</text><script>&\";#".into();
    for kept in &mut conversation.kept {
        let kind = std::sync::Arc::make_mut(&mut kept.event.kind);
        (kind.phys_in, kind.service) = (Some(name.clone()), Some(name.clone()));
    }
    conversation.service = Some(name);
    let drawn = svg(&conversation);
    assert!(!drawn.contains("<script") && drawn.contains("&lt;/text&gt;&lt;script&gt;&amp;&quot;"));
    let text = mermaid(&conversation);
    assert!(text.lines().filter(|line| !line.contains("%%")).all(|line| !line.contains("<script")), "{text}");
}

#[test]
fn json_is_stable_and_as_its_schema_says() {
    let lines: Vec<String> = some().conversations.iter().map(|one| json(one).unwrap()).collect();
    insta::assert_snapshot!(lines.concat());
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let mut judge = crate::trace::judge::Judge::closed(SCHEMA);
    for line in &lines {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(judge.fault(&value), None, "{line}");
    }
    let names = |field: &str| schema["properties"][field]["enum"].as_array().unwrap().clone();
    assert_eq!(names("finding"), Finding::ALL.map(Finding::name));
    let causes = schema["$defs"]["cause"]["enum"].as_array().unwrap();
    assert_eq!(*causes, crate::conversations::Cause::ALL.map(crate::conversations::Cause::name));
}
