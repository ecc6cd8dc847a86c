//! The decisions of late: why a container is where it is, or why it is nowhere.
//!
//! **Invariant**: in memory only, and no more than [`KEPT`] of them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api_compat::create::NetworkMode;

use super::{CreateOrder, Error, Manager};
use crate::api;
use crate::clock;
use crate::engine::Found;
use crate::model::RequestId;
use crate::scheduler::{self, Chosen, Decision, Ledger, Refusal, Request, Standing};

/// So many decisions are remembered.
const KEPT: usize = 256;

/// The newest decisions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Decisions(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
struct Kept {
    request: RequestId,
    decision: api::Decision,
}

impl Decisions {
    /// Keeps a decision. One that is made anew for the same request takes the place of the former.
    pub(super) fn keep(&self, request: RequestId, decision: api::Decision) {
        let mut all = self.lock();
        if all.back().is_some_and(|newest| newest.request == request) {
            all.pop_back();
        } else if all.len() == KEPT {
            all.pop_front();
        }
        all.push_back(Kept { request, decision });
    }

    /// What was decided for a request came to nothing after all.
    pub(super) fn refuse(&self, request: RequestId, why: &Error) {
        let mut all = self.lock();
        let mut newest = all.iter_mut().rev();
        if let Some(kept) = newest.find(|kept| kept.request == request) {
            kept.decision.node = None;
            kept.decision.refusal = Some(why.to_string());
        }
    }

    fn newest(&self, wanted: impl Fn(&Kept) -> bool) -> Option<api::Decision> {
        let all = self.lock();
        let found = all.iter().rev().find(|kept| wanted(kept));
        found.map(|kept| kept.decision.clone())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Manager {
    /// The decision about a container: by name, id or the beginning of one, also of one that went nowhere.
    pub fn explain(&self, reference: &str) -> Option<api::Decision> {
        // Of one that is there, what was decided about another one of its name says nothing.
        if let Found::One(container) = self.fleet.inventory.find(reference) {
            let request = container.request?;
            return self.decisions.newest(|kept| kept.request == request);
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        self.decisions
            .newest(|kept| kept.decision.container == name)
    }
}

/// A decision in the words of our API. `gave_way` is why it would have gone nowhere with its host ports.
pub(super) fn told(
    order: &CreateOrder<'_>,
    name: &str,
    request: &Request,
    decision: &Decision,
    gave_way: Option<&Refusal>,
) -> api::Decision {
    let (node, refusal) = match &decision.outcome {
        Ok(chosen) => (Some(chosen.name.to_string()), None),
        Err(refusal) => (None, Some(refusal.to_string())),
    };
    let taken = gave_way.and_then(Refusal::ports_taken);
    let (exposed_taken, ports_taken) = match order.wanted.network_mode {
        NetworkMode::Host => (taken, None),
        _ => (None, taken),
    };
    let constraints = order.policies.constraints.iter().map(ToString::to_string);
    let affinities = order.policies.affinities.iter().map(ToString::to_string);
    api::Decision {
        container: name.to_owned(),
        at: clock::now(),
        node,
        refusal,
        ports_taken,
        exposed_taken,
        strategy: request.strategy,
        claim: api::Resources {
            cpu_nanos: request.claim.cpu_nanos,
            memory_bytes: request.claim.memory_bytes,
        },
        generic: order
            .wanted
            .generic
            .iter()
            .map(|(name, amount)| (name.to_owned(), amount.to_string()))
            .collect(),
        constraints: constraints.collect(),
        affinities: affinities.collect(),
        nodes: decision.candidates,
        fit: decision.fit,
        best: decision.best.iter().map(standing).collect(),
        unfit: decision.why_not(),
    }
}

fn standing(standing: &Standing) -> api::Standing {
    let Standing {
        free, containers, ..
    } = *standing;
    api::Standing {
        node: standing.node.to_string(),
        suspect: standing.suspect,
        soft_unmet: standing.broken,
        left_per_mille: standing.left_per_mille,
        free: api::Resources {
            cpu_nanos: free.cpu_nanos,
            memory_bytes: free.memory_bytes,
        },
        generic: standing
            .stock
            .iter()
            .map(|(name, left)| (name.clone(), left.free))
            .collect(),
        containers,
        has_image: standing.has_image,
    }
}

impl Manager {
    /// Remembers what was decided, in words.
    pub(super) fn remember(
        &self,
        order: &CreateOrder<'_>,
        named: Option<(RequestId, &str)>,
        request: &Request,
        nodes: &Ledger,
        outcome: &Result<Chosen, Refusal>,
        gave_way: Option<&Refusal>,
    ) {
        let Some((id, name)) = named else { return };
        let decision = scheduler::explain(outcome.clone(), request, nodes.nodes());
        self.decisions
            .keep(id, told(order, name, request, &decision, gave_way));
    }
}
