//! Nodes that run elsewhere: the dunnat there is asked, by a command, and what it prints is read.
//!
//! A [`Place`] says how to get there. Nothing that is typed goes through a shell as it is: words are arguments, and where a shell is on
//! the way (ssh) each is quoted. What comes back may be anything: lines have a limit, names pass through
//! [`text::escaped`](crate::text::escaped), and what cannot be read is counted.
//!
//! [`Readers`] keep one command for each place, and start it again when it ends, after a pause that grows. [`Merger`] puts the
//! events of all in the order of their times, and holds none longer than it was told. [`Missing`] tells which places are missing.
//!
//! Whoever looks on, as `top` and `web`, asks a [`Target`], which is a node here or elsewhere: there `dunnat relay` passes the
//! question to its socket, and the answers back. What is wanted again and again is [`News`].

mod answer;
mod merge;
mod missing;
mod news;
mod place;
mod reader;
mod speakers;
mod target;

pub use answer::{Answered, ask};
pub use merge::Merger;
pub use missing::Missing;
pub use news::{News, Observer, TRACKED, TURN, Tracked};
pub use place::{Place, PlaceError};
pub use reader::{From, Line, Readers, Said, read_line};
pub use speakers::Speakers;
pub use target::{Asked, Pauses, Target};
