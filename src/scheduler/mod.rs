//! Which node a container goes to, and if to none, why not to each.
//!
//! One file per filter, asked in order, and one per strategy. A refusal names every node with the
//! first filter it failed.
//!
//! **Invariant**: the answer follows from the arguments alone.

#![warn(clippy::wildcard_enum_match_arm)]

mod binpack;
mod brief;
mod candidate;
mod decision;
mod filter_affinity;
mod filter_constraints;
mod filter_features;
mod filter_generic;
mod filter_image;
mod filter_pinned;
mod filter_platform;
mod filter_ports;
mod filter_ready;
mod filter_resources;
mod filter_slots;
mod ledger;
mod random;
mod receivers;
mod refusal;
mod request;
mod spread;
mod strategy;
mod survival;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use crate::model::{NodeId, NodeName};

use brief::Brief;
use filter_image::Sources;

pub use candidate::{Candidate, TakenPort, Traits};
pub use decision::{Decision, Standing, decide, explain};
pub use filter_slots::{SLOTS_LABELS, slots};
pub use ledger::Ledger;
pub use receivers::{PullTo, Receiver, receivers};
pub use refusal::{Grouped, Reason, Refusal, Unfit};
pub use request::{Near, Pin, Request};
pub use strategy::{NoStrategy, Strategy};
pub use survival::{Load, Standby, Survival, best_fit, homeless};

/// Where the container goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Whether the image is there already.
    pub has_image: bool,
}

impl Chosen {
    fn of(candidate: &Candidate) -> Self {
        Self {
            node: candidate.node,
            name: candidate.name.clone(),
            has_image: candidate.has_image,
        }
    }
}

/// Chooses among `candidates`, whose order does not matter.
pub fn place(request: &Request, candidates: &[Candidate]) -> Result<Chosen, Refusal> {
    let sources = Sources::new(candidates);
    let fits = candidates
        .iter()
        .filter(|candidate| passes(request, candidate, &sources));
    match fits.max_by_key(|candidate| standing(request, candidate)) {
        Some(best) => Ok(Chosen::of(best)),
        None => Err(refuse(request, candidates, &sources)),
    }
}

/// Where a node that fits stands among others, the greatest being best: first comes what gives way when it must, that it
/// answers just now before the soft wishes it breaks; then the strategy's rank.
type Place = (Reverse<bool>, Reverse<usize>, strategy::Rank);

fn standing(request: &Request, candidate: &Candidate) -> Place {
    (
        Reverse(candidate.suspect),
        Reverse(broken(request, candidate)),
        strategy::rank(request, &Brief::of(candidate)),
    )
}

/// How many soft wishes a node does not meet.
fn broken(request: &Request, candidate: &Candidate) -> usize {
    filter_constraints::broken(request, candidate) + filter_affinity::broken(request, candidate)
}

/// Whether a node fails no filter. Says the same as [`reason`], at the cost of no words.
fn passes(request: &Request, candidate: &Candidate, sources: &Sources<'_>) -> bool {
    filter_ready::passes(candidate)
        && filter_resources::passes(request, candidate)
        && filter_generic::passes(request, candidate)
        && filter_platform::passes(request, candidate)
        && filter_features::passes(request, candidate)
        && filter_slots::passes(candidate)
        && filter_pinned::passes(request, candidate)
        && filter_affinity::passes(request, candidate)
        && filter_ports::passes(request, candidate)
        && filter_constraints::passes(request, candidate)
        && filter_image::passes(request, candidate, sources)
}

/// The first filter that a node fails. The image comes last: that it is missing is the one reason
/// that a client can do something about, and only if there is no other.
fn reason(request: &Request, candidate: &Candidate, sources: &Sources<'_>) -> Option<Reason> {
    filter_ready::reason(candidate)
        .or_else(|| filter_platform::reason(request, candidate))
        .or_else(|| filter_features::reason(request, candidate))
        .or_else(|| filter_constraints::reason(request, candidate))
        .or_else(|| filter_pinned::reason(request, candidate))
        .or_else(|| filter_affinity::reason(request, candidate))
        .or_else(|| filter_ports::reason(request, candidate))
        .or_else(|| filter_slots::reason(candidate))
        .or_else(|| filter_generic::reason(request, candidate))
        .or_else(|| filter_resources::reason(request, candidate))
        .or_else(|| filter_image::reason(request, candidate, sources))
}

/// Nodes that do not fit, by name, and why not.
fn unfit(request: &Request, candidates: &[Candidate], sources: &Sources<'_>) -> Vec<Unfit> {
    let why = |candidate: &Candidate| {
        Some(Unfit {
            node: candidate.name.clone(),
            reason: reason(request, candidate, sources)?,
        })
    };
    let mut unfit: Vec<_> = candidates.iter().filter_map(why).collect();
    unfit.sort_by(|one, other| one.node.cmp(&other.node));
    unfit
}

fn refuse(request: &Request, candidates: &[Candidate], sources: &Sources<'_>) -> Refusal {
    let unfit = unfit(request, candidates, sources);
    let only_image = |unfit: &Unfit| matches!(unfit.reason, Reason::Image { .. });
    if sources.is_empty() && unfit.iter().any(only_image) {
        return Refusal::NoImage {
            image: request.image.clone(),
        };
    }
    Refusal::NoNodeFits(unfit)
}
