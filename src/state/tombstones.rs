//! What is remembered of requests that are over, so that nothing of them comes back to life.
//!
//! **Invariant**: there is an end to each, and to their number.

use imbl::{OrdMap, OrdSet};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{ContainerId, NodeId, RequestId};

/// What is remembered of a request that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The request.
    pub request: RequestId,
    /// Where its container was to live, or did.
    pub node: NodeId,
    /// The container, if one was known.
    pub container: Option<ContainerId>,
    /// The name it had.
    pub name: String,
    /// How it came to its end.
    pub cause: Cause,
    /// Until when it is remembered.
    pub until: Timestamp,
}

/// How a request came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was given up before a container came of it. One that comes late is removed, if it never
    /// started.
    Released,
    /// Its container was removed.
    Removed,
    /// Its container is to be removed when its node is back.
    RemovalDue,
}

impl Cause {
    /// How long it matters: as long as something sent earlier may still arrive, or as long as a
    /// lost machine may yet come back.
    const fn kept(self) -> SignedDuration {
        match self {
            Self::Released => SignedDuration::from_hours(1),
            Self::Removed => SignedDuration::from_mins(10),
            Self::RemovalDue => SignedDuration::from_hours(24 * 30),
        }
    }
}

/// All of them, by request and by their end.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Tombstones {
    by_request: OrdMap<RequestId, Tombstone>,
    by_end: OrdSet<(Timestamp, RequestId)>,
}

impl Tombstones {
    /// Beyond this many the one nearest to its end goes first.
    pub(super) const MOST: usize = 65_536;

    /// At most this many end with one command, so that none takes long.
    const AT_ONCE: usize = 64;

    pub(super) fn get(&self, request: RequestId) -> Option<&Tombstone> {
        self.by_request.get(&request)
    }

    pub(super) fn due_on(&self, node: NodeId) -> impl Iterator<Item = &Tombstone> {
        self.by_request
            .values()
            .filter(move |stone| stone.node == node && stone.cause == Cause::RemovalDue)
    }

    pub(super) fn len(&self) -> usize {
        self.by_request.len()
    }

    pub(super) fn is_consistent(&self) -> bool {
        self.by_end.len() == self.by_request.len()
            && self
                .by_end
                .iter()
                .all(|(end, request)| self.get(*request).is_some_and(|stone| stone.until == *end))
    }

    /// All of them, by request.
    pub(super) fn all(&self) -> impl Iterator<Item = &Tombstone> {
        self.by_request.values()
    }

    /// These, each with the end it has.
    pub(super) fn restored(stones: Vec<Tombstone>) -> Self {
        Self {
            by_end: stones
                .iter()
                .map(|stone| (stone.until, stone.request))
                .collect(),
            by_request: stones
                .into_iter()
                .map(|stone| (stone.request, stone))
                .collect(),
        }
    }

    /// Remembers `stone` from `now` on, in place of what was known of the request.
    pub(super) fn add(&mut self, now: Timestamp, mut stone: Tombstone) {
        stone.until = now
            .saturating_add(stone.cause.kept())
            .unwrap_or(Timestamp::MAX);
        self.remove(stone.request);
        self.by_end.insert((stone.until, stone.request));
        self.by_request.insert(stone.request, stone);
        if self.len() > Self::MOST {
            self.drop_first();
        }
    }

    pub(super) fn remove(&mut self, request: RequestId) -> Option<Tombstone> {
        let stone = self.by_request.remove(&request)?;
        self.by_end.remove(&(stone.until, request));
        Some(stone)
    }

    pub(super) fn forget_node(&mut self, node: NodeId) {
        let due: Vec<_> = self.due_on(node).map(|stone| stone.request).collect();
        for request in due {
            self.remove(request);
        }
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        for _ in 0..Self::AT_ONCE {
            match self.by_end.get_min() {
                Some((end, _)) if *end <= now => self.drop_first(),
                Some(_) | None => return,
            }
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, request)) = self.by_end.get_min().copied() {
            self.remove(request);
        }
    }
}
