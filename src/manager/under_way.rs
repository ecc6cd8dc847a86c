//! What something of ours is under way with, so that others wait for its end.
//!
//! **Invariant**: a mark is counted until it is dropped, however its holder ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Requests, nodes … with which something is under way.
#[derive(Debug, Clone)]
pub(super) struct UnderWay<K>(Arc<Mutex<BTreeMap<K, usize>>>);

impl<K> Default for UnderWay<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Marks one of them until dropped.
#[derive(Debug)]
pub(super) struct Mark<K: Ord> {
    all: UnderWay<K>,
    key: K,
}

impl<K: Ord + Clone> UnderWay<K> {
    /// Marks it.
    pub(super) fn mark(&self, key: K) -> Mark<K> {
        *self.lock().entry(key.clone()).or_default() += 1;
        Mark {
            all: self.clone(),
            key,
        }
    }

    /// Whether something is under way with it.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.lock().contains_key(key)
    }
}

impl<K> UnderWay<K> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord> Drop for Mark<K> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.key);
            }
        }
    }
}
