//! Where not all that is decided is shown: it is said, the flow that is open is whole, and conntrack knows of others.

use super::keys::typed;
use super::made::{Fate, at, connection, nodes};
use crate::flows;
use crate::top::{Input, Model, text};

fn list(model: &mut Model) -> String {
    // Later each time: flows are judged now and then.
    let later = model.now.max(at(30_000)) + jiff::SignedDuration::from_secs(1);
    model.take(Input::Now(later));
    typed(model, "2");
    text(model, 110, 24)
}

#[test]
fn it_is_said_that_it_is_a_sample_and_of_what_rate() {
    let mut model = nodes(3);
    let first = list(&mut model);
    assert!(!first.contains("sample") && !first.contains('+'), "{first}");
    let events = connection(50, at(3000), Fate::Right);
    for mut event in events {
        event.left_out = 99;
        model.take(Input::Event(Box::new(event)));
    }
    // Each second each node says how it is.
    for (place, name) in ["node1", "node2"].into_iter().enumerate() {
        model.take(Input::Status(place, super::made::status(name, 4, 0, &[])));
    }
    let screen = list(&mut model);
    assert!(screen.lines().next().unwrap().contains("live sample 1/"), "{screen}");
    assert!(screen.contains("; a sample of the decisions: 1 of "), "{screen}");
    let row = screen.lines().find(|line| line.contains(":40050")).unwrap();
    assert!(row.contains("+ ") || row.trim_end().ends_with('+'), "{row}");
}

/// Of the flow that is open the node shows all by another way; what comes by both is shown once, and in order.
#[test]
fn the_flow_that_is_open_is_whole_and_shown_once() {
    let mut model = nodes(3);
    typed(&mut model, "2<Enter>");
    let flow = model.wanted_flow().unwrap();
    model.follow(Some(flow));
    let number = u64::from(flow.ports.unwrap().0 - 40_000);
    let shown = |model: &Model| model.flows.events(&flow).0.len();
    let before = shown(&model);
    for place in [0, 1] {
        model.take(Input::Follows(place));
    }
    let again = connection(number, at(100), Fate::Right);
    for event in again.iter().cloned() {
        model.take(Input::OfFlow(Box::new(event)));
    }
    assert_eq!(shown(&model), before, "all were known");
    let mut next = again.last().unwrap().clone();
    next.seq += 1;
    next.left_out = 1000;
    // First by the sample: the other way brings it in order.
    model.take(Input::Event(Box::new(next.clone())));
    assert_eq!(shown(&model), before);
    model.take(Input::OfFlow(Box::new(next.clone())));
    model.take(Input::OfFlow(Box::new(next)));
    assert_eq!(shown(&model), before + 1);
    let sampled = model.nodes.iter().map(|node| node.left_out.total).sum::<u64>();
    assert_eq!(sampled, 0, "what is left out there are other flows");
    typed(&mut model, "<Esc>");
    assert_eq!(model.wanted_flow(), None);
}

#[test]
fn flows_that_began_before_are_listed_by_conntrack() {
    let mut model = nodes(3);
    let told = flows::sample("tcp 192.168.122.1:51000 > 10.5.5.201:80", 2);
    let odd = flows::sample("tcp 192.168.122.1:51001 > 10.5.5.201:80", 7);
    let known = flows::sample("tcp 192.168.122.1:40001 > 10.5.5.201:80", 2);
    model.take(Input::Tracked(0, vec![told, odd, known], false));
    let screen = list(&mut model);
    let row =
        |port: &str| screen.lines().find(|line| line.contains(port)).unwrap_or_else(|| panic!("{screen}"));
    assert!(row(":51000").contains("tracked") && row(":51000").contains("192.168.122.12:80"), "{screen}");
    assert!(row(":51001").contains("unknown-tag"), "{screen}");
    assert!(row(":40001").contains("foreign") && row(":40001").contains(" 9"), "{screen}");
    assert!(screen.contains("conntrack of node1 has more flows than are shown"), "{screen}");
    typed(&mut model, "/entry node2 and port 51000<Enter>");
    let screen = list(&mut model);
    assert!(
        screen.contains(":51000") && !screen.contains(":51001") && !screen.contains(":40001"),
        "{screen}"
    );
    assert!(screen.contains("conntrack on node1: tcp 192.168.122.1:51000 > 192.168.122.12:80"), "{screen}");
    typed(&mut model, "<Enter>");
    assert!(text(&model, 110, 24).contains("No packet of it was decided since top looks on"));
    // A word that flows do not have is true of none.
    typed(&mut model, "x/stage spoof and port 51000<Enter>");
    assert!(!list(&mut model).contains(":51000"));
}
