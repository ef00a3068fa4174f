//! What may be wrong where events do not prove it, and what decides whether it is.

use std::net::IpAddr;

use serde::Serialize;

use super::cause::Cause;
use crate::trace::Name;

/// A cause that fits the events, which do not prove it. There may be very many: words are made when somebody reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Possible {
    /// Which.
    pub cause: Cause,
    /// The node on which it would be; none if that is the one that is not known.
    pub node: Option<Name>,
}

/// A cause that fits, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// Which.
    pub cause: Cause,
    /// What would be so then, a sentence.
    pub says: String,
    /// Where to look: the name of a node, or `guest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// The fact of `dunnat doctor` there that decides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fact: Option<&'static str>,
    /// A command there that decides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The same in words: `on node1`, `in the guest`.
    #[serde(skip)]
    place: String,
}

/// What a cause means, and what decides whether it is so. In braces: `{node}`, where it would be; `{guest}` and `{client}`, the
/// addresses; `{ip}`, nft's name of their family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clue {
    says: &'static str,
    in_guest: bool,
    /// The fact of `dunnat doctor` on that node.
    pub fact: Option<&'static str>,
    /// A command on that node, or in the guest.
    pub command: Option<&'static str>,
}

impl Clue {
    /// On a node.
    const fn on_node(says: &'static str, fact: &'static str, command: &'static str) -> Self {
        let fact = if fact.is_empty() { None } else { Some(fact) };
        let command = if command.is_empty() { None } else { Some(command) };
        Self { says, in_guest: false, fact, command }
    }

    /// In the guest.
    const fn in_guest(says: &'static str, command: &'static str) -> Self {
        Self { says, in_guest: true, fact: None, command: Some(command) }
    }
}

impl Possible {
    /// In words; `unknown` is what the node is called that is not known.
    pub(super) fn hint(&self, unknown: &str, guest: IpAddr, client: IpAddr) -> Hint {
        let clue = self.cause.clue();
        let node = self.node.as_deref().unwrap_or(unknown);
        let (ip, of_family): (_, fn(_) -> _) =
            if guest.is_ipv4() { ("ip", |fact| fact) } else { ("ip6", of_ipv6) };
        let (guest, client) = (guest.to_string(), client.to_string());
        // Each is put in at one place only: a name may look like a placeholder.
        let fill = |text: &str| {
            let parts = text.split_inclusive('}').map(|part| {
                for (name, value) in
                    [("{node}", node), ("{guest}", &guest), ("{client}", &client), ("{ip}", ip)]
                {
                    if let Some(rest) = part.strip_suffix(name) {
                        return format!("{rest}{value}");
                    }
                }
                part.to_owned()
            });
            parts.collect::<String>()
        };
        let (on, place) = match clue.in_guest {
            true => (Some("guest"), "in the guest".to_owned()),
            false => (self.node.as_deref(), format!("on {node}")),
        };
        Hint {
            cause: self.cause,
            says: fill(clue.says),
            on: on.filter(|_| clue.fact.is_some() || clue.command.is_some()).map(str::to_owned),
            fact: clue.fact.map(of_family),
            command: clue.command.map(fill),
            place,
        }
    }
}

