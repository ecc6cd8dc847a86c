//! A node whose operator limits its containers takes no more of them: label `com.flotilla.slots`, else the cluster's setting.

use super::{Candidate, Reason};

/// The label, of the node or its engine, that says how many containers it takes at most.
pub const SLOTS_LABEL: &str = "com.flotilla.slots";

pub(super) fn passes(candidate: &Candidate) -> bool {
    candidate
        .slots
        .is_none_or(|slots| candidate.containers < slots)
}

pub(super) fn reason(candidate: &Candidate) -> Option<Reason> {
    let slots = candidate.slots.filter(|_| !passes(candidate))?;
    Some(Reason::Slots { slots })
}
