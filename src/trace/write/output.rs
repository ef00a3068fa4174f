//! A file or a stream that events are written to, in large pieces of whole events.

use std::fs::File;
use std::io::{self, Write};

use super::file::{Appended, Replacement};
use super::follow::Follower;
use super::format::Format;
use super::persistence::Persistence;
use super::rendering::Rendering;
use super::reopen::Reopen;
use super::rotation::Rotation;
use crate::trace::carried::Carried;
use crate::trace::event::Event;
use crate::trace::rule::RuleEvent;
use crate::trace::text::Text;

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
    pub(super) out: Box<dyn Write + Send>,
    rotation: Option<Rotation>,
    /// How much has been written of the file, beside what is in the buffer.
    size: u64,
    /// The file, if it can be cut.
    file: Option<File>,
    pub(super) persistence: Option<Persistence>,
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

    /// The same behind what the file has already: its size in bytes, the file if it can be cut, and how it is opened anew.
    pub(super) fn after(self, size: u64, file: Option<File>, reopen: Option<Reopen>) -> Self {
        Self { size, file, reopen, ..self }
    }

    /// Writes what will be in the place of another file, which it is from [`commit`](Self::commit) on, or from the end. A device has
    /// no rotation.
    ///
    /// # Errors
    /// A header could not be made, or there are no more file descriptors.
    pub fn replacing(
        format: Format,
        text: Text,
        replacement: Replacement,
        rotation: Option<Rotation>,
    ) -> io::Result<Self> {
        let rotation = rotation.filter(|_| replacement.is_file());
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
    pub(super) fn cut(&mut self) -> u64 {
        let count = self.ends.partition_point(|end| *end <= self.done);
        let end = self.size + self.ends[..count].last().map_or(0, |end| *end as u64);
        if let Some(file) = &self.file
            && file.metadata().is_ok_and(|file| file.len() > end)
            && let Err(error) = file.set_len(end)
        {
            crate::messages::message!(
                TRACE_NOT_CUT,
                "the trace ends with half an event, which cannot be cut off: {error}"
            );
        }
        let events = self.ends.len() - count.max(self.begun);
        self.size = end;
        self.forget();
        events as u64
    }
}

impl Output {
    /// Writes a rule that a packet met.
    ///
    /// # Errors
    /// It cannot be written in this format, or not at all.
    pub fn rule(&mut self, rule: &RuleEvent) -> io::Result<()> {
        self.put(|rendering, out| rendering.rule(rule, out))
    }

    /// Writes something whole.
    fn put(&mut self, render: impl Fn(&mut Rendering, &mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        self.look_for_another()?;
        let before = self.buffer.len();
        render(&mut self.rendering, &mut self.buffer)?;
        if let Some(rotation) = &self.rotation
            && self.size + self.buffer.len() as u64 > rotation.size.get()
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
            render(&mut self.rendering, &mut self.buffer)?;
        }
        self.ends.push(self.buffer.len());
        self.has_events = true;
        if self.buffer.len() > PIECE { self.write() } else { Ok(()) }
    }
}

impl Follower for Output {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.put(|rendering, out| rendering.event(event, out))
    }

    fn carried(&mut self, carried: &Carried) -> io::Result<()> {
        self.put(|rendering, out| rendering.carried(carried, out))
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
