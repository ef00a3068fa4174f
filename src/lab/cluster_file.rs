//! The cluster file of a lab, the same for every node.

use std::fmt::{Display, Write as _};

use super::layout::Layout;
use crate::cluster::TagBy;
use crate::net::ByFamily;
use crate::text::toml::strings;

/// Its text.
pub fn cluster_file(layout: &Layout) -> String {
    let at = |pick: &dyn Fn(&super::layout::Addresses) -> String| {
        strings(layout.families().map(|family| pick(layout.at(family))))
    };
    let mut out = format!(
        "# Written by `dunnat lab up`: the cluster that the lab has just built.\n\n[guests]\nnetwork = {}\ngateway = {}\nbridge  = \
         \"{}\"\n",
        at(&|at| at.guests.to_string()),
        at(&|at| at.gateway.to_string()),
        layout.bridge
    );
    if layout.choice.tag_by != TagBy::Pipe {
        let _ = writeln!(out, "pipes   = [\"{}\", \"{}\"]", layout.pipe_up, layout.pipe_down);
    }
    let _ = write!(out, "\n[public]\ninterface = \"{}\"\n", layout.nic);
    for guest in &layout.guests {
        out += &service(&guest.service, "tcp", &guest.service_port, &guest.address, Some(guest.port));
    }
    let guest = &layout.guests[0].address;
    out += &service(layout.echo, "udp", &format!("\"{}\"", layout.echo_ports), guest, None);
    out += &service(layout.closed, "udp", &layout.closed_port, guest, Some(layout.closed_at_guest));
    for (place, node) in layout.nodes.iter().enumerate() {
        let known_by = match layout.choice.tag_by {
            TagBy::Mac => format!("mac    = \"{}\"", node.prefix),
            TagBy::Dscp => format!("dscp   = {}", node.dscp),
            TagBy::Pipe => {
                let others = (0..layout.nodes.len()).filter(|other| *other != place);
                let pipes = others
                    .map(|other| format!("{} = \"{}\"", layout.nodes[other].name, layout.pipe_to(other)));
                format!("pipe_to = {{ {} }}", pipes.collect::<Vec<_>>().join(", "))
            }
        };
        let _ = write!(
            out,
            "\n[[node]]\nname   = \"{}\"\ntag    = {:#x}\n{known_by}\npublic = {}\n",
            node.name,
            node.tag,
            listed(&node.public)
        );
    }
    let _ = write!(out, "\n[marks]\ntag_by = \"{}\"\n", layout.choice.tag_by);
    if let Some(mask) = layout.mask {
        let _ = writeln!(out, "mask = \"{mask}\"");
    }
    out
}

fn service(
    name: &str,
    proto: &str,
    port: &dyn Display,
    guest: &ByFamily<std::net::IpAddr>,
    at_guest: Option<u16>,
) -> String {
    let mut out = format!(
        "\n[[service]]\nname  = \"{name}\"\nproto = \"{proto}\"\nport  = {port}\nguest = {}\n",
        listed(guest)
    );
    if let Some(at_guest) = at_guest.filter(|at_guest| at_guest.to_string() != port.to_string()) {
        let _ = writeln!(out, "guest_port = {at_guest}");
    }
    out
}

/// A value in one family, or a list of both.
fn listed<T: Display>(all: &ByFamily<T>) -> String {
    strings(all.iter())
}
