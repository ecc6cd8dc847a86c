//! Only a node that answers, that may take work, and whose use is known takes any.

use crate::model::{Availability, Verdict};

use super::{Candidate, Reason};

pub(super) fn check(candidate: &Candidate) -> Result<(), Reason> {
    match &candidate.verdict {
        Verdict::Ready => {}
        Verdict::Joining => return Err(Reason::Joining),
        Verdict::Down { reason } => {
            return Err(Reason::Down {
                reason: reason.clone(),
            });
        }
    }
    match candidate.availability {
        Availability::Active => {}
        Availability::Pause => return Err(Reason::Paused),
        Availability::Drain => return Err(Reason::Drained),
    }
    if candidate.counted {
        Ok(())
    } else {
        Err(Reason::Uncounted)
    }
}
