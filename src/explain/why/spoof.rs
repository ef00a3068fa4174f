//! Why save and spoof decided so.

use super::marks::Bits;
use super::service::Wanted;
use super::{Derived, Why, is_in_network, of_family};
use crate::cluster::{Cluster, FromGuest, NodeId, Service};
use crate::engine::Reason;
use crate::net::{CtMark, Mark};
use crate::packet::{IcmpError, View};
use crate::simulate::Visit;

impl Why {
    pub(super) fn save(&mut self, cluster: &Cluster, visit: &Visit) -> Derived {
        let bits = Bits { what: "mark", mask: cluster.mask };
        let mark = visit.meta.mark & cluster.mask;
        self.first(!mark.is_zero(), Reason::Unmarked, || bits.of(visit.meta.mark))?;
        let tag = self.by_tag(cluster, bits, Some(mark));
        self.flow(tag.ok_or(Reason::UnknownTag)?, visit, cluster, Reason::Saved)
    }

    pub(super) fn spoof(&mut self, cluster: &Cluster, node: NodeId, visit: &Visit) -> Derived {
        let bits = Bits { what: "ct mark", mask: cluster.mask };
        let held = visit.meta.ct_mark;
        let error = visit.view.as_ref().ok().and_then(|view| Some((view, view.error.as_ref()?)));
        let none = held.masked(cluster.mask) == CtMark::ZERO;
        if let (true, Some((view, error))) = (none, error) {
            self.note(format!("{}; it is an ICMP error about {}", bits.of(Mark::ZERO), error.about));
            self.service(cluster, &Wanted::of_request(error));
            self.fits.1.ok_or(Reason::Unmarked)?;
            self.fits.0 = Some(node);
            return self.about_request(cluster, view, error);
        }
        let begun = |view: &&View| {
            let has_whole = |service: &Service| service.ports.is_none() && service.guest.has(&view.tuple.src);
            none && cluster.services.iter().any(has_whole)
        };
        if let Some(view) = visit.view.as_ref().ok().filter(begun) {
            self.note(format!("{}: the flow did not enter through a node", bits.of(Mark::ZERO)));
            return self.begun(cluster, node, view);
        }
        self.first(!none, Reason::Unmarked, || match held {
            CtMark::Is(_) if none => {
                format!(
                    "{}: the flow did not enter through a node; the kernel's SNAT translates it",
                    bits.of(Mark::ZERO)
                )
            }
            CtMark::Is(held) => bits.of(held),
            CtMark::Another => "the ct mark is not zero; its value is not known".to_owned(),
        })?;
        self.by_tag(cluster, bits, held.masked(cluster.mask).known()).ok_or(Reason::UnknownTag)?;
        if let Some((view, error)) = error {
            return self.about_request(cluster, view, error);
        }
        let view = match &visit.view {
            Ok(view) => view,
            Err(malformed) => {
                self.then(false, (*malformed).into(), || {
                    format!("it cannot be read ({malformed}), so its inside address would leak")
                })?;
                return Err((*malformed).into());
            }
        };
        let src = view.tuple.src;
        let inside = cluster.guests.network.contains(&src);
        self.then(inside, Reason::NotFromGuest, || is_in_network(cluster, "saddr", src))?;
        let from = Wanted::of_guest(view).by_reply(cluster);
        if let (Some(FromGuest { service, port: Some(public), .. }), Some((port, _))) =
            (from, view.tuple.ports)
        {
            self.spoof_service = Some(service);
            self.then(true, Reason::EntryNode, || {
                format!(
                    "sport {port} is the guest's port of service {}; the original destination has port {public}",
                    cluster.service(service).name
                )
            })?;
        }
        self.whole(view)?;
        Ok(Reason::EntryNode)
    }

    /// An ICMP error on its way to a client.
    fn about_request(&mut self, cluster: &Cluster, view: &View, error: &IcmpError) -> Derived {
        let network = &cluster.guests.network;
        let (src, dst) = (view.tuple.src, error.about.dst);
        let inside = network.contains(&src) || network.contains(&dst);
        self.then(inside, Reason::NotFromGuest, || {
            let is = if inside { "has an address of" } else { "has no address of" };
            let network = of_family(network, src);
            format!("an ICMP error from {src} about {} {is} {network}", error.about)
        })?;
        self.fits.1 = Wanted::of_request(error).by_reply(cluster).map(|from| from.service);
        self.then(!error.is_redirect(), Reason::Redirect, || {
            if error.is_redirect() {
                "an ICMP redirect would show an inside address to the neighbours".to_owned()
            } else {
                "the client gets it with the addresses of its own packet".to_owned()
            }
        })?;
        self.whole(view)?;
        Ok(Reason::ErrorAboutRequest)
    }

    /// What a guest has begun that has a public address, or all ports of it.
    fn begun(&mut self, cluster: &Cluster, node: NodeId, view: &View) -> Derived {
        self.service(cluster, &Wanted::of_guest(view));
        let id = self.fits.1.take().ok_or(Reason::Unmarked)?;
        let service = cluster.service(id);
        self.then(service.ports.is_none(), Reason::Unmarked, || match service.ports {
            None => {
                let public = of_family(&cluster.node(node).public, view.tuple.src);
                format!("the guest's own connections leave with {public}, without state")
            }
            Some(_) => "the service does not have all ports; the kernel's SNAT translates it".to_owned(),
        })?;
        self.fits = (Some(node), Some(id));
        self.spoof_service = Some(id);
        self.whole(view)?;
        Ok(Reason::OneToOne)
    }
}
