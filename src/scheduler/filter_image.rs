//! The image must be on the node, or be brought there from another.

use crate::model::{Platform, Verdict};

use super::{Candidate, Reason, Request};

/// The platforms of the nodes that could send the image: it runs on no other.
pub(super) fn platforms(candidates: &[Candidate]) -> Vec<Option<&Platform>> {
    let mut platforms = Vec::new();
    for candidate in candidates {
        let platform = candidate.platform.as_ref();
        if candidate.has_image
            && candidate.verdict == Verdict::Ready
            && !platforms.contains(&platform)
        {
            platforms.push(platform);
        }
    }
    platforms
}

pub(super) fn check(
    request: &Request,
    candidate: &Candidate,
    sources: &[Option<&Platform>],
) -> Result<(), Reason> {
    let can_be_brought = || request.bring_image && sources.contains(&candidate.platform.as_ref());
    if candidate.has_image || can_be_brought() {
        Ok(())
    } else {
        Err(Reason::Image {
            image: request.image.clone(),
        })
    }
}
