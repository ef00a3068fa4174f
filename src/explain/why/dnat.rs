//! Why dnat decided so.

use super::service::Wanted;
use super::{Derived, Why, of_family};
use crate::cluster::{Cluster, NodeId};
use crate::engine::Reason;
use crate::net::OfFamily;
use crate::packet::{Fragment, IcmpError, View};
use crate::simulate::Visit;

impl Why {
    pub(super) fn dnat(&mut self, cluster: &Cluster, node: NodeId, visit: &Visit) -> Derived {
        let view = self.readable(visit)?;
        let own = cluster.node(node);
        let dst = view.tuple.dst;
        let whose = cluster.nodes.iter().find(|other| other.public.has(&dst));
        let (ip, public) = (dst.family().nft(), of_family(&own.public, dst));
        let is_own = own.public.has(&dst);
        self.first(is_own, Reason::NotPublic, || match whose {
            Some(other) if is_own => format!("{ip} daddr {dst} is the public address of {}", other.name),
            Some(other) => {
                format!("{ip} daddr {dst} is not {public}: it is the public address of {}", other.name)
            }
            None => format!("{ip} daddr {dst} is not {public}, the public address of {}", own.name),
        })?;
        if let Some(error) = &view.error {
            return self.about_reply(cluster, node, view, error);
        }
        if view.neighbours {
            self.first(false, Reason::NoService, || "neighbour discovery is for the node itself".to_owned())?;
        }
        let later = view.fragment == Fragment::Later;
        let none = if later { Reason::Fragment } else { Reason::NoService };
        let proto = view.tuple.proto;
        let wanted = Wanted {
            whose: "",
            family: dst.family(),
            proto,
            what: "dport",
            port: view.tuple.ports.map(|(_, port)| port),
            guest: None,
        };
        if wanted.port.is_none() && !wanted.may_be_whole(cluster) {
            self.first(false, none, || match later {
                true => "a later fragment has no port, so its service is not known".to_owned(),
                false => format!("{proto} has no ports, but all services here have one"),
            })?;
        }
        self.service(cluster, &wanted);
        self.fits.1.ok_or(none)?;
        self.fits.0 = Some(node);
        self.whole(view)?;
        Ok(Reason::Service)
    }

    /// An ICMP error to the public address.
    fn about_reply(&mut self, cluster: &Cluster, node: NodeId, view: &View, error: &IcmpError) -> Derived {
        let (publics, about) = (&cluster.node(node).public, error.about);
        let public = of_family(publics, about.src);
        self.first(!error.is_redirect(), Reason::Redirect, || {
            if error.is_redirect() {
                "an ICMP redirect is for its receiver, whatever it quotes".to_owned()
            } else {
                format!("an ICMP error, about {about}")
            }
        })?;
        let ours = publics.has(&about.src);
        self.first(ours, Reason::NoService, || {
            let is = if ours { "is" } else { "is not" };
            format!("the quoted packet {is} a reply from {public}")
        })?;
        let port = about.ports.map(|(port, _)| port);
        let family = about.src.family();
        let wanted =
            Wanted { whose: "quoted ", family, proto: about.proto, what: "sport", port, guest: None };
        if port.is_none() && !wanted.may_be_whole(cluster) {
            self.first(false, Reason::NoService, || {
                "the quoted packet has no ports, so its service is not known".to_owned()
            })?;
        }
        self.service(cluster, &wanted);
        self.fits.1.ok_or(Reason::NoService)?;
        self.fits.0 = Some(node);
        self.whole(view)?;
        Ok(Reason::ErrorAboutReply)
    }
}
