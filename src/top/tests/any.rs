use proptest::prelude::*;

use super::made::{Fate, at, connection, nodes, saved, status};
use crate::top::{Colours, Input, Key, Model, Palette, Playing, picture, text};
use crate::trace::samples;

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        4 => prop::sample::select(
            vec!['1', '2', '3', 'e', 'g', 'G', 'h', 'j', 'k', 'n', 'N', 'r', 's', 'S', 'x', '/', '?', ' ', 'p', '+', '-', '(', 'ü', '宽', 'o', 'd', 't']
        ).prop_map(Key::Char),
        4 => prop::sample::select(vec![
            Key::Enter, Key::Esc, Key::Tab, Key::BackTab, Key::Backspace, Key::Delete, Key::Left, Key::Right, Key::Up,
            Key::Down, Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::Ctrl('w'), Key::Ctrl('u'), Key::Ctrl('a'),
        ]),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let event = (0..9_usize, 0..40_u64, 0..3_u8).prop_map(|(place, number, fate)| {
        let odd = samples::events();
        let fate = [Fate::Right, Fate::WrongAddress, Fate::NoReply][usize::from(fate)];
        let made = connection(number, at(number as i64 * 300), fate);
        Input::Event(Box::new(made.get(place).unwrap_or(&odd[place]).clone()))
    });
    prop_oneof![
        10 => key().prop_map(Input::Key),
        2 => (0..200_u16, 0..60_u16).prop_map(|(x, y)| Input::Click(x, y)),
        1 => any::<bool>().prop_map(Input::Wheel),
        2 => (0..200_u16, 0..60_u16).prop_map(|(width, height)| Input::Size(width, height)),
        1 => "[ -~\\u{1b}ü]{0,40}".prop_map(Input::Paste),
        6 => event,
        2 => (-5_000..200_000_i64).prop_map(|ms| Input::Now(at(ms))),
        1 => (0..70_usize, 0..40_u64).prop_map(|(place, second)| Input::Status(place, status("node1", second, second, &["x"]))),
        1 => (0..70_usize, any::<u64>()).prop_map(|(place, lost)| Input::Lost(place, lost)),
        1 => (0..70_usize).prop_map(|place| Input::Away(place, "gone".to_owned())),
        1 => Just(Input::Anew),
        1 => any::<bool>().prop_map(|paused| Input::Playing(Playing { speed: 4.0, paused, ended: false })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_in_any_order_and_on_any_terminal_is_too_much(
        inputs in prop::collection::vec(input(), 0..60),
        begin in 0..3_u8,
    ) {
        let mut model = match begin {
            0 => Model::new(false),
            1 => nodes(3),
            _ => saved(3),
        };
        for input in inputs {
            model.take(input);
            let (width, height) = model.size;
            let screen = text(&model, width, height);
            prop_assert_eq!(screen.lines().count(), usize::from(height));
            let obeyed = screen.contains(char::from(27));
            prop_assert!(!obeyed, "a terminal would obey it");
        }
    }

    #[test]
    fn any_size_is_drawn(width in 0..240_u16, height in 0..80_u16, keys in prop::collection::vec(key(), 0..6)) {
        let mut model = nodes(4);
        for key in keys {
            model.take(Input::Key(key));
        }
        text(&model, width, height);
        if width * height < 2_000 {
            prop_assert!(picture(&model, Palette::Dark, width, height).ends_with("</svg>\n"));
        }
        let _ = Colours::None;
    }
}
