//! What there is to know of a node that another program goes on with, as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::control::Trace;
use crate::daemon::board::Known;
use crate::daemon::counters::Counters;
use crate::daemon::suspects::Suspects;
use crate::daemon::wire::Place;
use crate::kernel::Capabilities;
use crate::netlink::sys;
use crate::queue::{Of, QueueConfig};
use crate::ruleset::Held;

/// The version of this format. It changes when a program that knows another one could not go on.
const FORMAT: u32 = 1;
/// How long a state may be, in bytes.
const LONGEST: u64 = 256 << 20;

/// All that a node is beside its descriptors.
///
/// It is written by the program that served before, and read by the one that goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(super) format: u32,
    /// The version of the program that has written it.
    pub(in crate::daemon) dunnat: String,
    pub(super) host: Host,
    pub(super) node: String,
    /// Where the node listens.
    pub(super) socket: PathBuf,
    /// The file of the program.
    pub(in crate::daemon) program: PathBuf,
    pub(in crate::daemon) place: Place,
    /// The queues of each worker thread.
    pub(super) lanes: Vec<Vec<QueueConfig>>,
    /// What is in the memory, if nobody writes there any more.
    #[serde(default)]
    pub(super) written: Option<Written>,
    /// What the memory means; see [`Memory::layout`](crate::daemon::memory::Memory::layout).
    pub(super) layout: String,
    pub(in crate::daemon) kernel: Capabilities,
    /// None if the rules are somebody else's.
    pub(in crate::daemon) rules: Option<Held>,
    pub(in crate::daemon) known: Known,
    pub(in crate::daemon) suspects: Suspects<Vec<u8>>,
    /// Clients that see decisions, and what each wants.
    pub(super) clients: Vec<Trace>,
    /// How many clients have not been answered.
    pub(super) unanswered: usize,
    /// What the service manager keeps, by names.
    pub(super) stored: Vec<String>,
    /// When packets began to wait, by the clock that no one sets, in milliseconds.
    pub(in crate::daemon) paused: u64,
}

/// What workers have written into their memory, for a program to which its numbers mean something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Written {
    /// For each queue of each worker.
    pub(super) journals: Vec<Vec<Of>>,
    /// All that was counted since the start, also by name of service.
    pub(super) counted: (Counters, BTreeMap<String, u64>),
}

/// Where all that is of use: it is one boot of one kernel, one network namespace, one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Host {
    boot: String,
    network: (u64, u64),
    user: u32,
}

/// A state that cannot be read, or is of something else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// There is none, or not all of it.
    #[error("the state of the program before cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is of a program that writes another format.
    #[error("the state of the program before has format {0}, and this program knows format {FORMAT}")]
    Format(u32),
    /// It does not say what it must.
    #[error("the state of the program before is not understood: {0}")]
    Malformed(serde_json::Error),
}

impl Host {
    /// This one.
    pub(super) fn here() -> io::Result<Self> {
        let network = fs::metadata("/proc/self/ns/net")?;
        Ok(Self {
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
            network: (network.dev(), network.ino()),
            user: sys::user(),
        })
    }

    /// What is otherwise there.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.boot != other.boot {
            Some("it is of another boot of this host")
        } else if self.network != other.network {
            Some("it is of another network namespace")
        } else if self.user != other.user {
            Some("it is of another user")
        } else {
            None
        }
    }
}

impl State {
    pub(super) const FORMAT: u32 = FORMAT;

    /// Reads the last line of some bytes: one that has its end. What was being written when somebody was killed has none.
    ///
    /// # Errors
    /// There is none, it is of another format, or it says what makes no sense.
    pub fn read(bytes: &[u8]) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[..end]);
        let line = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let Format { format } = serde_json::from_slice(line).map_err(StateError::Malformed)?;
        if format != FORMAT {
            return Err(StateError::Format(format));
        }
        serde_json::from_slice(line).map_err(StateError::Malformed)
    }

    /// The same of a file.
    pub(super) fn read_from(file: &mut fs::File) -> Result<Self, StateError> {
        let mut bytes = Vec::new();
        file.rewind()
            .and_then(|()| file.take(LONGEST).read_to_end(&mut bytes))
            .map_err(StateError::Unreadable)?;
        Self::read(&bytes)
    }

    /// A line.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn write(&self) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// The time since some moment of this boot, in milliseconds.