/// The fact of IPv6 that stands beside one of IPv4.
fn of_ipv6(fact: &'static str) -> &'static str {
    match fact {
        "ip-forward" => "ipv6-forwarding",
        "bridge-nf-call-iptables" => "bridge-nf-call-ip6tables",
        other => other,
    }
}

impl Hint {
    /// What decides it, as in `on node1: dunnat doctor, fact conntrack-room; conntrack -S`; empty if there is nothing.
    pub fn decided_by(&self) -> String {
        let fact = self.fact.map(|fact| format!("dunnat doctor, fact {fact}"));
        let ways: Vec<String> = fact.into_iter().chain(self.command.clone()).collect();
        if ways.is_empty() { String::new() } else { format!("{}: {}", self.place, ways.join("; ")) }
    }
}

const REHEARSE: &str = "dunnat rehearse -c CLUSTER -n {node}";

impl Cause {
    /// What it means, and what decides it.
    pub fn clue(self) -> Clue {
        let on_node = Clue::on_node;
        match self {
            Self::Dropped => on_node("{node} dropped a packet", "", "dunnat trace --read FILE verdict drop"),
            Self::RuleDrop => on_node("a rule on {node} drops its packets", "", "nft -a list ruleset"),
            Self::UnknownMac => on_node(
                "the cluster file of {node} lacks the MAC address of the entry node's bridge",
                "",
                "dunnat check -c CLUSTER",
            ),
            Self::UnknownPipe => on_node(
                "in the cluster file of {node}, the pipe of the frame leads to no node",
                "",
                "dunnat check -c CLUSTER",
            ),
            Self::UnknownDscp => on_node(
                "in the cluster file of {node}, the code point of the packet is no node's",
                "",
                "dunnat check -c CLUSTER",
            ),
            Self::TakenForAnother => on_node(
                "the cluster file of {node} has the MAC address of another node for the entry node",
                "",
                "sha256sum CLUSTER",
            ),
            Self::BridgeMac => {
                on_node("the bridge of {node} has a MAC address that is not its own", "bridge-mac", "")
            }
            Self::OtherAddress => {
                on_node("the cluster file of {node} has other addresses or ports", "", "sha256sum CLUSTER")
            }
            Self::GatewayMac => Clue::in_guest(
                "the guest has another node's MAC address for the gateway, and sends its replies there",
                "ip neigh",
            ),
            Self::NotKept => on_node(
                "{node} does not keep the ct mark of the flow",
                "rehearsal",
                "conntrack -L -s {client} -d {guest}",
            ),
            Self::UnknownTag => {
                on_node("on {node}, the mark of the flow is no node's tag", "mark-bits", REHEARSE)
            }
            Self::MarkChanged => {
                on_node("a rule of another program on {node} changes the packet mark", "mark-bits", REHEARSE)
            }
            Self::CtMarkChanged => {
                on_node("a rule of another program on {node} changes the ct mark", "mark-bits", REHEARSE)
            }
            Self::ConntrackForgot => on_node(
                "conntrack on {node} forgot the flow: somebody flushed the table, or the flow was idle too long",
                "udp-timeout",
                "conntrack -E -e DESTROY -s {client} -d {guest}",
            ),
            Self::ConntrackFull => on_node(
                "the conntrack table of {node} is full: new flows are dropped, and flows without a reply forgotten",
                "conntrack-room",
                "conntrack -S",
            ),
            Self::NoSave => {
                on_node("the rules that save ct marks are gone on {node}", "", "nft list table {ip} dunnat")
            }
            Self::PortShared => on_node(
                "the flow on {node} has the tag of another connection from the same client port",
                "",
                "conntrack -L -s {client} -d {guest}",
            ),
            Self::ForwardDrop => on_node(
                "a rule of another program on {node} drops the packet, in the forward hook or at another place",
                "forward-drop",
                REHEARSE,
            ),
            Self::InvalidDrop => on_node(
                "a rule of another program on {node} drops what conntrack calls invalid: the entry node of a foreign \
                 flow sees only the client's packets",
                "rehearsal",
                REHEARSE,
            ),
            Self::NotForwarded => on_node(
                "{node} does not forward the packet: forwarding is off, or the reverse path filter drops it",
                "ip-forward",
                "nstat -az TcpExtIPReversePathFilter IpExtInNoRoutes",
            ),
            Self::NoNeighbour => on_node(
                "the guest does not say its MAC address to {node}: it is off, or not connected, or {node} does not ask from \
                 an own address",
                "own-address",
                "ip neigh show {guest}",
            ),
            Self::NeverArrived => on_node(
                "the frame is lost in a pipe of {node}: the pipe is down, or no port of the bridge",
                "pipe",
                "ip -s link",
            ),
            Self::BrNetfilter => on_node(
                "on {node}, bridged frames meet no IP rules, so that tag does not see them",
                "bridge-nf-call-iptables",
                "",
            ),
            Self::PipeMtu => on_node(
                "packets of that length do not get through a pipe of {node}, or another port of its bridge",
                "pipe-mtu",
                "ip -d link",
            ),
            Self::NoSpoof => {
                on_node("the rules that queue replies are gone on {node}", "", "nft list table {ip} dunnat")
            }
            Self::OtherWayOut => on_node(
                "the reply leaves {node} by another interface than the public one",
                "ways-out",
                "ip route get {client} from {guest} iif BRIDGE",
            ),
            Self::NoGateway => on_node(
                "the guest does not find its gateway on {node}: the address is not there, or a rule drops ARP or neighbour \
                 discovery",
                "gateway-address",
                REHEARSE,
            ),
            Self::NodeStopped => on_node(
                "no process decides on {node}: packets wait in its queues, or are dropped there",
                "node-process",
                "",
            ),
            Self::Silent => Clue::in_guest(
                "the guest sends no reply: nothing listens there, its own firewall drops the request, or it has no route to the \
                 client",
                "ss -lntu; ip route get {client}",
            ),
            Self::PublicPath => on_node(
                "the replies are lost between {node} and the client, or the client is gone",
                "link",
                "tcpdump -n host {client}",
            ),
            Self::Reset => Clue::in_guest("the guest resets the connection", "ss -lntu"),
            Self::PortUnreachable => Clue::in_guest("nothing listens at that port of the guest", "ss -lntu"),
            Self::TooBig => on_node("the packet is too big for the way", "pipe-mtu", "ip -d link"),
            Self::Prohibited => on_node("a firewall forbids the packet", "rehearsal", REHEARSE),
            Self::Unreachable => on_node(
                "the guest does not say its MAC address to {node} (it is off, or not connected, or {node} does not ask \
                 from an own address), or there is no route",
                "own-address",
                "ip neigh show {guest}",
            ),
            Self::OtherError => on_node("a host on the way does not take the packet", "", ""),
            Self::Carried => on_node(
                "no worker of {node} took the packet, and the kernel carried it: traces have no decision about it",
                "",
                "dunnat status",
            ),
            Self::NotTraced => on_node(
                "{node} saw the packet, but these traces do not have it: its trace is missing, or began later",
                "",
                "dunnat trace --write FILE.jsonl host {client}",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_sentence_with_all_that_it_is_about() {
        let [guest, client]: [[IpAddr; 2]; 2] = [
            ["10.5.5.201", "fd00:5::201"].map(|it| it.parse().unwrap()),
            ["192.0.2.1", "2001:db8::1"].map(|it| it.parse().unwrap()),
        ];
        for cause in Cause::ALL {
            for (guest, client) in guest.into_iter().zip(client) {
                let possible = Possible { cause, node: Some("{guest}".into()) }.hint("", guest, client);
                let text = format!("{} {}", possible.says, possible.decided_by());
                assert!(!text.replace("{guest}", "").contains(['{', '}']), "{text}");
                assert!(!possible.says.ends_with('.') && !possible.says.contains("  "), "{text}");
                assert_eq!(possible.decided_by().is_empty(), possible.on.is_none(), "{text}");
                assert!(guest.is_ipv4() || !text.contains("table ip dunnat"), "{text}");
            }
        }
        let hint = |cause| Possible { cause, node: None }.hint("the home node", guest[1], client[1]);
        let six = |cause| hint(cause).fact;
        assert_eq!(hint(Cause::ConntrackFull).on, None, "this is no name of a node");
        assert!(hint(Cause::ConntrackFull).decided_by().starts_with("on the home node: "));
        assert_eq!(six(Cause::BrNetfilter), Some("bridge-nf-call-ip6tables"));
        assert_eq!(six(Cause::NotForwarded), Some("ipv6-forwarding"));
    }
}
