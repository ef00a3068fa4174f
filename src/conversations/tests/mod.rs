//! Conversations of a small cluster, decided by the engine, each node by a cluster file of its own.

mod carried;
mod cluster;
mod findings;
mod histories;
mod laws;
mod many;
mod rejected;
mod renderings;
mod rules;
mod uncertain;
