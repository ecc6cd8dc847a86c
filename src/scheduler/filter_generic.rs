//! What the container claims beside CPU and memory must be left on the node: so many GPUs, or all that it has.
//!
//! Whoever calls asks for nothing that no node of the cluster states, so a node that states none of it has none.

use super::{Candidate, Reason, Request};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    request.generic.is_empty() || candidate.stock.scarcity(&request.generic).is_none()
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    let scarcity = candidate.stock.scarcity(&request.generic)?;
    Some(Reason::Scarce(scarcity))
}
