//! Answering who asks, with limits on how many, how much and how long.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Asked, Response, ask, is_head};
use crate::netlink::passing;

const INDEX: &str = "dunnat metrics: see /metrics\n";
/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4";

/// What a stranger may cost.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// How many are served at once; one more is told to come again.
    pub connections: usize,
    /// How many bytes a request may have.
    pub request: usize,
    /// How long a request may take, and how long an answer may take to be read.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16, request: 8 << 10, time: Duration::from_secs(5) }
    }
}

/// A place among those that are served; free again when it is gone.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, all: usize) -> Option<Self> {
        // The one thread that accepts takes places; others only give them back.
        if taken.load(Ordering::Acquire) >= all {
            return None;
        }
        taken.fetch_add(1, Ordering::AcqRel);
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers who connects, for ever. `text` makes the metrics, for each who asks.
pub fn serve(
    listener: &TcpListener,
    limits: Limits,
    text: impl Fn() -> String + Send + Sync + 'static,
) -> io::Error {
    let (text, taken) = (Arc::new(text), Arc::default());
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // It has gone already, or there are too many files open, or no memory: that passes.
            Err(error) if is_passing(&error) => {
                log::debug!("cannot accept: {error}");
                thread::sleep(Duration::from_millis(50));
                continue;
            }
            Err(error) => return error,
        };
        let _ = stream.set_write_timeout(Some(limits.time));
        let Some(place) = Place::take(&taken, limits.connections) else {
            // Its request is not read: it may be slow.
            let _ = stream.write_all(&Response::Busy.refusal(true));
            continue;
        };
        let text = Arc::clone(&text);
        let served = thread::Builder::new().name("scrape".to_owned()).spawn(move || {
            let _place = place;
            if let Err(error) = answer(&mut stream, limits, &*text) {
                log::debug!("a scrape failed: {error}");
            }
        });
        if let Err(error) = served {
            log::debug!("cannot serve a scrape: {error}");
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    let is_of_one = matches!(
        error.raw_os_error(),
        Some(libc::ECONNABORTED | libc::EPERM | libc::EPROTO | libc::ENETDOWN)
    );
    is_of_one || passing::is_passing(error)
}

fn answer(stream: &mut TcpStream, limits: Limits, text: &dyn Fn() -> String) -> io::Result<()> {
    let until = Instant::now() + limits.time;
    let mut head = Vec::new();
    let asked = loop {
        match ask(&head) {
            Asked::More if head.len() >= limits.request => break Asked::Refused(Response::TooLarge),
            Asked::More => {}
            asked => break asked,
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Asked::Refused(Response::Timeout);
        }
        stream.set_read_timeout(Some(left))?;
        let mut bytes = [0; 1024];
        let room = bytes.len().min(limits.request - head.len());
        match stream.read(&mut bytes[..room]) {
            Ok(0) => return Ok(()),
            Ok(read) => head.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    };
    let with_body = !is_head(&head);
    let bytes = match asked {
        Asked::Metrics => Response::Ok.bytes(TEXT, &text(), with_body),
        Asked::Index => Response::Ok.bytes("text/plain", INDEX, with_body),
        Asked::Refused(response) => response.refusal(with_body),
        Asked::More => return Ok(()),
    };
    send(stream, &bytes, Instant::now() + limits.time)?;
    stream.shutdown(std::net::Shutdown::Write)
}

/// A reader that takes a byte now and then is not waited for without end.
fn send(stream: &mut TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
