//! `[guests]`: the network of the guests, their gateway and bridge.

use ipnet::IpNet;

use super::check::Check;
use super::families::bare;
use super::raw::RawGuests;
use crate::cluster::{Foreign, Guests, TagBy};

impl Check {
    pub(super) fn guests(&mut self, raw: &RawGuests, tag_by: Option<TagBy>) -> Option<Guests> {
        let network = self.by_family(&raw.network, Self::network).map(|network| bare(&network));
        let gateway = self.by_family(&raw.gateway, Self::address);
        if let (Some(network), Some(gateway)) = (&network, &gateway) {
            for (address, span) in gateway.iter() {
                self.inside("the gateway", *address, network, span.clone());
            }
            let missing = "guests send their replies through a gateway address that every node has";
            self.complete("a gateway", gateway, network, &raw.gateway.span, missing);
        }
        let bridge = self.interface(&raw.bridge);
        let pipes = match &raw.pipes {
            Some(pipes) => self.pipes(pipes),
            None if tag_by == Some(TagBy::Pipe) => Some(Vec::new()),
            None => {
                self.say(
                    raw.bridge.span(),
                    "[guests] has no `pipes`",
                    "name the ports of the bridge that lead to other nodes; [] if there are none",
                );
                None
            }
        };
        if let (Some(bridge), Some(pipes)) = (&bridge, &pipes)
            && pipes.contains(bridge)
        {
            self.say(
                raw.bridge.span(),
                format_args!("{bridge} is also a pipe"),
                "pipes are ports of the bridge, not the bridge itself",
            );
        }
        let foreign = match &raw.foreign {
            Some(text) => self.read("way to treat foreign flows", text),
            None => Some(Foreign::default()),
        };
        let texts = raw.inside.iter().flat_map(|inside| &inside.texts);
        let inside: Vec<Option<IpNet>> = texts.map(|text| self.network(text)).collect();
        Some(Guests {
            network: network?,
            gateway: bare(&gateway?),
            bridge: bridge?,
            pipes: pipes?,
            inside: inside.into_iter().collect::<Option<_>>()?,
            foreign: foreign?,
        })
    }
}
