//! What there is to choose of how a node works.

/// How packets get into the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueBy {
    /// Rules of nft, with its `queue` statement.
    Nft,
    /// The target NFQUEUE of x_tables, in chains of our own tables that rules of nft jump to; for kernels without nft `queue`.
    Xt,
}

/// Who takes packets out of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Batches of packets and verdicts.
    Netlink,
    /// The nfq crate, one packet at a time.
    Nfq,
}

/// Who changes the bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RewriteBy {
    /// The worker, before it sends the packet back.
    Userspace,
    /// The kernel, in a chain after the queue, by the mark that the verdict set: the worker sees the packet's
    /// headers and sends nothing back.
    Kernel,
}

/// Who translates packets that no worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StandIn {
    /// The kernel, by the rules of the pure ruleset behind each queue: they match only what is not translated or tagged yet.
    Kernel,
    /// Nobody: such a packet is dropped.
    None,
}

/// How often it is decided about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deciding {
    /// A worker decides about each packet.
    EveryPacket,
    /// A worker decides about the first packets of a flow. The kernel remembers that, and carries what follows by the maps of the
    /// pure ruleset.
    OnceAFlow,
}

/// How decisions get to know ct marks, and change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CtMarkBy {
    /// The queue shows it, and the verdict sets it.
    Verdict,
    /// Rules before a queue copy it to the packet mark, or sort packets by it; rules after a queue copy the packet mark
    /// to it. For kernels whose queues know nothing of conntrack, and for the nfq crate.
    Rules,
}
