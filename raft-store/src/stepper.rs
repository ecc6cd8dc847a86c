//! A store that somebody else drives: what the thread of [`Store::open`](crate::Store::open) does, one turn
//! at a time, so that a simulation can look at the store between any two of its steps, or drop it there.
//!
//! **Invariant**: nothing is done here that the thread would not do.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::disk::Disk;
use crate::driver::{Driver, Published, Work};
use crate::machine::Machine;
use crate::store::Ended;

/// Drives one store. Dropped before the store has ended, it takes with it all that the store had not written,
/// and nobody is told why.
pub struct Stepper<M: Machine, D> {
    driver: Driver<M, D>,
    queue: Receiver<Work>,
    published: Arc<Published<M::View>>,
}

impl<M: Machine, D> fmt::Debug for Stepper<M, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepper").finish_non_exhaustive()
    }
}

impl<M: Machine, D: Disk> Stepper<M, D> {
    pub(crate) fn new(
        driver: Driver<M, D>,
        queue: Receiver<Work>,
        published: Arc<Published<M::View>>,
    ) -> Self {
        Self {
            driver,
            queue,
            published,
        }
    }

    /// Waits until something was asked of the store, or the core must hear that time has passed.
    pub async fn until_due(&mut self) {
        let patience = self.driver.until_next_tick();
        // Late or early makes no difference: a turn does what is due, which may be nothing.
        let _ = tokio::time::timeout(patience, self.published.asked.notified()).await;
    }

    /// Does all that is asked of the store and due now. Gives the stepper back until the store has ended; then
    /// everybody who waits has been told why.
    pub fn turn(mut self) -> Result<Self, Ended> {
        let ended = match self.driver.guarded_turn(&self.queue) {
            Ok(ControlFlow::Continue(())) => return Ok(self),
            Ok(ControlFlow::Break(())) => Ended::Shutdown,
            Err(ended) => ended,
        };
        self.driver.end(ended.clone());
        Err(ended)
    }
}
