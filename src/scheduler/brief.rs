//! What every decision needs of every node, small enough that thousands of them stay in the processor's cache.
//!
//! **Invariant**: it follows from the [`Candidate`] alone.

use super::{Candidate, filter_ready, filter_slots};
use crate::model::{NodeId, Resources};

#[derive(Debug, Clone, Copy)]
pub(super) struct Brief {
    pub(super) node: NodeId,
    pub(super) free: Resources,
    pub(super) capacity: Resources,
    pub(super) containers: u32,
    /// Whether it is ready and has a slot.
    pub(super) takes_work: bool,
    pub(super) suspect: bool,
    pub(super) has_image: bool,
}

impl Brief {
    pub(super) fn of(node: &Candidate) -> Self {
        Self {
            node: node.node,
            free: node.free(),
            capacity: node.capacity,
            containers: node.containers,
            takes_work: filter_ready::passes(node) && filter_slots::passes(node),
            suspect: node.suspect,
            has_image: node.has_image,
        }
    }

    /// Whether it has room; other filters may still say no.
    pub(super) fn has_room(&self, claim: Resources) -> bool {
        self.takes_work && claim.fits_in(self.free)
    }

    /// What is left of it after placing.
    pub(super) fn left(&self, claim: Resources) -> Resources {
        self.free.saturating_sub(claim)
    }
}
