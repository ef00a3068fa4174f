//! A program that is asked for decisions: one after the other, within time limits, and started again when it has ended.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::child::{Child, Unheard};
use super::protocol::{Answer, FactsLine, Hello, HelloError, LONGEST_ANSWER, LONGEST_HELLO, Nonsense};
use crate::cluster::{Cluster, NodeId};
use crate::engine::{
    Changes, Condition, Conditions, Decision, Facts, Policy, Reason, Remembered, Subject, Value, Wants, Whole,
};
use crate::net::Mark;
use crate::policy::CARRIED_OUT;

/// The longest pause before a program is started again; one that has run for that long begins with the shortest pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How many faults of its answers are logged one by one.
const LOGGED: u32 = 8;

/// How long a program is waited for.
///
/// ```
/// use std::time::Duration;
///
/// use dunnat::process::Limits;
///
/// let patient = Limits { answer: Duration::from_secs(5), is_waited_for: true, ..Limits::default() };
/// assert_eq!(patient.hello, Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For its first line: one second is short for an interpreter on a busy machine.
    pub hello: Duration,
    /// For a decision.
    pub answer: Duration,
    /// Before it is started again.
    pub pause: Duration,
    /// A packet waits until it is there again, instead of being dropped: for packets that are in no hurry, as of a capture.
    pub is_waited_for: bool,
}

impl Default for Limits {
    /// 5 seconds for hello, 1 second for a decision, a pause of 0.1 seconds; nobody waits for it to be there again.
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(5),
            answer: Duration::from_secs(1),
            pause: Duration::from_millis(100),
            is_waited_for: false,
        }
    }
}

/// Why a program is no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It cannot be run.
    #[error("cannot run the policy {}: {source}{}", program.display(), hint(program, source))]
    Run {
        /// Its file.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It has said nothing.
    #[error("the policy {} has not written its first line (hello) within {} s", program.display(), within.as_secs_f64())]
    Silent {
        /// Its file.
        program: PathBuf,
        /// How long it was waited for.
        within: Duration,
    },
    /// It has ended.
    #[error("the policy {} ended before it wrote its first line (hello)", .0.display())]
    Gone(PathBuf),
    /// Its first line is longer than it may be.
    #[error("the first line (hello) of the policy {} has more than {LONGEST_HELLO} bytes", .0.display())]
    Long(PathBuf),
    /// Its first line is none.
    #[error("the first line (hello) of the policy {} is wrong: {source}", program.display())]
    Hello {
        /// Its file.
        program: PathBuf,
        /// What is wrong.
        source: HelloError,
    },
}

/// What to do about it, where that is known.
fn hint(program: &Path, error: &io::Error) -> &'static str {
    match (error.kind(), error.raw_os_error()) {
        _ if program.is_dir() => "; it is a directory",
        (io::ErrorKind::NotFound, _) if program.is_file() => {
            "; its first line (#!) names a program that does not exist"
        }
        (io::ErrorKind::PermissionDenied, _) => "; if it is a script: chmod +x",
        (_, Some(libc::ENOEXEC)) => "; a script begins with a line such as #!/usr/bin/python3",
        _ => "",
    }
}

/// A program that decides. It ends when the last policy that was made of it is gone.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use dunnat::cluster::Cluster;
/// use dunnat::process::{Limits, Process};
/// use dunnat::simulate::{PacketSpec, SimulatedNode};
///
/// let cluster = Cluster::load(Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let process = Process::start(Path::new("rules/policy.py"), Limits::default())?;
/// let policy = Arc::new(process.of_node(&cluster, node1));
/// let request: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let passage = SimulatedNode::with_policy(&cluster, node1, policy).pass(request.arrival(&cluster, node1));
/// assert_eq!(passage.steps[0].1.as_ref().unwrap().decision.reason.name(), "to-guest");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Process(Arc<Shared>);

struct Shared {
    program: PathBuf,
    limits: Limits,
    hello: Hello,
    faults: AtomicU32,
    talk: Mutex<Talk>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("program", &self.program).finish_non_exhaustive()
    }
}

struct Talk {
    state: State,
    /// The number of the last packet that was asked about.
    seq: u64,
    /// The next pause.
    pause: Duration,
}

enum State {
    /// It is asked, since then.
    Up(Child, Instant),
    /// It was started again; until then its hello is waited for.
    Begun(Child, Instant),
    /// It is not started again before.
    Down(Instant),
}

/// Why there is no decision.
enum Unanswered {
    Silent,
    Gone,
    Nonsense(Nonsense),
}

