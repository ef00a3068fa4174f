//! The kernel's interface, as far as the standard library does not know it.

pub(crate) mod sys;
