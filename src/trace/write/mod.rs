//! Writing a trace: the formats, where it goes, and the thread behind a tap.

mod destination;
mod file;
mod persistence;

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

use super::event::{Event, Name};
use super::names::Namer;
use super::pcapng::Pcapng;
use super::selection::Selection;
use super::tap::{Next, Tap};
use super::text::Text;
use destination::Reopen;
pub use destination::{Destination, Rotation};
use file::Appended;
pub use file::{Replacement, Unwritable};
use persistence::Persistence;

/// What a trace is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A line for a person.
    Text,
    /// A line of JSON; see [`SCHEMA`](super::SCHEMA).
    Json,
    /// Packets, for Wireshark and tcpdump.
    Pcapng,
}

/// Why a text is not a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a format is one of text, json, pcapng")]
pub struct FormatError;

impl Format {
    /// The format that a file's name ends in: `.json`, `.jsonl` or `.ndjson`, `.pcapng`; text for all others.
    pub fn of_file(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json" | "jsonl" | "ndjson") => Self::Json,
            Some("pcapng") => Self::Pcapng,
            _ => Self::Text,
        }
    }

    /// Whether a trace of this format begins so.
    fn begins(self, bytes: &[u8]) -> bool {
        match self {
            // A day, or that events were lost.
            Self::Text => {
                bytes.starts_with(b"# ")
                    || bytes.get(..11).is_some_and(|day| (day[4], day[7], day[10]) == (b'-', b'-', b'T'))
            }
            Self::Json => bytes.starts_with(b"{"),
            Self::Pcapng => bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]),
        }
    }

    /// Whether events must have the bytes of their packets.
    pub fn needs_bytes(self) -> bool {
        self == Self::Pcapng
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "pcapng" => Ok(Self::Pcapng),
            _ => Err(FormatError),
        }
    }
}

/// An event that is to be written as a packet has no bytes.
#[derive(Debug, thiserror::Error)]
#[error("these events have no bytes to write as packets; they must be traced with --bytes")]
pub struct NoBytes;

/// Events as bytes.
pub struct Rendering(RenderingKind);

enum RenderingKind {
    Text(Text, String),
    Json,
    Pcapng(Pcapng),
}

impl Rendering {
    /// A rendering of that format; `text` says how text is written.
    ///
    /// # Errors
    /// A header could not be made.
    pub fn new(format: Format, text: &Text) -> io::Result<Self> {
        Ok(Self(match format {
            Format::Text => RenderingKind::Text(text.clone(), String::new()),
            Format::Json => RenderingKind::Json,
            Format::Pcapng => RenderingKind::Pcapng(Pcapng::new()?),
        }))
    }

    /// Appends what stands before all events.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let RenderingKind::Pcapng(pcapng) = &mut self.0 {
            pcapng.take(out);
        }
    }

    /// Appends an event.
    ///
    /// # Errors
    /// It cannot be written in this format.
    pub fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            RenderingKind::Text(text, line) => {
                line.clear();
                text.event(event, line);
                out.extend_from_slice(line.as_bytes());
            }
            RenderingKind::Json => {
                serde_json::to_writer(&mut *out, event)?;
                out.push(b'\n');
            }
            RenderingKind::Pcapng(pcapng) => {
                let Some(bytes) = &event.bytes else { return Err(io::Error::other(NoBytes)) };
                pcapng.event(event, &bytes.before.0, bytes.after.as_ref().map(|hex| &*hex.0))?;
                pcapng.take(out);
            }
        }
        Ok(())
    }

    /// Appends, where the format has words for it, that decisions were lost after the last event.
    fn lost(&self, lost: u64, out: &mut Vec<u8>) {
        if let RenderingKind::Text(text, _) = &self.0 {
            let mut line = String::new();
            text.lost(lost, &mut line);
            out.extend_from_slice(line.as_bytes());
        }
    }
}

/// Takes the events of a trace.
pub trait Follower {
    /// Takes one.
    ///
    /// # Errors
    /// It could not be written; no more are wanted.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// Nothing more is there for now.
    ///
    /// # Errors
    /// What is buffered could not be written.
    fn idle(&mut self) -> io::Result<()>;
}

/// Writes events to a file or a stream. Writes large pieces, each of whole events.
pub struct Output {
    make: Box<dyn Fn() -> io::Result<Rendering> + Send>,
    rendering: Rendering,
    buffer: Vec<u8>,
    /// How much of the buffer has been written.
    done: usize,
    /// Where something whole ends in the buffer: what stands before all events, and each event.
    ends: Vec<usize>,
    /// How many of those are no events: one or none.
    begun: usize,
    out: Box<dyn Write + Send>,
    rotation: Option<Rotation>,
    /// How much has been written of the file, beside what is in the buffer.
    size: u64,
    /// The file, if it can be cut.
    file: Option<File>,
    persistence: Option<Persistence>,
    reopen: Option<Reopen>,
    /// It is not in its place yet.
    replacement: Option<Replacement>,
    has_events: bool,
}

