//! Who is let in.

use std::net::{IpAddr, Ipv6Addr};

use crate::http::{Request, Status, parameter};

/// Says of each request whether it may be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Door {
    names: Vec<String>,
    token: Option<String>,
}

impl Door {
    /// Hosts may be addresses, `localhost`, or one of these names. Data is for those alone who have the token, if there is one.
    pub fn new(names: Vec<String>, token: Option<String>) -> Self {
        Self { names, token }
    }

    /// Whether the page itself may be given, which has nothing of the cluster in it.
    ///
    /// # Errors
    /// The status that it is refused with.
    pub fn lets_in(&self, request: &Request) -> Result<(), Status> {
        // HTTP/1.1 asks for exactly one (RFC 9112, 3.2).
        let host = request.host.as_deref().ok_or(Status::BadRequest)?;
        if !self.knows(host) {
            return Err(Status::Forbidden);
        }
        let own =
            |origin: &str| origin.strip_prefix("http://").is_some_and(|it| it.eq_ignore_ascii_case(host));
        if request.origin.as_deref().is_some_and(|origin| !own(origin)) {
            return Err(Status::Forbidden);
        }
        // `none`: somebody has typed the address, or has followed a bookmark.
        match request.fetch_site.as_deref() {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) => Err(Status::Forbidden),
        }
    }

    /// Whether it may see decisions.
    ///
    /// # Errors
    /// The status that it is refused with.
    pub fn lets_see(&self, request: &Request) -> Result<(), Status> {
        self.lets_in(request)?;
        let Some(token) = &self.token else { return Ok(()) };
        match parameter(&request.query, "token") {
            Some(shown) if same(shown.as_bytes(), token.as_bytes()) => Ok(()),
            _ => Err(Status::Forbidden),
        }
    }

    /// A name can be led here by whoever owns it; an address cannot. The port may be another where somebody passes a port on.
    fn knows(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => {
                if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
                    return false;
                }
                name
            }
            _ => host,
        };
        let is_v6 = || {
            let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
            inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
        };
        let is_v4 = || matches!(name.parse(), Ok(IpAddr::V4(_)));
        let is_named = || self.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        name.eq_ignore_ascii_case("localhost") || is_v4() || is_v6() || is_named()
    }
}

/// Compares in a time that does not tell how much of it was right.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Read, read};

    fn request(path: &str, headers: &str) -> Request {
        let text = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
        match read(text.as_bytes()) {
            Read::Whole(request) => *request,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// DNS rebinding: a name of somebody else leads to 127.0.0.1.
    #[test]
    fn a_host_is_an_address_or_a_name_that_was_named() {
        let door = Door::new(vec!["node1.example".to_owned()], None);
        for (host, expected) in [
            ("127.0.0.1:17518", Ok(())),
            ("127.0.0.1", Ok(())),
            ("LOCALHOST:8080", Ok(())),
            ("[::1]:17518", Ok(())),
            ("[::1]", Ok(())),
            ("192.0.2.1:1", Ok(())),
            ("Node1.Example:17518", Ok(())),
            ("evil.example:17518", Err(Status::Forbidden)),
            ("evil.example", Err(Status::Forbidden)),
            ("127.0.0.1.evil.example", Err(Status::Forbidden)),
            ("localhost.evil.example:17518", Err(Status::Forbidden)),
            ("evil.example@127.0.0.1", Err(Status::Forbidden)),
            ("127.0.0.1:x", Err(Status::Forbidden)),
            ("127.0.0.1:", Err(Status::Forbidden)),
            ("::1", Err(Status::Forbidden)),
            ("[evil.example]:1", Err(Status::Forbidden)),
            ("", Err(Status::Forbidden)),
        ] {
            let asked = request("/", &format!("Host: {host}\r\n"));
            assert_eq!(door.lets_in(&asked), expected, "{host}");
        }
        assert_eq!(door.lets_in(&request("/", "")), Err(Status::BadRequest));
    }

    #[test]
    fn no_other_page_may_ask() {
        let door = Door::default();
        let asked = |more: &str| door.lets_in(&request("/", &format!("Host: localhost:17518\r\n{more}\r\n")));
        assert_eq!(asked("Origin: http://localhost:17518"), Ok(()));
        assert_eq!(asked("Sec-Fetch-Site: same-origin"), Ok(()));
        assert_eq!(asked("Sec-Fetch-Site: none"), Ok(()));
        for other in [
            "Origin: http://evil.example",
            "Origin: http://localhost:80",
            "Origin: https://localhost:17518",
            "Origin: null",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ] {
            assert_eq!(asked(other), Err(Status::Forbidden), "{other}");
        }
    }

    #[test]
    fn decisions_are_for_who_has_the_token() {
        let door = Door::new(Vec::new(), Some("a1b2".to_owned()));
        let asked = |path: &str| door.lets_see(&request(path, "Host: 192.0.2.1\r\n"));
        assert_eq!(asked("/events?token=a1b2"), Ok(()));
        for path in
            ["/events", "/events?token=", "/events?token=a1b", "/events?token=a1b3", "/events?tok=a1b2"]
        {
            assert_eq!(asked(path), Err(Status::Forbidden), "{path}");
        }
        assert_eq!(door.lets_in(&request("/", "Host: 192.0.2.1\r\n")), Ok(()));
        let foreign = request("/events?token=a1b2", "Host: evil.example\r\n");
        assert_eq!(door.lets_see(&foreign), Err(Status::Forbidden));
    }
}
