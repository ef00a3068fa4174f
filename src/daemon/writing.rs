//! A trace that a node writes to a file: the thread that does it, and what came of it.

use super::error::Error;
use super::signals;
use crate::text::counted;
use crate::trace::{Destination, Generations, Namer, TapEnd, Taps, Unwritten, Writer};

/// How many records may wait for the thread that writes a trace to a file; some 25 MB.
const WAITING: usize = 65_536;

/// Starts the thread that writes every decision down.
pub(super) fn start_writing(
    trace: Destination,
    taps: &Taps,
    generations: &Generations,
) -> Result<(Writer, TapEnd), Error> {
    let system = |what| move |source| Error::System { what, source };
    let to = trace.path.clone().unwrap_or_else(|| "standard output".into());
    let bytes = trace.format.needs_bytes();
    let output = trace.open(signals::asked_to_reopen().map_err(system("catch a signal"))?);
    let output = output.map_err(|source| Error::NoTrace { to, source })?;
    let (tap, tap_end) = taps.attach(WAITING);
    let namer = Namer::of_run(generations.clone(), bytes);
    Ok((Writer::start(tap, namer, output).map_err(system("start a thread"))?, tap_end))
}

pub(super) fn report_trace(writer: Writer) -> Result<(), Error> {
    let outcome = writer.finish();
    match outcome.error {
        None => log::info!("trace: {} written, {} lost", counted(outcome.written, "event"), outcome.lost),
        Some(error) => crate::messages::message!(
            TRACE_FAILED,
            "trace: writing failed after {} ({error}); {} were not written",
            counted(outcome.written, "event"),
            outcome.lost
        ),
    }
    // A reader that has gone wanted no more.
    outcome.unwritten.map_or(Ok(()), |Unwritten { lost, error }| Err(Error::Trace { lost, error }))
}
