//! What the container cannot be without must be on the node: other containers it shares something
//! with, volumes, one-host networks. Whoever calls has found out where they are.

use super::{Candidate, Pin, Reason, Request};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    missing(request, candidate).is_none()
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    let why = missing(request, candidate)?.why.clone();
    Some(Reason::Pinned { why })
}

fn missing<'a>(request: &'a Request, candidate: &Candidate) -> Option<&'a Pin> {
    let mut pins = request.pins.iter();
    pins.find(|pin| !pin.nodes.contains(&candidate.node))
}
