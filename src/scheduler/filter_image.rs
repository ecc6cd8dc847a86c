//! The image must be on the node, or be brought there from another.

use crate::model::Verdict;

use super::{Candidate, Reason, Request};

/// Whether a node that can be reached has the image; it need not take work itself.
pub(super) fn is_somewhere(candidates: &[Candidate]) -> bool {
    candidates
        .iter()
        .any(|candidate| candidate.has_image && candidate.verdict == Verdict::Ready)
}

pub(super) fn check(
    request: &Request,
    candidate: &Candidate,
    somewhere: bool,
) -> Result<(), Reason> {
    if candidate.has_image || (request.bring_image && somewhere) {
        Ok(())
    } else {
        Err(Reason::Image {
            image: request.image.clone(),
        })
    }
}
