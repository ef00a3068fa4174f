//! Rulesets of others as files, and what doctor and rehearse say of each.

use std::fs;

use serde_json::Value;

use super::rehearsing::Stage;

/// Each ruleset of `tests/rulesets` says in its second line whose fault it is that packets are stopped: `TABLE CHAIN: RULE`, or
/// `after TABLE CHAIN: RULE` for one that only changes them, `unknown`, or `nothing`. What doctor and rehearse say, and in which
/// time, is written to target/rulesets.md.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn every_ruleset_has_its_culprit() {
    let stage = Stage::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rulesets");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 17, "{files:?}");
    let mut table =
        "| ruleset | flows stopped | named by rehearse | seconds | doctor |\n|---|---|---|---|---|\n"
            .to_owned();
    for path in files {
        let rules = fs::read_to_string(&path).unwrap();
        let culprit = rules.lines().nth(1).and_then(|line| line.strip_prefix("# culprit: ")).unwrap();
        let found = stage.with(&rules);
        let stopped: Vec<&Value> =
            found["flows"].as_array().unwrap().iter().filter(|flow| flow["fate"] != "through").collect();
        let text = |rule: &Value| {
            let part = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", part("table"), part("chain"), part("rule"))
        };
        let named = |flow: &&Value| {
            let rule = [&flow["rule"], &flow["neighbours"]].into_iter().find(|it| it.is_object());
            match rule {
                Some(rule) if rule["is_ours"] != true => text(rule),
                _ if flow["after"].is_object() => format!("after {}", text(&flow["after"])),
                _ => flow["fate"].as_str().unwrap().to_owned(),
            }
        };
        let mut names: Vec<String> = stopped.iter().map(named).collect();
        names.sort();
        names.dedup();
        let expected = if culprit == "nothing" { vec![] } else { vec![culprit.to_owned()] };
        assert_eq!(names, expected, "{}\n{found:#}", path.display());
        let (_, json) = stage.host.doctor(&[], stage.file.path().to_str().unwrap());
        let is_fault = !["nothing", "unknown"].contains(&culprit);
        let facts = json["facts"].as_array().unwrap();
        let said = facts.iter().any(|fact| fact["name"] == "rehearsal" && fact["state"] == "no");
        assert_eq!(said, is_fault, "{}: {json:#}", path.display());
        table += &format!(
            "| {} | {} of {} | {} | {:.1} | {} |\n",
            path.file_stem().unwrap().to_str().unwrap(),
            stopped.len(),
            found["flows"].as_array().unwrap().len(),
            names.first().map_or("nothing", String::as_str).replace('|', "\\|"),
            found["seconds"].as_f64().unwrap(),
            if json["works"] == true { "would work" } else { "would not work" }
        );
    }
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    fs::create_dir_all(target).unwrap();
    fs::write(format!("{target}/rulesets.md"), table).unwrap();
}
