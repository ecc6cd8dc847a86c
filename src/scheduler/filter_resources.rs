//! What the container claims must be left on the node. One that claims nothing fits anywhere.

use super::{Candidate, Reason, Request};

pub(super) fn check(request: &Request, candidate: &Candidate) -> Result<(), Reason> {
    match request
        .claim
        .shortfall(candidate.free(), candidate.capacity)
    {
        Some(short) => Err(Reason::Lacks(short)),
        None => Ok(()),
    }
}
