//! The pool's events: the last 20,000, in the order they arrived, for whoever follows them or asks what
//! happened.
//!
//! A follower keeps a cursor and reads from the ring, so nobody's slowness costs anybody else anything;
//! who falls behind the ring has missed what left it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_compat::event::Origin;
use bytes::Bytes;
use raft_store::watch;

use super::container::HostTag;

/// So many events are kept, in memory only.
const CAPACITY: usize = 20_000;

/// One event of one engine, made ready for clients.
#[derive(Debug)]
pub struct Happened {
    /// Its place in the order of arrival.
    pub number: u64,
    /// When, by the manager's clock: the engine's time less the two clocks' difference.
    pub at_nanos: i64,
    /// The node it came from.
    pub host: Arc<HostTag>,
    /// The line for clients, with the node's attributes and its line feed.
    pub line: Bytes,
}

impl Happened {
    /// The node it came from, as events name it.
    pub fn origin(&self) -> Origin<'_> {
        self.host.origin()
    }
}

/// The pool's events.
#[derive(Debug)]
pub struct Ring {
    kept: Mutex<Kept>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The number of the first event kept.
    first: u64,
    events: VecDeque<Arc<Happened>>,
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self {
            kept: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }

    /// Adds an event and wakes the followers.
    pub fn push(&self, at_nanos: i64, host: &Arc<HostTag>, line: Bytes) {
        let next = {
            let mut kept = self.lock();
            let number = kept.first + kept.events.len() as u64;
            kept.events.push_back(Arc::new(Happened {
                number,
                at_nanos,
                host: Arc::clone(host),
                line,
            }));
            if kept.events.len() > CAPACITY {
                kept.events.pop_front();
                kept.first += 1;
            }
            number + 1
        };
        self.newest.send_replace(next);
    }

    /// The number that the next event will have, and what changes when it comes.
    pub fn follow(&self) -> (u64, watch::Receiver<u64>) {
        let receiver = self.newest.subscribe();
        let kept = self.lock();
        (kept.first + kept.events.len() as u64, receiver)
    }

    /// Up to `limit` events from number `from` on.
    pub fn since(&self, from: u64, limit: usize) -> Vec<Arc<Happened>> {
        let kept = self.lock();
        let skip = usize::try_from(from.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        kept.events.iter().skip(skip).take(limit).cloned().collect()
    }

    /// All that is kept before number `until`, in the order it happened rather than arrived.
    pub fn history(&self, until: u64) -> Vec<Arc<Happened>> {
        let mut events: Vec<_> = {
            let kept = self.lock();
            kept.events
                .iter()
                .take_while(|e| e.number < until)
                .cloned()
                .collect()
        };
        events.sort_by_key(|happened| happened.at_nanos);
        events
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
