//! What the container claims must be left on the node. One that claims nothing fits anywhere; one that claims more than the
//! machine has fits nowhere there, however much more may be promised.

use super::{Candidate, Reason, Request};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    request.claim.fits_in(candidate.free()) && request.claim.fits_in(candidate.machine)
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    let left = || {
        request
            .claim
            .shortfall(candidate.free(), candidate.capacity)
    };
    let ever = request
        .claim
        .shortfall(candidate.machine, candidate.machine);
    ever.or_else(left).map(Reason::Lacks)
}
