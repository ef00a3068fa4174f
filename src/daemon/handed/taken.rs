//! From what a node has to what another program gets, and back.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use super::received::By;
use super::state::{Host, State, Written};
use super::{BEFORE, received};
use crate::cluster::Cluster;
use crate::control::Before;
use crate::daemon::board::Board;
use crate::daemon::duty::Duty;
use crate::daemon::error::Error;
use crate::daemon::hands::{Lanes, OpenedQueues, without_names};
use crate::daemon::keeper::Keeper;
use crate::daemon::manager::{Manager, Store};
use crate::daemon::memory::Memory;
use crate::kernel::Capabilities;
use crate::queue::QueueConfig;
use crate::ruleset::{Held, Installed, Plan};

/// The names of descriptors.
pub(in crate::daemon) const STATE: &str = "state";
const CONTROL: &str = "control";
const GUARD: &str = "guard";
const ASKER: &str = "asker";
const STORE: &str = "store";
pub(super) const ARGUMENTS: &str = "arguments";

fn of_generation(what: &str, generation: u64) -> String {
    format!("{what}-{generation}")
}

fn of_many(what: &str, number: usize) -> String {
    format!("{what}-{number}")
}

/// What is handed on: what there is to know, and descriptors of our own for it.
pub(in crate::daemon) struct Bundle {
    pub(in crate::daemon) state: State,
    pub(in crate::daemon) descriptors: Vec<(String, OwnedFd)>,
}

/// What of a node is handed on.
pub(in crate::daemon) struct Parts<'a> {
    pub(in crate::daemon) node: &'a str,
    pub(in crate::daemon) socket: &'a Path,
    pub(in crate::daemon) program: &'a Path,
    pub(in crate::daemon) plan: &'a Plan,
    pub(in crate::daemon) keeper: &'a Keeper,
    pub(in crate::daemon) board: &'a Board,
    pub(in crate::daemon) installed: Option<&'a Installed>,
    pub(in crate::daemon) listener: OwnedFd,
}

impl Bundle {
    /// What outlives the process, if somebody keeps it.
    pub(in crate::daemon) fn of(parts: Parts<'_>) -> io::Result<Self> {
        let Parts { node, socket, program, plan, keeper, board, installed, listener } = parts;
        let duty = keeper.duty().ok_or_else(|| io::Error::other("there is nothing to serve"))?;
        let held = installed.map(Installed::held).transpose()?;
        let generation = duty.place.generation;
        let (rules, guard) = held.unzip();
        let mut descriptors = vec![
            (of_generation("config", generation), duty.text().try_clone()?.into()),
            (CONTROL.to_owned(), listener),
        ];
        if let Some(memory) = duty.memory.file() {
            descriptors.push((of_generation("memory", generation), memory.try_clone_to_owned()?));
        }
        descriptors.extend(guard.map(|guard| (GUARD.to_owned(), guard)));
        let queues = of_generation("queues", generation);
        for (number, socket) in duty.sockets.iter().enumerate() {
            descriptors.push((of_many(&queues, number), socket.try_clone()?));
        }
        let state = State {
            format: State::FORMAT,
            dunnat: env!("CARGO_PKG_VERSION").to_owned(),
            host: Host::here()?,
            node: node.to_owned(),
            socket: socket.to_owned(),
            program: program.to_owned(),
            place: duty.place.clone(),
            lanes: plan.queues_of_workers(),
            written: None,
            layout: Memory::layout(),
            kernel: keeper.kernel().clone(),
            rules,
            known: board.known(),
            suspects: keeper.suspects().clone(),
            clients: Vec::new(),
            unanswered: 0,
            stored: Vec::new(),
            paused: super::milliseconds(),
        };
        Ok(Self { state, descriptors })
    }

    /// At the end of the workers: with what they have written.
    pub(in crate::daemon) fn at_the_end(mut self, keeper: &Keeper, board: &Board) -> Self {
        let written = |duty: &Duty| Written { journals: duty.memory.said(), counted: board.counted() };
        self.state.written = keeper.duty().map(written);
        self
    }

    /// With those who are connected: clients that see decisions, some whom nobody has answered, and the one who has asked for all this.
    pub(in crate::daemon) fn with_clients(
        mut self,
        keeper: &Keeper,
        unanswered: Vec<OwnedFd>,
        asker: Option<&UnixStream>,
    ) -> io::Result<Self> {
        for (number, (stream, trace)) in keeper.clients().all()?.into_iter().enumerate() {
            self.descriptors.push((of_many("client", number), stream));
            self.state.clients.push(trace);
        }
        self.state.unanswered = unanswered.len();
        let unanswered = unanswered.into_iter().enumerate();
        self.descriptors.extend(unanswered.map(|(number, stream)| (of_many("unanswered", number), stream)));
        if let Some(asker) = asker {
            self.descriptors.push((ASKER.to_owned(), asker.as_fd().try_clone_to_owned()?));
        }
        Ok(self)
    }