impl Process {
    /// Starts a program, and waits for its hello.
    ///
    /// # Errors
    /// It cannot be run, or is no policy.
    pub fn start(program: &Path, limits: Limits) -> Result<Self, StartError> {
        let program = program.to_owned();
        let mut child = match Child::start(&program) {
            Ok(child) => child,
            Err(source) => return Err(StartError::Run { program, source }),
        };
        let line = match child.hear(LONGEST_HELLO, Instant::now() + limits.hello) {
            Ok(line) => line,
            Err(Unheard::Silent) => return Err(StartError::Silent { program, within: limits.hello }),
            Err(Unheard::Long) => return Err(StartError::Long(program)),
            Err(Unheard::Gone) => return Err(StartError::Gone(program)),
        };
        let hello = match Hello::read(&line) {
            Ok(hello) => hello,
            Err(source) => return Err(StartError::Hello { program, source }),
        };
        let state = State::Up(child, Instant::now());
        let talk = Mutex::new(Talk { state, seq: 0, pause: limits.pause });
        Ok(Self(Arc::new(Shared { program, limits, hello, faults: AtomicU32::new(0), talk })))
    }

    /// What it has said first.
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }

    /// The policy of a node. All policies of one program share it.
    pub fn of_node(&self, cluster: &Cluster, node: NodeId) -> OfNode {
        OfNode {
            process: Arc::clone(&self.0),
            nodes: cluster.nodes().iter().map(|node| node.name.clone()).collect(),
            own: cluster.node(node).name.clone(),
            mask: cluster.mask(),
        }
    }
}

/// A program, as the policy of a node.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::Policy as _;
/// use dunnat::process::{Limits, Process};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let process = Process::start(std::path::Path::new("rules/policy.py"), Limits::default())?;
/// let policy = process.of_node(&cluster, node1);
/// assert_eq!((policy.name(), policy.reasons().len()), ("one-guest", 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct OfNode {
    process: Arc<Shared>,
    own: String,
    nodes: Vec<String>,
    mask: Mark,
}

impl OfNode {
    fn ask(&self, facts: &Facts<'_>, whole: &Whole<'_>) -> Result<Decision, Unanswered> {
        self.process.ask(|seq| {
            let wanted = self.process.hello.bytes;
            let line = FactsLine::new(facts, (whole, wanted), (seq, &self.own), &self.nodes, self.mask);
            serde_json::to_vec(&line).unwrap_or_default()
        })
    }
}

impl Policy for OfNode {
    fn name(&self) -> &str {
        &self.process.hello.name
    }

    fn reasons(&self) -> &[Reason] {
        &self.process.hello.reasons
    }

    /// What it does is its business; it is told the time.
    fn remembers(&self) -> bool {
        true
    }

    fn decide(&self, facts: &Facts<'_>, remembered: &dyn Remembered, changes: &mut Changes) -> Decision {
        self.decide_whole(facts, &Whole::default(), remembered, changes)
    }

    fn decide_before(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        conditions: &mut Conditions,
    ) -> Decision {
        self.decide_whole_before(facts, &Whole::default(), remembered, changes, conditions)
    }

    fn decide_whole(
        &self,
        facts: &Facts<'_>,
        whole: &Whole<'_>,
        _: &dyn Remembered,
        _: &mut Changes,
    ) -> Decision {
        self.ask(facts, whole).unwrap_or_else(|why| Decision::drop(why.reason()))
    }

    /// What it asks itself is not known: its reason is told, or why there is no decision.
    fn decide_whole_before(
        &self,
        facts: &Facts<'_>,
        whole: &Whole<'_>,
        _: &dyn Remembered,
        _: &mut Changes,
        conditions: &mut Conditions,
    ) -> Decision {
        let (decision, value, wants) = match self.ask(facts, whole) {
            Ok(decision) => {
                let about = Value::Word(decision.reason.about());
                (decision, about, Wants::Is(about))
            }
            Err(Unanswered::Nonsense(nonsense)) => {
                let wanted = Wants::Is(Value::Word(CARRIED_OUT));
                (Decision::drop(Reason::PolicyNonsense), Value::Word(nonsense.word()), wanted)
            }
            Err(why) => {
                let about = Value::Word(why.reason().about());
                (Decision::drop(why.reason()), about, Wants::IsNot(about))
            }
        };
        let holds = matches!(wants, Wants::Is(wanted) if wanted == value);
        conditions.push(Condition { subject: Subject::Policy, value, wants, holds });
        decision
    }
}

impl Unanswered {
    fn reason(&self) -> Reason {
        match self {
            Self::Silent => Reason::PolicySilent,
            Self::Gone => Reason::PolicyGone,
            Self::Nonsense(_) => Reason::PolicyNonsense,
        }
    }
}

