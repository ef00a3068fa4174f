//! What may be wrong all the same: nothing on this host shows it.

use super::Role;

/// What cannot be seen from a host, each with where it can be seen.
pub fn unseen(role: &Role<'_>) -> Vec<String> {
    let cluster = role.cluster;
    let mut all = vec!["the guests (gateway, routes, firewall, the checksums that they send)".to_owned()];
    if cluster.nodes.len() > 1 {
        all.push("the pipes beyond this end, and whether they carry what they should".to_owned());
        all.push(format!(
            "the other nodes, and whether they use this cluster file, {}: sha256sum FILE | cut -c-16",
            cluster.digest
        ));
    }
    all.push(
        "real packets: `dunnat path` joins the traces of all nodes and says what became of each connection"
            .to_owned(),
    );
    all
}
