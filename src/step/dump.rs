//! The bytes of a packet, before and after, field by field.
//!
//! ```text
//!     byte  before                    after, * where a byte changes
//!     ip
//!       10  01 c4                    *b9*38                     checksum
//!       12  c0 a8 7a 01                                         saddr                192.168.122.1
//!       16  c0 a8 7a 0c              *0a*05*05*c9               daddr                192.168.122.12 -> 10.5.5.201
//! ```
//!
//! A byte that changes has a `*` before it, where all others have a blank. The right column is there only where one does.

use std::fmt::Write as _;
use std::ops::Range;

use super::Shown;
use crate::packet::{Field, View, fields};
use crate::text::{DIM, Paint, UNSURE};

/// How many bytes stand in a row.
const ROW: usize = 8;

/// How many rows of data are shown; data never changes.
const DATA_ROWS: usize = 4;

pub(super) fn dump(shown: &Shown, paint: Paint, out: &mut String) {
    let before = &shown.visit.bytes;
    let after = shown.visit.patch.and_then(|_| shown.visit.after()).unwrap_or_else(|| before.clone());
    let changes = *before != after;
    let dump = Dump { before, after: &after, changes, paint };
    let columns =
        if changes { "byte  before                    after, * where a byte changes" } else { "byte" };
    let _ = writeln!(out, "    {}", dump.paint.styled(columns, DIM));
    let view = shown.visit.view.as_ref().ok();
    let unfinished = view.filter(|_| shown.is_unfinished()).and_then(View::checksum_at);
    let mut header = String::new();
    for field in fields(before, view) {
        if field.header != header {
            header.clone_from(&field.header);
            if !header.is_empty() {
                let _ = writeln!(out, "    {}", dump.paint.styled(&header, DIM));
            }
        }
        dump.field(&field, unfinished == Some(field.at.start), out);
    }
}

struct Dump<'a> {
    before: &'a [u8],
    after: &'a [u8],
    changes: bool,
    paint: Paint,
}

impl Dump<'_> {
    fn field(&self, field: &Field, unfinished: bool, out: &mut String) {
        let (before, after) = (&self.before[field.at.clone()], &self.after[field.at.clone()]);
        let is_data = field.name == "data";
        let says = match (unfinished, before == after) {
            (true, true) => "unfinished".to_owned(),
            (true, false) => "unfinished -> whole".to_owned(),
            (false, true) => field.says(before),
            (false, false) => {
                let [from, to] = [before, after].map(|bytes| field.says(bytes));
                if from.is_empty() { from } else { format!("{from} -> {to}") }
            }
        };
        for (place, at) in field.at.clone().step_by(ROW).enumerate() {
            let row = at..(at + ROW).min(field.at.end);
            if is_data && place == DATA_ROWS {
                let _ = writeln!(out, "           and {} more bytes of data", field.at.end - at);
                return;
            }
            let name = if place == 0 { field.name } else { "" };
            let says = match (is_data, place) {
                (true, _) => self.before[row.clone()].iter().map(|byte| printable(*byte)).collect(),
                (false, 0) => says.clone(),
                (false, _) => String::new(),
            };
            let _ = write!(out, "    {at:4} ");
            self.bytes(self.before, row.clone(), false, out);
            if self.before[row.clone()] != self.after[row.clone()] {
                self.bytes(self.after, row, true, out);
            } else if self.changes {
                let _ = write!(out, "{:width$}", "", width = 3 * ROW + 2);
            }
            let _ = write!(out, "{name:20} {says}");
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
    }

    fn bytes(&self, bytes: &[u8], row: Range<usize>, mark: bool, out: &mut String) {
        let pad = 3 * (ROW - row.len()) + 2;
        for at in row {
            let byte = format!("{:02x}", bytes[at]);
            if self.before[at] == self.after[at] {
                let _ = write!(out, " {byte}");
            } else if mark {
                let _ = write!(out, "{}", self.paint.styled(format!("*{byte}"), UNSURE));
            } else {
                let _ = write!(out, " {}", self.paint.styled(&byte, UNSURE));
            }
        }
        let _ = write!(out, "{:pad$}", "");
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' }
}
