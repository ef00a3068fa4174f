//! Where packets are shown, and where somebody says what becomes of them.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::{Asked, Screen};
use crate::daemon::Response;
use crate::net::Verdict;
use crate::trace::Text;

/// What somebody types, each on a line of its own.
const HELP: &str = "
  Enter  carry out the decision, and go on to the next packet
  d      drop this packet, whatever was decided
  c      continue: show packets, but hold none
  q      release this packet and all others, and stop the node
  ?      this help
";

/// A way to show and a way to ask.
pub struct Console {
    keys: Box<dyn BufRead + Send>,
    out: Box<dyn Write + Send>,
    /// Somebody types: what was typed before a packet is shown is not about it.
    typed: bool,
    text: Text,
    colour: bool,
}

/// A line that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Go,
    Drop,
    Continue,
    Stop,
    Help,
    Unknown(String),
}

impl Console {
    /// Shows packets on `out`, with a first line as `text` writes it, in colours or not, and reads keys. `typed` is for a
    /// terminal: there only what is typed after a packet is shown is a response; otherwise lines are taken in turn.
    ///
    /// When the keys end, nobody is asked any more, and packets go on.
    pub fn new(
        keys: Box<dyn BufRead + Send>,
        typed: bool,
        out: Box<dyn Write + Send>,
        text: Text,
        colour: bool,
    ) -> Self {
        Self { keys, out, typed, text, colour }
    }

    pub(super) fn text(&self) -> Text {
        self.text.clone()
    }

    pub(super) fn colour(&self) -> bool {
        self.colour
    }

    /// Starts to show what is asked, and to read keys. Something comes out when the node is to stop: somebody has said so,
    /// or nothing can be shown. Why not comes out of the second channel, unless it is that nobody looks any more.
    pub(super) fn start(
        self,
        screen: Screen,
        asked: Receiver<Asked>,
    ) -> io::Result<(Receiver<()>, Receiver<io::Error>)> {
        let (stop, stopped) = unbounded();
        let (fail, failed) = unbounded();
        // What is read in turn is not read ahead.
        let (pressed, keys) = bounded(if self.typed { 1024 } else { 0 });
        let on_stop = stop.clone();
        // It may wait for a key when the program ends: nobody waits for it.
        thread::Builder::new().name("keys".to_owned()).spawn(move || read(self.keys, &pressed, &on_stop))?;
        let mut asker = Asker { screen, out: self.out, keys, typed: self.typed, asking: true };
        thread::Builder::new().name("screen".to_owned()).spawn(move || {
            for Asked { shown, response } in asked {
                match asker.show(&shown) {
                    Ok(Some(said)) => {
                        let _ = response.send(said);
                    }
                    // Whoever waits for a response, and will, finds that nobody is here.
                    Ok(None) => return,
                    Err(error) => {
                        if error.kind() != io::ErrorKind::BrokenPipe {
                            crate::messages::message!(
                                NOTHING_SHOWN,
                                "packets cannot be shown ({error}): stopping"
                            );
                            let _ = fail.send(error);
                        }
                        let _ = stop.send(());
                        return;
                    }
                }
            }
        })?;
        Ok((stopped, failed))
    }
}

/// Reads lines until they end, or somebody wants to stop, which is heard also while no packet is held. What is no UTF-8 is an unknown key:
/// whoever mistypes has not released all packets.
fn read(mut lines: impl BufRead, pressed: &Sender<Key>, stop: &Sender<()>) {
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let key = Key::of(&String::from_utf8_lossy(&line));
        line.clear();
        if key == Key::Stop {
            let _ = stop.send(());
        }
        if pressed.send(key).is_err() {
            return;
        }
    }
}

struct Asker {
    screen: Screen,
    out: Box<dyn Write + Send>,
    keys: Receiver<Key>,
    typed: bool,
    asking: bool,
}

impl Asker {
    /// Shows a packet and asks about it, unless nobody is asked any more. None if it is to stop.
    fn show(&mut self, shown: &super::Shown) -> io::Result<Option<Response>> {
        let screen = self.screen.show(shown);
        self.say(&screen)?;
        if self.typed {
            while let Ok(early) = self.keys.try_recv() {
                self.asking &= early != Key::Continue;
            }
        }
        if !self.asking {
            return Ok(Some(Response::AsDecided));
        }
        let outcome = match shown.event.verdict {
            Verdict::Accept => "sent on",
            Verdict::Drop => "dropped, as decided",
        };
        loop {
            self.say("\nheld: Enter lets it go, d drops it, c continues, q stops, ? helps > ")?;
            match self.keys.recv() {
                Ok(Key::Go) => {
                    self.say(&format!("{outcome}\n"))?;
                    return Ok(Some(Response::AsDecided));
                }
                Ok(Key::Drop) => {
                    self.say("dropped by hand\n")?;
                    return Ok(Some(Response::Drop));
                }
                Ok(Key::Continue) => {
                    self.asking = false;
                    self.say(&format!("{outcome}; nothing is held any more\n"))?;
                    return Ok(Some(Response::AsDecided));
                }
                Err(_) => {
                    self.asking = false;
                    self.say(&format!("{outcome}; end of input: nothing is held any more\n"))?;
                    return Ok(Some(Response::AsDecided));
                }
                Ok(Key::Stop) => {
                    self.say(&format!("{outcome}; stopping\n"))?;
                    return Ok(None);
                }
                Ok(Key::Help) => self.say(HELP)?,
                Ok(Key::Unknown(line)) => self.say(&format!("unknown key {line:?}\n"))?,
            }
        }
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl Key {
    fn of(line: &str) -> Self {
        match line.trim() {
            "" => Self::Go,
            "d" | "drop" => Self::Drop,
            "c" | "continue" => Self::Continue,
            "q" | "quit" => Self::Stop,
            "?" | "h" | "help" => Self::Help,
            other => Self::Unknown(other.to_owned()),
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("typed", &self.typed).finish_non_exhaustive()
    }
}
