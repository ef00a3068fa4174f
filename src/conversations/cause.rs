//! Why a conversation came so: a closed set, with names that stay.

use super::named::named;

named! {
    /// Why it came so. What an event proves is certain; the others are what may be so, see [`Possible`](super::Possible).
    Cause {
        /// A packet of it was dropped.
        Dropped = "dropped", "a packet was dropped";
        /// A rule dropped a packet of it, by the kernel's own words (`dunnat trace --kernel`).
        RuleDrop = "rule-drop", "a rule dropped it";
        /// The home node knows no node by the MAC address that the frame came from.
        UnknownMac = "unknown-mac", "unknown MAC address";
        /// The pipe that the frame came by leads to no node.
        UnknownPipe = "unknown-pipe", "the pipe leads to no node";
        /// The packet's code point is no node's.
        UnknownDscp = "unknown-dscp", "the code point is no node's";
        /// The home node takes the entry node's frame for another node's, and their cluster files differ.
        TakenForAnother = "taken-for-another", "the home node takes the frame for another node's";
        /// The entry node's bridge has a MAC address that is not its own by the cluster file.
        BridgeMac = "bridge-mac", "the bridge of the entry node has a wrong MAC address";
        /// The home node has another public address or port for the entry node's.
        OtherAddress = "other-address", "public addresses or ports differ between cluster files";
        /// The guest has the MAC address of another node for the gateway.
        GatewayMac = "gateway-mac", "the guest has another node's MAC address for the gateway";
        /// A ct mark that was decided was not there at the next packet.
        NotKept = "not-kept", "ct mark decided and not kept";
        /// The ct mark is no node's tag.
        UnknownTag = "unknown-tag", "ct mark is no node's tag";
        /// A rule of another program changed the packet mark.
        MarkChanged = "mark-changed", "another rule changed the mark";
        /// A rule of another program changed the ct mark.
        CtMarkChanged = "ct-mark-changed", "another rule changed the ct mark";
        /// Conntrack forgot the flow.
        ConntrackForgot = "conntrack-forgot", "conntrack forgot the flow";
        /// Conntrack has no room for the flow.
        ConntrackFull = "conntrack-full", "the conntrack table is full";
        /// The rules that save ct marks are gone.
        NoSave = "no-save", "save is off";
        /// The same client port used the same guest through another node.
        PortShared = "port-shared", "one client port, two nodes";
        /// A rule of another program drops it in the forward hook.
        ForwardDrop = "forward-drop", "another rule drops it";
        /// A rule of another program drops what conntrack calls invalid.
        InvalidDrop = "invalid-drop", "another rule drops invalid packets";
        /// The node does not forward packets, or drops this one in routing.
        NotForwarded = "not-forwarded", "the node does not forward it";
        /// The guest does not say its MAC address.
        NoNeighbour = "no-neighbour", "the guest's MAC address is not known";
        /// It is lost in a pipe.
        NeverArrived = "never-arrived", "lost between the nodes";
        /// Bridged frames meet no IP rules.
        BrNetfilter = "br-netfilter", "bridged frames meet no IP rules";
        /// Large packets are too long for a pipe.
        PipeMtu = "pipe-mtu", "too long for the pipe";
        /// The rules that queue replies are gone.
        NoSpoof = "no-spoof", "spoof is off";
        /// Replies leave by another interface than the public one.
        OtherWayOut = "other-way-out", "the reply leaves by another interface";
        /// Guests do not find their gateway on their node.
        NoGateway = "no-gateway", "the guest does not find its gateway";
        /// No process decides on that node.
        NodeStopped = "node-stopped", "nobody decides on that node";
        /// The guest sends no reply.
        Silent = "silent", "the guest does not reply";
        /// Lost between the home node and the client.
        PublicPath = "public-path", "lost between the node and the client";
        /// The guest refused the connection with a TCP reset.
        Reset = "reset", "the guest reset the connection";
        /// ICMP: nobody listens at that port.
        PortUnreachable = "port-unreachable", "port unreachable";
        /// ICMP: the packet is too big for the way.
        TooBig = "too-big", "packet too big";
        /// ICMP: somebody forbids it.
        Prohibited = "prohibited", "administratively prohibited";
        /// ICMP: there is no way to that host or network.
        Unreachable = "unreachable", "host or network unreachable";
        /// ICMP: another error.
        OtherError = "other-error", "another ICMP error";
        /// The kernel stood in, and may have carried it: no worker has decided about it.
        Carried = "carried", "the kernel may have carried it";
        /// The trace of a node that would know is not there, or lacks the packet.
        NotTraced = "not-traced", "a trace is missing";
    }
}
