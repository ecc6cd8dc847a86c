//! A node whose operator limits its containers takes no more of them: by a label (ours, else classic Swarm's), else by the
//! cluster's setting.

use super::{Candidate, Reason};

/// The labels, of the node or its engine, that say how many containers it takes at most: ours, and that of classic Swarm.
pub const SLOTS_LABELS: [&str; 2] = ["com.flotilla.slots", "containerslots"];

/// What such a label says; what is no number says nothing.
pub fn slots(value: &str) -> Option<u32> {
    value.trim().parse().ok()
}

pub(super) fn passes(candidate: &Candidate) -> bool {
    candidate
        .slots
        .is_none_or(|slots| candidate.containers < slots)
}

pub(super) fn reason(candidate: &Candidate) -> Option<Reason> {
    let slots = candidate.slots.filter(|_| !passes(candidate))?;
    Some(Reason::Slots { slots })
}
