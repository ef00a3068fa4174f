//! `[[node]]`: its tag, what else it is known by, its public address; and that no two nodes share any of these.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use toml::Value;

use super::check::Check;
use super::families::{Placed, bare};
use super::raw::{File, RawNode, Text};
use crate::cluster::report::{brief, quoted};
use crate::cluster::special::special;
use crate::cluster::{Node, NodeId, TagBy};
use crate::net::{ByFamily, Dscp, Family, Mac, MacPrefix, Mark, OfFamily as _};

impl Check {
    pub(super) fn node(
        &mut self,
        file: &File,
        raw: &RawNode,
        guests: Option<&ByFamily<IpNet>>,
        (mask, tag_by): (Option<Mark>, Option<TagBy>),
    ) -> Option<Node> {
        let name = self.name(&raw.name);
        let tag = self.mark("tag", &raw.tag);
        if let (Some(tag), Some(mask)) = (tag, mask)
            && !(tag & !mask).is_zero()
        {
            self.say(
                raw.tag.span(),
                format_args!("tag {tag} has bits outside of the mask {mask}"),
                "choose a tag within [marks] mask, or widen the mask",
            );
        }
        let mac = self.mac(raw, tag_by);
        let dscp = self.dscp(raw, tag_by);
        let public = self.by_family(&raw.public, Self::address);
        if let (Some(public), Some(guests)) = (&public, guests) {
            self.publics(public, guests, &raw.public.span);
        }
        let (pipes, leads_to) = self.own_pipes(file, raw, tag_by)?;
        Some(Node { name: name?, tag: tag?, mac: mac?, dscp: dscp?, public: bare(&public?), pipes, leads_to })
    }

    /// The node that something else of the file names.
    pub(super) fn node_by_name(&mut self, file: &File, name: &Text) -> Option<NodeId> {
        let place = file.node.iter().position(|node| node.name.get_ref() == name.get_ref());
        if place.is_none() {
            let known: Vec<&str> =
                file.node.iter().map(|node| node.name.get_ref().as_str()).take(20).collect();
            self.say(
                name.span(),
                format_args!("there is no node {}", quoted(name.get_ref())),
                format_args!("give the name of a node of this file: {}", brief(&known.join(", "))),
            );
        }
        place.map(|place| NodeId(place as u32))
    }

    /// Not in vain where tags go by something else: a trace names the node that a frame's address belongs to.
    fn mac(&mut self, raw: &RawNode, tag_by: Option<TagBy>) -> Option<Option<MacPrefix>> {
        if raw.mac.is_none() && tag_by == Some(TagBy::Mac) {
            self.say(
                raw.name.span(),
                format_args!("node {} has no `mac`", quoted(raw.name.get_ref())),
                "give the source MAC addresses of its frames, for example 0e:00:00:00:00:00/24",
            );
            return None;
        }
        let Some(text) = &raw.mac else { return Some(None) };
        let mac: MacPrefix = self.read("MAC prefix", text)?;
        let what = if mac.is_multicast() {
            "multicast (IEEE 802, the lowest bit of the first byte)"
        } else if mac == MacPrefix::of(Mac([0; 6]), 48) {
            "the all-zero address"
        } else {
            return Some(Some(mac));
        };
        let message = format_args!("{mac} is {what}, which no frame has as its source");
        self.say(
            text.span(),
            message,
            "give the MAC addresses of the node's guests and bridge, from the output of ip link",
        );
        None
    }

