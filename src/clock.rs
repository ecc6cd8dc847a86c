//! The only reader of time and randomness, so that everything else can be run by a simulator.
//!
//! **Invariant**: in a thread that simulates, nothing that is read here depends on anything but the seed.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use raft_store::sim::Dice;
use rand::Rng;

thread_local! {
    static SIMULATED: RefCell<Option<Simulated>> = const { RefCell::new(None) };
}

/// What a simulation puts in place of the system's clock and dice.
struct Simulated {
    began: Timestamp,
    from: Instant,
    dice: Dice,
}

/// Ends a simulation of clock and dice when dropped. It belongs to the thread that began it.
#[derive(Debug)]
pub struct Simulation(std::marker::PhantomData<*const ()>);

/// From now on this thread's wall clock begins at `began` and follows [`instant`], which follows the runtime and can be
/// paused there; and its dice fall as `seed` has it.
pub fn simulate(began: Timestamp, seed: u64) -> Simulation {
    let simulated = Simulated {
        began,
        from: instant(),
        dice: Dice::new(seed),
    };
    SIMULATED.set(Some(simulated));
    Simulation(std::marker::PhantomData)
}

impl Drop for Simulation {
    fn drop(&mut self) {
        SIMULATED.set(None);
    }
}

/// The wall clock: what goes into commands, replies and ages.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one home of the clock"
)]
pub fn now() -> Timestamp {
    let simulated = SIMULATED.with_borrow(|simulated| {
        let simulated = simulated.as_ref()?;
        let passed = instant().saturating_duration_since(simulated.from);
        simulated.began.checked_add(passed).ok()
    });
    simulated.unwrap_or_else(Timestamp::now)
}

/// The monotonic clock: what deadlines are measured by. It is the system's, unless a test has paused that of the runtime.
pub fn instant() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// `timeout` from now.
pub fn deadline(timeout: Duration) -> Instant {
    instant() + timeout
}

/// `N` bytes from the operating system's seeded generator, for ids.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let simulated = SIMULATED.with_borrow_mut(|simulated| {
        let Some(simulated) = simulated else {
            return false;
        };
        for byte in &mut bytes {
            *byte = simulated.dice.roll().to_le_bytes()[0];
        }
        true
    });
    if !simulated {
        rand::rng().fill(&mut bytes[..]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_follows_the_paused_one_and_dice_fall_by_seed() {
        let began = Timestamp::UNIX_EPOCH;
        let roll = || {
            let _simulation = simulate(began, 7);
            random_bytes::<16>()
        };
        assert_eq!(roll(), roll());
        let simulation = simulate(began, 7);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(now().duration_since(began).as_secs(), 90);
        drop(simulation);
        assert!(now().duration_since(began).as_secs() > 90);
        assert_ne!(random_bytes::<16>(), random_bytes::<16>());
    }
}
