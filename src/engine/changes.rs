//! What has changed of what placing goes by, so that a decision looks at that alone and not at each node.
//!
//! **Invariant**: it is noted after the change, or while the change cannot be read yet: whoever takes the note finds what it
//! is about.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::NodeId;

/// Notes of changes, for the one who decides.
#[derive(Debug, Default)]
pub struct Changes {
    nodes: Mutex<BTreeSet<NodeId>>,
    images: AtomicU64,
}

impl Changes {
    /// Of this node: its health, what it says of itself, whether it is counted, or its unmanaged containers.
    pub(super) fn note(&self, node: NodeId) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(node);
    }

    /// Of any node: which images it has, or whether it answers.
    pub(super) fn note_images(&self) {
        self.images.fetch_add(1, Ordering::AcqRel);
    }

    /// The nodes that have changed since this was last called.
    pub fn take(&self) -> BTreeSet<NodeId> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *nodes)
    }

    /// How often images have changed so far.
    pub fn images(&self) -> u64 {
        self.images.load(Ordering::Acquire)
    }
}
