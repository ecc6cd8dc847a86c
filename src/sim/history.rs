//! What clients asked for and what they were told, in the order in which it happened.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::checker::{Action, Operation, Outcome};

/// What all clients of a world did.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    operations: Vec<Operation>,
}

impl History {
    /// Something is asked for. Returns its place; until [`Self::end`] its outcome is unknown.
    pub(super) fn begin(&self, action: Action) -> usize {
        let mut kept = self.lock();
        let begun = kept.tick();
        kept.operations.push(Operation {
            begun,
            ended: u64::MAX,
            action,
            outcome: Outcome::Unknown,
        });
        kept.operations.len() - 1
    }

    /// What came of it.
    pub(super) fn end(&self, place: usize, outcome: Outcome) {
        let mut kept = self.lock();
        let ended = kept.tick();
        if let Some(operation) = kept.operations.get_mut(place) {
            operation.ended = ended;
            operation.outcome = outcome;
        }
    }

    /// All of it.
    pub(super) fn all(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
