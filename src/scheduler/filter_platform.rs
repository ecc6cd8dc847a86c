//! A platform that the user insists on must be the node's.

use super::{Candidate, Reason, Request};

pub(super) fn check(request: &Request, candidate: &Candidate) -> Result<(), Reason> {
    match (&request.platform, &candidate.platform) {
        (Some(asked), Some(has)) if asked != has => Err(Reason::Platform {
            asked: asked.clone(),
            has: has.clone(),
        }),
        // A node that is ready has been reached, so its platform is known.
        (Some(_), None) => Err(Reason::Joining),
        (Some(_), Some(_)) | (None, _) => Ok(()),
    }
}
