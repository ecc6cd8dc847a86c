//! Spread: the node with most left, after placing, of what is scarcer there; then the one with fewer containers.

use super::Request;
use super::brief::Brief;
use super::strategy::share;

pub(super) fn weigh(request: &Request, node: &Brief) -> (u64, u32) {
    let left = share(node.left(request.claim), node.capacity);
    (left, u32::MAX - node.containers)
}
