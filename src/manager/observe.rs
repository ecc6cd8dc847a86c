//! Commits what the engines report about containers of ours: that they ended, run again, are gone, or were
//! found after a restart.

use std::sync::Arc;

use api_compat::ApiVersion;
use tokio::sync::mpsc;

use super::Manager;
use crate::engine::{Container, EngineCall, Host, Observation, RunState};
use crate::model::{ContainerId, NodeId, RequestId};
use crate::state::{Cause, Command, Promise};
use crate::tasks::Stopping;

impl Manager {
    /// Takes in observations, one after the other, until the manager stops.
    pub(super) async fn observe(
        self: Arc<Self>,
        mut observed: mpsc::Receiver<Observation>,
        mut stopping: Stopping,
    ) {
        loop {
            let observation = tokio::select! {
                () = stopping.wait() => return,
                observation = observed.recv() => observation,
            };
            match observation {
                None => return,
                Some(Observation::Changed(container)) => self.changed(container).await,
                Some(Observation::Gone { container, request }) => {
                    self.gone(container, request).await
                }
                Some(Observation::Synced(node)) => self.remove_what_is_due(node).await,
                Some(Observation::Counted(node)) => {
                    if let Some(host) = self.fleet.host(&node) {
                        self.note_ready(&host).await;
                    }
                }
            }
        }
    }

    /// Looks at a container again, now that nothing of ours is under way with it.
    pub(super) async fn changed(&self, id: ContainerId) {
        let Some(container) = self.fleet.inventory.get(&id) else {
            return;
        };
        let Some(request) = container.request else {
            return;
        };
        if self.under_way.contains(&request) {
            return;
        }
        let cluster = self.cluster();
        let command = match cluster.placement(request) {
            Some(placement) if placement.container.is_some_and(|bound| bound != id) => {
                // `docker commit` copies our labels into images: this is a stranger's container.
                return self.fleet.inventory.disown(&id);
            }
            Some(placement) if placement.container.is_none() => Command::Bind {
                request,
                container: id,
            },
            Some(placement) if placement.claiming && has_ended(&container) => Command::Exited {
                request,
                run: placement.run,
            },
            Some(placement) if !placement.claiming && container.state.is_up() => Command::Reclaim {
                request,
                running: true,
            },
            Some(_) => return,
            None => match cluster.tombstone(request) {
                Some(tombstone) => return self.latecomer(&container, &tombstone.cause).await,
                None => match adoption(self, &container, request) {
                    Some(command) => command,
                    // Its claim is not known yet; it is looked at again once it is.
                    None => return,
                },
            },
        };
        if let Err(error) = self.commit(command).await {
            tracing::warn!(%error, container = %id, node = %container.host.name, "an observation could not be committed");
        }
    }

    async fn gone(&self, container: ContainerId, request: RequestId) {
        let cluster = self.cluster();
        let bound = cluster
            .placement(request)
            .and_then(|placement| placement.container);
        if bound == Some(container) && !self.under_way.contains(&request) {
            self.log_failure(self.commit(Command::Remove { request }).await);
        }
    }

    /// A container whose request was given up: if it never ran it is removed, else it stays, as a stranger's.
    async fn latecomer(&self, container: &Container, cause: &Cause) {
        let due = matches!(cause, Cause::Removed { .. });
        if !due && container.state != RunState::Created {
            return self.fleet.inventory.disown(&container.id);
        }
        let Some(host) = self.fleet.host(&container.host.id) else {
            return;
        };
        tracing::info!(container = %container.id, node = %host.tag.name, "removing a container that came too late");
        self.remove_for_good(&host, container.id).await;
    }

    /// What was removed while its node was down is removed there now.
    async fn remove_what_is_due(&self, node: NodeId) {
        let Some(host) = self.fleet.host(&node) else {
            return;
        };
        let due: Vec<_> = self
            .cluster()
            .removals_due_on(node)
            .map(|tombstone| (tombstone.request, tombstone.container))
            .collect();
        for (request, container) in due {
            let removed = match container {
                Some(container) => self.remove_for_good(&host, container).await,
                None => true,
            };
            if removed {
                self.log_failure(self.commit(Command::Settle { request }).await);
            }
        }
    }

    async fn remove_for_good(&self, host: &Arc<Host>, container: ContainerId) -> bool {
        let call =
            EngineCall::delete(format!("/containers/{container}?force=1")).at(ApiVersion::MAX);
        match host.call(call).await {
            Ok(reply)
                if reply.status.is_success() || reply.status == http::StatusCode::NOT_FOUND =>
            {
                self.fleet.inventory.remove(&container);
                true
            }
            Ok(reply) => {
                tracing::warn!(%container, node = %host.tag.name, message = reply.message(), "a removal failed");
                false
            }
            Err(error) => {
                tracing::warn!(%container, %error, "a removal failed");
                false
            }
        }
    }
}

/// Whether its claim is free: one that was made and never started keeps it.
fn has_ended(container: &Container) -> bool {
    matches!(container.state, RunState::Exited | RunState::Dead)
}

/// After a restart of the manager its containers are found by their labels.
fn adoption(manager: &Manager, container: &Container, request: RequestId) -> Option<Command> {
    Some(Command::Adopt {
        promise: Promise {
            request,
            name: container.name(),
            node: container.host.id,
            owner: crate::model::Owner::Plain,
            claim: container.details?.claim,
            ports: Vec::new(),
            networks: Vec::new(),
            volumes: Vec::new(),
            acting: manager.me,
            recipe: None,
        },
        container: container.id,
        claiming: !has_ended(container),
    })
}
