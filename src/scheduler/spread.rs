//! Spread: the node with most left, after placing, of what is scarcer there; then the one with fewer containers.
//!
//! A container that states neither CPU nor memory takes some all the same. If it weighed nothing, each of them would go to the
//! one node that has a little more left than the others. So where such a one is placed, it and each container that is there
//! weigh something: as much as Kubernetes' scheduler takes for it.

use super::Request;
use super::brief::Brief;
use super::strategy::share;
use crate::model::Resources;

/// What a container weighs where nothing is stated: a tenth of a CPU and 200 MiB.
const NOMINAL: Resources = Resources::new(100_000_000, 200 << 20);

pub(super) fn weigh(request: &Request, node: &Brief) -> (u64, u32) {
    let left = share(left(request, node), node.capacity);
    (left, u32::MAX - node.containers)
}

/// What is left of the node after placing, as far as it is weighed.
pub(super) fn left(request: &Request, node: &Brief) -> Resources {
    let left = node.left(request.claim);
    if request.claim != Resources::ZERO {
        return left;
    }
    let containers = u64::from(node.containers) + 1;
    left.saturating_sub(Resources::new(
        NOMINAL.cpu_nanos.saturating_mul(containers),
        NOMINAL.memory_bytes.saturating_mul(containers),
    ))
}
