//! What the container claims must be left on the node. One that claims nothing fits anywhere; one that claims more than the
//! machine has fits nowhere there, however much more may be promised.

use super::{Candidate, Reason, Request};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    request.claim.fits_in(candidate.free()) && request.claim.fits_in(candidate.machine)
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    let Candidate {
        machine, capacity, ..
    } = *candidate;
    // What is left says more than what the machine has, and is less unless more is promised than there is.
    let lacking = request.claim.shortfall(candidate.free(), capacity);
    let lacking = lacking.or_else(|| request.claim.shortfall(machine, machine));
    lacking.map(Reason::Lacks)
}
