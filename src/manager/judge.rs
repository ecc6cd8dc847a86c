//! Commits what is thought of each node: ready once it answers and its containers are counted, down once
//! it is lost.

use std::sync::Arc;

use super::{Manager, PlacingSettings};
use crate::engine::{Facts, Host, Verdict};
use crate::model::{ApiRange, EngineFacts, Platform};
use crate::state::Command;
use crate::tasks::Stopping;

impl Manager {
    /// Commits each loss of a node until the manager stops. That it is back is committed once all it has
    /// was listed again.
    pub(super) async fn judge(self: Arc<Self>, host: Arc<Host>, mut stopping: Stopping) {
        let mut health = host.watch_health();
        loop {
            let now = health.borrow_and_update().clone();
            if host.has_left() {
                return;
            }
            if now.verdict == Verdict::Down {
                let (node, reason) = (host.tag.id, now.reason);
                self.log_failure(self.commit(Command::JudgeDown { node, reason }).await);
            }
            tokio::select! {
                biased;
                () = stopping.wait() => return,
                changed = health.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The node answers and all it has is counted: it takes work.
    pub(super) async fn note_ready(&self, host: &Host) {
        let node = host.tag.id;
        let engine = reported(&host.facts(), &self.settings.placing);
        let cluster = self.cluster();
        let known = cluster.node(node);
        if known.is_none_or(|known| known.engine.as_ref() != Some(&engine)) {
            self.log_failure(self.commit(Command::ReportNode { node, engine }).await);
        }
        // Also if it was ready before: creates that came too early for a manager that starts wait for a commit.
        self.log_failure(self.commit(Command::JudgeReady { node }).await);
    }

    /// For commits that nobody waits for: the next observation makes them again.
    pub(super) fn log_failure<T>(&self, outcome: Result<T, super::Error>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, "an observation could not be committed");
        }
    }
}

pub(super) fn reported(facts: &Facts, placing: &PlacingSettings) -> EngineFacts {
    let allocatable = placing.allocatable(facts.capacity);
    EngineFacts {
        engine_id: facts.engine_id.clone(),
        capacity: facts.capacity,
        allocatable: (allocatable != facts.capacity).then_some(allocatable),
        generic: facts.generic.clone(),
        platform: Platform {
            os: facts.os.clone(),
            arch: facts.arch.clone(),
        },
        engine_version: facts.version.clone(),
        api: ApiRange {
            min: facts.window.min,
            max: facts.window.max,
        },
    }
}