/// How much is buffered.
const PIECE: usize = 64 << 10;

impl Output {
    /// Writes to `out`, which is the file of `rotation` if there is one.
    ///
    /// # Errors
    /// A header could not be made.
    pub fn new(
        format: Format,
        text: Text,
        out: Box<dyn Write + Send>,
        rotation: Option<Rotation>,
    ) -> io::Result<Self> {
        let make = move || Rendering::new(format, &text);
        let mut rendering = make()?;
        let mut buffer = Vec::with_capacity(2 * PIECE);
        rendering.begin(&mut buffer);
        Ok(Self {
            make: Box::new(make),
            rendering,
            ends: vec![buffer.len()],
            begun: 1,
            buffer,
            done: 0,
            out,
            rotation,
            size: 0,
            file: None,
            persistence: None,
            reopen: None,
            replacement: None,
            has_events: false,
        })
    }

    /// Writes what will be in the place of another file, which it is from [`commit`](Self::commit) on, or from the end.
    ///
    /// # Errors
    /// A header could not be made, or there are no more file descriptors.
    pub fn replacing(
        format: Format,
        text: Text,
        replacement: Replacement,
        rotation: Option<Rotation>,
    ) -> io::Result<Self> {
        let output = Self::new(format, text, Box::new(replacement.handle()?), rotation)?;
        Ok(Self { replacement: Some(replacement), ..output })
    }

    /// What is written is certain to be wanted: it is in its place from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn commit(&mut self) -> io::Result<()> {
        self.replacement.take().map_or(Ok(()), Replacement::commit)
    }

    /// Says that decisions were lost after the last event, and writes what is buffered.
    ///
    /// # Errors
    /// It could not be written.
    pub fn end(&mut self, lost: u64) -> io::Result<()> {
        if lost > 0 {
            self.rendering.lost(lost, &mut self.buffer);
        }
        self.idle()?;
        self.commit()
    }

    /// The same where what was to be read has a fault: what came before it is kept, and nothing takes no file's place.
    ///
    /// # Errors
    /// It could not be written.
    pub fn end_at_fault(&mut self) -> io::Result<()> {
        if self.has_events { self.end(0) } else { self.idle() }
    }

    /// Goes on in another file where that was asked for; what is buffered comes into the old one.
    fn look_for_another(&mut self) -> io::Result<()> {
        if !self.reopen.as_ref().is_some_and(Reopen::is_asked) {
            return Ok(());
        }
        self.write()?;
        if let Some(Appended { file, len }) =
            self.reopen.as_ref().and_then(|one| one.file(self.file.as_ref()))
        {
            self.file = Some(file.try_clone()?);
            self.begin_in(file, len)?;
        }
        Ok(())
    }

    fn begin_in(&mut self, file: File, len: u64) -> io::Result<()> {
        self.out = Box::new(file);
        self.size = len;
        self.rendering = (self.make)()?;
        self.rendering.begin(&mut self.buffer);
        (self.ends, self.begun) = (vec![self.buffer.len()], 1);
        Ok(())
    }

    /// Writes what is buffered. After an error it goes on where it stopped, so that nothing follows half an event.
    fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.buffer.get(self.done..)
            && !rest.is_empty()
        {
            match self.out.write(rest) {
                Ok(0) => self.persist(io::ErrorKind::WriteZero.into())?,
                Ok(count) => self.done += count,
                Err(error) => self.persist(error)?,
            }
        }
        self.size += self.buffer.len() as u64;
        self.forget();
        self.went_well();
        Ok(())
    }

    fn went_well(&mut self) {
        if let Some(persistence) = &mut self.persistence {
            persistence.went_well();
        }
    }

    /// Waits until it is time to try again; an error that is not to be tried again comes back.
    fn persist(&mut self, error: io::Error) -> io::Result<()> {
        match &mut self.persistence {
            _ if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Some(persistence) => persistence.wait(error),
            None => Err(error),
        }
    }

    fn forget(&mut self) {
        self.buffer.clear();
        self.ends.clear();
        (self.done, self.begun) = (0, 0);
    }

    /// Gives up what is not written, and takes from the file what is only half written. Tells how many events that were.
    fn cut(&mut self) -> u64 {
        let count = self.ends.partition_point(|end| *end <= self.done);
        let end = self.size + self.ends[..count].last().map_or(0, |end| *end as u64);
        if let Some(file) = &self.file
            && file.metadata().is_ok_and(|file| file.len() > end)
            && let Err(error) = file.set_len(end)
        {
            log::warn!("the trace ends with half an event, which cannot be cut off: {error}");
        }
        let events = self.ends.len() - count.max(self.begun);
        self.size = end;
        self.forget();
        events as u64
    }
}

