//! Commits what the engines report about containers of ours: that they ended, run again, are gone, or were
//! found after a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::networks::{adopted, joining};
use super::placing::exposed_claim;
use super::{Error, Manager};
use crate::engine::{Container, Observation, RunState};
use crate::model::{ContainerId, NodeId, Placement, RequestId, Resources};
use crate::state::{Command, Keep, Promise, Refusal};
use crate::tasks::{Stopping, spawn_stream};

/// How long what is refused waits for what was observed before it.
const TAKING_IN_PATIENCE: Duration = Duration::from_secs(1);

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
                    if !self.under_way.contains(&request) {
                        self.gone(container).await;
                    }
                }
                Some(Observation::Synced(node)) => {
                    self.resolve_reservations(node).await;
                    self.volumes_listed(node);
                    // Engines may take long to answer, or to remove a container: the other nodes do not wait for that.
                    let manager = Arc::clone(&self);
                    let settling = self.settling.mark(node);
                    spawn_stream(tracing::info_span!("removals"), async move {
                        manager.settle_node(node).await;
                        manager.remove_volumes_due(node).await;
                        manager.remove_images_due(node).await;
                        manager.untag_moved_on(node).await;
                        manager.networks.untidy(node);
                        drop(settling);
                        manager.counted(node).await;
                    });
                }
                Some(Observation::Networks(node)) => self.networks.untidy(node),
                Some(Observation::VolumesListed(node)) => self.volumes_listed(node),
                Some(Observation::Counted(node)) => self.counted(node).await,
                Some(Observation::Mark(taken_in)) => drop(taken_in.send(())),
            }
        }
    }

    /// A node whose containers are all listed and counted takes work, once what was put off there was tried.
    async fn counted(&self, node: NodeId) {
        if self.settling.contains(&node) {
            return;
        }
        let host = self.fleet.host(&node);
        if let Some(host) = host.filter(|host| host.is_counted() && host.is_up()) {
            self.note_ready(&host).await;
        }
    }

    /// Looks at a container again, now that nothing of ours is under way with it, until what is promised
    /// agrees with what is seen.
    pub(super) async fn changed(self: &Arc<Self>, id: ContainerId) {
        while let Some(command) = self.follows_from(id).await {
            let adopting = matches!(command, Command::Adopt { .. });
            let renamed = match &command {
                Command::BeginRename { request, .. } => Some(*request),
                _ => None,
            };
            match self.commit(command).await {
                Ok(_) => {}
                // Its node was away while somebody else got the name: it is a stranger, and counts as one.
                Err(Error::Refused(error @ Refusal::NameTaken { .. })) if adopting => {
                    tracing::warn!(%error, container = %id, "a container of ours is not taken back");
                    return self.fleet.inventory.disown(&id);
                }
                Err(Error::Refused(Refusal::NameTaken { .. })) if let Some(request) = renamed => {
                    if let Some(container) = self.fleet.inventory.get(&id) {
                        self.misnamed(&container, request);
                    }
                    return;
                }
                Err(error) => {
                    return tracing::warn!(%error, container = %id, "an observation could not be committed");
                }
            }
        }
    }

    /// The next command that follows from what is seen of a container.
    async fn follows_from(self: &Arc<Self>, id: ContainerId) -> Option<Command> {
        let cluster = self.cluster();
        let container = self.fleet.inventory.get(&id)?;
        let request = container
            .request
            .filter(|request| !self.under_way.contains(request))?;
        let Some(placement) = cluster.placement(request) else {
            match cluster.tombstone(request) {
                Some(tombstone) => self.latecomer(&container, tombstone),
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
            // What is shown of a node that has listed nothing yet is what was promised there.
            Some(_) if !self.has_listed(placement.node) => None,
            Some(_) => renaming(&container, placement)
                .or_else(|| updating(&container, placement))
                .or_else(|| {
                    // A node that is down may yet do what it was asked last: where it is connected shows when it is back.
                    let is_up = self.is_up(placement.node);
                    is_up.then(|| joining(&container, placement, &cluster))?
                }),
        }
    }

    fn has_listed(&self, node: NodeId) -> bool {
        let host = self.fleet.host(&node);
        host.is_some_and(|host| host.is_synced())
    }

    /// A container is gone from its engine: what it was promised ends.
    pub(super) async fn gone(&self, container: ContainerId) {
        let cluster = self.cluster();
        let Some(placement) = cluster.placement_of(container) else {
            return;
        };
        let request = placement.request;
        match self.commit(Command::Remove { request }).await {
            // Somebody else who saw it was quicker.
            Err(Error::Refused(Refusal::NoSuchPlacement { .. } | Refusal::Tombstoned { .. })) => {}
            committed => self.log_failure(committed),
        }
    }

    /// A client is about to be told that a container has ended, or is gone: what it asks for next finds that it claims,
    /// publishes and joins nothing any more.
    pub async fn ended(self: &Arc<Self>, container: ContainerId) {
        if self.fleet.inventory.get(&container).is_some() {
            self.changed(container).await;
        } else {
            self.gone(container).await;
        }
    }

    /// Returns once all that was observed by now is taken in. False if that has changed nothing, or takes too long.
    pub(super) async fn taken_in(&self) -> bool {
        let before = self.cluster();
        let all = tokio::time::timeout(TAKING_IN_PATIENCE, self.fleet.observations_taken_in());
        all.await.is_ok() && !Arc::ptr_eq(&before, &self.cluster())
    }

    /// Reservations on the node that nobody works on any more, because the manager was stopped in between: bound if
    /// the container is there, else given up. One that comes yet is known by the tombstone.
    async fn resolve_reservations(self: &Arc<Self>, node: NodeId) {
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

/// What it may use was changed on the node itself, so it claims that. What it does not state it may claim by default.
fn updating(container: &Container, placement: &Placement) -> Option<Command> {
    let details = container.details.as_ref();
    let stated = details.filter(|details| !details.outdated)?.claim;
    let or = |stated: u64, known| if stated > 0 { stated } else { known };
    let known = placement.claim;
    let claim = Resources::new(
        or(stated.cpu_nanos, known.cpu_nanos),
        or(stated.memory_bytes, known.memory_bytes),
    );
    (claim != known).then_some(Command::SetClaim {
        request: placement.request,
        claim,
        observed: true,
    })
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
    let details = container.details.as_ref()?;
    let node = container.host.id;
    let cluster = manager.cluster();
    Some(Command::Adopt {
        promise: Promise {
            request,
            name: container.name(),
            node,
            owner: crate::model::Owner::Plain,
            claim: manager.settings.placing.claim(details.claim),
            generic: manager.generic_claim(&details.generic, node, &cluster),
            ports: details.exposed.iter().copied().map(exposed_claim).collect(),
            networks: adopted(container, &cluster),
            volumes: Vec::new(),
            new_volumes: Vec::new(),
            replaces: None,
            acting: manager.me,
            recipe: None,
        },
        container: container.id,
        claiming: !has_ended(container),
    })
}
