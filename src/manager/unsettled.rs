//! What only a node's engine can settle: whether a container that is not listed is gone, and the removal of what should
//! not be there. Engines fail to answer, so it is tried again until it is settled.
//!
//! **Invariant**: no observation waits for an engine; nothing is forgotten because an engine failed once. What is tried
//! ends with the node's loss, after which its next sync begins anew, or with the manager.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api_compat::ApiVersion;
use http::StatusCode;

use super::Manager;
use super::name_in_use::Presence;
use super::under_way::Mark;
use crate::engine::{self, Container, EngineCall, EngineReply, Host, RunState};
use crate::model::{ContainerId, NodeId, RequestId};
use crate::state::{Cause, Command, Tombstone};

/// An engine may take so long to stop and remove a container.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(30);
/// How often an engine that is at it already is asked whether it has done it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// An engine may take so long to rename one.
const RENAME_PATIENCE: Duration = Duration::from_secs(10);
/// Between the first attempt and the second; from then on twice as long each time,
const AGAIN: Duration = Duration::from_secs(1);
/// but not longer than this.
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// What only a node's engine can settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsettled {
    /// Whether this container, which is promised and not listed, is gone.
    Missing(ContainerId),
    /// The removal of this one, which came too late.
    Late(ContainerId),
    /// The name of this one, which came too late or was given on the node itself, and is another's in the pool.
    Misnamed(ContainerId),
    /// The removals that waited for the node, and what is to be cut off from networks there.
    Due,
}

impl Manager {
    /// Takes in what was observed of a container while a change of ours was under way with it. One that is not
    /// listed may have gone meanwhile, or its engine may not have been heard since: that engine is asked.
    pub(super) async fn catch_up(self: &Arc<Self>, id: ContainerId) {
        if self.fleet.inventory.get(&id).is_some() {
            return self.changed(id).await;
        }
        let node = self.cluster().placement_of(id).map(|p| p.node);
        if let Some(node) = node {
            self.settle_or_go_on(node, Unsettled::Missing(id)).await;
        }
    }

    /// What a sync of the node leaves open: promised containers that it does not list, and removals that waited for it.
    pub(super) async fn settle_node(self: &Arc<Self>, node: NodeId) {
        let cluster = self.cluster();
        let bound = cluster.placements_on(node).filter_map(|p| p.container);
        let missing = bound.filter(|id| self.fleet.inventory.get(id).is_none());
        for container in missing.collect::<Vec<_>>() {
            self.settle_or_go_on(node, Unsettled::Missing(container))
                .await;
        }
        self.settle_or_go_on(node, Unsettled::Due).await;
    }

    /// Something was put off until the node is back, which it may be by now: it was listed before there was anything to do.
    pub(super) async fn settle_if_up(self: &Arc<Self>, host: &Host) {
        if host.is_up() {
            self.settle_or_go_on(host.tag.id, Unsettled::Due).await;
        }
    }

    /// A container whose request was given up is removed if it is that very one; one whose removal is due, when its node is
    /// settled. Labels alone prove nothing, because `docker commit` copies them into images: whatever else
    /// carries them is a stranger's and stays.
    pub(super) fn latecomer(self: &Arc<Self>, container: &Container, tombstone: &Tombstone) {
        if !is_the_very_one(container, tombstone) {
            return self.fleet.inventory.disown(&container.id);
        }
        if tombstone.cause == Cause::RemovalDue {
            // That is under way since its node was listed.
            return;
        }
        let node = &container.host;
        tracing::info!(container = %container.id, node = %node.name, "removing a container that came too late");
        let mark = self.under_way.mark(tombstone.request);
        self.go_on(
            node.id,
            Unsettled::Late(container.id),
            Duration::ZERO,
            Some(mark),
        );
    }

