//! Changes to containers that exist: what is committed before the engine is asked, and after it answered.

use std::sync::Arc;

use super::under_way::Mark;
use super::{Error, Manager};
use crate::engine::{Container, Host, RunState};
use crate::model::generic::Amount;
use crate::model::{
    Caller, ContainerId, NodeId, NodeName, Placement, PortOrigin, PublishedPort, Realm, RequestId,
    Resources, Shortfall,
};
use crate::state::{Change, Command, Keep, Refusal};

/// A change that is under way with a container of ours.
#[derive(Debug)]
pub struct Changing {
    mark: Option<Mark<RequestId>>,
    container: Arc<Container>,
}

/// A claim that changes.
#[derive(Debug, Clone, Copy)]
struct Growth {
    from: Resources,
    to: Resources,
}

impl Growth {
    /// What a node lacks that has so much left of what may be promised. As in a create, no claim may grow beyond the machine,
    /// however much more may be promised.
    fn shortfall(
        self,
        free: Resources,
        capacity: Resources,
        machine: Resources,
    ) -> Option<Shortfall> {
        let more = self.to.saturating_sub(self.from);
        // What does not grow is there already.
        let grown = |to: u64, more: u64| if more > 0 { to } else { 0 };
        let grown = Resources::new(
            grown(self.to.cpu_nanos, more.cpu_nanos),
            grown(self.to.memory_bytes, more.memory_bytes),
        );
        let lacking = more.shortfall(free, capacity);
        lacking.or_else(|| grown.shortfall(machine, machine))
    }
}

impl Manager {
    /// Marks a container as being changed by us; end it with [`Self::changed_by_us`].
    pub fn changing(&self, container: &Arc<Container>) -> Changing {
        let mark = container
            .request
            .map(|request| self.under_way.mark(request));
        Changing {
            mark,
            container: Arc::clone(container),
        }
    }

    /// The engine has answered and the lists show it: what follows for the state is committed.
    pub async fn changed_by_us(self: &Arc<Self>, changing: Changing) {
        let Changing { mark, container } = changing;
        drop(mark);
        self.catch_up(container.id).await;
    }

    /// Before a start: a container that had ended claims its resources again, on its node.
    pub async fn claim_for_start(
        &self,
        container: &Container,
        caller: &Caller,
    ) -> Result<(), Error> {
        let Some(request) = container.request else {
            return Ok(());
        };
        let ended = matches!(container.state, RunState::Exited | RunState::Dead);
        let claims = |placement: &Placement| placement.claiming && !ended;
        // That it ended may be seen and not committed yet: claiming anew makes that commit a stale one.
        if self
            .cluster()
            .placement(request)
            .is_none_or(|one| claims(one))
        {
            return Ok(());
        }
        self.generic_anew(container, request).await?;
        match self.claim_again(request, caller).await {
            // What made room for it may be seen and not committed yet.
            Err(Error::Refused(_) | Error::Impossible(_)) if self.taken_in().await => {
                self.claim_again(request, caller).await
            }
            claimed => claimed,
        }
    }

    /// Of what a container is to have all of, its node may have another number than when it last claimed it.
    async fn generic_anew(&self, container: &Container, request: RequestId) -> Result<(), Error> {
        let cluster = self.cluster();
        let wishes = container.details.as_ref().map(|details| &details.generic);
        let (Some(wishes), Some(placement)) = (wishes, cluster.placement(request)) else {
            return Ok(());
        };
        if placement.claiming || !wishes.iter().any(|(_, amount)| amount == Amount::All) {
            return Ok(());
        }
        let generic = self.generic_claim(wishes, placement.node, &cluster);
        if generic == placement.generic {
            return Ok(());
        }
        self.commit(Command::SetGeneric { request, generic })
            .await
            .map(drop)
    }

    async fn claim_again(&self, request: RequestId, caller: &Caller) -> Result<(), Error> {
        // What is looked at stays so until it is committed.
        let _placing = self.placing.lock().await;
        let placement = self.cluster().placement(request).cloned();
        if let Some(placement) = placement.filter(|placement| !placement.claiming) {
            let growth = Growth {
                from: Resources::ZERO,
                to: placement.claim,
            };
            if let Some((node, short)) = self.lacking(placement.node, growth) {
                return Err(Error::Refused(Refusal::NoRoom { node, short }));
            }
            self.has_generic(&placement)?;
            self.survives_claiming(&placement, placement.claim)?;
        }
        let reclaim = Command::Reclaim {
            request,
            running: false,
        };
        self.commit_for(request, caller.clone(), reclaim)
            .await
            .map(drop)
    }

    /// The host ports whose numbers were chosen for a container.
    pub fn chosen_ports(&self, container: &Container) -> Vec<PublishedPort> {
        let cluster = self.cluster();
        let placement = container
            .request
            .and_then(|request| cluster.placement(request));
        let claims = placement.iter().flat_map(|placement| &placement.ports);
        let chosen = claims.filter(|claim| claim.origin == PortOrigin::Chosen);
        chosen.map(|claim| claim.port).collect()
    }

