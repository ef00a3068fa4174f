//! Events as bytes, in each format.

use std::io;

use super::format::Format;
use crate::trace::carried::Carried;
use crate::trace::event::Event;
use crate::trace::otlp;
use crate::trace::pcapng::Pcapng;
use crate::trace::rule::RuleEvent;
use crate::trace::text::Text;

/// An event that is to be written as a packet has no bytes.
#[derive(Debug, thiserror::Error)]
#[error("these events have no bytes to write as packets; they must be traced with --bytes")]
pub struct NoBytes;

/// Events as bytes.
pub struct Rendering(RenderingKind);

enum RenderingKind {
    Text(Text, String),
    Json,
    Otlp,
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
            Format::Otlp => RenderingKind::Otlp,
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
            RenderingKind::Otlp => otlp::event(event, out)?,
            RenderingKind::Pcapng(pcapng) => {
                let Some(bytes) = &event.bytes else { return Err(io::Error::other(NoBytes)) };
                pcapng.event(event, &bytes.before.0, bytes.after.as_ref().map(|hex| &*hex.0))?;
                pcapng.take(out);
            }
        }
        Ok(())
    }

    /// Appends a rule that a packet met.
    ///
    /// # Errors
    /// It cannot be written in this format: a capture has packets and OTLP spans, and no rules.
    pub fn rule(&mut self, rule: &RuleEvent, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            RenderingKind::Text(text, line) => {
                line.clear();
                text.rule(rule, line);
                out.extend_from_slice(line.as_bytes());
            }
            RenderingKind::Json => out.extend_from_slice(rule.as_json().as_bytes()),
            RenderingKind::Otlp | RenderingKind::Pcapng(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(())
    }

    /// Appends what the kernel has carried.
    ///
    /// # Errors
    /// It cannot be written in this format.
    pub fn carried(&mut self, carried: &Carried, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            RenderingKind::Text(text, line) => {
                line.clear();
                text.carried(carried, line);
                out.extend_from_slice(line.as_bytes());
            }
            RenderingKind::Json => out.extend_from_slice(carried.as_json().as_bytes()),
            RenderingKind::Otlp => otlp::carried(carried, out)?,
            RenderingKind::Pcapng(pcapng) => {
                pcapng.carried(carried)?;
                pcapng.take(out);
            }
        }
        Ok(())
    }

    /// Appends, where the format has words for it, that decisions were lost after the last event.
    pub(super) fn lost(&self, lost: u64, out: &mut Vec<u8>) {
        if let RenderingKind::Text(text, _) = &self.0 {
            let mut line = String::new();
            text.lost(lost, &mut line);
            out.extend_from_slice(line.as_bytes());
        }
    }
}
