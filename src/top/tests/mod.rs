//! Screens as text, keys as they are typed, and any of both in any order.

mod any;
mod keys;
mod made;
mod pictures;
mod sampled;
mod screens;
