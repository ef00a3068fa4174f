//! What nodes say of themselves, for Prometheus: the text of its exposition format, and what is answered to who asks.
//!
//! It is a process of its own. It asks the nodes of this host for their [`Status`] each time that it is asked, with the right to look
//! alone; so a node has no port, and nobody from outside talks to it.

mod asked;
mod families;

use prometheus_client::registry::Registry;

use crate::control::Status;
pub use asked::answer;

/// A node, and what it has said if it has answered.
#[derive(Clone, Debug)]
pub struct Scraped {
    /// Its name.
    pub node: String,
    /// What it says of itself.
    pub status: Option<Box<Status>>,
}

/// The metrics of some nodes, in the text format of Prometheus, version 0.0.4.
pub fn text(nodes: Vec<Scraped>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families::Nodes(nodes)));
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = prometheus_client::encoding::prometheus_text::encode(&mut text, &registry);
    text
}

#[cfg(test)]
mod tests;
