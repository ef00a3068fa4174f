//! The little of HTTP/1.1 (RFC 9112) that it takes to give something to who asks for it: requests are read, and never have a body;
//! answers are sent whole, or go on and on ([`Answer::stream`]). There are limits on how many, how much and how long.

mod answer;
mod query;
mod request;
mod server;

pub use answer::{Answer, Status};
pub use query::parameter;
pub use request::{Read, Request, read};
pub use server::{Limits, Sender, serve};
