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
    /// The kernel could not be asked, and a wrong guess would not work.
    #[error("cannot find out whether the kernel has nft queue: {0}")]
    CannotTell(String),
}
