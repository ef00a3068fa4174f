//! One page in a browser: the cluster as a picture in which packets move as they are decided, slowed to what eyes can follow; each
//! decision with its reason, each flow with its ladder.
//!
//! [`Hub`] has the last decisions, of nodes that run ([`follow()`]) or of saved traces, and hands them to whoever looks on: each in a
//! bounded queue of their own, so that a browser that is slow costs nobody else anything. [`Site`] answers the page's requests. It only
//! reads; the page is three files, and asks nobody else for anything.
//!
//! A page of somebody else that is open in the same browser shall not read it. So a [`Door`] looks at each request: its Host must be an
//! address or a name that was named (a foreign name may lead to this address, DNS rebinding), no other page may have sent it, and
//! it must have the token, where there is one.

mod door;
mod hub;
mod kept;
mod nodes;
mod sampling;
mod site;
mod viewer;

pub use door::Door;
pub use hub::{Hub, MOST};
pub use kept::Kept;
pub use nodes::follow;
pub use site::Site;

#[cfg(test)]
mod tests;
