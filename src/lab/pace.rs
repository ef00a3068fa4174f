//! Waiting: how long, on a machine that may be slow.

use std::time::{Duration, Instant};

/// How many times slower than usual a machine may be: an emulated processor is. All that waits waits so much longer, and what
/// shows the same with less (bytes, connections, lengths) does with less.
#[derive(Clone, Copy, Debug)]
pub struct Pace(u32);

impl Pace {
    /// That many times slower.
    ///
    /// # Errors
    /// It is not a number from 1 to 99.
    pub fn new(slow: u32) -> Result<Self, String> {
        if (1..=99).contains(&slow) { Ok(Self(slow)) } else { Err("give a number from 1 to 99".to_owned()) }
    }

    /// So many seconds on a usual machine.
    pub fn seconds(self, seconds: u32) -> Duration {
        Duration::from_secs(u64::from(seconds * self.0))
    }

    /// One value on a usual machine, another on a slow one.
    pub fn sized<T>(self, usual: T, slow: T) -> T {
        if self.0 > 1 { slow } else { usual }
    }

    /// Asks again and again: true as soon as `is` is, false when the time is over.
    pub fn wait_for<E>(self, seconds: u32, mut is: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
        let deadline = Instant::now() + self.seconds(seconds);
        loop {
            if is()? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(self.sized(Duration::from_millis(10), Duration::from_millis(300)));
        }
    }
}

impl std::str::FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text.parse().unwrap_or(0))
    }
}
