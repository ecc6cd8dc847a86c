//! A decision as it was made, in numbers and words: for whoever asks afterwards why a container is where it is, and for
//! whoever asks beforehand where one would go.
//!
//! **Invariant**: it says what [`place`](super::place) does; a test compares the two.

use super::{
    Brief, Candidate, Chosen, Grouped, Refusal, Request, Sources, Strategy, Unfit, broken, passes,
    place, spread, standing, strategy, unfit,
};
use crate::model::generic::Left;
use crate::model::{NodeName, Resources};

/// Of nodes that fit, so many of the best are shown.
const SHOWN: usize = 16;

/// What was decided, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where it goes, or why nowhere.
    pub outcome: Result<Chosen, Refusal>,
    /// How many nodes there were.
    pub candidates: usize,
    /// How many of them fit.
    pub fit: usize,
    /// The best of those, best first.
    pub best: Vec<Standing>,
    /// Those that do not fit.
    pub unfit: Vec<Unfit>,
}

/// How a node that fits stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The node.
    pub node: NodeName,
    /// Whether its last probe went unanswered.
    pub suspect: bool,
    /// How many soft wishes it does not meet.
    pub broken: usize,
    /// What would be left of it after placing, in thousandths of what it has: of CPU or memory, whichever is scarcer.
    pub left_per_mille: u64,
    /// What was left of it before.
    pub free: Resources,
    /// What was left of what the container claims beside CPU and memory.
    pub stock: Vec<(String, Left)>,
    /// How many containers it had.
    pub containers: u32,
    /// Whether it had the image.
    pub has_image: bool,
}

/// Chooses among `candidates`, and says how each of them stood.
pub fn decide(request: &Request, candidates: &[Candidate]) -> Decision {
    explain(place(request, candidates), request, candidates)
}

/// Says how each of `candidates` stood when one of them, or none, was chosen.
pub fn explain(
    outcome: Result<Chosen, Refusal>,
    request: &Request,
    candidates: &[Candidate],
) -> Decision {
    let sources = Sources::new(candidates);
    let mut fits: Vec<_> = candidates
        .iter()
        .filter(|candidate| passes(request, candidate, &sources))
        .map(|candidate| (standing(request, candidate), candidate))
        .collect();
    let fit = fits.len();
    let best_first = |(standing, _): &(_, _)| std::cmp::Reverse(*standing);
    if fit > SHOWN {
        // The rest need no order.
        fits.select_nth_unstable_by_key(SHOWN, best_first);
        fits.truncate(SHOWN);
    }
    fits.sort_unstable_by_key(best_first);
    let best = fits.into_iter();
    Decision {
        outcome,
        candidates: candidates.len(),
        fit,
        best: best
            .map(|(_, candidate)| shown(request, candidate))
            .collect(),
        unfit: unfit(request, candidates, &sources),
    }
}

impl Decision {
    /// Why the others do not fit, in words: a sentence for each reason.
    pub fn why_not(&self) -> Vec<String> {
        Grouped(&self.unfit).sentences()
    }
}

fn shown(request: &Request, candidate: &Candidate) -> Standing {
    Standing {
        node: candidate.name.clone(),
        suspect: candidate.suspect,
        broken: broken(request, candidate),
        left_per_mille: {
            let brief = Brief::of(candidate);
            let left = match request.strategy {
                Strategy::Spread => spread::left(request, &brief),
                Strategy::Binpack | Strategy::Random => brief.left(request.claim),
            };
            strategy::share(left, candidate.capacity) / (strategy::WHOLE / 1000)
        },
        free: candidate.free(),
        stock: {
            let names = request.generic.iter().map(|(name, _)| name);
            let left =
                names.filter_map(|name| Some((name.to_owned(), candidate.stock.left(name)?)));
            left.collect()
        },
        containers: candidate.containers,
        has_image: candidate.has_image,
    }
}
