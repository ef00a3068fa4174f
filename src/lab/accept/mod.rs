//! The acceptance: what a cluster must do, proven from the wire and from conntrack, not from the exit status of curl alone.