    /// A container of ours has a name that another holds in the pool: its client was told that it is not renamed, and the
    /// name was given away since. It gets the name back that it was promised.
    pub(super) fn misnamed(self: &Arc<Self>, container: &Container, request: RequestId) {
        let node = &container.host;
        tracing::warn!(container = %container.id, node = %node.name, name = container.name(), "undoing a rename: another container has that name");
        let mark = self.under_way.mark(request);
        let what = Unsettled::Misnamed(container.id);
        self.go_on(node.id, what, Duration::ZERO, Some(mark));
    }

    async fn settle_or_go_on(self: &Arc<Self>, node: NodeId, what: Unsettled) {
        if !self.settle(node, what).await {
            self.go_on(node, what, AGAIN, None);
        }
    }

    /// Tries in the background until it is settled. Observations of a request that is marked wait for that.
    fn go_on(
        self: &Arc<Self>,
        node: NodeId,
        what: Unsettled,
        first: Duration,
        mark: Option<Mark<RequestId>>,
    ) {
        let manager = Arc::clone(self);
        let mut stopping = self.tasks.stopping();
        let span = tracing::info_span!("settle", ?what);
        self.tasks.spawn(span, async move {
            let mut pause = first;
            let is_up = || manager.fleet.host(&node).is_some_and(|host| host.is_up());
            loop {
                tokio::select! {
                    biased;
                    () = stopping.wait() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                if !is_up() || manager.settle(node, what).await {
                    break;
                }
                pause = (pause * 2).clamp(AGAIN, AGAIN_AT_MOST);
            }
            drop(mark);
            if let Unsettled::Late(container)
            | Unsettled::Missing(container)
            | Unsettled::Misnamed(container) = what
                && is_up()
            {
                manager.changed(container).await;
            }
        });
    }

    /// One attempt; whether nothing is left to do.
    async fn settle(&self, node: NodeId, what: Unsettled) -> bool {
        match what {
            Unsettled::Missing(container) => {
                self.fleet.inventory.get(&container).is_some()
                    || self.cluster().placement_of(container).is_none()
                    || self.presence(node, container).await == Presence::Gone
            }
            Unsettled::Late(container) => self.remove_late(container).await,
            Unsettled::Misnamed(container) => self.name_as_promised(container).await,
            Unsettled::Due => {
                let removed = self.remove_what_is_due(node).await;
                self.cut_off_what_is_due(node).await && removed
            }
        }
    }

    /// Without force: if somebody has started it meanwhile it is theirs.
    async fn remove_late(&self, id: ContainerId) -> bool {
        let cluster = self.cluster();
        let Some(container) = self.fleet.inventory.get(&id) else {
            return true;
        };
        let request = container.request;
        let stone = request.and_then(|request| cluster.tombstone(request));
        let stone = stone.filter(|stone| is_the_very_one(&container, stone));
        match (stone, self.fleet.host(&container.host.id)) {
            (Some(_), Some(host)) => self.remove_for_good(&host, id, false).await,
            _ => true,
        }
    }

    /// Whether the container is called as it is promised, or has no promise any more.
    async fn name_as_promised(&self, id: ContainerId) -> bool {
        let cluster = self.cluster();
        let (Some(container), Some(placement)) =
            (self.fleet.inventory.get(&id), cluster.placement_of(id))
        else {
            return true;
        };
        let is_called_so = container.names.iter().any(|name| **name == *placement.name);
        let Some(host) = self
            .fleet
            .host(&container.host.id)
            .filter(|_| !is_called_so)
        else {
            return true;
        };
        let target = format!("/containers/{id}/rename?name={}", placement.name);
        let change = host.change(id).await;
        let call = host.call(EngineCall::post(target, None).at(ApiVersion::MAX));
        let renamed = tokio::time::timeout(RENAME_PATIENCE, call).await;
        match renamed.unwrap_or_else(|_| Err(host.no_answer(RENAME_PATIENCE))) {
            Ok(reply) if reply.status.is_success() => {
                change.settle(Some("rename")).await;
                return true;
            }
            Ok(reply) => {
                tracing::warn!(container = %id, node = %host.tag.name, message = reply.message(), "a rename was not undone");
            }
            Err(error) => tracing::warn!(container = %id, %error, "a rename was not undone"),
        }
        change.settle(None).await;
        false
    }

    /// The containers of a node that are removed, but for that its engine was not told yet.
    pub(super) fn removed_on(&self, node: NodeId) -> BTreeSet<ContainerId> {
        let cluster = self.cluster();
        let due = cluster.removals_due_on(node);
        due.filter_map(|stone| stone.container).collect()
    }

    /// What was removed while its node was down is removed there now. Whether nothing is left.
    async fn remove_what_is_due(&self, node: NodeId) -> bool {
        let Some(host) = self.fleet.host(&node) else {
            return true;
        };
        let cluster = self.cluster();
        let due = cluster.removals_due_on(node).map(|stone| {
            let container = stone.container.or_else(|| self.made_unseen(stone));
            (stone.request, container)
        });
        let mut all = true;
        for (request, container) in due.collect::<Vec<(RequestId, _)>>() {
            let removed = match container {
                Some(container) => self.remove_for_good(&host, container, true).await,
                None => true,
            };
            if removed {
                self.log_failure(self.commit(Command::Settle { request }).await);
            }
            all &= removed;
        }
        // Networks that those had joined may be left over.
        self.networks.untidy(node);
        all
    }

    /// The same for those that are known, because a node that is back may not have listed yet what came of the others.
    pub(super) async fn remove_what_is_known_to_be_due(&self, host: &Host) {
        let cluster = self.cluster();
        for stone in cluster.removals_due_on(host.tag.id) {
            if let Some(container) = stone.container
                && self.remove_for_good(host, container, true).await
            {
                let request = stone.request;
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

    async fn remove_for_good(&self, host: &Host, container: ContainerId, force: bool) -> bool {
        let removal = remove(host, container, force);
        let removed = tokio::time::timeout(REMOVAL_PATIENCE, removal).await;
        match removed.unwrap_or_else(|_| Err(host.no_answer(REMOVAL_PATIENCE))) {
            Ok(reply) if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND => {
                self.forget(&container);
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

/// Asks an engine to remove a container. One that is at it already, since it was asked before its node was lost, is asked
/// until it has done so: a node must not be taken to be rid of what it only begins to remove.
async fn remove(
    host: &Host,
    container: ContainerId,
    force: bool,
) -> Result<EngineReply, engine::Error> {
    let target = format!("/containers/{container}?force={force}");
    loop {
        let call = EngineCall::delete(target.clone()).at(ApiVersion::MAX);
        let reply = host.call(call).await?;
        if !is_at_it(reply.status, &reply.message()) {
            return Ok(reply);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether an engine says of a removal that it is doing it.
fn is_at_it(status: StatusCode, message: &str) -> bool {
    status == StatusCode::CONFLICT && message.contains("is already in progress")
}

/// Whether the container is the one that the tombstone is of, and was not taken into use.
fn is_the_very_one(container: &Container, tombstone: &Tombstone) -> bool {
    match tombstone.cause {
        Cause::RemovalDue => tombstone.container == Some(container.id),
        Cause::Released => {
            container.state == RunState::Created
                && tombstone.node == container.host.id
                && container.names.iter().any(|name| **name == *tombstone.name)
        }
        Cause::Removed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_at_it_says_so() {
        let check = |status: u16, message: &str, expected: bool| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(is_at_it(status, message), expected, "{message}");
        };
        // Engine 28.5.2.
        check(409, "removal of container 1f is already in progress", true);
        check(404, "No such container: 1f", false);
        check(204, "", false);
        let runs = "cannot remove container \"1f\": container is running: stop the container before removing or force remove";
        check(409, runs, false);
    }
}
