//! The pictures in the manual, and the screen as text, are what the program draws. `UPDATE_PICTURES=1` writes them.

use std::path::Path;

use super::keys::typed;
use super::made::nodes;
use crate::top::{Input, Palette, picture, text};

#[test]
fn the_screen_in_the_manual_is_what_is_drawn() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual/looking.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once("```text\n").unwrap();
    let (shown, after) = rest.split_once("```\n").unwrap();
    let mut model = nodes(90);
    typed(&mut model, "2<Enter>");
    let drawn = text(&model, 100, 30);
    if std::env::var_os("UPDATE_PICTURES").is_some() {
        std::fs::write(&file, format!("{before}```text\n{drawn}```\n{after}")).unwrap();
    } else {
        assert_eq!(shown, drawn, "run this test with UPDATE_PICTURES=1");
    }
}

#[test]
fn the_pictures_in_the_manual_are_what_is_drawn() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual/pictures");
    let write = std::env::var_os("UPDATE_PICTURES").is_some();
    let mut model = nodes(90);
    for (name, keys) in [("nodes", ""), ("flows", "2"), ("flow", "<Enter>")] {
        typed(&mut model, keys);
        for (size, (width, height)) in [("small", (80, 24)), ("large", (180, 50))] {
            model.take(Input::Size(width, height));
            for (paper, palette) in [("dark", Palette::Dark), ("light", Palette::Light)] {
                let drawn = picture(&model, palette, width, height);
                let file = folder.join(format!("top-{name}-{size}-{paper}.svg"));
                if write {
                    std::fs::create_dir_all(&folder).unwrap();
                    std::fs::write(&file, &drawn).unwrap();
                }
                let kept = std::fs::read_to_string(&file).unwrap_or_default();
                assert!(kept == drawn, "{} is another: run this test with UPDATE_PICTURES=1", file.display());
            }
        }
    }
}