impl From<Unheard> for Unanswered {
    fn from(unheard: Unheard) -> Self {
        match unheard {
            Unheard::Silent => Self::Silent,
            Unheard::Gone => Self::Gone,
            Unheard::Long => Self::Nonsense(Nonsense::Long),
        }
    }
}

impl Shared {
    /// Asks about a packet; `facts` makes the line, with its number, and without its line feed.
    fn ask(&self, facts: impl FnOnce(u64) -> Vec<u8>) -> Result<Decision, Unanswered> {
        let mut talk = self.talk();
        self.come_back(&mut talk);
        let Talk { state: State::Up(child, since), seq, .. } = &mut *talk else {
            return Err(Unanswered::Gone);
        };
        *seq += 1;
        let mut line = facts(*seq);
        line.push(b'\n');
        let outcome = exchange(child, &line, (*seq, Instant::now() + self.limits.answer), &self.hello);
        let since = *since;
        match &outcome {
            Ok(_) => {}
            Err(Unanswered::Nonsense(nonsense)) => self.log(nonsense),
            Err(why) => {
                crate::messages::message!(
                    POLICY_STARTED_AGAIN[policy = self.hello.name],
                    "policy {}: {}; it is started again",
                    self.hello.name,
                    why.reason().about()
                );
                if since.elapsed() >= LONGEST_PAUSE {
                    talk.pause = self.limits.pause;
                }
                self.end(&mut talk);
            }
        }
        outcome
    }

    /// Sees to it that it is up, as far as that takes no time; or takes the time.
    fn come_back(&self, talk: &mut Talk) {
        if let State::Down(until) = talk.state {
            let left = until.saturating_duration_since(Instant::now());
            if self.limits.is_waited_for {
                std::thread::sleep(left);
            } else if !left.is_zero() {
                return;
            }
            match Child::start(&self.program) {
                Ok(child) => talk.state = State::Begun(child, Instant::now() + self.limits.hello),
                Err(error) => {
                    crate::messages::message!(
                        POLICY_NOT_STARTED,
                        "policy {}: cannot run it again: {error}",
                        self.hello.name
                    );
                    self.end(talk);
                }
            }
        }
        let State::Begun(child, until) = &mut talk.state else { return };
        let until = *until;
        let heard = if self.limits.is_waited_for {
            child.hear(LONGEST_HELLO, until).map(Some)
        } else {
            child.heard(LONGEST_HELLO)
        };
        match heard {
            Ok(None) if Instant::now() < until => {}
            Ok(Some(line)) if Hello::read(&line).as_ref() == Ok(&self.hello) => {
                let was = std::mem::replace(&mut talk.state, State::Down(until));
                if let State::Begun(child, _) = was {
                    talk.state = State::Up(child, Instant::now());
                }
            }
            Ok(Some(_)) => {
                crate::messages::message!(
                    POLICY_OTHER_HELLO,
                    "policy {}: its hello is not the one that it began with",
                    self.hello.name
                );
                self.end(talk);
            }
            Ok(None) | Err(_) => {
                crate::messages::message!(
                    POLICY_NO_HELLO,
                    "policy {}: it ends, or says nothing, instead of its hello",
                    self.hello.name
                );
                self.end(talk);
            }
        }
    }

    /// Ends it, if it has not ended, until the pause is over.
    fn end(&self, talk: &mut Talk) {
        if let State::Up(child, _) | State::Begun(child, _) = &mut talk.state {
            child.kill();
        }
        talk.state = State::Down(Instant::now() + talk.pause);
        talk.pause = (talk.pause * 2).min(LONGEST_PAUSE);
    }

    fn log(&self, nonsense: &Nonsense) {
        let count = self.faults.fetch_add(1, Ordering::Relaxed);
        if count < LOGGED {
            let more = if count + 1 == LOGGED { "; further faults are only counted" } else { "" };
            crate::messages::message!(POLICY_NONSENSE, "policy {}: {nonsense}{more}", self.hello.name);
        }
    }

    /// Whoever panicked here has left a state that is whole.
    fn talk(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks, and hears the answer. An answer to an earlier packet comes late, after a line that was none, and is passed over.
fn exchange(
    child: &mut Child,
    line: &[u8],
    (seq, until): (u64, Instant),
    hello: &Hello,
) -> Result<Decision, Unanswered> {
    child.tell(line, until)?;
    loop {
        let line = child.hear(LONGEST_ANSWER, until)?;
        match Answer::read(&line, hello) {
            Ok(answer) if answer.seq == seq => return Ok(answer.decision),
            Ok(answer) if answer.seq < seq => {}
            Ok(_) => return Err(Unanswered::Nonsense(Nonsense::Seq)),
            Err(nonsense) => return Err(Unanswered::Nonsense(nonsense)),
        }
    }
}
