//! An engine too old for a field of the request would leave it out without a word, so it does not get the container.

use api_compat::features::Feature;

use super::{Candidate, Reason, Request};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    lacking(request, candidate).is_none()
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    let Feature { field, since } = *lacking(request, candidate)?;
    let speaks = candidate.newest_api?;
    Some(Reason::Feature {
        field,
        since,
        speaks,
    })
}

fn lacking<'a>(request: &'a Request, candidate: &Candidate) -> Option<&'a Feature> {
    let speaks = candidate.newest_api?;
    request
        .features
        .iter()
        .find(|feature| feature.since > speaks)
}
