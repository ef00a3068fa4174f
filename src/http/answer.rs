//! What a client gets.

use std::fmt;
use std::io;

use super::server::Sender;

/// A status of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Here it is.
    Ok,
    /// That was no request.
    BadRequest,
    /// Not for who asks.
    Forbidden,
    /// There is nothing at that path.
    NotFound,
    /// One may only read here.
    Method,
    /// It took too long.
    Timeout,
    /// Too many bytes before the request was whole.
    TooLarge,
    /// Too many ask at once.
    Busy,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
            Self::Timeout => "408 Request Timeout",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::Busy => "503 Service Unavailable",
        }
    }
}

/// Sends what goes on and on, until it returns.
type Stream = Box<dyn FnOnce(&mut Sender<'_>) -> io::Result<()> + Send>;

/// An answer.
pub struct Answer {
    status: Status,
    kind: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Body,
}

enum Body {
    Whole(Vec<u8>),
    Stream(Stream),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// A text of that kind (its media type, without the character set, which is UTF-8).
    pub fn new(status: Status, kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, kind, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    /// The answer to who is refused. Nothing of the request is in it.
    pub fn refusal(status: Status) -> Self {
        Self::new(status, "text/plain", format!("{}\n", status.line()))
    }

    /// One without an end: `send` sends pieces until it returns.
    pub fn stream(
        kind: &'static str,
        send: impl FnOnce(&mut Sender<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self { status: Status::Ok, kind, headers: Vec::new(), body: Body::Stream(Box::new(send)) }
    }

    /// The same with more headers.
    #[must_use]
    pub fn with_headers(mut self, headers: &[(&'static str, &'static str)]) -> Self {
        self.headers.extend_from_slice(headers);
        self
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Its body, where it is whole.
    pub fn body(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Whole(bytes) => Some(bytes),
            Body::Stream(_) => None,
        }
    }

    /// The bytes of its head, and what follows; without a body nothing does.
    pub(super) fn parts(self, with_body: bool) -> (Vec<u8>, Option<Stream>) {
        let allow = if self.status == Status::Method { "Allow: GET, HEAD\r\n" } else { "" };
        let length =
            self.body().map_or_else(String::new, |body| format!("Content-Length: {}\r\n", body.len()));
        let mut head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}; charset=utf-8\r\n{length}{allow}X-Content-Type-Options: nosniff\r\n",
            self.status.line(),
            self.kind,
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "Connection: close\r\n\r\n";
        let mut bytes = head.into_bytes();
        match self.body {
            _ if !with_body => (bytes, None),
            Body::Whole(body) => {
                bytes.extend_from_slice(&body);
                (bytes, None)
            }
            Body::Stream(stream) => (bytes, Some(stream)),
        }
    }
}
