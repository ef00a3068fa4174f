//! The cluster, as one node looks things up in it.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::condition::{Subject, Value, Wants};
use super::witness::Witness;
use crate::cluster::{Cluster, NodeId, OnConflict, ServiceIndex, TagBy, ToGuest};
use crate::net::{ByFamily, CtMark, Dscp, Family, Mac, MacPrefix, Mark, OfFamily, Proto};

/// What [`decide`](super::decide) reads: made once from the checked cluster, then only read, by all workers.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::Tables;
/// use dunnat::net::Mark;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// assert_eq!(Tables::new(&cluster, node1).mask(), Mark::ALL);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tables {
    /// The node that decides.
    pub(super) own: NodeId,
    pub(super) own_public: ByFamily<IpAddr>,
    pub(super) own_tag: Mark,
    pub(super) guests: ByFamily<IpNet>,
    /// The bits that are ours.
    pub(super) mask: Mark,
    pub(super) on_conflict: OnConflict,
    services: ByFamily<ServiceIndex>,
    pub(super) tag_by: TagBy,
    dscps: FxHashMap<Dscp, NodeId>,
    /// By prefix length, then by the first address of the prefix. Prefixes do not overlap.
    macs: Vec<(u8, FxHashMap<Mac, NodeId>)>,
    /// Also those that nodes had in the file before.
    tags: FxHashMap<Mark, NodeId>,
    tag_of: Vec<Mark>,
    public_of: Vec<ByFamily<IpAddr>>,
}

impl Tables {
    /// The tables of the node `own`.
    pub fn new(cluster: &Cluster, own: NodeId) -> Self {
        let ids = || cluster.node_ids();
        let mut macs: Vec<(u8, FxHashMap<Mac, NodeId>)> = Vec::new();
        for id in ids() {
            let Some(prefix) = cluster.node(id).mac else { continue };
            let place = macs.iter().position(|(len, _)| *len == prefix.bits_fixed()).unwrap_or_else(|| {
                macs.push((prefix.bits_fixed(), FxHashMap::default()));
                macs.len() - 1
            });
            macs[place].1.insert(prefix.first(), id);
        }
        Self {
            own,
            own_public: cluster.node(own).public,
            own_tag: cluster.node(own).tag,
            guests: cluster.guests.network,
            mask: cluster.mask,
            on_conflict: cluster.on_conflict,
            services: cluster.index().clone(),
            tag_by: cluster.tag_by,
            dscps: ids().filter_map(|id| Some((cluster.node(id).dscp?, id))).collect(),
            macs,
            tags: cluster.tags().collect(),
            tag_of: ids().map(|id| cluster.node(id).tag).collect(),
            public_of: ids().map(|id| cluster.node(id).public).collect(),
        }
    }

    /// The bits of marks that are ours.
    pub fn mask(&self) -> Mark {
        self.mask
    }

    /// Whether an address is a guest's, asked before a witness.
    #[inline]
    pub(super) fn is_guest(&self, subject: Subject, address: IpAddr, witness: &mut impl Witness) -> bool {
        let inside = self.guests.contains(&address);
        witness.holds(inside, || (subject, Value::Address(address), Wants::In(self.network(address))))
    }

    /// The guests' network of an address's family.
    pub(super) fn network(&self, like: IpAddr) -> Value {
        self.guests.get(like.family()).map_or(Value::Nothing, |network| Value::Network(*network))
    }

    /// The node's public address of an address's family.
    pub(super) fn public_like(&self, like: IpAddr) -> Value {
        self.own_public.get(like.family()).map_or(Value::Nothing, |public| Value::Address(*public))
    }

    /// The services of a family.
    #[inline]
    pub(super) fn services(&self, family: Family) -> Option<&ServiceIndex> {
        self.services.get(family)
    }

    /// Where a request to a public address goes, by protocol and port.
    #[inline]
    pub(super) fn by_request(&self, public: IpAddr, proto: Proto, port: Option<u16>) -> Option<ToGuest> {
        self.services(public.family())?.by_request(proto, port)
    }

    /// The node that sends from `mac`.
    pub(super) fn node_by_mac(&self, mac: Mac) -> Option<NodeId> {
        self.macs.iter().find_map(|(len, nodes)| nodes.get(&MacPrefix::of(mac, *len).first()).copied())
    }

    /// The node that writes this code point.
    pub(super) fn node_by_dscp(&self, dscp: Dscp) -> Option<NodeId> {
        self.dscps.get(&dscp).copied()
    }

    /// The node whose tag our bits of `mark` are.
    pub(super) fn node_by_tag(&self, mark: Mark) -> Option<NodeId> {
        self.tags.get(&(mark & self.mask)).copied()
    }

    /// The tag that a node has now, where a flow has one that it had in the file before.
    #[inline]
    pub(super) fn renewed(&self, held: CtMark) -> CtMark {
        let node = held.known().and_then(|held| self.node_by_tag(held));
        node.map_or(held, |node| CtMark::Is(self.tag_of(node)))
    }

    /// The node's tag, by the file that is in use.
    pub(super) fn tag_of(&self, node: NodeId) -> Mark {
        self.tag_of[node.0 as usize]
    }

    /// The node's public address in a family that the guests have.
    #[inline]
    pub(super) fn public_of(&self, node: NodeId, family: Family) -> Option<IpAddr> {
        self.public_of[node.0 as usize].get(family).copied()
    }
}
