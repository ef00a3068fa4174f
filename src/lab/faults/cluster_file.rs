//! Cluster files that are wrong.

use std::path::PathBuf;

use super::fault::Fault;
use crate::lab::{Error, Lab, Layout, Node, cluster_file};

/// The file of the node that has the fault. Its name is the same for every fault, so that it tells nothing.
pub(super) fn path(lab: &Lab) -> PathBuf {
    lab.file(&format!("{}.toml", lab.layout.home().name))
}

/// The cluster file that a node is started with.
///
/// # Errors
/// It cannot be written.
pub fn cluster_file_of(lab: &Lab, node: &Node, fault: Option<Fault>) -> Result<PathBuf, Error> {
    let is_its = |fault: &Fault| of_all(*fault) || node.name == lab.layout.home().name;
    let Some(fault) = fault.filter(is_its) else {
        return Ok(lab.right_cluster_file());
    };
    let path = path(lab);
    // Each node that starts writes it, and another one may read it just then: it is there as a whole, or as it was.
    let part = path.with_extension(format!("{}.part", node.name));
    std::fs::write(&part, text(&lab.layout, fault))
        .and_then(|()| std::fs::rename(&part, &path))
        .map_err(|source| Error::File { path: path.clone(), source })?;
    Ok(path)
}

/// Whether all nodes work by that file: the fault is not that they differ.
fn of_all(fault: Fault) -> bool {
    fault == Fault::InvalidDrop
}

/// Whether the fault is in that file.
pub(super) fn is_in_it(fault: Fault) -> bool {
    matches!(fault, Fault::Mac | Fault::Swap | Fault::Tags | Fault::Service)
}

/// What that file says. Where the fault is elsewhere, it is right.
pub(super) fn text(layout: &Layout, fault: Fault) -> String {
    let mut wrong = layout.clone();
    let nodes = &mut wrong.nodes;
    let last = nodes.len() - 1;
    match fault {
        Fault::Mac => "fe:dc:ba:98:00:00/32".clone_into(&mut nodes[last].prefix),
        Fault::Swap => {
            let prefix = nodes[last].prefix.clone();
            nodes[last].prefix = std::mem::replace(&mut nodes[last - 1].prefix, prefix);
        }
        Fault::Tags => {
            // Each node gets the tag of the one before, so that none has its own.
            let mut tags: Vec<u32> = nodes.iter().map(|node| node.tag).collect();
            tags.rotate_right(1);
            for (node, tag) in nodes.iter_mut().zip(tags) {
                node.tag = tag;
            }
        }
        Fault::Service => {
            let name = format!("name  = \"{}\"", layout.guests[0].service);
            let text = cluster_file(layout);
            let is_it = |section: &str| section.starts_with("[[service]]") && section.contains(&name);
            let others: Vec<&str> = text.split("\n\n").filter(|section| !is_it(section)).collect();
            return others.join("\n\n");
        }
        // What is not tracked is not invalid.
        Fault::InvalidDrop => {
            return cluster_file(layout).replacen("\n[public]", "foreign = \"track\"\n\n[public]", 1);
        }
        _ => {}
    }
    cluster_file(&wrong)
}
