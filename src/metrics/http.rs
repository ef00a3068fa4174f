//! The little of HTTP/1.1 (RFC 9112) that it takes to give one text to who asks for it.

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The metrics.
    Metrics,
    /// Which paths there are.
    Index,
    /// It has not said it yet: more bytes are to come.
    More,
    /// It gets this answer.
    Refused(Response),
}

/// A status of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// Here it is.
    Ok,
    /// That was no request.
    BadRequest,
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

/// How many headers a request may have.
const HEADERS: usize = 64;

/// Reads the head of a request, as much of it as has come. A body is not looked at: those who only read send none.
pub fn ask(head: &[u8]) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Asked::More,
        Err(httparse::Error::TooManyHeaders) => return Asked::Refused(Response::TooLarge),
        Err(_) => return Asked::Refused(Response::BadRequest),
    }
    let path = request.path.unwrap_or_default();
    // Prometheus may be told to send parameters; they mean nothing here.
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    match (request.method, path) {
        (Some("GET" | "HEAD"), "/metrics") => Asked::Metrics,
        (Some("GET" | "HEAD"), "/") => Asked::Index,
        (Some("GET" | "HEAD"), _) => Asked::Refused(Response::NotFound),
        _ => Asked::Refused(Response::Method),
    }
}

/// Whether it asks for the head of the answer alone.
pub(super) fn is_head(request: &[u8]) -> bool {
    request.trim_ascii_start().starts_with(b"HEAD ")
}

impl Response {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
            Self::Timeout => "408 Request Timeout",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::Busy => "503 Service Unavailable",
        }
    }

    /// The bytes of the answer. Nothing of the request is in it.
    pub(super) fn bytes(self, kind: &str, body: &str, with_body: bool) -> Vec<u8> {
        let allow = if self == Self::Method { "Allow: GET, HEAD\r\n" } else { "" };
        let mut answer = format!(
            "HTTP/1.1 {}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n{allow}X-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\r\n",
            self.line(),
            body.len()
        );
        if with_body {
            answer.push_str(body);
        }
        answer.into_bytes()
    }

    /// The answer to who is refused.
    pub(super) fn refusal(self, with_body: bool) -> Vec<u8> {
        self.bytes("text/plain", &format!("{}\n", self.line()), with_body)
    }
}
