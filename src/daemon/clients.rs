//! The connections of clients that see decisions: they outlive the worker that serves them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;

use super::wire::{ToWorker, Wire};
use crate::control::{HandOver, Trace};

/// Clients that see decisions. A worker serves them; the keeper has their connections, too, and hands them to the next one.
#[derive(Default)]
pub(super) struct Clients(Mutex<Served>);

#[derive(Default)]
struct Served {
    worker: Option<Arc<Wire>>,
    clients: BTreeMap<u64, Client>,
    next: u64,
}

struct Client {
    stream: UnixStream,
    trace: Trace,
    /// It was handed to a worker before.
    is_known: bool,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Served> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self) -> usize {
        self.lock().clients.len()
    }

    /// All of them, each with what it wants, for another program that goes on with them.
    pub(super) fn all(&self) -> io::Result<Vec<(OwnedFd, Trace)>> {
        let clients = &self.lock().clients;
        clients.values().map(|client| Ok((client.stream.try_clone()?.into(), client.trace.clone()))).collect()
    }

    /// From now on that worker serves them; or nobody.
    pub(super) fn serve(&self, worker: Option<Arc<Wire>>) {
        let mut served = self.lock();
        served.worker = worker;
        let Served { worker, clients, .. } = &mut *served;
        if let Some(worker) = worker {
            clients.values_mut().for_each(|client| client.hand_to(worker));
        }
    }
}

impl Client {
    fn hand_to(&mut self, worker: &Wire) {
        let message = ToWorker::Follow { trace: self.trace.clone(), resumed: self.is_known };
        match worker.send(&message, &[self.stream.as_fd()]) {
            Ok(()) => self.is_known = true,
            Err(error) => {
                crate::messages::message!(
                    CLIENT_NOT_HANDED,
                    "cannot hand a trace client to the worker: {error}"
                );
            }
        }
    }
}

/// Hands clients over, rings when there is another one, and forgets one when it is gone.
pub(super) struct HandedOver(pub(super) Arc<Clients>, pub(super) Sender<()>);

impl HandOver for HandedOver {
    fn hand_over(&self, stream: UnixStream, trace: Trace, resumed: bool) -> io::Result<Box<dyn Send>> {
        struct Place(Arc<Clients>, u64);
        impl Drop for Place {
            fn drop(&mut self) {
                self.0.lock().clients.remove(&self.1);
            }
        }
        let mut served = self.0.lock();
        let Served { worker, clients, next } = &mut *served;
        let mut client = Client { stream, trace, is_known: resumed };
        if let Some(worker) = worker {
            client.hand_to(worker);
        }
        *next += 1;
        clients.insert(*next, client);
        let _ = self.1.try_send(());
        Ok(Box::new(Place(Arc::clone(&self.0), *next)))
    }
}
