//! Distributed NAT decisions in userspace, one packet at a time, each with its reason.
//!
//! A cluster of nodes shares a network of guests. Any node may be called for any guest; the node that a guest
//! lives on answers, with the public address that the client had called. dunnat decides this packet by packet:
//! a few rules hand packets to NFQUEUE, worker threads answer each with a verdict, which may change an address
//! and set marks, and the kernel's conntrack remembers the flows.
//!
//! # One connection, packet by packet
//!
//! A client calls `192.168.122.12:80`, which is node2. The web server is the guest `10.5.5.201`, on node1.
//!
//! 1. **dnat**, on node2. The SYN comes in by the public interface, before conntrack (hook ip prerouting,
//!    priority -300). [`engine::Tables`] has a service for tcp port 80, so the destination becomes `10.5.5.201`
//!    (and the port the guest's, if that is another), and the packet mark node2's own tag, 2. The source stays the client: who answers must know whom.
//!    Conntrack now sees client → guest.
//! 2. **save**, on node2. Routed to the guests' bridge (ip postrouting), the packet's mark becomes the ct mark
//!    of the flow. The frame leaves through a pipe, with the MAC address of node2's bridge as its source.
//! 3. **tag**, on node1. br_netfilter shows the bridged frame to ip prerouting, after conntrack. Its source
//!    MAC address belongs to node2, so packet mark and ct mark become node2's tag. It goes on to the guest.
//! 4. **spoof**, on node1. The guest answers through its gateway, which is node1, and the answer is routed to
//!    the public interface (ip postrouting, before SNAT at 100). Conntrack knows the flow; its ct mark is 2, so
//!    the source becomes node2's public address, and its port the one that was called. The client sees `192.168.122.12` answer.
//!
//! `tag_by` of the cluster file has two other ways to know the node ([`cluster::TagBy`]): by the pipe, or by a code point
//! that a rule of the bridge family writes on the way into a pipe, and takes away on the way to a guest.
//!
//! Had the client called node1 itself, dnat, save and spoof would have run there, with tag 1. A flow that a
//! guest begins has no tag: none of this touches it, and plain SNAT does the rest. Every node holds the same
//! gateway address; the only other rules keep ARP and neighbour discovery for it off the pipes.
//!
//! All of this is so in IPv4 and in IPv6. A cluster has networks of one family or of both, and where there can be one of
//! each there is a [`net::ByFamily`]; a decision takes from it what is of the packet's family, so that no address ever gets
//! into a packet of the other. Rules are written once, for each family in its own words.
//!
//! A service may be a port, a range, all ports of a protocol, or all of a public address; the most specific one gets a
//! packet ([`cluster::Service`]). A guest that has all of an address, 1:1, begins flows without a state, too: dnat, which is
//! before conntrack, leads all answers to it. So **spoof** gives them the address, and SNAT sees nothing to do.
//!
//! One client may call one guest through two nodes from one port. On the guest's node that is one flow, which has one
//! tag. **tag** and **save** notice, and [`cluster::OnConflict`] says what then becomes of packet and flow.
//!
//! # What is said about packets
//!
//! An ICMP error quotes the packet that it is about, and is of no use to somebody who never saw that packet. So both are
//! translated, and with them the checksums that are quoted and the one over all that. A router outside, which complains
//! about an answer, writes to the public address that the answer bears, and may quote only eight bytes behind the IP header:
//! **dnat** knows by the quoted source port which guest that was. Conntrack looks up the quoted packet and wants the error to
//! be for who sent it: both addresses have to be the guest's by then. A guest, a router behind it, or the node itself, which
//! complains about a call, writes to the client: **spoof** makes the quoted destination the public address again, and the
//! error's source as well, if that is inside. The ct mark tells which address that is; a packet that got no further than this
//! node has no flow, and was called here. See [`packet::IcmpError`] and [`packet::Layers`].
//!
//! # Layers
//!
//! Each may use what is above it, and nothing below. The test `layers` holds this table to the code.
//!
//! | module | is | refuses to |
//! |---|---|---|
//! | [`text`] | text for people: colours, folded lines, counts in words, names from outside made harmless | know what it says |
//! | [`net`] | values: MAC address, mark, family, tuple, stage, verdict; read and written as nft does | do I/O |
//! | [`cluster`] | the cluster file, checked: what is in a [`Cluster`](cluster::Cluster) cannot contradict itself | guess |
//! | [`packet`] | the bytes of a packet: read into a [`View`](packet::View), changed by a [`Patch`](packet::Patch) | panic on any bytes |
//! | [`engine`] | [`decide`](engine::decide): facts in, decision out; a file for each stage | know a socket, a clock, a thread |
//! | `netlink` | the kernel's messages, packed and read: nfnetlink_queue, nf_tables, conntrack, rtnetlink; the socket (libmnl), and `sys.rs` with the few calls of the C library that need `unsafe`; no other file has any | know what a message is for |
//! | [`queue`] | where packets wait: the [`PacketQueue`](queue::PacketQueue) trait; by netlink in batches, by the nfq crate, in memory | decide |
//! | [`kernel`] | what this kernel can do, by asking it, and the tools that talk to it | take silence for a no |
//! | [`ruleset`] | a [`Plan`](ruleset::Plan) → rules as text → into the kernel, and exactly them out again | touch what is not ours |
//! | [`trace`] | decisions made visible: events, the ways to write them, the language that selects them | lose events silently, make a packet wait |
//! | [`shadow`] | whether dunnat and the pure ruleset are of one mind: decisions before a stage, held against deeds after it | change a packet |
//! | [`simulate`] | the way of a packet through a node without a kernel: made from words, led by the stages, with flows remembered | decide |
//! | [`replay`] | captures put through the engine; recorded decisions made again under another cluster file | need a kernel, or root |
//! | [`explain`] | why a decision was made and no other, derived beside the engine and held to it by a property test | decide |
//! | [`conversations`] | the traces of several nodes, joined: the way of each conversation, and what came of it | trust clocks or cluster files |
//! | [`control`] | asking a node that runs, by its socket | answer anybody but root |
//! | [`doctor`] | whether a node would work here: facts read, then judged, each with what mends it | change the host |
//! | [`daemon`] | a running node: checks, rules, workers, signals, counts | decide |
//! | [`lab`] | clusters in network namespaces to try all this on, and the acceptance that proves it (Cargo feature `lab`) | reach the outside, count a tool that failed for "none" |
//! | [`step`] | a node for study: each decision shown and explained, its packet held until somebody lets it go | let a key or a screen keep the node from ending |
//! | [`rfc`] | documentation: what RFC 3022, 4787, 5382, 5508 and 7857 ask of a NAT, and what answers it | have code |
//! | [`manual`] | documentation: the pages of the manual, which `dunnat help PAGE` prints | decide |
//! | `cli` | the program's verbs, one file each, by what is public here (`src/main.rs`) | know what another program could not |
//!
//! # One packet in the code
//!
//! [`queue::Netlink`] receives it, with others, and calls the worker (`daemon/worker.rs`) with a
//! [`queue::Packet`]. The queue's number tells the [`ruleset::Lane`]: the stage, and what the rules make sure of;
//! [`packet::View::parse`] reads the bytes; [`engine::decide`] looks at view, marks and MAC address and returns a
//! [`Decision`](engine::Decision) with its [`Reason`](engine::Reason). If an address changes,
//! [`packet::Patch::new`] works out the bytes, checksums by difference (RFC 1624). The worker counts, hands a
//! [`Record`](trace::Record) to those who trace, if anybody does, and answers; the queue applies the patch where the packet
//! lies, and when the whole batch is answered one system call takes all verdicts back to the kernel.
//!
//! # A trace
//!
//! A [`Record`](trace::Record) has numbers and bytes, and a fixed size. Whoever wants to see decisions attaches a
//! [`Tap`](trace::Tap), which has a bounded channel of its own: what finds no room there is counted as lost, for that
//! one alone. With nobody attached a packet costs one relaxed atomic load. The thread behind a tap makes an
//! [`Event`](trace::Event) of each record: it looks up the names, reads the rest of the headers, asks the
//! [`Filter`](trace::Filter), and writes. `run --trace` has such a thread for its file, and [`control::Server`] one for
//! each client; a client gets JSON, and `dunnat trace` turns it into what it was asked for.
//!
//! A file of a node's is gone on with from start to start, and never emptied ([`trace::Destination`]); what a verb writes
//! has another name until it is whole ([`trace::Replacement`]). Neither follows a symbolic link, or writes to what is
//! somebody else's.
//!
//! What is read was written by anybody: a capture, a trace, a cluster file, what a socket answers. Lengths in it are
//! believed as far as the bytes are there, every reader has a limit and a fuzz target, and names pass through
//! [`text::escaped`] before they are shown.
//!
//! # A packet held
//!
//! Before it counts, traces and answers, a worker may show what it has decided to a [`daemon::Observer`], and waits until
//! that returns. `dunnat step` has one: the packet stays in its queue, and [`step::Screen`] has the event, [`explain`]'s
//! reasons and checksums, and the bytes, whose [`packet::fields`] have names. Then the batch is one packet, so that its verdict leaves before
//! the next is looked at. The one thing that may be said against a decision is drop, and it has a reason of its own,
//! [`engine::Reason::ByHand`].
//!
//! # Traces joined
//!
//! [`conversations::Joiner`] takes the saved events of all nodes. Its flows are what NAT leaves alone, its conversations the single
//! connections in them; of events that are alike it keeps two and counts the rest, so that memory grows with
//! conversations and not with packets; what is kept is a [`conversations::Seen`], which is small. Each conversation is judged by
//! addresses, as a client would: a wrong cluster file is right by its own names.
//!
//! # Without a kernel
//!
//! `explain` and `replay` ask the same engine. A [`simulate::SimulatedNode`] leads a packet by the stages as a node's rules would, and
//! gives each [`engine::decide`] what it would have been given there; what comes of it is a [`simulate::Visit`], which has
//! an [`Event`](trace::Event) like any decision. A packet is typed ([`simulate::PacketSpec`]), captured ([`simulate::Capture`]), or was
//! traced ([`replay::RecordedDecision`]); the last needs no leading, as its event has all that its decision was made of.
//! [`explain::why`] goes through every rule of the cluster file beside it, and says what does not hold.
//!
//! # A shadow
//!
//! `run --shadow` has the kernel's own ruleset do the work. A [`ruleset::ShadowPlan`] adds rules that show packets before
//! and after each stage; a [`daemon::ShadowWorker`] decides about them as ever, and the [`shadow::Judge`] remembers
//! what should come of each, under what the stage leaves alone of it, until it is seen again. Nothing waits for
//! dunnat there: queues that are full or deserted are passed.
//!
//! # A lab
//!
//! A [`lab::Layout`] has every name and address of a cluster, [`lab::topology`] says what each machine is made of and builds it. The
//! acceptance ([`lab::accept`]) does everything first, each thing a deed that keeps what could only be seen then; the captures
//! end and are read once; and each deed is judged, which makes a [`Claim`](lab::accept::Claim) with its evidence. So that judge
//! and judged do not share a fault, tshark reads the same files and has to see the same.
//!
//! # Choices
//!
//! All are made once, in a [`ruleset::Plan`]: what was asked for and what the kernel can do in, plan out, rules and
//! queues from the plan. `dunnat rules --explain` prints it with the reason of each choice.
//!
//! - **Into the queue.** Kernels with nft `queue` get nft rules alone. On others the same rules jump to a chain for each
//!   queue, which has the target NFQUEUE of x_tables; the kernel is asked, never its version.
//! - **Lanes.** TCP comes as GSO packets of up to 64 KiB, which cost what a small one costs; other protocols
//!   that are rewritten come without GSO, because no checksum would be right for a rewritten UDP GSO packet.
//!   Where nothing is rewritten 128 bytes of a packet are enough.
//! - **Lean or full rules.** By default only packets that something is to be decided about are queued: `tag` and
//!   `save` cost a flow something once. With full rules every packet visits every stage. Where a conflict shall not just
//!   leave a flow as it is, every packet visits `tag` and `save`.
//! - **Who changes the bytes.** The worker, or a chain after the queue, by the mark that the verdict set. The
//!   decisions, their traces and what leaves the node are the same. ICMP errors are the worker's either way: no rule can
//!   change what they quote. Then they have a lane of their own.
//! - **The ct mark.** Where the kernel can, queues show it and verdicts set it: one verdict at `tag` sets packet mark
//!   and ct mark together, and no rule has to. The kernel takes the attribute in silence also where it does nothing
//!   with it, so that is tried before, in a network namespace of its own. Elsewhere rules do it: a chain after `tag`
//!   and one after `save` copy a packet mark that is a node's tag to a flow that has none, and one before `spoof`
//!   copies the ct mark to the packet mark. (Where a newcomer takes a flow, the first two copy to one that has a tag, too.) All change only the bits of `[marks] mask`.
//! - **The backend.** [`queue::Netlink`] by batches; [`queue::Nfq`], by the nfq crate, one packet at a time, is
//!   the second opinion.
//!
//! # Rules in, rules out
//!
//! There is one operation: make it so. [`ruleset::Ready`] takes the network namespace for this node, by a table that belongs to
//! its process, and reads what is there under our names: nothing, or any part of what a killed run leaves. [`ruleset::Installed`] writes
//! what should be, in place: a base chain that stays is not touched, because when one goes the kernel drops every packet that waits
//! in any queue of the namespace. Nobody else's table, chain or rule is ever changed. While the node serves it is told of every
//! change of rules, and puts its own back.
//!
//! The **guard** is apart from all that: rules that drop what would show an inside address outside, and calls to
//! services that nobody has translated. It is there twice. One is a table that stays when the process ends, in whatever way, until
//! `dunnat down`; the other belongs to the process, so that no `nft flush ruleset` takes it. What neither can help: when the process
//! is gone *and* somebody flushes all rules, packets of flows that are still known leave with inside addresses.
//!
//! # What a fault does
//!
//! A packet that cannot be read is data: it has a reason, is counted and traced, and gets a verdict; where it
//! belongs to a tagged flow and would show an inside address, the verdict is drop. Queues fail closed: no rule
//! has `bypass`. A fault in the cluster file has line and column. A host that is not as it must be ends `run`
//! before anything is installed, with the facts that [`doctor`] has about it and the commands that mend it; what
//! only may lose packets is warned of.
//!
//! A system call that fails for want of memory or descriptors is made again, after a pause that grows (`netlink/passing.rs` says
//! which errors pass); one that fails for good ends the node with its reason, and the rules go.

pub mod cluster;
pub mod control;
pub mod conversations;
pub mod daemon;
pub mod doctor;
pub mod engine;
pub mod explain;
pub mod kernel;
#[cfg(feature = "lab")]
pub mod lab;
pub mod manual;
pub mod net;
mod netlink;
pub mod packet;
pub mod queue;
pub mod replay;
pub mod rfc;
pub mod ruleset;
pub mod shadow;
pub mod simulate;
pub mod step;
pub mod text;
pub mod trace;