impl Follower for Output {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.look_for_another()?;
        let before = self.buffer.len();
        self.rendering.event(event, &mut self.buffer)?;
        if let Some(rotation) = &self.rotation
            && self.size + self.buffer.len() as u64 > rotation.size
            && self.size + before as u64 > 0
        {
            // This one begins the next file.
            let rotation = rotation.clone();
            self.buffer.truncate(before);
            self.idle()?;
            self.commit()?;
            let file = rotation.rotate()?;
            if self.file.is_some() {
                self.file = Some(file.try_clone()?);
            }
            self.begin_in(file, 0)?;
            self.rendering.event(event, &mut self.buffer)?;
        }
        self.ends.push(self.buffer.len());
        self.has_events = true;
        if self.buffer.len() > PIECE { self.write() } else { Ok(()) }
    }

    fn idle(&mut self) -> io::Result<()> {
        self.write()?;
        self.look_for_another()?;
        while let Err(error) = self.out.flush() {
            self.persist(error)?;
        }
        self.went_well();
        Ok(())
    }
}

/// What came of a trace.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Events that were taken and written.
    pub written: u64,
    /// Decisions that were never seen: their reader was too slow, or had failed.
    pub lost: u64,
    /// Of those, how many after the last event.
    pub lost_last: u64,
    /// Of those, the ones that were lost because writing failed.
    pub unwritten: Option<Unwritten>,
    /// What ended it too early.
    pub error: Option<io::Error>,
}

/// What is missing in a trace because it could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// How many decisions.
    pub lost: u64,
    /// What the system said the last time.
    pub error: String,
}

/// Brings what comes out of a tap to a follower, until the tap ends, enough is taken, or the follower fails.
pub fn follow(
    tap: &mut Tap,
    namer: &mut Namer,
    selection: &mut Selection,
    follower: &mut dyn Follower,
) -> Outcome {
    let mut outcome = Outcome::default();
    let run = tap.run();
    loop {
        let done = match tap.pull() {
            Next::Record(record, lost) => {
                outcome.lost += lost;
                outcome.lost_last += lost;
                let mut event = namer.event(&record);
                event.run = Some(Name::clone(&run));
                if !selection.takes(&event) {
                    continue;
                }
                event.lost = std::mem::take(&mut outcome.lost_last);
                outcome.written += 1;
                follower.event(&event)
            }
            Next::Idle => follower.idle(),
            Next::End => break,
        };
        if let Err(error) = done {
            outcome.error = Some(error);
            break;
        }
        if selection.is_done() {
            break;
        }
    }
    let lost = tap.lost();
    outcome.lost += lost;
    outcome.lost_last += lost;
    outcome
}

/// The thread that writes a trace to a file. It ends when the workers' tracers are gone.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<Outcome>,
    /// Gone when nobody is to wait for better times any longer.
    going_on: Sender<Infallible>,
}

impl Writer {
    /// Starts writing what comes out of a tap. Where writing fails it is tried again, until the end, unless the reader of a
    /// pipe has gone; meanwhile events wait in the tap, and are lost there when that is full.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(mut tap: Tap, mut namer: Namer, mut output: Output) -> io::Result<Self> {
        let (going_on, ending) = bounded(0);
        output.persistence = Some(Persistence::new(tap.losses(), tap.room(), ending));
        let write = move || {
            let mut outcome = follow(&mut tap, &mut namer, &mut Selection::default(), &mut output);
            let mut unwritten = 0;
            if outcome.error.is_none() {
                outcome.error = output.end(outcome.lost_last).err();
            }
            if outcome.error.is_some() {
                let cut = output.cut();
                outcome.written -= cut;
                outcome.lost += cut;
                unwritten += cut;
                // It stays attached, so that what is lost is counted.
                loop {
                    match tap.pull() {
                        Next::Record(_, lost) => {
                            outcome.lost += lost + 1;
                            unwritten += 1;
                        }
                        Next::Idle => {}
                        Next::End => break,
                    }
                }
                outcome.lost += tap.lost();
            }
            outcome.unwritten = output.persistence.and_then(|persistence| persistence.outcome(unwritten));
            outcome
        };
        let thread = thread::Builder::new().name("trace".to_owned()).spawn(write)?;
        Ok(Self { thread, going_on })
    }

    /// Waits until all is written. The tracers must be gone, or this never returns.
    pub fn finish(self) -> Outcome {
        drop(self.going_on);
        self.thread.join().unwrap_or_else(|_| Outcome {
            error: Some(io::Error::other("the writing thread panicked")),
            ..Outcome::default()
        })
    }
}

#[cfg(test)]
mod tests;
