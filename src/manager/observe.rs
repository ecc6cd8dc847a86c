//! Commits what the engines report about containers of ours: that they ended, run again, are gone, or were
//! found after a restart.

use std::sync::Arc;
use std::time::Duration;

use api_compat::ApiVersion;
use tokio::sync::mpsc;

use super::{Error, Manager};
use crate::engine::{Container, EngineCall, Host, Observation, RunState};
use crate::model::{ContainerId, NodeId, Placement, RequestId};
use crate::state::{Cause, Command, Keep, Promise, Refusal, Tombstone};
use crate::tasks::{Stopping, spawn_stream};

/// An engine may take so long to stop and remove a container.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(30);

impl Manager {
    /// Takes in observations, one after the other, until the manager stops.
    pub(super) async fn observe(
        self: Arc<Self>,
        mut observed: mpsc::Receiver<Observation>,
        mut stopping: Stopping,
    ) {
        loop {
            let observation = tokio::select! {
                biased;
                () = stopping.wait() => return,
                observation = observed.recv() => observation,
            };
            match observation {
                None => return,
                Some(Observation::Changed(container)) => self.changed(container).await,
                Some(Observation::Gone { container, request }) => {
                    self.gone(container, request).await
                }
                Some(Observation::Synced(node)) => {
                    self.resolve_reservations(node).await;
                    // Engines may take long to answer, or to remove a container: the other nodes do not wait for that.
                    let manager = Arc::clone(&self);
                    spawn_stream(tracing::info_span!("removals"), async move {
                        manager.forget_what_is_missing(node).await;
                        manager.remove_what_is_due(node).await;
                        manager.counted(node).await;
                    });
                }
                Some(Observation::Counted(node)) => self.counted(node).await,
            }
        }
    }

    /// A node whose containers are all listed and counted takes work.
    async fn counted(&self, node: NodeId) {
        let host = self.fleet.host(&node);
        if let Some(host) = host.filter(|host| host.is_counted() && host.is_up()) {
            self.note_ready(&host).await;
        }
    }

    /// Takes in what was observed of a container while a change of ours was under way with it. One that is not
    /// listed may have gone meanwhile, or its engine may not have been heard since: only that engine knows.
    pub(super) async fn catch_up(&self, id: ContainerId) {
        if self.fleet.inventory.get(&id).is_some() {
            return self.changed(id).await;
        }
        let node = self
            .cluster()
            .placement_of(id)
            .map(|placement| placement.node);
        if let Some(node) = node {
            self.still_exists(node, id).await;
        }
    }

    /// Looks at a container again, now that nothing of ours is under way with it, until what is promised
    /// agrees with what is seen.
    pub(super) async fn changed(&self, id: ContainerId) {
        while let Some(command) = self.follows_from(id).await {
            let adopting = matches!(command, Command::Adopt { .. });
            match self.commit(command).await {
                Ok(_) => {}
                // Its node was away while somebody else got the name: it is a stranger, and counts as one.
                Err(Error::Refused(error @ Refusal::NameTaken { .. })) if adopting => {
                    tracing::warn!(%error, container = %id, "a container of ours is not taken back");
                    return self.fleet.inventory.disown(&id);
                }
                Err(error) => {
                    return tracing::warn!(%error, container = %id, "an observation could not be committed");
                }
            }
        }
    }

