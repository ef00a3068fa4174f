//! Text for people: colours, lines that are not too long, counts in words, and names from outside made harmless.

mod counted;
mod escape;
mod fold;
mod paint;
pub(crate) mod toml;

pub use counted::counted;
pub use escape::escaped;
pub(crate) use fold::{packed, wrapped};
pub use paint::{BAD, DIM, GOOD, HEAD, Paint, UNSURE};
