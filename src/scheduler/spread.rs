//! Spread: the node with most left, after placing, of what is scarcer there.

use std::cmp::Reverse;

use super::{Candidate, Request};

/// The best of nodes that all fit; none only if there are none.
pub(super) fn best<'a>(request: &Request, fits: &[&'a Candidate]) -> Option<&'a Candidate> {
    fits.iter().copied().max_by_key(|candidate| {
        (
            share_left(request, candidate),
            Reverse(candidate.containers),
            candidate.has_image,
            Reverse(candidate.node),
        )
    })
}

/// The free share of the scarcer of CPU and memory, in billionths: whole numbers, so that every
/// manager comes to the same.
fn share_left(request: &Request, candidate: &Candidate) -> u128 {
    let left = candidate.free().saturating_sub(request.claim);
    let share = |left: u64, of: u64| u128::from(left) * 1_000_000_000 / u128::from(of.max(1));
    share(left.cpu_nanos, candidate.capacity.cpu_nanos)
        .min(share(left.memory_bytes, candidate.capacity.memory_bytes))
}
