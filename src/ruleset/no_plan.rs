//! Why there is no plan.

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPlan {
    /// Queues are numbered by 16 bits.
    #[error(
        "{workers} workers with {lanes} queues each, from number {base} on, would need queue numbers above \
         65535, the maximum"
    )]
    TooManyQueues {
        /// The first queue.
        base: u16,
        /// How many workers.
        workers: u16,
        /// How many queues for each.
        lanes: u16,
    },
    /// A reload takes other queues than those in use.
    #[error(
        "a reload needs {queues} queues beside those in use ({first}-{last}), and there are no numbers behind \
         65535; start the node again with a lower --queue-base, or with fewer workers"
    )]
    NoOtherQueues {
        /// The first queue in use.
        first: u16,
        /// The last queue in use.
        last: u16,
        /// How many others.
        queues: usize,
    },
    /// Every packet, and once a flow.
    #[error(
        "--decide flow beside --full: with --full every packet visits every stage, so nothing is decided once"
    )]
    AllVisitEveryStage,
    /// What no worker has seen would be taken for decided.
    #[error(
        "--decide flow beside --stand-in kernel: a packet that passed its queue unseen would be taken for one that a \
         worker has accepted; give one of them"
    )]
    NobodyHasDecided,
    /// The kernel could not be asked, and a wrong guess would not work.
    #[error("cannot find out whether the kernel has nft queue: {0}")]
    CannotTell(String),
}
