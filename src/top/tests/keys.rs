use super::made::{Fate, at, connection, nodes, saved, status};
use crate::top::model::Tab;
use crate::top::{Input, Key, Model, Play, Wish, text};

/// Types keys: characters, and names in angle brackets. What is wanted last comes back.
pub(super) fn typed(model: &mut Model, keys: &str) -> Option<Wish> {
    let mut wish = None;
    let mut rest = keys;
    while let Some(c) = rest.chars().next() {
        let (key, after) = match rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
            Some((name, after)) => (named(name), after),
            None => (Key::Char(c), &rest[c.len_utf8()..]),
        };
        wish = model.take(Input::Key(key));
        rest = after;
    }
    wish
}

fn named(name: &str) -> Key {
    match name {
        "Enter" => Key::Enter,
        "Esc" => Key::Esc,
        "Tab" => Key::Tab,
        "BackTab" => Key::BackTab,
        "Backspace" => Key::Backspace,
        "Up" => Key::Up,
        "Down" => Key::Down,
        "Left" => Key::Left,
        "Right" => Key::Right,
        "PageDown" => Key::PageDown,
        "End" => Key::End,
        "Home" => Key::Home,
        _ => Key::Ctrl(name.chars().last().unwrap()),
    }
}

fn shown(model: &Model) -> String {
    text(model, 80, 24)
}

#[test]
fn tabs_are_reached_by_their_numbers_and_in_turn() {
    let mut model = nodes(6);
    let mut tab = |keys: &str| {
        typed(&mut model, keys);
        model.tab
    };
    assert_eq!(
        [tab("2"), tab("1"), tab("<Tab>"), tab("<Tab>")],
        [Tab::Flows, Tab::Nodes, Tab::Flows, Tab::Nodes]
    );
    assert_eq!(
        [tab("3"), tab("<Tab>"), tab("<BackTab>"), tab("<Esc>")],
        [Tab::Flow, Tab::Nodes, Tab::Flow, Tab::Flows]
    );
}

#[test]
fn keys_that_end_or_suspend_are_obeyed_everywhere() {
    for before in ["", "2", "2<Enter>", "?", "/node "] {
        let mut model = nodes(2);
        typed(&mut model, before);
        assert_eq!(typed(&mut model, "<C-c>"), Some(Wish::Quit), "{before}");
        assert_eq!(typed(&mut model, "<C-z>"), Some(Wish::Suspend), "{before}");
    }
    assert_eq!(typed(&mut nodes(2), "q"), Some(Wish::Quit));
    assert_eq!(typed(&mut nodes(2), "/q"), None, "it is typed");
}

#[test]
fn a_faulty_flow_leads_to_the_faulty_node() {
    let mut model = nodes(12);
    typed(&mut model, "2");
    assert!(shown(&model).lines().nth(2).unwrap().contains("wrong-address"), "{}", shown(&model));
    typed(&mut model, "<Enter>");
    let screen = shown(&model);
    assert!(screen.contains("WRONG public address") && screen.contains("node1 spoof"), "{screen}");
    // The ladder names the decision that proves it; the last one here.
    typed(&mut model, "<End>e");
    let screen = shown(&model);
    assert!(screen.contains("node1: tcp 10.5.5.201:80 > 192.168.122.1:40008"), "{screen}");
}

#[test]
fn the_list_is_sorted_by_any_column() {
    let mut model = nodes(12);
    typed(&mut model, "2");
    let clients = |model: &Model| model.list.rows.iter().map(|row| row.client.clone()).collect::<Vec<_>>();
    let mut titles = Vec::new();
    for _ in 0..7 {
        typed(&mut model, "s");
        titles.push(model.list.sort.title());
        let rows = &model.list.rows;
        let is_sorted = match model.list.sort.title() {
            "client" => rows.is_sorted_by_key(|row| row.client.clone()),
            "age" => rows.is_sorted_by_key(|row| std::cmp::Reverse(row.first)),
            "packets" => rows.is_sorted_by_key(|row| std::cmp::Reverse(row.packets)),
            "finding" => rows.is_sorted_by_key(|row| !row.is_fault),
            _ => rows.is_sorted_by_key(|row| std::cmp::Reverse(row.number)),
        };
        assert!(is_sorted, "{:?}: {:?}", titles, clients(&model));
    }
    assert_eq!(titles, ["client", "original dst", "way", "guest", "age", "packets", "finding"]);
    typed(&mut model, "s");
    let before = clients(&model);
    typed(&mut model, "r");
    assert_eq!(clients(&model), before.into_iter().rev().collect::<Vec<_>>());
    typed(&mut model, "S");
    assert_eq!(model.list.sort.title(), "finding");
}

#[test]
fn the_chosen_flow_stays_chosen_when_others_come() {
    let mut model = nodes(12);
    typed(&mut model, "2<Down><Down><Down>");
    let chosen = model.list.chosen().unwrap().number;
    for number in 20..40 {
        for event in connection(number, at(12_000), Fate::WrongAddress) {
            model.take(Input::Event(Box::new(event)));
        }
    }
    model.take(Input::Now(at(13_000)));
    assert_eq!(model.list.chosen().unwrap().number, chosen);
    assert!(model.list.place().unwrap() > 10);
    typed(&mut model, "h");
    let order = |model: &Model| model.list.rows.iter().map(|row| row.number).collect::<Vec<_>>();
    let before = order(&model);
    for event in connection(50, at(13_000), Fate::WrongAddress) {
        model.take(Input::Event(Box::new(event)));
    }
    model.take(Input::Now(at(14_000)));
    assert_eq!(order(&model)[..before.len()], before, "the order is held");
}

