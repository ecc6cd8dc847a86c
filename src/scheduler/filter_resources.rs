//! What the container claims must be left on the node. One that claims nothing fits anywhere.

use super::{Candidate, Reason, Request};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    request.claim.fits_in(candidate.free())
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    let short = request
        .claim
        .shortfall(candidate.free(), candidate.capacity);
    short.map(Reason::Lacks)
}
