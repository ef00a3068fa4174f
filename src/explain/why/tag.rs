//! Why tag decided so, and which node a packet or a flow is of.

use super::{Derived, Why, is_in_network};
use crate::cluster::{Cluster, NodeId, TagBy};
use crate::engine::Reason;
use crate::net::{Dscp, Mark, OfFamily};
use crate::simulate::Visit;

impl Why {
    pub(super) fn tag(&mut self, cluster: &Cluster, node: NodeId, visit: &Visit) -> Derived {
        let pipes: Vec<&str> = cluster.pipes(node).iter().map(|pipe| pipe.as_str()).collect();
        let pipes = if pipes.is_empty() { "it has none".to_owned() } else { pipes.join(", ") };
        let port = visit.ingress.port().map(|port| port.as_str());
        self.first(visit.meta.from_pipe, Reason::NotFromPipe, || match port {
            Some(port) if visit.meta.from_pipe => format!("it came in by the pipe {port}"),
            Some(port) => format!("it came in by {port}, which is not a pipe of this node ({pipes})"),
            None => format!("it did not come in by a pipe of this node ({pipes})"),
        })?;
        match &visit.view {
            Ok(view) => {
                let dst = view.tuple.dst;
                let inside = cluster.guests.network.contains(&dst);
                self.first(inside, Reason::NotToGuest, || is_in_network(cluster, "daddr", dst))?;
            }
            Err(malformed) if cluster.tag_by == TagBy::Dscp => {
                let says = || format!("it cannot be read ({malformed}), so its code point is not known");
                self.first(false, (*malformed).into(), says)?;
            }
            Err(malformed) => {
                self.note(format!("it cannot be read ({malformed}); the frame's address is enough"));
            }
        }
        let tag = match cluster.tag_by {
            TagBy::Mac => self.tag_by_mac(cluster, visit)?,
            TagBy::Pipe => self.tag_by_pipe(cluster, node, port)?,
            TagBy::Dscp => {
                let (ip, dscp) = visit
                    .view
                    .as_ref()
                    .map_or(("ip", Dscp::CS0), |view| (view.tuple.dst.family().nft(), view.dscp));
                let tag = self.node(cluster, |node| match node.dscp {
                    Some(own) => {
                        let misses = (own != dscp).then(|| format!("{ip} dscp {dscp} is not {own}"));
                        (format!("{ip} dscp {own}"), misses)
                    }
                    None => ("no code point".to_owned(), Some("it has no code point".to_owned())),
                });
                tag.ok_or(Reason::UnknownDscp)?
            }
        };
        self.flow(tag, visit, cluster, Reason::FromNode)
    }

    fn tag_by_pipe(&mut self, cluster: &Cluster, own: NodeId, port: Option<&str>) -> Result<Mark, Reason> {
        let port = port.unwrap_or_default();
        let tag = self.node(cluster, |node| {
            let pipe = cluster
                .node(own)
                .leads_to
                .iter()
                .zip(cluster.pipes(own))
                .find(|(id, _)| cluster.node(**id).name == node.name);
            match pipe {
                Some((_, pipe)) => {
                    let misses = (pipe.as_str() != port).then(|| format!("iifname {port} is not {pipe}"));
                    (format!("iifname {pipe}"), misses)
                }
                None => ("no pipe".to_owned(), Some("this is the node itself".to_owned())),
            }
        });
        tag.ok_or(Reason::UnknownPipe)
    }

    fn tag_by_mac(&mut self, cluster: &Cluster, visit: &Visit) -> Result<Mark, Reason> {
        let mac = visit.meta.src_mac;
        self.first(mac.is_some(), Reason::NoMac, || match mac {
            Some(mac) => format!("its frame is from {mac}"),
            None => "the source address of its frame is not known".to_owned(),
        })?;
        let Some(mac) = mac else { return Err(Reason::NoMac) };
        let tag = self.node(cluster, |node| match node.mac {
            Some(own) => {
                let misses = (!own.contains(mac)).then(|| format!("ether saddr {mac} is not in {own}"));
                (format!("ether saddr {own}"), misses)
            }
            None => ("no MAC address".to_owned(), Some("it has no MAC address".to_owned())),
        });
        tag.ok_or(Reason::UnknownMac)
    }
}
