//! Single values: an address, a network, an interface, a name, a mark; and which of them cannot be.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use toml::{Spanned, Value};

use super::check::Check;
use super::raw::Text;
use crate::cluster::report::{brief, quoted};
use crate::cluster::special::{overlapping, special};
use crate::net::{ByFamily, IfName, Mark, OfFamily as _};

/// Names go into rules (chain names, comments) and file names: why a text can be none, and what can.
pub fn unfit_name(name: &str) -> Option<(String, &'static str)> {
    let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 32
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    (!fits).then(|| {
        let wrong = format!("{} cannot be used as a name in rules", quoted(name));
        (wrong, "a name has 1 to 32 letters, digits and . _ -, and starts with a letter or digit")
    })
}

impl Check {
    /// An interface of packets from elsewhere. `all` and `default` are what the kernel calls the settings of all of them, in
    /// /proc/sys/net/ipv4/conf.
    pub(super) fn interface(&mut self, text: &Text) -> Option<IfName> {
        let name: IfName = self.read("interface name", text)?;
        let what = match name.as_str() {
            "lo" => "the loopback interface: no packet arrives on it from another host",
            "all" | "default" => "the kernel's name for settings of all interfaces, not an interface",
            _ => return Some(name),
        };
        let message = format_args!("{name} is {what}");
        self.say(text.span(), message, "give the name of an interface from the output of ip link");
        None
    }

    pub(super) fn address(&mut self, text: &Text) -> Option<IpAddr> {
        self.read("IP address", text)
    }

    pub(super) fn network(&mut self, text: &Text) -> Option<IpNet> {
        let network: IpNet = match text.get_ref().parse() {
            Ok(network) => network,
            Err(_) => {
                self.say(
                    text.span(),
                    format_args!("{} is no network", quoted(text.get_ref())),
                    "a network is an address and a prefix length, for example 10.5.5.0/24",
                );
                return None;
            }
        };
        if network.addr() != network.network() {
            self.say(
                text.span(),
                format_args!("{network} has bits set after its prefix"),
                format_args!("did you mean {}?", network.trunc()),
            );
            return None;
        }
        if let Some((block, what)) = overlapping(network) {
            let message = if block.contains(&network) {
                format!("{network} cannot be routed: it is {what}")
            } else {
                format!("{network} cannot be routed as a whole: it contains {block}, which is {what}")
            };
            self.say(text.span(), message, "give a network such as 10.5.5.0/24 or fd00:5::/64");
            return None;
        }
        Some(network)
    }

    pub(super) fn inside(
        &mut self,
        what: &str,
        address: IpAddr,
        networks: &ByFamily<IpNet>,
        span: Range<usize>,
    ) {
        let Some(network) = networks.get(address.family()).filter(|network| network.contains(&address))
        else {
            let why = special(address).map(|what| format!(": it is {what}")).unwrap_or_default();
            self.say(
                span,
                format_args!("{what} {address} is not in the guests' network {networks}{why}"),
                format_args!("give an address of {networks}"),
            );
            return;
        };
        let own = match network {
            IpNet::V4(four) => {
                IpAddr::from(four.network()) == address || IpAddr::from(four.broadcast()) == address
            }
            // RFC 4291 §2.6.1: all routers of the network have it.
            IpNet::V6(six) => IpAddr::from(six.network()) == address,
        };
        if own && network.prefix_len() < network.max_prefix_len() - 1 {
            self.say(
                span,
                format_args!("{what} {address} is the network's own address or its broadcast address"),
                format_args!("give an address between {} and {}", network.network(), network.broadcast()),
            );
        }
    }

    pub(super) fn name(&mut self, text: &Text) -> Option<String> {
        let name = text.get_ref();
        let Some((wrong, right)) = unfit_name(name) else { return Some(name.clone()) };
        self.say(text.span(), wrong, right);
        None
    }

    /// A mark may be typed as a TOML integer (`2`, `0x100`) or as a text in the same form.
    pub(super) fn mark(&mut self, what: &str, value: &Spanned<Value>) -> Option<Mark> {
        let mark = match value.get_ref() {
            Value::Integer(number) => u32::try_from(*number).ok().map(Mark),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match mark {
            Some(mark) if !mark.is_zero() => return Some(mark),
            Some(_) => {
                let message = format_args!("a {what} of 0 looks the same as no mark");
                self.say(value.span(), message, "give a number from 1 to 0xffffffff");
            }
            None => {
                let message = format!("{} is no {what}", brief(value.get_ref()));
                self.say(
                    value.span(),
                    message,
                    "give a number from 1 to 0xffffffff, for example 2 or \"0x0000ff00\"",
                );
            }
        }
        None
    }
}
