//! How facts are told: as a table, as JSON, and when `run` refuses.

use super::*;

/// Some of everything: what is wrong on a host where docker runs and nobody has set anything up.
fn neglected(host: &mut Host) {
    set(host, "net/ipv4/ip_forward", 0);
    change(host, "guestbr0", |bridge| {
        bridge.addresses.clear();
        bridge.mac = "52:54:00:12:34:56".parse().ok();
    });
    remove(host, "eth2.100");
    host.features.as_mut().unwrap().nft_queue =
        Support::No("Could not process rule: No such file".to_owned());
    host.features.as_mut().unwrap().ctnetlink =
        Support::Unknown("Permission denied (os error 13)".to_owned());
    host.queues = Ok(vec![QueueInUse { number: 105, process: Some((4711, "suricata".to_owned())) }]);
    rules(
        host,
        "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t\tcounter \
         jump DOCKER-USER\n\t}\n}\ntable ip mangle {\n\tchain PREROUTING {\n\t\ttype filter hook prerouting priority \
         mangle; policy accept;\n\t\tcounter meta mark set mark or 0x4000\n\t}\n}\n",
    );
}

#[test]
fn the_table_is_for_acting_on() {
    let (cluster, mut host) = (cluster(), host());
    neglected(&mut host);
    let table = as_table(&examine(&host, Some(&role(&cluster))), &unseen(&role(&cluster)));
    insta::assert_snapshot!(table);
    for line in table.lines().filter(|line| !line.trim_start().starts_with("fix: ")) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn the_json_is_for_programs() {
    let (cluster, mut host) = (cluster(), host());
    neglected(&mut host);
    let json = as_json(&examine(&host, Some(&role(&cluster))), &unseen(&role(&cluster)));
    insta::assert_snapshot!(json);
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["works"], false);
    for fact in parsed["facts"].as_array().unwrap() {
        assert!(["yes", "no", "unknown"].contains(&fact["state"].as_str().unwrap()), "{fact}");
    }
}

#[test]
fn what_run_says_is_what_doctor_says() {
    let (cluster, mut host) = (cluster(), host());
    neglected(&mut host);
    let refusal = verdict(&examine(&host, Some(&role(&cluster)))).unwrap_err();
    insta::assert_snapshot!(refusal.to_string());
}
