//! A policy in any language: another program, which is asked by lines of JSON.
//!
//! The program writes a first line, its [`Hello`]: which protocol it speaks, its name, and the reasons that it has. From then on it
//! reads a line of facts for each packet from standard input, and writes a line with its decision to standard output. It is told the
//! names of interfaces, and as many bytes of the packet as its hello asks for. What it writes
//! to standard error is logged. [`SCHEMA`] describes all three lines.
//!
//! This is slow: a decision takes two changes of process, and what the program takes. The example in Python takes 0.1 to 0.3 ms for each,
//! a policy in Rust less than a thousandth of that. It is for trying something out.
//!
//! # One process
//!
//! All workers of a node, and all nodes of a simulation, ask one process, one after the other: whoever writes such a program
//! remembers things in its variables, and both directions of a flow have to meet there. So it does not get faster with more workers.
//!
//! # What it may
//!
//! Nothing that it says is trusted. A line has a longest length, a field that nobody knows is refused, and
//! [`Supervised`](crate::policy::Supervised) looks at its decision as at any other. Whatever goes wrong costs the packet that
//! is asked about, with a reason:
//!
//! | reason | what went wrong |
//! |---|---|
//! | `policy-nonsense` | its line is no decision, or none that can be carried out |
//! | `policy-silent` | it has not answered within [`Limits::answer`]; it is ended |
//! | `policy-gone` | it has ended, and is not there again yet |
//!
//! It is started again after a pause ([`Limits::pause`]), which doubles up to [`LONGEST_PAUSE`] as long as it does not stay for that time.
//! What it remembered is lost then.
//!
//! The program runs with the rights of whoever starts dunnat: as root, for `run`. It has a process group of its own, so a Ctrl-C is
//! not for it; when dunnat ends, its standard input ends, and it is killed if it stays.

mod asked;
mod child;
mod protocol;
mod quota;

pub use asked::{LONGEST_PAUSE, Limits, OfNode, Process, StartError};
pub use protocol::{
    Answer, Hello, HelloError, LONGEST_ANSWER, LONGEST_HELLO, MOST_BYTES, MOST_REASONS, Nonsense, PROTOCOL,
    SCHEMA,
};

#[cfg(test)]
mod tests;
