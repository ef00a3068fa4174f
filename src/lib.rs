//! Distributed NAT decisions in userspace, one packet at a time, each with its reason.
//!
//! A cluster of nodes shares a network of guests. A client may connect to any node for any guest. The guest's home node
//! sends the reply, and its source is the original destination. dunnat decides this packet by packet: a few rules hand packets to
//! NFQUEUE, and worker threads give each a verdict, which may change an address and set marks. The kernel's conntrack
//! remembers the flows.
//!
//! Whoever wants to write a policy of their own begins at the module [`policy`]: it has one, whole, that runs. This page says how all of
//! it fits together.
//!
//! # One connection, packet by packet
//!
//! A client connects to `192.168.122.12:80`, which is node2. The web server is the guest `10.5.5.201`, on node1. So node2 is the
//! entry node, and node1 is the home node.
//!
//! 1. **dnat**, on node2. The SYN comes in by the public interface, before conntrack (hook ip prerouting, priority -300).
//!    The policy ([`engine::ClusterNat`]) has a service for tcp port 80. The destination becomes `10.5.5.201` (and the port the guest's, if that is
//!    another), and the packet mark becomes node2's tag, 2. The source stays: the home node has to reply to the client.
//!    No reply will pass here, so conntrack does not track the flow (`notrack`). The packet is routed to the guests' bridge,
//!    and goes out by a pipe, with the MAC address of node2's bridge as its source.
//! 2. **tag**, on node1. br_netfilter shows the bridged frame to ip prerouting, after conntrack. Its source MAC address
//!    belongs to node2, so packet mark and ct mark become node2's tag. The packet goes on to the guest.
//! 3. **spoof**, on node1. The guest replies through its gateway, which is node1. The reply is routed to the public interface
//!    (ip postrouting, before SNAT at 100). Conntrack knows the flow, and its ct mark is 2. The source becomes node2's public
//!    address, and its port the one of the original destination. The client sees a reply of `192.168.122.12`.
//!
//! `tag_by` of the cluster file has two other ways to know the entry node ([`cluster::TagBy`]): by the pipe, or by a code point. A
//! rule of the bridge family writes the code point on the way into a pipe, and removes it on the way to a guest.
//!
//! In a local flow, node1 is entry node and home node: dnat, **save** and spoof run there, with tag 1. save is in ip postrouting, where
//! the packet is routed to the guests' bridge: its mark becomes the ct mark of the flow. A flow that a guest begins has no
//! tag. dunnat does not change it, and plain SNAT translates it. Every node has the same gateway address; the only other
//! rules keep ARP and neighbour discovery for it off the pipes.
//!
//! All this is the same in IPv4 and in IPv6. A cluster has networks of one family or of both. Where there can be one value for
//! each family there is a [`net::ByFamily`]; a decision takes the value of the packet's family, so no address gets into
//! a packet of the other family. Rules are written once, for each family in its own words.
//!
//! A service may be a port, a range, all ports of a protocol, or all of a public address. The most specific one gets a
//! packet ([`cluster::ServiceIndex`]). A guest that has all of an address, 1:1, begins flows without state, too: dnat, which is
//! before conntrack, leads all replies to it. So **spoof** writes the address, and SNAT sees nothing to do.
//!
//! One client may use one guest through two nodes from one port. On the home node that is one flow, with one tag.
//! [`cluster::OnConflict`] says what becomes of packet and flow. **tag** and **save** notice it where they see the packet: with
//! full rules, or if something is to become of it. By default the flow keeps its tag, and they see only its first packet.
//!
//! # Where a guest lives
//!
//! Only guests that are known to live on other nodes are in the set `elsewhere`, which `notrack` asks: by `home` in the cluster file, or
//! because the bridge has last seen their MAC address at a pipe (`daemon/homes.rs`, by rtnetlink). A guest at home that counted as one
//! elsewhere would reply from its own address; so what is not known is tracked.
//!
//! # ICMP errors
//!
//! An ICMP error quotes a packet, and its receiver must know that packet. So dunnat translates both, and the checksums with
//! them. An error about a reply arrives at the reply's public source, and may quote only eight bytes behind the IP header.
//! **dnat** finds the guest by the quoted source port, and rewrites the destination and the quoted source to the guest's, before
//! conntrack, which then finds the flow. An error about a request comes from the guest, from a router behind it, or from the node
//! itself, and goes to the client. **spoof** rewrites the quoted destination to the original destination, and the source
//! of the error, too, if that is inside. The ct mark tells the entry node. A packet that got no further than this node has no
//! flow; then this node is the entry node. See [`packet::IcmpError`] and [`packet::Layers`].
//!
//! # Layers
//!
//! Each module may use modules above it, and none below it. The test `layers` holds this table to the code.
//!
//! | module | is | refuses to |
//! |---|---|---|
//! | [`text`] | text for people: colours, folded lines, counts in words, names from outside made harmless | know what it says |
//! | [`messages`] | warnings and errors of the log: a table of ids that stay, each with what to do | tell them |
//! | [`net`] | values: MAC address, mark, family, tuple, stage, verdict; read and written as nft does | do I/O |
//! | [`cluster`] | the cluster file, checked: what is in a [`Cluster`](cluster::Cluster) cannot contradict itself | guess |
//! | [`packet`] | the bytes of a packet: read into a [`View`](packet::View), changed by a [`Patch`](packet::Patch) | panic on any bytes |
//! | [`engine`] | what a policy is, and the cluster's: facts in, decision out; a file for each stage | know a socket, a clock, a thread |
//! | [`policy`] | who decides: policies by name; any policy held to what it may, with what it remembers; laws for whoever writes one | let a policy cost more than a packet |
//! | [`process`] | a policy in any language: another program, asked by lines of JSON | trust it, or wait for it without end |
//! | `netlink` | the kernel's messages, packed and read: nfnetlink_queue, nf_tables, conntrack, rtnetlink; the socket (libmnl), and `sys` with the few calls of the C library that need `unsafe`; no other file has any | know what a message is for |
//! | [`sandbox`] | what a thread that serves packets gives up: capabilities, files, system calls | decide what becomes of who lacks a right |
//! | [`queue`] | where packets wait: the [`PacketQueue`](queue::PacketQueue) trait; by netlink in batches, by the nfq crate, and for tests and benchmarks without a kernel | decide |
//! | [`kernel`] | what this kernel can do, by asking it, and the tools that talk to it | take silence for a no |
//! | [`ruleset`] | a [`Plan`](ruleset::Plan) → rules as data → text, and what they do to a packet → into the kernel, and exactly them out again | touch what is not ours |
//! | [`trace`] | decisions made visible: events, the ways to write them, the language that selects them | lose events silently, make a packet wait |
//! | [`nftrace`] | which rules of anybody the packets of chosen flows meet: the kernel tells | touch a packet, or a rule of others |
//! | [`flows`] | conntrack's entries of this host, by the cluster's names: listed, followed, selected | keep state of a flow, change one |
//! | [`shadow`] | whether dunnat and the pure ruleset agree: the decision before a stage, compared with the packet after it | change a packet |
//! | [`simulate`] | the way of a packet through a node without a kernel: a packet is typed or captured, passes the stages, and its flow is remembered | decide |
//! | [`replay`] | captures put through the engine; recorded decisions made again under another cluster file | need a kernel, or root |
//! | [`import`] | a cluster file from rulesets that were written by hand, line by line | guess |
//! | [`explain`] | what the engine asked for a decision, in words | decide |
//! | [`conversations`] | the traces of several nodes, joined: the way of each conversation, and a finding | trust clocks or cluster files |
//! | [`sql`] | the same question for engines that users have: table and view, DuckDB and ClickHouse | run it |
//! | [`control`] | asking a node that runs, by its socket | answer who has no right to ask |
//! | [`remote`] | nodes elsewhere, asked by a command: their events in one order, which are missing, and what is asked of one as if it was here | believe what they say, give a shell a word unquoted |
//! | [`http`] | answering who asks by HTTP, with limits on how many, how much and how long | know what is asked for |
//! | [`metrics`] | what nodes say of themselves, for Prometheus | be a part of a node |
//! | [`rehearse`] | whether packets come through on this host, by sending some through a copy of it | change the host |
//! | [`doctor`] | whether a node would work here: facts, each judged, each with the command that mends it | change the host |
//! | [`report`] | an archive for who helps, and other addresses and names in it | know what is in it |
//! | [`init`] | a first cluster file, by what this host has | guess in silence |
//! | [`daemon`] | a running node: checks, rules, workers, signals, counts | decide |
//! | [`lab`] | clusters in network namespaces, and the acceptance that proves them (Cargo feature `lab`) | reach the outside, count a tool that failed for "none" |
//! | [`step`] | a node for study: it shows and explains each decision, and holds the packet until a person lets it go | let a key or a screen keep the node from ending |
//! | [`top`] | nodes on a full screen, and the way of each flow (Cargo feature `top`) | make a node or a packet wait, keep more than it says |
//! | [`web`] | nodes, or saved traces, as one page in a browser: packets on their way, each decision, each flow (Cargo feature `web`) | be asked by another page, wait for a browser, ask another host |
//! | [`rfc`] | documentation: what RFC 3022, 4787, 5382, 5508 and 7857 ask of a NAT, and what dunnat does | have code |
//! | [`manual`] | documentation: the pages of the manual, which `dunnat help PAGE` prints | decide |
//! | `cli` | the program's verbs, one file each, by what is public here (`src/main.rs`) | know what another program could not |
//!
//! # One packet in the code
//!
//! [`queue::Netlink`] has a socket for each lane, and reads them in turn (`netlink/socket.rs`). It receives the packet, with others, and
//! calls the worker (`daemon/worker.rs`) with a [`queue::Packet`]. The number of the queue tells the [`ruleset::Lane`]: the stage, and
//! what the rules guarantee. [`packet::View::parse`] reads the bytes.
//! Then the node's [`Policy`](engine::Policy) is asked, by way of [`policy::Supervised`], so that whatever it does costs no more than
//! the packet. It is the cluster's, [`engine::ClusterNat`], unless another was asked for. It looks at view, marks and MAC address
//! ([`engine::Facts`]) and returns a [`Decision`](engine::Decision) with its [`Reason`](engine::Reason), which is a row of a table
//! ([`engine::ReasonRow`]). It asks its conditions before a [`Witness`](engine::Witness); a worker has none, which costs nothing.
//! If an address changes, [`packet::Patch::new`] works out the bytes, and the checksums by difference (RFC 1624).
//! The worker counts, gives a [`Record`](trace::Record) to the taps, if there are any, and returns the verdict. The queue
//! applies the patch where the packet lies. When the whole batch is decided, one system call takes all verdicts to the kernel.
//!
//! # A trace
//!
//! A [`Record`](trace::Record) has numbers and bytes, and a fixed size. A reader attaches a [`Tap`](trace::Tap), which has a
//! bounded channel of its own: a record that finds no room there is counted as lost, for that reader alone. Without a
//! reader a packet costs one relaxed atomic load. The thread behind a tap makes an [`Event`](trace::Event) of each record: it looks up
//! the names, reads the rest of the headers, asks the [`Filter`](trace::Filter), and writes. `run --trace` has such a thread for its
//! file, and [`control::Server`] one for each client. A client gets JSON, and `dunnat trace` writes it as text, JSON or pcapng.
//!
//! Between two decisions the kernel applies rules of others. [`nftrace::KernelTrace`] has it tell which: rules in a table of ours choose
//! packets, by what the filter asks of addresses, ports and protocol. Each message becomes a [`RuleEvent`](trace::RuleEvent), and
//! [`nftrace::Timeline`] puts it in order with the decisions.
//!
//! A node goes on with the trace file that it finds, and never empties it ([`trace::Destination`]). The file that a verb writes
//! has another name until it is whole ([`trace::Replacement`]). Neither follows a symbolic link, or writes to the file of
//! somebody else.
//!
//! A capture, a trace, a cluster file or the peer of a socket may be written by anybody. A length in it is believed as far as the
//! bytes are there. Every reader has a limit and a fuzz target. Names pass through [`text::escaped`] before they are shown.
//!
//! # What a node says of itself
//!
//! Workers count in memory that others may read (`daemon/tally.rs`): each number has one writer, so counting is an addition, and whoever
//! asks (`dunnat status`) waits for nobody. [`control::Status`] is what is told: these counts, the kernel's counts of the
//! queues, the guard's, the guests that live elsewhere, and what came of the rehearsal. Its ledger
//! ([`control::Ledger`]) says of every packet that the kernel has numbered in a queue where it is. Of the first packet of some turns the
//! worker also writes down how long it took ([`control::Times`]). From the kernel's counts it also follows that more comes than workers
//! decide. Then the queue is kept short (`daemon/lengths.rs`).
//!
//! Others show it: [`metrics`] as text for Prometheus, `dunnat report` as files of an archive. What conntrack knows of the node's flows is
//! not asked of the node at all: [`flows`] asks the kernel, and the cluster file for the names.
//!
//! # Keeper and worker
//!
//! `run` is two processes. The keeper (`daemon/keeper.rs`) has the rules, the sockets of the queues, the memory that workers write, and
//! the connections of clients. It reads no packet. The worker (`daemon/running.rs` for the keeper, `daemon/kept.rs` in itself) gets all that by its descriptors, over a socket
//! (`daemon/wire.rs`), and serves. When it ends, in whatever way, packets wait in the kernel, because a queue belongs to its socket. The
//! keeper has another process take over that has begun already, and starts the next one to wait. From the journal (`queue/journal.rs`) that one knows which packets the one before had read without
//! giving a verdict. It sends them through the rules again (`NF_REPEAT`), and only then serves.
//!
//! A worker writes down which packet it decides about. If it ends then, the packet is a suspect; if that happens to the same packet
//! again, the keeper drops it ([`engine::Reason::Poison`]). A panic outside of a policy ends the worker process. What a policy
//! remembers is lost with it.
//!
//! What a keeper has outlives its program (`daemon/handed`): a state, and descriptors by names. `dunnat upgrade` has another program go on in the
//! same process (`daemon/upgrade.rs`), after it was tried (`daemon/trial.rs`). A service manager keeps the same when the keeper is killed
//! (`daemon/manager.rs`). Who goes on opens no queue, and writes no rule that is right already.
//!
//! `step`, observers, shadows and `--backend nfq` do all in one process, and so does whoever calls [`daemon::run`] without
//! [`daemon::Options::apart`].
//!
//! # What a worker may do
//!
//! Anybody can send packets. So the thread that reads them gives up, before the first one, what it does not need ([`sandbox::Packets`]):
//! capabilities, files, system calls. What it needs is open before, or asked of another thread: the names of interfaces
//! (`daemon/names.rs`). The process in which they are gives up almost as much ([`sandbox::Process`]). What a kernel cannot take away is said. Who asks a node by its socket has the right to look or the right
//! to change ([`control::Right`]).
//!
//! # A packet held
//!
//! A worker may show a decision to a [`daemon::Observer`] before it counts, traces and sends the verdict, and it waits until the observer
//! returns. `dunnat step` has one: the packet stays in its queue, and [`step::Screen`] shows the event, the reasons and checksums of
//! [`explain`], and the bytes with the names of their [`packet::fields`]. A batch is one packet then, so its verdict is sent before
//! the next packet is shown. An observer can only drop the packet; that has a reason of its own, [`engine::Reason::ByHand`].
//!
//! # Traces joined
//!
//! [`conversations::Joiner`] takes the saved events of all nodes. A flow is the part that NAT does not change; a conversation is
//! one connection in it. Of events that are alike it keeps two and counts the rest, so memory grows with
//! conversations and not with packets. What is kept is a [`conversations::Seen`], which is small. A conversation is judged by
//! addresses, as a client would: by its own names, even a wrong cluster file is right.
//!
//! # Without a kernel
//!
//! `explain` and `replay` ask the same policy, or another one. A [`simulate::SimulatedNode`] leads a packet through the stages as the
//! rules of a node would, and gives the policy the same facts; its time is that of the capture or trace. The outcome is a [`simulate::Visit`], which has an [`Event`](trace::Event) like
//! any decision. A packet is typed ([`simulate::PacketSpec`]), captured ([`simulate::Capture`]), or traced
//! ([`replay::RecordedDecision`]); the event of a traced packet has all facts of its decision. The decision is made before a
//! witness, and [`explain::asked`] puts into words what it was told: each condition in the order in which the engine asked it, and
//! whether it holds. Where the engine looked something up, the other rows of that table are listed, each with its first difference.
//!
//! # A policy of one's own
//!
//! What decides is a value. [`engine::Decide`] is what one writes: facts and what is remembered in, a decision out, and changes to what is
//! remembered. Who calls it has the clock and the lock: a node ([`daemon::Options`]), a simulated node, a replay. All workers of a node
//! share what is remembered, because the two directions of a flow may come by queues of different workers once an address was
//! changed. [`policy::Named`] lists the policies of this program. [`engine::Observe`] accepts everything; with it `run` has rules
//! that only show packets ([`ruleset::ObservePlan`]), beside whatever translates them.
//!
//! # A rule
//!
//! A rule ([`ruleset::Rule`]) is a value: conditions, and statements. Its text for nft, its expressions for netlink (in the guard)
//! and whether it matches a packet are readings of that one value. An [`Evaluator`](ruleset::Evaluator) leads a packet through all
//! chains at a hook in the kernel's order, and says which rules it met, what each has set, and whether it goes on, ends or waits in a
//! queue. `explain` asks the rules of the pure ruleset in this way. In the lab the kernel has a counter in every rule, and the
//! counters have to say what the evaluator says of the same packets (`tests/lab/counters`).
//!
//! # A shadow
//!
//! With `run --shadow` the kernel's own ruleset does the work. A [`ruleset::ShadowPlan`] adds rules that show packets before and
//! after each stage. A [`daemon::ShadowWorker`] decides about them as usual. The [`shadow::Judge`] remembers what should come of
//! each packet until it sees the packet again, and finds it by the part that the stage does not change. No packet waits for dunnat: queues that
//! are full or have no listener are bypassed.
//!
//! # A lab
//!
//! A [`lab::Layout`] has every name and address of a cluster; [`lab::topology`] says how each machine is made, and builds it. The
//! acceptance ([`lab::accept`]) first makes all connections, and each keeps what can only be seen at that time. Then the captures end
//! and are read once. Each connection is judged, which makes a [`Claim`](lab::accept::Claim) with its evidence. tshark reads the same
//! files and must see the same, so that judge and judged do not share a fault.
//!
//! # Choices
//!
//! All choices are made once, in a [`ruleset::Plan`]: options and the kernel's capabilities go in; rules and queues follow from the
//! plan. `dunnat rules --explain` prints it with the reason of each choice.
//!
//! - **Into the queue.** Kernels with nft `queue` get nft rules alone. On others the same rules jump to a chain for each
//!   queue, which has the target NFQUEUE of x_tables. The kernel is asked, never its version.
//! - **Lanes.** TCP comes as GSO packets of up to 64 KiB, which cost as much as a small packet. Other protocols that are rewritten
//!   come without GSO, because no checksum would be right for a rewritten UDP GSO packet. Where nothing is rewritten, 128
//!   bytes of a packet are enough.
//! - **Lean or full rules.** By default only packets that need a decision are queued: `tag` and `save` see a flow once. With
//!   full rules every packet visits every stage. With another `on_conflict` than keep, every packet visits `tag` and `save`.
//! - **Who changes the bytes.** The worker, or a chain after the queue, by the mark that the verdict set. Decisions, traces and
//!   the packets on the wire are the same. The worker always rewrites ICMP errors, because no rule can change what they
//!   quote; then they have a lane of their own.
//! - **The ct mark.** Where the kernel can, queues show it and verdicts set it: one verdict at `tag` sets packet mark and ct mark
//!   together. A kernel that cannot accepts the attribute and does nothing, so this is tried first, in a network namespace of its own.
//!   Elsewhere rules do it: a chain after `tag` and one after `save` copy a packet mark that is a node's tag to a flow that has
//!   none, and one before `spoof` copies the ct mark to the packet mark. (With `on_conflict = "take"` the first two copy to
//!   a flow that has a tag, too.) All change only the bits of `[marks] mask`.
//! - **The stand-in.** With `--stand-in kernel` queues have `bypass`, and behind each is a chain with the rules that the pure ruleset has
//!   for the stage. They match only what is not done yet. So the kernel carries on when no worker takes packets, and a packet is never
//!   done twice (`ruleset/stand_in.rs`). It overrules a worker that leaves a packet as it is, and so is for the policy of the cluster alone.
//! - **Once a flow.** With `--decide flow` what is asked about goes on to a chain that queues what begins a flow, and carries what follows
//!   a decision. Behind the queue a rule puts the flow into a set with timeouts, if the worker has accepted the packet, and the maps of
//!   the pure ruleset translate (`ruleset/once.rs`). The sets are emptied in the step in which the rules are written.
//!   Counters tell who looks what was carried (`daemon/accounts.rs`); flows that somebody zooms into come packet by packet (`daemon/zoom.rs`).
//! - **The backend.** [`queue::Netlink`] works in batches. [`queue::Nfq`], by the nfq crate, takes one packet at a time; it is
//!   the second opinion.
//!
//! # Rules in, rules out
//!
//! There is one operation: make it so. [`ruleset::Ready`] takes the network namespace for this node, by a table that belongs to
//! its process, and reads what is there under our names: nothing, or any part of what a killed run leaves. [`ruleset::Installed`]
//! writes the rules in place. A base chain that stays is not touched: when one is deleted, the kernel drops every packet that waits
//! in any queue of the namespace. A table, chain or rule of somebody else is never changed. While the node serves, the kernel
//! tells it of every change of rules, and it puts its own back.
//!
//! The **guard** is apart from all that. Its rules drop packets that would show an inside address outside, and requests to
//! services that nobody has translated. It is there twice. One table stays when the process ends, in whatever way, until
//! `dunnat down`. The other belongs to the process, so `nft flush ruleset` does not remove it. One case is left: the process
//! is gone *and* somebody flushes all rules. Then packets of known flows go out with inside addresses.
//!
//! # Another cluster file
//!
//! Rules, queues and workers of one cluster file are a generation ([`ruleset::Plan::generation`]). A reload (`daemon/reload.rs`) first tries
//! all that can be tried: the file, this host, the flows that have tags (`daemon/retag.rs`). Then workers of the next generation are started for
//! other queues, and [`ruleset::Installed::replace`] puts the new rules before the old ones, and removes the old ones when no packet is
//! among them any more. So a packet is decided by the file whose rules have queued it, and its event has the generation and
//! the names of that file ([`trace::Generations`]). The old workers end when their queues are empty. One worker process serves both
//! generations meanwhile; if it ends, its successor serves both, too.
//! A node and the pure ruleset change places without losing a packet, because at every moment somebody has each packet. Who leaves loads
//! the pure ruleset beside itself first ([`ruleset::load_pure`]). Who takes over puts its rules beside with a stand-in, and asks nobody
//! until the pure ruleset is gone ([`ruleset::Ready::for_taking_over`]): while nobody asks no packet waits, and base chains may go.
//!
//! # What a fault does
//!
//! A packet that cannot be read is data: it has a reason, is counted and traced, and gets a verdict. If it belongs to a tagged flow
//! and would show an inside address, the verdict is drop. Queues fail closed: no rule has `bypass`, unless the kernel stands in. A fault in the cluster
//! file has line and column. A host that cannot be a node ends `run` before anything is installed, with the facts of [`doctor`]
//! and the commands that mend it. A fact that may only lose packets is a warning.
//!
//! A system call that fails for want of memory or descriptors is made again, after a pause that grows (`netlink/passing.rs` says
//! which errors pass). One that fails for good ends the node with its reason, and the rules are removed.
//!
//! The words are those of the manual:
#![doc = include_str!("manual/words.md")]

pub mod cluster;
pub mod control;
pub mod conversations;
pub mod daemon;
pub mod doctor;
pub mod engine;
pub mod explain;
pub mod flows;
pub mod http;
pub mod import;
pub mod init;
pub mod kernel;
#[cfg(feature = "lab")]
pub mod lab;
pub mod manual;
pub mod messages;
pub mod metrics;
pub mod net;
mod netlink;
pub mod nftrace;
pub mod packet;
pub mod policy;
pub mod process;
pub mod queue;
pub mod rehearse;
pub mod remote;
pub mod replay;
pub mod report;
pub mod rfc;
pub mod ruleset;
pub mod sandbox;
pub mod shadow;
pub mod simulate;
pub mod sql;
pub mod step;
pub mod text;
#[cfg(feature = "top")]
pub mod top;
pub mod trace;
#[cfg(feature = "web")]
pub mod web;
