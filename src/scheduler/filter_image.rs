//! The image must be on the node, or be brought there from another.

use std::cell::OnceCell;

use crate::model::{Platform, Verdict};

use super::{Candidate, Reason, Request};

/// The platforms of the nodes that could send the image, found out when a node lacks it: it runs on no other.
pub(super) struct Sources<'a> {
    candidates: &'a [Candidate],
    platforms: OnceCell<Vec<Option<&'a Platform>>>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(candidates: &'a [Candidate]) -> Self {
        Self {
            candidates,
            platforms: OnceCell::new(),
        }
    }

    /// Whether no node could send it.
    pub(super) fn is_empty(&self) -> bool {
        self.platforms().is_empty()
    }

    fn platforms(&self) -> &[Option<&'a Platform>] {
        self.platforms.get_or_init(|| platforms(self.candidates))
    }
}

fn platforms(candidates: &[Candidate]) -> Vec<Option<&Platform>> {
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

pub(super) fn passes(request: &Request, candidate: &Candidate, sources: &Sources<'_>) -> bool {
    candidate.has_image
        || request.bring_image && sources.platforms().contains(&candidate.platform.as_ref())
}

pub(super) fn reason(
    request: &Request,
    candidate: &Candidate,
    sources: &Sources<'_>,
) -> Option<Reason> {
    let image = || request.image.clone();
    (!passes(request, candidate, sources)).then(|| Reason::Image { image: image() })
}
