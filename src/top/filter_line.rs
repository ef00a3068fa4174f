//! The line in which a filter is typed.

use crate::net::WrongWord;
use crate::trace::{Filter, Names};

/// The longest filter, in bytes.
const LONGEST: usize = 500;

/// The line.
#[derive(Clone, Debug, Default)]
pub(super) struct FilterLine {
    /// What is typed.
    pub(super) text: String,
    /// Where, in bytes.
    pub(super) cursor: usize,
    /// It is being typed.
    pub(super) is_open: bool,
    /// What is wrong with it.
    pub(super) error: Option<WrongWord>,
    /// What the flows are chosen by; what was typed last that was right.
    pub(super) filter: Option<Filter>,
    /// What was there before it was opened.
    before: (String, Option<Filter>),
    /// What may come next.
    pub(super) offered: Vec<String>,
    /// Which of these is in the line, and what was typed before it.
    tried: Option<(usize, String)>,
}

impl FilterLine {
    pub(super) fn open(&mut self, names: &Names) {
        self.is_open = true;
        self.before = (self.text.clone(), self.filter.clone());
        self.cursor = self.text.len();
        self.typed(names);
    }

    /// As it was before it was opened.
    pub(super) fn cancel(&mut self) {
        (self.text, self.filter) = self.before.clone();
        self.close();
    }

    /// No filter.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.filter = None;
        self.close();
    }

    /// Takes it, unless it is wrong.
    pub(super) fn accept(&mut self) {
        if self.error.is_none() {
            self.close();
        }
    }

    fn close(&mut self) {
        self.is_open = false;
        self.error = None;
        self.tried = None;
        self.cursor = self.text.len();
    }

    /// Text is typed or pasted.
    pub(super) fn insert(&mut self, text: &str, names: &Names) {
        for c in text.chars().filter(|c| !c.is_control()) {
            if self.text.len() + c.len_utf8() <= LONGEST {
                self.text.insert(self.cursor, c);
                self.cursor += c.len_utf8();
            }
        }
        self.typed(names);
    }

    pub(super) fn backspace(&mut self, names: &Names) {
        if let Some(c) = self.text[..self.cursor].chars().next_back() {
            self.cursor -= c.len_utf8();
            self.text.remove(self.cursor);
        }
        self.typed(names);
    }

    pub(super) fn delete(&mut self, names: &Names) {
        if self.cursor < self.text.len() {
            self.text.remove(self.cursor);
        }
        self.typed(names);
    }

    /// Deletes the word before the cursor.
    pub(super) fn delete_word(&mut self, names: &Names) {
        let kept = self.text[..self.cursor].trim_end();
        let at = kept.trim_end_matches(|c: char| !c.is_whitespace()).len();
        self.text.replace_range(at..self.cursor, "");
        self.cursor = at;
        self.typed(names);
    }

    pub(super) fn delete_all(&mut self, names: &Names) {
        self.text.clear();
        self.cursor = 0;
        self.typed(names);
    }

    pub(super) fn left(&mut self) {
        self.cursor -= self.text[..self.cursor].chars().next_back().map_or(0, char::len_utf8);
    }

    pub(super) fn right(&mut self) {
        self.cursor += self.text[self.cursor..].chars().next().map_or(0, char::len_utf8);
    }

    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// Puts what may come next into the line, one after the other.
    pub(super) fn complete(&mut self, forward: bool, names: &Names) {
        let (place, typed) = match self.tried.take() {
            Some((place, typed)) => {
                let count = self.offered.len().max(1);
                ((place + if forward { 1 } else { count - 1 }) % count, typed)
            }
            None => (0, self.text[..self.cursor].to_owned()),
        };
        let Some(word) = self.offered.get(place).cloned() else { return };
        let kept = &typed[..Filter::last_word(&typed)];
        let rest = self.text[self.cursor..].to_owned();
        let whole = format!("{kept}{word} ");
        if whole.len() + rest.len() > LONGEST {
            return;
        }
        self.cursor = whole.len();
        self.text = whole + rest.trim_start();
        let offered = std::mem::take(&mut self.offered);
        let is_only = offered.len() == 1;
        self.typed(names);
        if !is_only {
            self.offered = offered;
            self.tried = Some((place, typed));
        }
    }

    /// Which of the words that are offered is in the line.
    pub(super) fn tried(&self) -> Option<usize> {
        self.tried.as_ref().map(|(place, _)| *place)
    }

    /// Reads what is typed. What is wrong leaves the filter as it was.
    fn typed(&mut self, names: &Names) {
        self.tried = None;
        self.offered = Filter::completions(&self.text[..self.cursor], names);
        if self.text.trim().is_empty() {
            (self.filter, self.error) = (None, None);
            return;
        }
        match self.text.parse() {
            Ok(filter) => (self.filter, self.error) = (Some(filter), None),
            Err(error) => self.error = Some(error),
        }
    }
}
