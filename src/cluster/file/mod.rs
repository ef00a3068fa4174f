//! The text of a cluster file → a [`Cluster`] or every fault in it.
//!
//! Each table of the file has a source file of its own here, with what may be wrong in it.

mod check;
mod families;
mod guests;
mod nodes;
mod pipes;
mod raw;
mod services;
mod values;

use check::{Check, named};
use raw::{File, RawMarks};
pub use values::unfit_name;

use crate::cluster::report::{quoted, said};
use crate::cluster::{Cluster, OnConflict, Problem, Service, ServiceIndex, TagBy};
use crate::net::{ByFamily, Mark};

pub(super) fn parse(text: &str) -> Result<Cluster, Vec<Problem>> {
    let file: File = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        vec![Problem { span, message: said(error.message()), help: None }]
    })?;
    let mut check = Check::default();
    match check.cluster(&file) {
        Some(cluster) if check.problems.is_empty() => Ok(cluster),
        _ => Err(check.problems),
    }
}

impl Check {
    fn cluster(&mut self, file: &File) -> Option<Cluster> {
        let mask = match &file.marks.mask {
            Some(mask) => self.mark("mask", mask),
            None => Some(Mark::ALL),
        };
        let on_conflict = match &file.marks.on_conflict {
            Some(text) => self.read("way to deal with a conflict", text),
            None => Some(OnConflict::Keep),
        };
        let tag_by = self.tag_by(&file.marks);
        let guests = self.guests(&file.guests, tag_by);
        let network = guests.as_ref().map(|guests| &guests.network);
        let public = self.interface(&file.public.interface);
        if let (Some(public), Some(guests)) = (&public, &guests)
            && (*public == guests.bridge || guests.pipes.contains(public))
        {
            self.say(
                file.public.interface.span(),
                format_args!("{public} is already used on the guests' side"),
                "the public interface is the one that leads to the clients",
            );
        }

        let services: Vec<_> =
            file.service.iter().map(|raw| self.service(file, raw, guests.as_ref())).collect();
        self.unique("the name", &named(file.service.iter().map(|raw| &raw.name)));
        self.services_are_distinct(file, &services);
        self.homes_agree(file, &services);

        let nodes: Vec<_> =
            file.node.iter().map(|raw| self.node(file, raw, network, (mask, tag_by))).collect();
        self.unique("the name", &named(file.node.iter().map(|raw| &raw.name)));
        self.nodes_are_distinct(file, &nodes);
        if file.node.is_empty() {
            self.say(0..0, "the cluster has no node", "add a [[node]] for each member");
        }
        if let Some(guests) = &guests {
            self.pipes_are_enough(file, guests, tag_by);
            self.own_pipes_are_ports(file, &nodes, &guests.bridge, public.as_ref());
        }

        let guests = guests?;
        let services: Vec<Service> = services.into_iter().collect::<Option<_>>()?;
        let index = |family| guests.network.get(family).map(|_| ServiceIndex::new(&services, family));
        Some(Cluster {
            digest: String::new(),
            former: Vec::new(),
            text: std::sync::Arc::default(),
            index: ByFamily::new(index),
            guests,
            public: public?,
            services,
            nodes: nodes.into_iter().collect::<Option<_>>()?,
            mask: mask?,
            on_conflict: on_conflict?,
            tag_by: tag_by?,
        })
    }

    fn tag_by(&mut self, raw: &RawMarks) -> Option<TagBy> {
        let Some(text) = &raw.tag_by else { return Some(TagBy::default()) };
        let found = TagBy::ALL.into_iter().find(|(_, name)| name == text.get_ref());
        if found.is_none() {
            let names = TagBy::ALL.map(|(_, name)| format!("{name:?}"));
            self.say(
                text.span(),
                format_args!("tag_by cannot be {}", quoted(text.get_ref())),
                format_args!("give one of {}", names.join(", ")),
            );
        }
        found.map(|(by, _)| by)
    }
}
