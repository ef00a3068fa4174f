//! journald, where standard error is its: a message has a priority and fields there.
//!
//! The protocol is a datagram of lines, `FIELD=value` (systemd's JOURNAL_NATIVE_PROTOCOL). Crates for it open what they need
//! when something is told, and wait until there is room. Here the socket is there before threads give up the right to have one, and
//! nobody who serves packets waits for a journal that hangs.

use std::env;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dunnat::messages::KEY;
use dunnat::text::counted;
use log::kv::{self, VisitSource};
use log::{Level, Record};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The most bytes of a message.
const LONGEST: usize = 16 << 10;

pub(super) struct Journal {
    socket: UnixDatagram,
    /// Which node it is about, and which of its processes tells it.
    about: OnceLock<(String, &'static str)>,
    /// Found no room.
    lost: AtomicU64,
}

impl Journal {
    /// The one that standard error goes to, if it does.
    pub(super) fn of_standard_error() -> Option<Self> {
        let stat = rustix::fs::fstat(io::stderr()).ok()?;
        let is_it = names(&env::var("JOURNAL_STREAM").ok()?, stat.st_dev, stat.st_ino);
        is_it.then(|| Self::at(SOCKET).ok()).flatten()
    }

    fn at(path: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, about: OnceLock::new(), lost: AtomicU64::new(0) })
    }

    pub(super) fn about(&self, node: &str, role: &'static str) {
        // The first word counts.
        let _ = self.about.set((node.to_owned(), role));
    }

    /// Tells it; what finds no room is counted. If the journal cannot be reached that way, standard error is another one.
    pub(super) fn tell(&self, level: Level, text: &str, record: Option<&Record<'_>>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{} lost: the journal took no more", counted(lost, "message"));
            if !self.send(Level::Warn, &text, None) {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
        if !self.send(level, text, record) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether it was taken.
    fn send(&self, level: Level, text: &str, record: Option<&Record<'_>>) -> bool {
        match self.socket.send(&self.datagram(level, text, record)) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                // Where that fails, too, there is nobody to tell.
                let _ = as_line(level, &text.replace('\n', " "));
                true
            }
        }
    }

    fn datagram(&self, level: Level, text: &str, record: Option<&Record<'_>>) -> Vec<u8> {
        let mut fields = Fields(Vec::with_capacity(512));
        let text = &text[..text.floor_char_boundary(LONGEST)];
        fields.add("MESSAGE", text);
        fields.add("PRIORITY", priority(level));
        fields.add("SYSLOG_IDENTIFIER", "dunnat");
        if let Some((node, role)) = self.about.get() {
            fields.add("DUNNAT_NODE", node);
            fields.add("DUNNAT_ROLE", role);
        }
        if let Some(record) = record {
            fields.add("DUNNAT_MODULE", record.target());
            // It fails only if we do.
            let _ = record.key_values().visit(&mut fields);
        }
        fields.0
    }
}

/// A line on standard error, with its priority as sd-daemon(3) has it.
pub(super) fn as_line(level: Level, line: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "<{}>{line}", priority(level))
}

/// Whether JOURNAL_STREAM names this file, by device and inode: sd-daemon(3).
fn names(stream: &str, device: u64, inode: u64) -> bool {
    let numbers = stream.split_once(':').and_then(|(of, at)| Some((of.parse().ok()?, at.parse().ok()?)));
    numbers == Some((device, inode))
}

/// As syslog(3) has them.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

struct Fields(Vec<u8>);

impl Fields {
    fn add(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl<'of> VisitSource<'of> for Fields {
    fn visit_pair(&mut self, key: kv::Key<'of>, value: kv::Value<'of>) -> Result<(), kv::Error> {
        let name = if key.as_str() == KEY { "MESSAGE".to_owned() } else { key.as_str().to_ascii_uppercase() };
        // What is no name of a field would be dropped with all that follows.
        let name: String =
            name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect();
        self.add(&format!("DUNNAT_{name}"), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(folder: &tempfile::TempDir) -> (UnixDatagram, Journal) {
        let path = folder.path().join("socket");
        let it = UnixDatagram::bind(&path).unwrap();
        (it, Journal::at(path.to_str().unwrap()).unwrap())
    }

    fn received(it: &UnixDatagram) -> String {
        let mut bytes = vec![0; 1 << 20];
        let length = it.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn a_message_has_priority_id_node_and_fields() {
        let folder = tempfile::tempdir().unwrap();
        let (it, journal) = journal(&folder);
        journal.about("node1", "keeper");
        let pairs = [(KEY, "D201"), ("queue", "101"), ("a-b\n", "two\nlines")];
        let mut record = Record::builder();
        record.level(Level::Warn).target("dunnat::daemon").key_values(&pairs);
        journal.tell(Level::Warn, "D201 too much", Some(&record.args(format_args!("")).build()));
        assert_eq!(
            received(&it),
            "MESSAGE=D201 too much\nPRIORITY=4\nSYSLOG_IDENTIFIER=dunnat\nDUNNAT_NODE=node1\nDUNNAT_ROLE=keeper\n\
             DUNNAT_MODULE=dunnat::daemon\nDUNNAT_MESSAGE=D201\nDUNNAT_QUEUE=101\n\
             DUNNAT_A_B_\n\u{9}\0\0\0\0\0\0\0two\nlines\n"
        );
        journal.tell(Level::Error, &"é".repeat(LONGEST), None);
        assert!(received(&it).len() < LONGEST + 200);
    }

    #[test]
    fn nobody_waits_for_a_journal_that_reads_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (it, journal) = journal(&folder);
        // The kernel keeps some hundreds for it.
        for _ in 0..10_000 {
            journal.tell(Level::Info, "x", None);
        }
        let lost = journal.lost.load(Ordering::Relaxed);
        assert!(lost > 0);
        it.set_nonblocking(true).unwrap();
        while it.recv(&mut [0; 4096]).is_ok() {}
        journal.tell(Level::Info, "there is room again", None);
        assert!(
            received(&it).starts_with(&format!("MESSAGE={lost} messages lost: the journal took no more\n"))
        );
        assert!(received(&it).starts_with("MESSAGE=there is room again\n"));
        assert_eq!(journal.lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn standard_error_is_the_journal_only_by_device_and_inode() {
        assert!(names("8:17", 8, 17));
        for other in ["", "8", "8:18", "9:17", "8:17:1", " 8:17", "8:-17"] {
            assert!(!names(other, 8, 17), "{other}");
        }
    }
}