#[test]
fn a_filter_chooses_flows_as_it_is_typed() {
    let mut model = nodes(12);
    let count = |model: &Model| model.list.rows.len();
    let all = count(&model);
    typed(&mut model, "/port 40003");
    assert_eq!((count(&model), all), (1, 12));
    typed(&mut model, " and");
    assert!(model.filter.error.is_some());
    assert_eq!(count(&model), 1, "what is wrong changes nothing");
    typed(&mut model, "<Enter>");
    assert!(model.filter.is_open, "what is wrong is not taken");
    typed(&mut model, "<Backspace><Backspace><Backspace><Enter>");
    assert!(!model.filter.is_open);
    typed(&mut model, "/<C-u>node node2<Esc>");
    assert_eq!((count(&model), &*model.filter.text), (1, "port 40003 "));
    typed(&mut model, "x");
    assert_eq!(count(&model), all);
    typed(&mut model, "/");
    model.take(Input::Paste("not host 192.168.122.1\n".to_owned()));
    assert_eq!(count(&model), 0);
    assert!(shown(&model).contains("no flow has an event that the filter wants"), "{}", shown(&model));
}

#[test]
fn words_are_completed_in_turn() {
    let mut model = nodes(4);
    let mut line = |keys: &str| {
        typed(&mut model, keys);
        model.filter.text.clone()
    };
    assert_eq!(line("/sta<Tab>"), "stage ");
    assert_eq!(line("s<Tab>"), "stage save ");
    assert_eq!(line("<Tab>"), "stage spoof ");
    assert_eq!(line("<Tab>"), "stage save ");
    assert_eq!(line("an<Tab>(node <Tab>"), "stage save and (node node1 ");
    assert_eq!(line("<Home>not <End>)"), "not stage save and (node node1 )");
    assert_eq!(line("<C-w><C-w><C-w>"), "not stage save and ");
    // White space of more than one byte, as it may be pasted.
    assert_eq!(line("<C-u>stage\u{3000}sp<Tab>"), "stage\u{3000}spoof ");
    assert_eq!(line("<C-w>"), "stage\u{3000}");
}

#[test]
fn losses_are_on_the_screen_the_second_they_happen() {
    let mut model = nodes(5);
    let lost = |model: &Model| shown(model).lines().next().unwrap().contains("LOST");
    model.take(Input::Now(at(20_000)));
    assert!(!lost(&model), "the last ones are long ago");
    model.take(Input::Status(0, status("node1", 20, 40, &[])));
    assert!(lost(&model), "{}", shown(&model));
    assert!(shown(&model).contains("node1"));
    model.take(Input::Now(at(31_000)));
    assert!(!lost(&model));
    model.take(Input::Lost(1, 7));
    assert!(lost(&model));
}

#[test]
fn a_node_that_is_gone_is_told_of_and_comes_back() {
    let mut model = nodes(5);
    model.take(Input::Away(0, "there is no \u{1b}[31m/run/dunnat/node1.sock".to_owned()));
    assert!(shown(&model).contains("there is no \\u{1b}[31m/run/dunnat/node1.sock"), "{}", shown(&model));
    model.take(Input::Status(0, status("node1", 6, 0, &[])));
    assert!(!shown(&model).contains("there is no"));
}

#[test]
fn a_reply_that_nobody_here_could_see_is_not_missed() {
    let finding = |nodes: &[&str]| {
        let mut model = Model::new(false);
        model.take(Input::Cluster(crate::trace::samples::cluster()));
        for (place, name) in nodes.iter().enumerate() {
            model.take(Input::Found(place, (*name).to_owned()));
        }
        for event in connection(1, at(0), Fate::NoReply) {
            model.take(Input::Event(Box::new(event)));
        }
        let mut shown_after = |milliseconds| {
            model.take(Input::Now(at(milliseconds)));
            let row = &model.list.rows[0];
            (crate::top::list::Column::Finding.of(row, model.now), row.is_fault)
        };
        [shown_after(500), shown_after(2_500)]
    };
    let (waits, missed) = (("waits".to_owned(), false), ("no-reply".to_owned(), true));
    assert_eq!(finding(&["node1", "node2"]), [waits.clone(), missed]);
    assert_eq!(finding(&["node2"]), [waits, ("went on".to_owned(), false)]);
}

#[test]
fn the_mouse_chooses_what_it_points_at() {
    let mut model = nodes(12);
    let mut click = |x, y| {
        model.take(Input::Click(x, y));
        (model.tab, model.node)
    };
    assert_eq!(click(3, 3), (Tab::Nodes, 1));
    assert_eq!(click(12, 0), (Tab::Flows, 1));
    model.take(Input::Click(20, 4));
    let second = model.list.place();
    assert_eq!(second, Some(2));
    model.take(Input::Click(20, 1));
    assert_eq!(model.list.sort.title(), "client");
    let place = model.list.place().unwrap() as u16;
    model.take(Input::Click(20, place + 2));
    assert_eq!(model.tab, Tab::Flow);
    model.take(Input::Click(2, 18));
    let open = model.open.clone().unwrap();
    assert!(open.decision.is_some());
    model.take(Input::Click(2, 18));
    assert!(model.open.unwrap().explains);
}

#[test]
fn a_saved_trace_is_led_by_keys() {
    let mut model = saved(3);
    let mut play = |keys: &str| match typed(&mut model, keys) {
        Some(Wish::Play(play)) => play,
        other => panic!("{keys}: {other:?}"),
    };
    assert_eq!([play("p"), play("+"), play("<Left>")], [Play::Pause, Play::Faster, Play::Seek(-5)]);
    model.take(Input::Anew);
    assert!(model.list.rows.is_empty() && model.nodes.is_empty());
    assert_eq!(typed(&mut nodes(2), "p"), None, "nodes that run do not wait");
}
