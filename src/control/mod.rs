//! Talking to a node that runs, by a socket.
//!
//! A node listens on `/run/dunnat/NODE.sock`, a Unix stream socket. Both sides write lines of JSON. A client sends one
//! [`Request`] and gets [`Answer`]s, until one says that it is the last or the connection ends:
//!
//! ```text
//! → {"trace":{"filter":"service web","count":2}}
//! ← {"hello":{"v":1,"node":"node2","dunnat":"0.2.0"}}
//! ← {"event":{"v":1,"seq":1,...}}
//! ← {"event":{"v":1,"seq":4,...}}
//! ← {"end":{"events":2,"lost":0}}
//! ```
//!
//! `{"status":{}}` is answered by one line, `{"status":{...}}`: a [`Status`]. `{"reload":{...}}` is a [`Reload`], and is answered by
//! `{"reloaded":{...}}` when all is done: a [`Reloaded`]. `{"upgrade":{...}}` is an [`Upgrade`], and is answered by `{"upgraded":{...}}`,
//! an [`Upgraded`], by the program that goes on.
//!
//! An event is as the [schema](crate::trace::SCHEMA) describes it. A client that has seen enough closes its sending
//! side (`shutdown(2)`, `SHUT_WR`) and still gets what is on its way, and the end; or it just goes. To look at it by
//! hand: `socat - UNIX-CONNECT:/run/dunnat/node2.sock`.
//!
//! There are two rights ([`Right`]). Root and the node's own user may look and change; members of a group may look
//! ([`Lookers`]); nobody else may connect. [`Request::needs`] says what a request takes.
//!
//! Nobody holds a place for nothing: who has not asked after two seconds, or reads nothing for half a minute while something
//! waits, is told so and let go. All clients share the memory for what waits. A client talks to a node of root, or of
//! its own user, or of the user to whom root has given `/run/dunnat`, and to no other.

mod client;
mod errors;
mod follower;
mod handler;
mod listener;
mod program;
mod protocol;
mod reload;
mod rights;
mod server;
mod status;
mod times;
mod upgrade;
mod zooms;

pub use client::{AskError, Client, ConnectError, Stopper, ask, ask_status, only_node, read_answer, sockets};
pub use follower::{Followers, tell};
pub use handler::{HandOver, Reloads, Reports, Upgrades};
pub use listener::{Listener, TakeError};
pub use program::own_program;
pub use protocol::{
    Answer, DIRECTORY, End, Hello, LONGEST_REQUEST, Nothing, Request, Trace, VERSION, is_unknown_word,
    socket_of,
};
pub use reload::{Reload, Reloaded};
pub use rights::{LOOKERS, Lookers, NoGroup, Right};
pub use server::{Asks, Before, Paused, Server, Whose};
pub use status::{
    Carried, Decided, Flows, Guarded, Kind, Ledger, Lost, Poisoned, Queue, Rehearsed, Rights, Served, Status,
};
pub use times::{Histogram, Times};
pub use upgrade::{Upgrade, Upgraded};
pub use zooms::{Zoomed, Zooms, is_narrow};
