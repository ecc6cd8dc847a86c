//! The only reader of time and randomness, so that everything else can be run by a simulator.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::Rng;

/// The wall clock: what goes into commands, replies and ages.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one home of the clock"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The monotonic clock: what deadlines are measured by.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one home of the clock"
)]
pub fn instant() -> Instant {
    Instant::now()
}

/// `timeout` from now.
pub fn deadline(timeout: Duration) -> Instant {
    instant() + timeout
}

/// `N` bytes from the operating system's seeded generator, for ids.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill(&mut bytes[..]);
    bytes
}
