//! The host ports that the user asked for must be free on the node.

use crate::model::PublishedPort;

use super::{Candidate, Reason, Request, TakenPort};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    conflict(request, candidate).is_none()
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    let (port, taken) = conflict(request, candidate)?;
    Some(Reason::Port {
        port,
        by: taken.by.clone(),
    })
}

fn conflict<'a>(
    request: &Request,
    candidate: &'a Candidate,
) -> Option<(PublishedPort, &'a TakenPort)> {
    request.ports.iter().find_map(|port| {
        let mut all = candidate.taken.iter();
        let taken = all.find(|taken| taken.port.overlaps(port))?;
        Some((*port, taken))
    })
}
