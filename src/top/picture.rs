//! A screen as text, and as a picture (SVG) that needs nothing else.

use std::fmt::Write as _;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use super::model::Model;
use super::screen::{Colours, draw};

/// A character, in pixels.
const WIDTH: f32 = 8.4;
const HEIGHT: u16 = 18;
const MARGIN: u16 = 12;

/// Which terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Light letters on dark.
    Dark,
    /// Dark letters on light.
    Light,
}

impl Palette {
    /// Letters, paper.
    fn plain(self) -> (&'static str, &'static str) {
        match self {
            Self::Dark => ("#e6edf3", "#0d1117"),
            Self::Light => ("#1f2328", "#ffffff"),
        }
    }

    fn of(self, colour: Color) -> Option<&'static str> {
        Some(match (colour, self) {
            (Color::Red, Self::Dark) => "#f85149",
            (Color::Red, Self::Light) => "#cf222e",
            (Color::Green, Self::Dark) => "#3fb950",
            (Color::Green, Self::Light) => "#1a7f37",
            (Color::Yellow, Self::Dark) => "#d29922",
            (Color::Yellow, Self::Light) => "#9a6700",
            _ => return None,
        })
    }

    /// What is dimmed.
    fn soft(self) -> &'static str {
        match self {
            Self::Dark => "#9198a1",
            Self::Light => "#59636e",
        }
    }

    /// Letters and paper of a cell.
    fn cell(self, cell: &Cell) -> (&'static str, &'static str) {
        let (letters, paper) = self.plain();
        let dim = cell.modifier.contains(Modifier::DIM);
        let letters = self.of(cell.fg).unwrap_or(if dim { self.soft() } else { letters });
        let paper = self.of(cell.bg).unwrap_or(paper);
        if cell.modifier.contains(Modifier::REVERSED) { (paper, letters) } else { (letters, paper) }
    }
}

/// The screen of a model on a terminal of that size.
fn drawn(model: &Model, colours: Colours, width: u16, height: u16) -> Buffer {
    let mut terminal = match Terminal::new(TestBackend::new(width, height)) {
        Ok(terminal) => terminal,
        Err(never) => match never {},
    };
    match terminal.draw(|frame| draw(model, colours, frame)) {
        Ok(done) => done.buffer.clone(),
        Err(never) => match never {},
    }
}

/// A model as lines of text, on a terminal of that size.
pub fn text(model: &Model, width: u16, height: u16) -> String {
    let buffer = drawn(model, Colours::None, width, height);
    let mut out = String::new();
    for y in 0..height {
        let line: String = (0..width).filter_map(|x| buffer.cell((x, y))).map(Cell::symbol).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A model as SVG, on a terminal of that size.
pub fn picture(model: &Model, palette: Palette, width: u16, height: u16) -> String {
    let buffer = drawn(model, Colours::Sixteen, width, height);
    let (wide, high) = (f32::from(width) * WIDTH + 2.0 * f32::from(MARGIN), height * HEIGHT + 2 * MARGIN);
    let (letters, paper) = palette.plain();
    // What a style says about letters would count for more than what they say themselves.
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high}\" width=\"{wide:.0}\" height=\"{high}\" role=\"img\" fill=\"{letters}\">\n\
         <title>dunnat top</title>\n<style>text {{ font: 14px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; \
         white-space: pre }}</style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{paper}\"/>\n"
    );
    for y in 0..height {
        let cells: Vec<&Cell> = (0..width).filter_map(|x| buffer.cell((x, y))).collect();
        let mut x = 0_u16;
        let alike = |one: &&Cell, other: &&Cell| {
            palette.cell(one) == palette.cell(other) && is_bold(one) == is_bold(other)
        };
        for run in cells.chunk_by(alike) {
            let text: String = run.iter().map(|cell| cell.symbol()).collect();
            let Some(first) = run.first() else { continue };
            run_of(&mut out, (x, y, run.len() as u16), &text, palette, first);
            x += run.len() as u16;
        }
    }
    out.push_str("</svg>\n");
    out
}

fn is_bold(cell: &Cell) -> bool {
    cell.modifier.contains(Modifier::BOLD)
}

/// Cells that look alike.
fn run_of(out: &mut String, (x, y, count): (u16, u16, u16), text: &str, palette: Palette, cell: &Cell) {
    let (letters, paper) = palette.cell(cell);
    let (at, length) = (f32::from(MARGIN) + f32::from(x) * WIDTH, f32::from(count) * WIDTH);
    let top = MARGIN + y * HEIGHT;
    if paper != palette.plain().1 {
        let _ = writeln!(
            out,
            "<rect x=\"{at:.1}\" y=\"{top}\" width=\"{length:.1}\" height=\"{HEIGHT}\" fill=\"{paper}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let colour = if letters == palette.plain().0 { String::new() } else { format!(" fill=\"{letters}\"") };
    let bold = if is_bold(cell) { " font-weight=\"bold\"" } else { "" };
    // Each font has letters of another width: these are as wide as they were drawn.
    let _ = writeln!(
        out,
        "<text x=\"{at:.1}\" y=\"{}\" textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\"{colour}{bold}>{}</text>",
        top + 13,
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    );
}