    /// The next command that follows from what is seen of a container.
    async fn follows_from(&self, id: ContainerId) -> Option<Command> {
        let cluster = self.cluster();
        let container = self.fleet.inventory.get(&id)?;
        let request = container
            .request
            .filter(|request| !self.under_way.contains(request))?;
        let Some(placement) = cluster.placement(request) else {
            match cluster.tombstone(request) {
                Some(tombstone) => self.latecomer(&container, tombstone).await,
                // If its claim is not known yet, it is looked at again once it is.
                None => return adoption(self, &container, request),
            }
            return None;
        };
        match placement.container {
            None if is_made_for(&container, placement) => Some(Command::Bind {
                request,
                container: id,
            }),
            None => {
                self.fleet.inventory.disown(&id);
                None
            }
            Some(bound) if bound != id => {
                // Made of an image that was committed from one of ours.
                self.fleet.inventory.disown(&id);
                None
            }
            Some(_) if placement.claiming && has_ended(&container) => Some(Command::Exited {
                request,
                run: placement.run,
            }),
            Some(_) if !placement.claiming && container.state.is_up() => Some(Command::Reclaim {
                request,
                running: true,
            }),
            Some(_) => renaming(&container, placement),
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

    /// Containers of ours that a node no longer has, whatever was heard of them: their promises end.
    async fn forget_what_is_missing(&self, node: NodeId) {
        let cluster = self.cluster();
        let bound = cluster.placements_on(node).filter_map(|p| p.container);
        let missing = bound.filter(|id| self.fleet.inventory.get(id).is_none());
        for container in missing.collect::<Vec<_>>() {
            self.catch_up(container).await;
        }
    }

    /// Reservations on the node that nobody works on any more, because the manager was stopped in between: bound if
    /// the container is there, else given up. One that comes yet is known by the tombstone.
    async fn resolve_reservations(&self, node: NodeId) {
        let cluster = self.cluster();
        let left = cluster
            .placements_on(node)
            .filter(|placement| placement.container.is_none())
            .filter(|placement| !self.under_way.contains(&placement.request));
        for placement in left {
            let request = placement.request;
            for container in self.fleet.inventory.named(&placement.name) {
                if container.request == Some(request) {
                    self.changed(container.id).await;
                }
            }
            let cluster = self.cluster();
            let placement = cluster.placement(request);
            if placement.is_some_and(|placement| placement.container.is_none()) {
                tracing::info!(%request, "giving up a reservation that nothing came of");
                self.log_failure(self.commit(Command::Release { request }).await);
            }
        }
    }

    /// A container whose request was given up, or whose removal is due: it is removed if it is that very
    /// one. Labels alone prove nothing, because `docker commit` copies them into images: whatever else
    /// carries them is a stranger's and stays.
    async fn latecomer(&self, container: &Container, tombstone: &Tombstone) {
        let the_very_one = match tombstone.cause {
            Cause::RemovalDue => tombstone.container == Some(container.id),
            Cause::Released => {
                container.state == RunState::Created
                    && tombstone.node == container.host.id
                    && container.names.iter().any(|name| **name == *tombstone.name)
            }
            Cause::Removed => false,
        };
        let host = self.fleet.host(&container.host.id).filter(|_| the_very_one);
        let Some(host) = host else {
            return self.fleet.inventory.disown(&container.id);
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
            .map(|tombstone| {
                (
                    tombstone.request,
                    tombstone.container.or_else(|| self.made_unseen(tombstone)),
                )
            })
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

    /// What came of a request that was given up while its node was down, before anybody knew whether anything had.
    fn made_unseen(&self, tombstone: &Tombstone) -> Option<ContainerId> {
        let named = self.fleet.inventory.named(&tombstone.name);
        let made = named.iter().find(|container| {
            container.request == Some(tombstone.request)
                && container.host.id == tombstone.node
                && container.state == RunState::Created
        });
        made.map(|container| container.id)
    }

    async fn remove_for_good(&self, host: &Arc<Host>, container: ContainerId) -> bool {
        let call =
            EngineCall::delete(format!("/containers/{container}?force=1")).at(ApiVersion::MAX);
        let removed = tokio::time::timeout(REMOVAL_PATIENCE, host.call(call)).await;
        match removed.unwrap_or_else(|_| Err(host.no_answer(REMOVAL_PATIENCE))) {
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

/// Whether it is what the reservation was for: labels alone prove nothing.
fn is_made_for(container: &Container, placement: &Placement) -> bool {
    container.host.id == placement.node
        && container.names.iter().any(|name| **name == *placement.name)
}

/// A name that was changed on the node itself, or whose change was not recorded, is taken over.
fn renaming(container: &Container, placement: &Placement) -> Option<Command> {
    let request = placement.request;
    let name = container.names.first()?;
    match &placement.renaming {
        Some(new_name) => {
            let keep = if **new_name == **name {
                Keep::New
            } else {
                Keep::Old
            };
            Some(Command::EndRename { request, keep })
        }
        None if *placement.name == **name => None,
        None => Some(Command::BeginRename {
            request,
            new_name: name.to_string(),
        }),
    }
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
