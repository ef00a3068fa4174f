//! What a client asks for.

use super::answer::Status;

/// How many headers a request may have.
const HEADERS: usize = 64;

/// The head of a request, as far as one looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// It asks for the head of the answer alone.
    pub head: bool,
    /// The path, without what follows a question mark.
    pub path: String,
    /// What follows it; see [`parameter`](super::parameter).
    pub query: String,
    /// The header Host; none if there is not exactly one that is text.
    pub host: Option<String>,
    /// The header Origin: a browser says from which page a request comes.
    pub origin: Option<String>,
    /// The header Sec-Fetch-Site: the same in one word.
    pub fetch_site: Option<String>,
}

/// What came of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A request.
    Whole(Box<Request>),
    /// It is not whole yet: more bytes are to come.
    More,
    /// It gets this answer.
    Refused(Status),
}

/// Reads the head of a request, as much of it as has come. A body is not looked at: those who only read send none.
pub fn read(head: &[u8]) -> Read {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Read::More,
        Err(httparse::Error::TooManyHeaders) => return Read::Refused(Status::TooLarge),
        Err(_) => return Read::Refused(Status::BadRequest),
    }
    let is_head = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Read::Refused(Status::Method),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |name: &str| {
        let mut all = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        match (all.next(), all.next()) {
            (Some(one), None) => Ok(std::str::from_utf8(one.value).ok().map(str::to_owned)),
            (None, _) => Ok(None),
            // Which of the two would count?
            (Some(_), Some(_)) => Err(()),
        }
    };
    let (Ok(host), Ok(origin), Ok(fetch_site)) = (header("host"), header("origin"), header("sec-fetch-site"))
    else {
        return Read::Refused(Status::BadRequest);
    };
    Read::Whole(Box::new(Request {
        head: is_head,
        path: path.to_owned(),
        query: query.to_owned(),
        host,
        origin,
        fetch_site,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Request {
        match read(text.as_bytes()) {
            Read::Whole(request) => *request,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_request_is_its_path_and_who_asks() {
        let request = whole("GET /a?b=c?d HTTP/1.1\r\nhOST: x:1\r\nOrigin: http://y\r\n\r\n");
        assert_eq!((request.head, &*request.path, &*request.query), (false, "/a", "b=c?d"));
        assert_eq!((request.host.as_deref(), request.origin.as_deref()), (Some("x:1"), Some("http://y")));
        assert!(whole("HEAD / HTTP/1.0\r\n\r\n").head);
        assert_eq!(whole("GET / HTTP/1.1\r\nHost: \u{ff}\r\n\r\n").host.as_deref(), Some("\u{ff}"));
    }

    #[test]
    fn what_is_no_request_or_more_than_one_host_is_refused() {
        let refused = |text: &str| match read(text.as_bytes()) {
            Read::Refused(status) => status,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Status::BadRequest);
        assert_eq!(refused("POST / HTTP/1.1\r\n\r\n"), Status::Method);
        assert_eq!(refused("\x16\x03\x01 tls"), Status::BadRequest);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        assert_eq!(refused(&many), Status::TooLarge);
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\r\n"), Read::More);
    }
}
