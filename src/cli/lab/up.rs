//! `lab up`: what is asked for, and building it.

use clap::Args;
use dunnat::cluster::TagBy;
use dunnat::lab::tools::{self, Missing};
use dunnat::lab::{self, Choice, Error, Families, NameSet, Pace, Pipes, Place, topology, words};

use crate::cli::{Failure, print};

#[derive(Args)]
pub(super) struct Up {
    /// Number of nodes, from 1 to 9
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Names and addresses, plain or other: `other` builds the same cluster with all of them changed
    #[arg(long, value_name = "WHICH", default_value = "plain")]
    names: NameSet,
    /// Address families of the cluster: 4, 6 or both
    #[arg(long, value_name = "WHICH", default_value = "both")]
    family: Families,
    /// How nodes recognise each other (tag_by in the cluster file): mac, pipe or dscp
    #[arg(long, value_name = "WHAT", default_value = "mac", value_parser = tag_by)]
    tag_by: TagBy,
    /// Use 802.1Q devices as pipes, or fail [default: use them if the kernel has them]
    #[arg(long, conflicts_with = "no_vlan")]
    vlan: bool,
    /// Use plain veth pairs as pipes
    #[arg(long)]
    no_vlan: bool,
}

fn tag_by(text: &str) -> Result<TagBy, String> {
    words::value(text, &TagBy::ALL)
}

impl Up {
    pub(super) fn run(&self, place: Place, slow: Pace) -> Result<(), Failure> {
        let pipes = match (self.tag_by, self.vlan, self.no_vlan) {
            (TagBy::Pipe, true, _) => {
                let text = "--tag-by pipe needs one veth pair to each other node, so it cannot be used with \
                            --vlan";
                return Err(Failure::Usage(text.to_owned()));
            }
            (TagBy::Pipe, ..) | (_, _, true) => Pipes::Veth,
            (_, insists, _) => match topology::trouble_with_vlan(&place)? {
                None => Pipes::Vlan,
                Some(_) if !insists => Pipes::Veth,
                Some(trouble) => {
                    return Err(Error::Refused(format!(
                        "--vlan: this kernel has no 802.1Q devices ({trouble}). Load its module 8021q \
                         (CONFIG_VLAN_8021Q), or use plain veth pairs: --no-vlan"
                    ))
                    .into());
                }
            },
        };
        let missing = tools::missing_tools()?;
        let choice = Choice {
            nodes: usize::from(self.nodes),
            names: self.names,
            families: self.family,
            tag_by: self.tag_by,
            pipes,
        };
        let lab = lab::Lab::up(place, choice, slow)?;
        let (layout, here) = (&lab.layout, lab.place.invocation());
        let public = layout.nodes.last().and_then(|node| node.public.iter().next());
        let url = public.map_or_else(String::new, |address| url(*address, layout.guests[0].service_port));
        let mut text = format!("the lab '{}' is up\n\n{}\n", lab.place.name(), lab.picture());
        text += &format!("cluster file: {}\n", lab.file("cluster.toml").display());
        text +=
            &format!("next:         {here} start    then    {here} shell {} -- curl {url}\n", layout.client);
        text += &format!("or prove it:  {here} accept\n");
        for Missing { program, package, what } in missing {
            dunnat::messages::message!(
                PROGRAM_MISSING,
                "{program} (Debian package {package}) is not installed; needed for: {what}"
            );
        }
        print(&text)
    }
}

/// `http://ADDRESS:PORT/`, without the port that is meant anyway.
fn url(address: std::net::IpAddr, port: u16) -> String {
    let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    if port == 80 { format!("http://{host}/") } else { format!("http://{host}:{port}/") }
}
