//! What the container cannot be without must be on the node: other containers it shares something
//! with, volumes, one-host networks. Whoever calls has found out where they are.

use super::{Candidate, Reason, Request};

pub(super) fn check(request: &Request, candidate: &Candidate) -> Result<(), Reason> {
    match request
        .pins
        .iter()
        .find(|pin| !pin.nodes.contains(&candidate.node))
    {
        Some(pin) => Err(Reason::Pinned {
            why: pin.why.clone(),
        }),
        None => Ok(()),
    }
}
