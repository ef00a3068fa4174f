use super::keys::typed;
use super::made::{nodes, saved};
use crate::top::{Input, Model, text};

/// The screen after these keys, on a small terminal and on a large one.
fn screens(mut model: Model, keys: &str) -> String {
    typed(&mut model, keys);
    let mut screen = |width, height| {
        model.take(Input::Size(width, height));
        text(&model, width, height)
    };
    let line = |width: usize| "=".repeat(width);
    format!("{}{}\n{}", screen(80, 24), line(80), screen(180, 50))
}

#[test]
fn nodes_are_shown_with_what_they_do() {
    insta::assert_snapshot!(screens(nodes(12), ""));
}

#[test]
fn another_node_is_shown() {
    insta::assert_snapshot!(screens(nodes(12), "n"));
}

#[test]
fn flows_are_listed_and_what_is_wrong_comes_first() {
    insta::assert_snapshot!(screens(nodes(12), "2"));
}

#[test]
fn a_flow_is_shown_as_a_ladder_with_its_decisions() {
    insta::assert_snapshot!(screens(nodes(12), "2<Enter>"));
}

#[test]
fn a_decision_is_explained() {
    insta::assert_snapshot!(screens(nodes(12), "2<Enter><Down><Down>e"));
}

#[test]
fn the_keys_are_shown() {
    insta::assert_snapshot!(screens(nodes(3), "?"));
}

#[test]
fn a_filter_is_typed_with_what_may_come_next() {
    insta::assert_snapshot!(screens(nodes(12), "/node node1 and re"));
}

#[test]
fn a_wrong_filter_is_told_where_it_is_wrong() {
    insta::assert_snapshot!(screens(nodes(12), "/node node1 and stoge dnat"));
}

#[test]
fn a_saved_trace_is_shown() {
    insta::assert_snapshot!(screens(saved(5), ""));
}

#[test]
fn without_nodes_there_is_a_screen() {
    insta::assert_snapshot!(screens(Model::new(false), "2<Enter>1"));
}