pub(in crate::daemon) fn milliseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec * 1000 + time.tv_nsec / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::Support;

    pub(in crate::daemon::handed) fn state() -> State {
        State {
            format: FORMAT,
            dunnat: "0.2.0".to_owned(),
            host: Host { boot: "b".to_owned(), network: (4, 4026531840), user: 0 },
            node: "node1".to_owned(),
            socket: "/run/dunnat/node1.sock".into(),
            program: "/usr/bin/dunnat".into(),
            place: Place { generation: 1, first: 100, workers: 1, former: Vec::new(), keeps_tags: false },
            lanes: Vec::new(),
            written: None,
            layout: "l".to_owned(),
            kernel: Capabilities::all(),
            rules: None,
            known: known(),
            suspects: Suspects::default(),
            clients: Vec::new(),
            unanswered: 0,
            stored: Vec::new(),
            paused: 0,
        }
    }

    fn known() -> Known {
        serde_json::from_str(
            r#"{"since":"2026-11-26T17:00:00Z","reloaded":null,"ended":{"decisions":[{"stage":"dnat","reason":"poison","verdict":"drop","packets":2}],
            "times":{"deciding":{"count":0,"sum_ns":0,"buckets":[]},"waiting":{"count":0,"sum_ns":0,"buckets":[]}},
            "untraced":0,"stray":0,"passed":0,"turns":[2,0,0,0,0],"losses":[0,0]},"ended_services":{"web":2},"repairs":1,
            "rehearsal":null,"refused":[],"restarts":3,
            "upgrades":1,"upgraded":null,"poison":[]}"#,
        )
        .unwrap()
    }

    fn lane() -> impl Strategy<Value = QueueConfig> {
        (any::<u16>(), any::<bool>(), any::<bool>(), any::<u32>(), any::<bool>()).prop_map(
            |(queue, gso, ct_mark, copy, fail_open)| QueueConfig { queue, gso, ct_mark, copy, fail_open },
        )
    }

    fn place() -> impl Strategy<Value = Place> {
        let former = prop::collection::vec(any::<(u32, u32)>(), 0..3);
        (any::<u64>(), any::<u16>(), any::<u16>(), former, any::<bool>()).prop_map(
            |(generation, first, workers, former, keeps_tags)| Place {
                generation,
                first,
                workers,
                former,
                keeps_tags,
            },
        )
    }

    prop_compose! {
        fn any_state()(
            place in place(),
            lanes in prop::collection::vec(prop::collection::vec(lane(), 0..4), 0..3),
            (node, layout) in any::<(String, String)>(),
            (boot, network, user) in any::<(String, (u64, u64), u32)>(),
            said in prop::option::of(any::<String>()),
            filters in prop::collection::vec(prop::option::of(any::<String>()), 0..3),
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..3),
            (unanswered, paused) in any::<(u16, u64)>(),
        ) -> State {
            let mut suspects = Suspects::default();
            packets.into_iter().for_each(|packet| { suspects.is_it_again(packet); });
            State {
                place,
                lanes,
                node,
                layout,
                host: Host { boot, network, user },
                kernel: Capabilities {
                    nft_queue: said.map_or(Support::Yes, Support::No),
                    ct_mark_by_verdict: Support::Yes,
                },
                clients: filters.into_iter().map(|filter| Trace { filter, ..Trace::default() }).collect(),
                suspects,
                unanswered: unanswered.into(),
                paused,
                ..state()
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(state in any_state(), before in any_state(), cut in 0usize..100) {
            let line = state.write().unwrap();
            prop_assert_eq!(&State::read(&line).unwrap(), &state);
            // The last whole line counts: what comes after it was being written when somebody was killed.
            let mut file = before.write().unwrap();
            file.extend(&line);
            file.extend(&line[..cut.min(line.len() - 1)]);
            prop_assert_eq!(&State::read(&file).unwrap(), &state);
        }
    }

    #[test]
    fn what_is_no_state_or_of_another_format_is_told() {
        let said = |bytes: &[u8]| State::read(bytes).unwrap_err().to_string();
        let mut line = State { format: 7, ..state() }.write().unwrap();
        assert_eq!(
            said(&line),
            "the state of the program before has format 7, and this program knows format 1"
        );
        // Whatever else is in it.
        assert!(said(b"{\"format\":2,\"x\":[]}\n").contains("has format 2,"));
        line.pop();
        for none in [&line[..], b"", b"\n", b"x\n", b"{}\n", b"{\"format\":1}\n", b"{\"format\":-1}\n"] {
            assert!(
                said(none).starts_with("the state of the program before is not understood: "),
                "{none:?}"
            );
        }
    }

    #[test]
    fn another_host_is_told_from_this_one() {
        let here = Host::here().unwrap();
        assert_eq!(here.difference(&Host::here().unwrap()), None);
        let other = Host { boot: "x".to_owned(), ..Host::here().unwrap() };
        assert_eq!(other.difference(&here), Some("it is of another boot of this host"));
        let other = Host { network: (1, 2), ..Host::here().unwrap() };
        assert_eq!(other.difference(&here), Some("it is of another network namespace"));
        let other = Host { user: here.user + 1, ..Host::here().unwrap() };
        assert_eq!(other.difference(&here), Some("it is of another user"));
    }
}
