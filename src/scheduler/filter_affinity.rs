//! What the container is to be with must be on the node, and what it is to be away from must not; soft wishes give way.
//!
//! Whoever calls has found out where those containers and images are, so a wish costs the same however many there are.

use super::{Candidate, Near, Reason, Request};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    unmet(request, candidate).is_none()
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    let near = unmet(request, candidate)?;
    Some(Reason::Affinity {
        affinity: near.text.clone(),
        negated: near.negated,
    })
}

/// How many soft wishes are not met.
pub(super) fn broken(request: &Request, candidate: &Candidate) -> usize {
    let soft = request.affinities.iter().filter(|near| near.soft);
    soft.filter(|near| !is_met(near, candidate)).count()
}

fn unmet<'a>(request: &'a Request, candidate: &Candidate) -> Option<&'a Near> {
    let mut hard = request.affinities.iter().filter(|near| !near.soft);
    hard.find(|near| !is_met(near, candidate))
}

fn is_met(near: &Near, candidate: &Candidate) -> bool {
    near.nodes.contains(&candidate.node) != near.negated
}
