//! Binpack: the node with least left, after placing, of CPU and memory together; then the one with more containers.
//!
//! It is best fit: what is large and comes late finds whole nodes free, and nodes stay empty that can be switched off. Both
//! kinds count, for a node with plenty of one and nothing of the other is full all the same; weighing only the scarcer one packs
//! worse (`docs/scheduling.md`).

use super::Request;
use super::brief::Brief;
use super::strategy::{WHOLE, mean_share};

pub(super) fn weigh(request: &Request, node: &Brief) -> (u64, u32) {
    let left = mean_share(node.left(request.claim), node.capacity);
    (WHOLE.saturating_sub(left), node.containers)
}
