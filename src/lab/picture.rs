//! What a lab looks like, for a terminal.

use std::fmt::Write as _;

use super::{Lab, Pipes};
use crate::cluster::TagBy;
use crate::net::{ByFamily, Family};

impl Lab {
    /// Machines, addresses and services, drawn from the LAN down.
    pub fn picture(&self) -> String {
        let layout = &self.layout;
        let each =
            |pick: &dyn Fn(Family) -> String| layout.families().map(pick).collect::<Vec<_>>().join(" ");
        let of = |all: &ByFamily<std::net::IpAddr>| {
            all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let mut out = format!(
            "  {:<8} {}, the workstation\n     |\n  ===+=== public LAN, {} on the nodes ===+=== {} ({}) - - {} ({})\n",
            layout.client,
            each(&|family| layout.at(family).client.to_string()),
            layout.nic,
            layout.hop,
            each(&|family| layout.at(family).hop.to_string()),
            layout.far,
            each(&|family| layout.at(family).far.to_string()),
        );
        let how = match layout.choice.pipes {
            Pipes::Vlan => format!(" (802.1Q, VLAN {} of {})", layout.vlan, layout.trunk_up),
            Pipes::Veth => String::new(),
        };
        for (place, node) in layout.nodes.iter().enumerate() {
            let _ = writeln!(
                out,
                "     |\n     +-- {:<7} {:<15} tag {:<6} {} {}",
                node.name,
                of(&node.public),
                format!("{:#x}", node.tag),
                layout.bridge,
                node.mac
            );
            for (number, guest) in layout.guests.iter().enumerate().filter(|(_, guest)| guest.home == place) {
                let mut services = format!("tcp port {} ({})", guest.service_port, guest.service);
                if number == 0 {
                    let _ = write!(services, ", udp ports {} ({})", layout.echo_ports, layout.echo);
                }
                let _ =
                    writeln!(out, "     |     +-- {:<7} {:<13} {services}", guest.name, of(&guest.address));
            }
            let Some(next) = layout.nodes.get(place + 1) else { continue };
            let _ = match layout.choice.tag_by {
                TagBy::Pipe => writeln!(out, "     |     pipes to every other node"),
                _ => writeln!(
                    out,
                    "     |     {} ~ {}, the pipe to {}{how}",
                    layout.pipe_up, layout.pipe_down, next.name
                ),
            };
        }
        out
    }
}
