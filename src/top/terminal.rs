//! The terminal: taken, drawn on, and given back in whatever way this ends.

use std::io::{self, Stdout};
use std::sync::Once;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event, KeyCode,
    KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind,
};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;

use super::input::{Input, Key};
use super::model::Model;
use super::screen::{Colours, draw};

/// A terminal with a full screen. It is given back when this goes, also at a panic.
pub struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Stdout>>,
    colours: Colours,
}

impl Terminal {
    /// Takes the terminal that standard input and output are.
    ///
    /// # Errors
    /// They are none, or it is gone.
    pub fn take(colours: Colours) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        // From here on it is given back, also if what follows fails.
        let inner = ratatui::Terminal::new(CrosstermBackend::new(io::stdout()));
        let entered = enter();
        match (inner, entered) {
            (Ok(inner), Ok(())) => Ok(Self { inner, colours }),
            (Err(error), _) | (_, Err(error)) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Draws a model.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, model: &Model) -> io::Result<()> {
        let colours = self.colours;
        self.inner.draw(|frame| draw(model, colours, frame)).map(|_| ())
    }

    /// How many columns and rows there are.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        self.inner.size().map(|size| (size.width, size.height))
    }

    /// Draws everything anew the next time: somebody else may have written on it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn clear(&mut self) -> io::Result<()> {
        let size = self.inner.size()?;
        // Not `clear`: that asks the terminal where the cursor is, and the answer goes to whoever reads the keys.
        self.inner.resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Gives the terminal to the shell, stops until the shell goes on with this program, and takes it again.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back();
        signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP)?;
        self.resume()
    }

    /// Takes it again, after somebody else had it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resume(&mut self) -> io::Result<()> {
        enter()?;
        self.clear()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("colours", &self.colours).finish_non_exhaustive()
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste, Hide)
}

/// As it was before. That it is gone does not matter here: then nobody misses it.
fn give_back() {
    let _ = execute!(io::stdout(), DisableBracketedPaste, DisableMouseCapture, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// What an event of the terminal means; none if nothing.
pub(super) fn input(event: Event) -> Option<Input> {
    Some(match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Input::Key(pressed(key)?),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => Input::Click(mouse.column, mouse.row),
            MouseEventKind::ScrollUp => Input::Wheel(true),
            MouseEventKind::ScrollDown => Input::Wheel(false),
            _ => return None,
        },
        Event::Paste(text) => Input::Paste(text),
        Event::Resize(width, height) => Input::Size(width, height),
        _ => return None,
    })
}

fn pressed(key: KeyEvent) -> Option<Key> {
    Some(match key.code {
        KeyCode::Char(c) if key.modifiers.contains(KeyModifiers::CONTROL) => {
            Key::Ctrl(c.to_ascii_lowercase())
        }
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}
