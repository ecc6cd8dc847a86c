//! Only a node that answers, that may take work, and whose use is known takes any.

use crate::model::{Availability, Verdict};

use super::{Candidate, Reason};

pub(super) fn passes(candidate: &Candidate) -> bool {
    candidate.counted
        && candidate.verdict == Verdict::Ready
        && candidate.availability == Availability::Active
}

pub(super) fn reason(candidate: &Candidate) -> Option<Reason> {
    match &candidate.verdict {
        Verdict::Ready => {}
        Verdict::Joining => return Some(Reason::Joining),
        Verdict::Down { reason } => {
            return Some(Reason::Down {
                reason: reason.clone(),
            });
        }
    }
    match candidate.availability {
        Availability::Active => {}
        Availability::Pause => return Some(Reason::Paused),
        Availability::Drain => return Some(Reason::Drained),
    }
    (!candidate.counted).then_some(Reason::Uncounted)
}
