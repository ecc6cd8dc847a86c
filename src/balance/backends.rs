//! The containers behind one port, and whose turn it is.
//!
//! Round robin. One that refused or did not answer is left out for a while, and so is what is on a node that is down;
//! those are tried last, when nothing else is left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::book::Backend;
use crate::clock;
use crate::engine::Host;

/// How long one that failed is left out.
const EJECTED: Duration = Duration::from_secs(5);

/// A container behind a port, and how it is reached.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) backend: Backend,
    pub(super) host: Arc<Host>,
    /// A name or an address of its node.
    pub(super) address: Arc<str>,
}

/// Those behind one port.
#[derive(Debug, Default)]
pub(super) struct Backends(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    all: Vec<(Target, Option<Instant>)>,
    next: usize,
}

impl Backends {
    /// These are behind the port now. One that was there before and failed is still left out.
    pub(super) fn set(&self, targets: Vec<Target>) {
        let mut turns = self.lock();
        let before = std::mem::take(&mut turns.all);
        let out = |target: &Target| {
            let mut same = before.iter();
            same.find(|(old, _)| old.backend == target.backend)
                .and_then(|(_, out)| *out)
        };
        turns.all = targets
            .into_iter()
            .map(|target| {
                let out = out(&target);
                (target, out)
            })
            .collect();
    }

    /// In the order in which they are to be tried by the next who comes.
    pub(super) fn turn(&self) -> Vec<Target> {
        let now = clock::instant();
        let mut turns = self.lock();
        let count = turns.all.len();
        if count == 0 {
            return Vec::new();
        }
        let first = turns.next % count;
        turns.next = first + 1;
        let in_order = (first..count).chain(0..first).map(|at| &turns.all[at]);
        let is_well = |(target, out): &&(Target, Option<Instant>)| {
            target.host.is_up() && out.is_none_or(|until| until <= now)
        };
        let (well, ill): (Vec<_>, Vec<_>) = in_order.partition(is_well);
        let all = well.into_iter().chain(ill);
        all.map(|(target, _)| target.clone()).collect()
    }

    /// It failed: others are tried before it for a while.
    pub(super) fn eject(&self, backend: Backend) {
        self.note(backend, Some(clock::instant() + EJECTED));
    }

    /// It answers.
    pub(super) fn answers(&self, backend: Backend) {
        self.note(backend, None);
    }

    fn note(&self, backend: Backend, out: Option<Instant>) {
        let mut turns = self.lock();
        let mut all = turns.all.iter_mut();
        if let Some((_, until)) = all.find(|(target, _)| target.backend == backend) {
            *until = out;
        }
    }

    /// A holder that panicked left a list that the next change replaces.
    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
