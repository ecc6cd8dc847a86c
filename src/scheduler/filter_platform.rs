//! A platform that the user insists on must be the node's, or one whose programs it runs too.

use super::{Candidate, Reason, Request};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    match (&request.platform, &candidate.platform) {
        (Some(asked), Some(has)) => has.runs(asked),
        (Some(_), None) => false,
        (None, _) => true,
    }
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    match (&request.platform, &candidate.platform) {
        (Some(asked), Some(has)) if !has.runs(asked) => Some(Reason::Platform {
            asked: asked.clone(),
            has: has.clone(),
        }),
        // A node that is ready has been reached, so its platform is known.
        (Some(_), None) => Some(Reason::Joining),
        (Some(_), Some(_)) | (None, _) => None,
    }
}
