//! What a worker process is given to serve.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::memory::Memory;
use super::wire::{Also, Place, ToWorker, Wire};
use crate::net::Stage;
use crate::queue::QueueConfig;

/// Which stage a queue is of.
pub(super) type StageOf = Box<dyn Fn(u16) -> Option<Stage>>;

/// The queues of a generation, and all that it takes to serve them.
pub(super) struct Duty {
    pub(super) place: Place,
    text: File,
    /// Of each queue, in their order.
    pub(super) sockets: Vec<Arc<OwnedFd>>,
    pub(super) memory: Arc<Memory>,
    pub(super) numbers: Vec<u16>,
    pub(super) stage_of: StageOf,
    /// Somebody has served them.
    was_served: bool,
}

impl Duty {
    /// Of the queues of these sockets.
    ///
    /// # Errors
    /// There is no memory for the cluster file.
    pub(super) fn new(
        (place, text): (Place, &str),
        sockets: Vec<Arc<OwnedFd>>,
        lanes: &[Vec<QueueConfig>],
        (memory, stage_of): (Arc<Memory>, StageOf),
    ) -> io::Result<Self> {
        let mut file = File::from(rustix::fs::memfd_create("cluster", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all(text.as_bytes())?;
        let numbers = lanes.iter().flatten().map(|lane| lane.queue).collect();
        Ok(Self { place, text: file, sockets, memory, numbers, stage_of, was_served: false })
    }

    /// The socket that a queue belongs to.
    pub(super) fn socket_of(&self, queue: u16) -> Option<&Arc<OwnedFd>> {
        let place = self.numbers.iter().position(|number| *number == queue)?;
        self.sockets.get(place)
    }

    /// The same of queues that were served before, by the file that was handed over then.
    pub(super) fn served_before(self, text: File) -> Self {
        Self { text, was_served: true, ..self }
    }

    /// The file of the text.
    pub(super) fn text(&self) -> &File {
        &self.text
    }

    pub(super) fn also(&self) -> Also {
        Also { place: self.place.clone(), has_predecessor: self.was_served }
    }

    /// Hands it over with a message.
    pub(super) fn hand_over(&mut self, wire: &Wire, message: &ToWorker) -> io::Result<()> {
        self.text.rewind()?;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![self.text.as_fd()];
        descriptors.extend(self.memory.file());
        descriptors.extend(self.sockets.iter().map(|socket| socket.as_fd()));
        wire.send(message, &descriptors)?;
        self.was_served = true;
        Ok(())
    }
}