    /// What is in the way of a container on its node: each host port that it is to publish and another container has.
    pub fn ports_in_the_way(&self, container: &Container) -> Vec<String> {
        let cluster = self.cluster();
        let Some(placement) = container
            .request
            .and_then(|request| cluster.placement(request))
        else {
            return Vec::new();
        };
        let holder = |port: &PublishedPort| {
            let promised = cluster.ports().holder_on(placement.node, port);
            let promised = promised.and_then(|hold| cluster.placement(hold.request));
            let promised = promised.filter(|holder| holder.request != placement.request);
            let in_use = || {
                let user = self.fleet.inventory.publisher(&placement.node, port)?;
                (user.id != container.id).then(|| user.name())
            };
            promised.map(|holder| holder.name.clone()).or_else(in_use)
        };
        let claims = placement.ports.iter().map(|claim| &claim.port);
        claims
            .filter_map(|port| Some(format!("{port} is taken by container {}", holder(port)?)))
            .collect()
    }

    /// Before an update: the node must have room for what the container will claim.
    pub async fn claim_for_update(
        &self,
        container: &Container,
        claim: Resources,
        caller: &Caller,
    ) -> Result<(), Error> {
        let Some(request) = container.request else {
            return Ok(());
        };
        let _placing = self.placing.lock().await;
        let before = self.cluster().placement(request).cloned();
        if let Some(before) = before.filter(|placement| placement.claiming) {
            let growth = Growth {
                from: before.claim,
                to: claim,
            };
            if let Some((node, short)) = self.lacking(before.node, growth) {
                return Err(Error::NoRoomToGrow {
                    container: container.name(),
                    node,
                    claim: claim.of(short.kind),
                    short,
                });
            }
            self.survives_claiming(&before, claim)?;
        }
        match self
            .commit_for(
                request,
                caller.clone(),
                Command::SetClaim {
                    request,
                    claim,
                    observed: false,
                },
            )
            .await
        {
            Ok(_) | Err(Error::Refused(Refusal::NoSuchPlacement { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// After an update that failed: the engine gives the container what it gave before, whatever was promised meanwhile.
    pub async fn claims_as_before(&self, container: &Container, claim: Resources, caller: &Caller) {
        let Some(request) = container.request else {
            return;
        };
        let before = Command::SetClaim {
            request,
            claim,
            observed: true,
        };
        match self.commit_for(request, caller.clone(), before).await {
            Ok(_) | Err(Error::Refused(Refusal::NoSuchPlacement { .. })) => {}
            Err(error) => {
                tracing::warn!(%error, container = %container.id, "a claim could not be taken back");
            }
        }
    }

    /// What a node lacks for a claim that grows, beside what runs there behind our back, of which the state knows nothing.
    fn lacking(&self, node: NodeId, growth: Growth) -> Option<(NodeName, Shortfall)> {
        let cluster = self.cluster();
        let known = cluster.node(node)?;
        let unmanaged = self.fleet.inventory.counts(&node).unmanaged_claims;
        let free = cluster.free(node).saturating_sub(unmanaged);
        let machine = known.engine.as_ref().map(|engine| engine.capacity);
        let short = growth.shortfall(free, known.capacity(), machine.unwrap_or(Resources::ZERO))?;
        Some((known.name.clone(), short))
    }

    /// What the container claims now.
    pub fn claim_of(&self, container: &Container) -> Resources {
        let promised = container
            .request
            .and_then(|request| self.cluster().placement(request).map(|p| p.claim));
        promised
            .or(container.details.as_ref().map(|details| details.claim))
            .unwrap_or(Resources::ZERO)
    }

    /// Before a rename: holds the new name.
    pub async fn begin_rename(
        &self,
        container: &Container,
        new_name: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.name_is_free(new_name, Some(container)).await?;
        let Some(request) = container
            .request
            .filter(|request| self.cluster().placement(*request).is_some())
        else {
            return Ok(());
        };
        let new_name = new_name.to_owned();
        match self
            .commit_for(
                request,
                caller.clone(),
                Command::BeginRename {
                    request,
                    new_name: new_name.clone(),
                },
            )
            .await
        {
            Err(Error::Refused(Refusal::NameTaken { container, .. })) => Err(Error::NameInUse {
                name: new_name,
                holder: container,
            }),
            other => other.map(drop),
        }
    }

    /// After a rename: lets go of one of the names.
    pub async fn end_rename(&self, container: &Container, renamed: bool) {
        if let Some(request) = container
            .request
            .filter(|request| self.cluster().placement(*request).is_some())
        {
            let keep = if renamed { Keep::New } else { Keep::Old };
            self.log_failure(self.commit(Command::EndRename { request, keep }).await);
        }
    }

    /// After a removal: the name and all else that it held are free.
    pub async fn removed(&self, container: &Container, caller: &Caller) -> Result<(), Error> {
        self.end_promise(container, caller).await.map(drop)
    }

    /// Removes a container of a node that is down: its name is free from now on, and its engine removes it
    /// when it is back.
    pub async fn remove_later(
        self: &Arc<Self>,
        host: &Host,
        container: &Container,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.note_down(host).await?;
        match self.end_promise(container, caller).await? {
            Some(Change::Removed { deferred: true, .. }) => {
                self.settle_if_up(host).await;
                Ok(())
            }
            // It was never promised, so nobody would remember to remove it.
            _ => Err(host.lost().await.into()),
        }
    }

    /// What is promised under this reference (a name, `node/name`, or an id or its beginning) and was not seen since:
    /// its node went down before it was listed, or has been down since this manager began.
    pub fn out_of_sight(&self, reference: &str) -> Option<(Arc<Host>, Arc<Placement>)> {
        let cluster = self.cluster();
        let bare = reference.strip_prefix('/').unwrap_or(reference);
        let (node, name) = match bare.split_once('/') {
            Some((node, name)) => (Some(node), name),
            None => (None, bare),
        };
        let by_id = || {
            let mut placements = cluster.placements_by_prefix(bare);
            placements.next().filter(|_| placements.next().is_none())
        };
        let placement = cluster
            .placement_named(Realm::DEFAULT, name)
            .or_else(by_id)?;
        let host = self.fleet.host(&placement.node)?;
        let is_meant = node.is_none_or(|node| host.tag.is(node));
        let shown = |id| self.fleet.inventory.get(&id).is_some();
        let unseen = !placement.container.is_some_and(shown);
        let unheard = !host.is_up() || !host.is_synced();
        (is_meant && unseen && unheard).then(|| (host, Arc::clone(placement)))
    }

    /// Removes what is [out of sight](Self::out_of_sight): its name is free from now on, and its engine removes it
    /// when it is back.
    pub async fn remove_out_of_sight(
        self: &Arc<Self>,
        host: &Host,
        placement: &Placement,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.note_down(host).await?;
        let request = placement.request;
        let remove = Command::Remove { request };
        self.commit_for(request, caller.clone(), remove).await?;
        self.settle_if_up(host).await;
        Ok(())
    }

    /// A removal is put off only for a node that is down in the state too.
    async fn note_down(&self, host: &Host) -> Result<(), Error> {
        let node = host.tag.id;
        if !self.cluster().node(node).is_some_and(|node| node.is_down()) {
            let reason = host.health().reason;
            self.commit(Command::JudgeDown { node, reason }).await?;
        }
        Ok(())
    }

    /// Ends the promise that the container holds, if it is the one that holds it: others carry copies of
    /// its labels.
    async fn end_promise(
        &self,
        container: &Container,
        caller: &Caller,
    ) -> Result<Option<Change>, Error> {
        let Some(request) = container.request else {
            return Ok(None);
        };
        let bound = self.cluster().placement(request).and_then(|p| p.container);
        if bound.is_some_and(|bound| bound != container.id) {
            return Ok(None);
        }
        let remove = Command::Remove { request };
        match self.commit_for(request, caller.clone(), remove).await {
            Ok(change) => Ok(Some(change)),
            Err(Error::Refused(Refusal::NoSuchPlacement { .. } | Refusal::Tombstoned { .. })) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a container out of the lists that its engine says is gone. Networks may be left over of it, whatever the
    /// cluster had promised it.
    pub(super) fn forget(&self, id: &ContainerId) -> Option<Arc<Container>> {
        let gone = self.fleet.inventory.remove(id)?;
        if !gone.networks.is_empty() {
            self.networks.untidy(gone.host.id);
        }
        Some(gone)
    }

    /// An engine said that it removed the container with this id, as part of a prune. What it was promised ends with that,
    /// even if its event was quicker: the client prunes networks and volumes next.
    pub async fn observed_removal(&self, host: &Host, id: &str) {
        let Ok(id) = id.parse() else { return };
        self.forget(&id);
        let promised = self.cluster().placement_of(id).map(|p| p.node);
        if promised == Some(host.tag.id) {
            self.gone(id).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_grows_as_far_as_its_node_and_its_machine_go() {
        const CPU: u64 = 1_000_000_000;
        const GIB: u64 = 1 << 30;
        // Twice the machine may be promised.
        let machine = Resources::new(4 * CPU, 24 * GIB);
        let capacity = Resources::new(8 * CPU, 48 * GIB);
        let check = |from: (u64, u64), to: (u64, u64), free: u64, expected: &str| {
            let read = |(cpus, gib)| Resources::new(cpus * CPU, gib * GIB);
            let growth = Growth {
                from: read(from),
                to: read(to),
            };
            let short = growth.shortfall(read((8, free)), capacity, machine);
            assert_eq!(
                short.map_or_else(String::new, |short| short.to_string()),
                expected
            );
        };
        check((1, 20), (1, 24), 4, "");
        check((1, 20), (1, 24), 3, "need 4GiB, 3GiB free of 48GiB");
        check((1, 23), (1, 30), 25, "need 30GiB, 24GiB free of 24GiB");
        check((1, 1), (5, 1), 25, "need 5 CPUs, 4 free of 4");
        check((0, 0), (0, 25), 48, "need 25GiB, 24GiB free of 24GiB");
        // The machine has become smaller: what is claimed stays, and may become less.
        check((1, 30), (2, 30), 0, "");
        check((6, 30), (5, 28), 0, "");
    }
}