    fn dscp(&mut self, raw: &RawNode, tag_by: Option<TagBy>) -> Option<Option<Dscp>> {
        let wanted = tag_by == Some(TagBy::Dscp);
        let Some(value) = &raw.dscp else {
            if wanted {
                self.say(
                    raw.name.span(),
                    format_args!("node {} has no `dscp`", quoted(raw.name.get_ref())),
                    "tag_by is \"dscp\": give each node its own code point, for example \"cs1\"",
                );
            }
            return (!wanted).then_some(None);
        };
        let dscp = match value.get_ref() {
            Value::Integer(number) => (*number).try_into(),
            Value::String(text) => text.parse(),
            other => other.to_string().parse::<Dscp>(),
        };
        match dscp {
            Err(error) => {
                self.say(value.span(), format_args!("{} is no code point", brief(value.get_ref())), error);
            }
            Ok(_) if tag_by.is_some() && !wanted => self.say(
                value.span(),
                "dscp needs tag_by = \"dscp\"",
                "remove it, or write tag_by = \"dscp\" under [marks]",
            ),
            Ok(Dscp::CS0) => self.say(
                value.span(),
                "cs0 is the code point of packets that nobody has marked",
                "choose another: there are 63",
            ),
            Ok(dscp) => return Some(Some(dscp)),
        }
        None
    }

    fn publics(&mut self, public: &ByFamily<Placed<IpAddr>>, guests: &ByFamily<IpNet>, all: &Range<usize>) {
        let before = self.problems.len();
        for (address, span) in public.iter() {
            self.public(*address, guests, span.clone());
        }
        if self.problems.len() == before {
            let help = "clients may reach every guest through every node: give the node an address of each \
                        family";
            self.complete("a public address", public, guests, all, help);
        }
    }

    fn public(&mut self, public: IpAddr, guests: &ByFamily<IpNet>, span: Range<usize>) {
        if guests.get(public.family()).is_none() {
            let message = format_args!("{public} and the guests' network {guests} have different families");
            self.say(span, message, "NAT keeps the family: give an address of the guests' family");
        } else if let Some(what) = special(public) {
            let message =
                format_args!("{public} is not an address that clients can connect to: it is {what}");
            self.say(span, message, "give the node's address on the public LAN");
        } else if guests.contains(&public) {
            let message = format_args!("the public address {public} is in the guests' network {guests}");
            self.say(span, message, "give the node's address on the public LAN");
        }
    }

    pub(super) fn nodes_are_distinct(&mut self, file: &File, nodes: &[Option<Node>]) {
        let known: Vec<(&RawNode, &Node)> =
            file.node.iter().zip(nodes).filter_map(|(raw, node)| Some((raw, node.as_ref()?))).collect();
        let tags: Vec<_> = known.iter().map(|(raw, node)| (raw.tag.span(), node.tag, &*node.name)).collect();
        self.unique("tag", &tags);
        for family in Family::ALL {
            let publics: Vec<_> = known
                .iter()
                .filter_map(|(raw, node)| {
                    Some((raw.public.span.clone(), *node.public.get(family)?, &*node.name))
                })
                .collect();
            self.unique("the public address", &publics);
        }
        let dscps: Vec<_> = known
            .iter()
            .filter_map(|(raw, node)| Some((raw.dscp.as_ref()?.span(), node.dscp?, &*node.name)))
            .collect();
        self.unique("the code point", &dscps);
        let macs: Vec<_> =
            known.iter().filter_map(|(raw, node)| Some((raw.mac.as_ref()?, node.mac?, *node))).collect();
        // Of two prefixes that overlap one is in the other.
        let (mut prefixes, mut firsts) = (HashMap::new(), BTreeMap::new());
        for (place, (raw, mac, _)) in macs.iter().enumerate() {
            let around =
                (1..=mac.bits_fixed()).find_map(|len| prefixes.get(&MacPrefix::of(mac.first(), len)));
            let within = || firsts.range(mac.first()..=mac.last()).next().map(|(_, earlier)| earlier);
            let earlier: Option<&usize> = around.or_else(within);
            if let Some((_, others, other)) = earlier.and_then(|earlier| macs.get(*earlier)) {
                self.say(
                    raw.span(),
                    format_args!("the MAC prefix {mac} overlaps with that of {:?}, {others}", other.name),
                    "a frame's source address must belong to one node only",
                );
            }
            prefixes.entry(*mac).or_insert(place);
            firsts.entry(mac.first()).or_insert(place);
        }
    }
}