    /// For another program in this process: with what the service manager keeps, and with the way back.
    pub(in crate::daemon) fn for_another_program(
        mut self,
        manager: &Manager,
    ) -> io::Result<Vec<(String, OwnedFd)>> {
        if let Some(store) = manager.store() {
            self.state.stored = store.names();
            self.descriptors.push((STORE.to_owned(), store.file().try_clone()?.into()));
        }
        self.descriptors.push((BEFORE.to_owned(), File::open("/proc/self/exe")?.into()));
        let mut arguments = in_memory(ARGUMENTS)?;
        for argument in std::env::args_os() {
            arguments.write_all(argument.as_bytes())?;
            arguments.write_all(&[0])?;
        }
        self.descriptors.push((ARGUMENTS.to_owned(), arguments.into()));
        let mut state = in_memory(STATE)?;
        state.write_all(&self.state.write()?)?;
        self.descriptors.push((STATE.to_owned(), state.into()));
        Ok(self.descriptors)
    }
}

/// A file without a place.
pub(in crate::daemon) fn in_memory(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// A node that this program goes on with.
pub struct TakenUp {
    pub(in crate::daemon) state: State,
    /// By which cluster file it decides.
    pub cluster: Arc<Cluster>,
    /// And by which plan.
    pub plan: Plan,
    pub(in crate::daemon) config: File,
    sockets: Vec<OwnedFd>,
    /// None if its numbers mean something else to this program; then `written` says what was in it.
    memory: Option<OwnedFd>,
    written: Option<Written>,
    guard: Option<OwnedFd>,
    control: Option<OwnedFd>,
    /// Who has asked for another program.
    pub(in crate::daemon) asker: Option<UnixStream>,
    before: Vec<Before>,
    pub(in crate::daemon) store: Option<Store>,
    /// Why another program could not go on, if that was tried.
    pub(in crate::daemon) came_back: Option<String>,
    /// Whether the program before has ended as it should, and not been killed.
    pub(in crate::daemon) in_order: bool,
}

/// Takes up what this program was given, if it was: for that node, which listens there. `plan` makes a plan for the cluster file, what the kernel
/// can do, and a number of workers.
///
/// What a service manager has kept and does not fit is given up; then the start is a usual one.
///
/// # Errors
/// What the program before has does not fit; with the reason.
pub fn take_up(
    node: &str,
    socket: &Path,
    plan: impl Fn(&Cluster, &Capabilities, u16) -> Result<Plan, String>,
) -> Result<Option<TakenUp>, Error> {
    let mut received = received();
    let Some(given) = &*received else { return Ok(None) };
    // Where it was started by the number of a descriptor, it had that for a name.
    let _ = rustix::thread::set_name(c"dunnat");
    match (TakenUp::of(&given.descriptors, &given.by, (node, socket), plan), &given.by) {
        (Ok(taken), _) => Ok(Some(taken)),
        (Err(why), By::Upgrade { .. }) => Err(Error::NotTakenUp(why)),
        (Err(why), By::Manager) => {
            crate::messages::message!(
                KEPT_IN_VAIN,
                "what the service manager has kept is of no use here: {why}. This is a usual start"
            );
            Store::give_up(given.descriptors.iter().map(|(name, _)| name.as_str()));
            *received = None;
            Ok(None)
        }
    }
}

impl TakenUp {
    fn of(
        descriptors: &[(String, OwnedFd)],
        by: &By,
        (node, socket): (&str, &Path),
        plan: impl Fn(&Cluster, &Capabilities, u16) -> Result<Plan, String>,
    ) -> Result<Self, String> {
        let find = |wanted: &str| -> Result<OwnedFd, String> {
            let found = descriptors.iter().find(|(name, _)| name == wanted);
            let (_, found) = found.ok_or_else(|| format!("there is no descriptor {wanted}"))?;
            found.try_clone().map_err(|error| format!("cannot share a descriptor: {error}"))
        };
        let mut file = File::from(find(STATE)?);
        let mut state = State::read_from(&mut file).map_err(|error| error.to_string())?;
        let here = Host::here().map_err(|error| format!("cannot tell where this is: {error}"))?;
        if let Some(difference) = state.host.difference(&here) {
            return Err(difference.to_owned());
        }
        for (what, is, was) in [
            ("the node", node, state.node.as_str()),
            ("its socket", &socket.to_string_lossy(), &state.socket.to_string_lossy()),
        ] {
            if is != was {
                return Err(format!("{what} was {was}, and is {is}"));
            }
        }
        let is_same = state.layout == Memory::layout();
        let written = state.written.take().filter(|_| !is_same);
        if !is_same && written.is_none() {
            return Err("the memory of its workers means something else to this program".to_owned());
        }
        let generation = state.place.generation;
        let mut config = File::from(find(&of_generation("config", generation))?);
        let mut text = String::new();
        config
            .rewind()
            .and_then(|()| config.read_to_string(&mut text))
            .map_err(|error| format!("cannot read the cluster file: {error}"))?;
        let cluster =
            Cluster::parse(&text, Path::new("the cluster file")).map_err(|error| error.to_string())?;
        let cluster = state.place.applied_to(cluster);
        let id = cluster.find(node).map_err(|error| error.to_string())?;
        let place = &state.place;
        let plan = plan(&cluster, &state.kernel, place.workers)?
            .placed((id, cluster.on_conflict()), place.generation, (place.first, place.workers))
            .map_err(|error| error.to_string())?;
        fits(&state.lanes, &plan)?;
        let queues = of_generation("queues", generation);
        // One for each.
        let count = state.lanes.iter().map(Vec::len).sum();
        let sockets = (0..count).map(|number| find(&of_many(&queues, number))).collect::<Result<_, _>>()?;
        let clients = state.clients.iter().enumerate().map(|(number, trace)| {
            Ok((UnixStream::from(find(&of_many("client", number))?), Some(trace.clone())))
        });
        let unanswered = (0..state.unanswered)
            .map(|number| Ok((UnixStream::from(find(&of_many("unanswered", number))?), None)));
        let before = clients.chain(unanswered).collect::<Result<_, String>>()?;
        let (came_back, in_order) = match by {
            By::Upgrade { came_back, .. } => (came_back.clone(), true),
            By::Manager => (None, false),
        };
        let store = match by {
            By::Upgrade { .. } => find(STORE).ok().map(|file| Store::of(file.into(), state.stored.clone())),
            By::Manager => Some(Store::of(file, descriptors.iter().map(|(name, _)| name.clone()).collect())),
        };
        Ok(Self {
            memory: is_same.then(|| find(&of_generation("memory", generation))).transpose()?,
            written,
            guard: state.rules.as_ref().map(|_| find(GUARD)).transpose()?,
            control: Some(find(CONTROL)?),
            asker: find(ASKER).ok().map(UnixStream::from),
            state,
            cluster: Arc::new(cluster),
            plan,
            config,
            sockets,
            before,
            store,
            came_back,
            in_order,
        })
    }

    /// What the kernel can do: it was asked once.
    pub fn kernel(&self) -> &Capabilities {
        &self.state.kernel
    }

    /// What is known of the rules, and the socket that owns the guard; none if they are somebody else's.
    pub(in crate::daemon) fn held(&self) -> io::Result<Option<(Held, OwnedFd)>> {
        let Some((held, guard)) = self.state.rules.as_ref().zip(self.guard.as_ref()) else { return Ok(None) };
        Ok(Some((held.clone(), guard.try_clone()?)))
    }

    /// Has the board know what the program before knew.
    pub(in crate::daemon) fn told_to(&self, board: &Board) {
        board.goes_on(self.state.known.clone());
        // Else it is read where it was counted.
        if let Some(written) = &self.written {
            board.has_counted(written.counted.clone());
        }
    }

    /// The queues, which are open.
    pub(in crate::daemon) fn queues(&mut self, lanes: Lanes) -> Result<OpenedQueues, Error> {
        let sockets = std::mem::take(&mut self.sockets);
        if without_names(&lanes) != self.state.lanes {
            return Err(Error::NotTakenUp(OTHER_QUEUES.to_owned()));
        }
        let journals = self.written.as_ref().map_or(&[][..], |written| &written.journals);
        OpenedQueues::opened_before(lanes, sockets, |workers| match self.memory.take() {
            Some(memory) => Memory::of(memory, workers),
            None => Memory::going_on(workers, journals),
        })
    }

    /// The socket that the node listens on.
    pub(in crate::daemon) fn control(&mut self) -> Option<OwnedFd> {
        self.control.take()
    }

    /// Clients of the program before.
    pub(in crate::daemon) fn clients(&mut self) -> Vec<Before> {
        std::mem::take(&mut self.before)
    }
}

const OTHER_QUEUES: &str = "this program would serve other queues, or the same ones in another way";

/// Whether a plan has those queues.
pub(in crate::daemon) fn fits(lanes: &[Vec<QueueConfig>], plan: &Plan) -> Result<(), String> {
    if lanes == plan.queues_of_workers() { Ok(()) } else { Err(OTHER_QUEUES.to_owned()) }
}
