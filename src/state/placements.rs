//! Commands about placements: from a reservation to its end.

use crate::model::generic::Counts;
use crate::model::{
    Availability, BlobId, ContainerId, Name, NameHolder, NameKind, NodeId, Placement, PortClaim,
    PublishedPort, Realm, RequestId, Resources,
};

use super::Cluster;
use super::command::{Keep, Promise};
use super::ports::is_held;
use super::refusal::{Change, Refusal};
use super::tombstones::{Cause, Tombstone};

impl Cluster {
    pub(super) fn reserve(&mut self, realm: Realm, promise: Promise) -> Result<Change, Refusal> {
        let request = promise.request;
        self.is_not_over(request)?;
        if let Some(before) = self.placements.get(&request) {
            self.is_the_same(before, &promise)?;
            return Ok(Change::Placement(request));
        }
        let node = self.expect_node(promise.node)?;
        if !node.is_ready() {
            let verdict = node.verdict.clone();
            return Err(Refusal::NodeNotReady {
                node: node.name.clone(),
                verdict,
            });
        }
        if node.availability != Availability::Active {
            let availability = node.availability;
            return Err(Refusal::NodeNotActive {
                node: node.name.clone(),
                availability,
            });
        }
        self.promise_can_be_kept(realm, &promise)?;
        self.chosen_are_unique(request, &promise.ports)?;
        self.ports_are_free(promise.node, request, promise.ports.iter())?;
        let Some(predecessor) = self.predecessor(&promise).cloned() else {
            self.has_room(promise.node, promise.claim)?;
            self.has_generic(promise.node, &promise.generic)?;
            self.keep_promise(realm, promise, None, true);
            return Ok(Change::Placement(request));
        };
        let more = promise.claim.saturating_sub(predecessor.claim);
        self.has_room(promise.node, more)?;
        let more = promise.generic.beyond(&predecessor.generic);
        self.has_generic(promise.node, &more)?;
        self.keep_promise(realm, promise, None, false);
        self.put(Placement {
            successor: Some(request),
            ..predecessor
        });
        Ok(Change::Placement(request))
    }

    /// The placement that still claims in the place of a new one.
    fn predecessor(&self, promise: &Promise) -> Option<&Placement> {
        let replaced = self.placements.get(&promise.replaces?)?;
        (replaced.claiming && replaced.node == promise.node).then_some(replaced)
    }

    /// A placement claims no more: the one that waits to take its place does, unless it was started already, or asks for
    /// more than there is now: then its start is refused.
    fn hand_over(&mut self, ended: &Placement) {
        let successor = ended.successor.filter(|_| ended.claiming);
        let Some(next) = successor.and_then(|request| self.placements.get(&request)) else {
            return;
        };
        let never_claimed = !next.claiming && next.run == 1;
        let fits = self.has_room(next.node, next.claim).is_ok()
            && self.has_generic(next.node, &next.generic).is_ok()
            && self
                .ports_are_free(next.node, next.request, next.ports.iter())
                .is_ok();
        if never_claimed && fits {
            let next = Placement {
                claiming: true,
                run: next.run.saturating_add(1),
                ..Placement::clone(next)
            };
            self.put(next);
        }
    }

    /// A container that exists takes the room it takes, so room is no reason to refuse it; a name,
    /// port or volume that another placement holds is.
    pub(super) fn adopt(
        &mut self,
        realm: Realm,
        promise: Promise,
        container: ContainerId,
        claiming: bool,
    ) -> Result<Change, Refusal> {
        let request = promise.request;
        self.is_not_over(request)?;
        if let Some(before) = self.placements.get(&request) {
            self.is_the_same(before, &promise)?;
            return self.bind(request, container);
        }
        self.expect_node(promise.node)?;
        self.container_is_free(container, request)?;
        self.promise_can_be_kept(realm, &promise)?;
        let held = promise
            .ports
            .iter()
            .filter(|claim| is_held(claim, claiming));
        self.ports_are_free(promise.node, request, held)?;
        self.keep_promise(realm, promise, Some(container), claiming);
        Ok(Change::Placement(request))
    }

    pub(super) fn bind(
        &mut self,
        request: RequestId,
        container: ContainerId,
    ) -> Result<Change, Refusal> {
        self.is_not_over(request)?;
        let placement = self.expect_placement(request)?;
        match placement.container {
            Some(before) if before == container => return Ok(Change::Placement(request)),
            Some(before) => {
                let node = self.node_label(placement.node);
                return Err(Refusal::Bound {
                    request,
                    container: before,
                    node,
                });
            }
            None => {}
        }
        self.container_is_free(container, request)?;
        let container = Some(container);
        let placement = Placement {
            container,
            ..placement.clone()
        };
        self.volumes_are_made(&placement);
        self.put(placement);
        Ok(Change::Placement(request))
    }

    pub(super) fn release(&mut self, request: RequestId) -> Result<Change, Refusal> {
        let Some(placement) = self.placements.get(&request) else {
            return Ok(self.removed(request));
        };
        if let Some(container) = placement.container {
            let node = self.node_label(placement.node);
            return Err(Refusal::Bound {
                request,
                container,
                node,
            });
        }
        self.end(request, Cause::Released);
        Ok(self.removed(request))
    }

    pub(super) fn remove(&mut self, request: RequestId) -> Result<Change, Refusal> {
        let Some(placement) = self.placements.get(&request) else {
            return Ok(self.removed(request));
        };
        let down = self
            .nodes
            .get(&placement.node)
            .is_some_and(|node| node.is_down());
        self.end(
            request,
            if down {
                Cause::RemovalDue
            } else {
                Cause::Removed
            },
        );
        Ok(self.removed(request))
    }

    pub(super) fn settle(&mut self, request: RequestId) -> Result<Change, Refusal> {
        if let Some(stone) = self.tombstones.get(request).cloned() {
            // Not forgotten at once: what was sent before may still arrive.
            self.tombstones.add(
                self.now,
                Tombstone {
                    cause: Cause::Removed,
                    ..stone
                },
            );
        }
        Ok(self.removed(request))
    }

    pub(super) fn begin_rename(
        &mut self,
        request: RequestId,
        new_name: String,
    ) -> Result<Change, Refusal> {
        let placement = self.expect_placement(request)?;
        match &placement.renaming {
            Some(pending) if *pending == new_name => return Ok(Change::Placement(request)),
            Some(pending) => {
                return Err(Refusal::RenamePending {
                    name: placement.name.clone(),
                    new_name: pending.clone(),
                    node: self.node_label(placement.node),
                });
            }
            None => {}
        }
        // A container's own name is taken too, as an engine has it.
        self.name_is_free(placement.realm, &new_name)?;
        let renaming = Some(new_name);
        self.put(Placement {
            renaming,
            ..placement.clone()
        });
        Ok(Change::Placement(request))
    }

    pub(super) fn end_rename(&mut self, request: RequestId, keep: Keep) -> Result<Change, Refusal> {
        let placement = self.expect_placement(request)?;
        let Some(new_name) = &placement.renaming else {
            return Ok(Change::Placement(request));
        };
        let name = match keep {
            Keep::Old => &placement.name,
            Keep::New => new_name,
        };
        let name = name.clone();
        self.put(Placement {
            name,
            renaming: None,
            ..placement.clone()
        });
        Ok(Change::Placement(request))
    }

    pub(super) fn set_claim(
        &mut self,
        request: RequestId,
        claim: Resources,
        observed: bool,
    ) -> Result<Change, Refusal> {
        let placement = self.expect_placement(request)?;
        if placement.claiming && !observed {
            // Only what grows is asked for: less is always granted, even where there is too little.
            let more = Resources::new(
                claim.cpu_nanos.saturating_sub(placement.claim.cpu_nanos),
                claim
                    .memory_bytes
                    .saturating_sub(placement.claim.memory_bytes),
            );
            self.has_room(placement.node, more)?;
        }
        self.put(Placement {
            claim,
            ..placement.clone()
        });
        Ok(Change::Placement(request))
    }

    pub(super) fn set_generic(
        &mut self,
        request: RequestId,
        generic: Counts,
    ) -> Result<Change, Refusal> {
        let placement = self.expect_placement(request)?;
        if !placement.claiming {
            self.put(Placement {
                generic,
                ..placement.clone()
            });
        }
        Ok(Change::Placement(request))
    }

    pub(super) fn exited(&mut self, request: RequestId, run: u32) -> Result<Change, Refusal> {
        let placement = self.expect_placement(request)?;
        if placement.run != run {
            let node = self.node_label(placement.node);
            return Err(Refusal::Stale {
                name: placement.name.clone(),
                node,
            });
        }
        let ended = placement.clone();
        self.put(Placement {
            claiming: false,
            successor: None,
            ..ended.clone()
        });
        self.hand_over(&ended);
        Ok(Change::Placement(request))
    }

    pub(super) fn reclaim(&mut self, request: RequestId, running: bool) -> Result<Change, Refusal> {
        let placement = self.expect_placement(request)?;
        if !placement.claiming {
            self.ports_are_free(placement.node, request, placement.ports.iter())?;
            // What runs takes the room it takes.
            if !running {
                self.has_room(placement.node, placement.claim)?;
                self.has_generic(placement.node, &placement.generic)?;
            }
        }
        // Also when it claims already: an exit that was seen before this start must not undo it.
        let run = placement.run.saturating_add(1);
        self.put(Placement {
            claiming: true,
            run,
            ..placement.clone()
        });
        Ok(Change::Placement(request))
    }

    /// A recipe that came with a reservation that was refused, or had one already, is kept for nothing.
    pub(super) fn release_unless_kept(&mut self, request: RequestId, recipe: Option<BlobId>) {
        let kept = self.placements.get(&request).and_then(|p| p.recipe);
        self.released
            .extend(recipe.filter(|recipe| kept != Some(*recipe)));
    }

    fn keep_promise(
        &mut self,
        realm: Realm,
        promise: Promise,
        container: Option<ContainerId>,
        claiming: bool,
    ) {
        let Promise {
            request,
            name,
            node,
            owner,
            claim,
            generic,
            ports,
            acting,
            recipe,
            ..
        } = promise;
        let (mut networks, mut volumes) = (promise.networks, promise.volumes);
        networks.sort_unstable();
        networks.dedup();
        volumes.sort_unstable();
        volumes.dedup();
        for network in &networks {
            self.bind_network(*network, node);
        }
        for volume in &volumes {
            self.mount(realm, volume, node, &promise.new_volumes);
        }
        let placement = Placement {
            request,
            realm,
            name,
            renaming: None,
            node,
            container,
            owner,
            generation: 1,
            past: Vec::new(),
            claim,
            generic,
            claiming,
            run: 1,
            ports,
            networks,
            leaving: Vec::new(),
            volumes,
            successor: None,
            acting,
            recipe,
            at: self.now,
            version: 1,
        };
        if container.is_some() {
            self.volumes_are_made(&placement);
        }
        self.put(placement);
    }

    fn end(&mut self, request: RequestId, cause: Cause) {
        let Some(placement) = self.take(request) else {
            return;
        };
        self.let_go_of_volumes(&placement);
        let stone = Tombstone {
            request,
            node: placement.node,
            container: placement.container,
            name: placement.name.clone(),
            cause,
            until: self.now,
        };
        self.tombstones.add(self.now, stone);
        self.hand_over(&placement);
    }

    fn removed(&self, request: RequestId) -> Change {
        let cause = self.tombstones.get(request).map(|stone| stone.cause);
        Change::Removed {
            request,
            deferred: cause == Some(Cause::RemovalDue),
        }
    }

    pub(super) fn expect_placement(&self, request: RequestId) -> Result<&Placement, Refusal> {
        self.placements
            .get(&request)
            .map(AsRef::as_ref)
            .ok_or(Refusal::NoSuchPlacement { request })
    }

    fn is_not_over(&self, request: RequestId) -> Result<(), Refusal> {
        match self.tombstones.get(request) {
            Some(stone) => Err(Refusal::Tombstoned {
                request,
                name: stone.name.clone(),
                node: self.node_label(stone.node),
            }),
            None => Ok(()),
        }
    }

    /// A request that comes twice must be the same one; the container may have been renamed since.
    fn is_the_same(&self, before: &Placement, promise: &Promise) -> Result<(), Refusal> {
        if before.node == promise.node {
            return Ok(());
        }
        Err(Refusal::RequestReused {
            request: before.request,
            name: before.name.clone(),
            node: self.node_label(before.node),
        })
    }

    /// Whether the name, the volumes and the networks can be had.
    fn promise_can_be_kept(&self, realm: Realm, promise: &Promise) -> Result<(), Refusal> {
        self.name_is_free(realm, &promise.name)?;
        self.expect_node(promise.node)?;
        for volume in &promise.volumes {
            self.can_mount(realm, volume, promise.node)?;
        }
        for id in &promise.networks {
            self.can_be_joined(*id, promise.node)?;
        }
        Ok(())
    }

    fn name_is_free(&self, realm: Realm, name: &str) -> Result<(), Refusal> {
        let (holder, request, container) = match self.holder(&Name::container(realm, name)) {
            None => return Ok(()),
            Some(NameHolder::Network(id)) => (format!("network {id}"), None, None),
            Some(NameHolder::Placement(request)) => {
                let holder = self.expect_placement(request)?;
                let node = self.node_label(holder.node);
                let text = match holder.container {
                    Some(container) => format!("container {container} on node {node}"),
                    None => format!("request {request}, which is being created on node {node}"),
                };
                (text, Some(request), holder.container)
            }
        };
        let kind = NameKind::Container;
        Err(Refusal::NameTaken {
            kind,
            name: name.to_owned(),
            holder,
            request,
            container,
        })
    }

    fn ports_are_free<'a>(
        &self,
        node: NodeId,
        request: RequestId,
        wanted: impl Iterator<Item = &'a PortClaim>,
    ) -> Result<(), Refusal> {
        // What waits for a port holds nothing.
        for PortClaim { port, .. } in wanted.filter(|claim| is_held(claim, true)) {
            if let Some(holder) = self.ports().conflict_on(node, port, request) {
                return Err(self.port_taken(*port, node, holder)?);
            }
        }
        Ok(())
    }

    /// A number of our choosing leads to one container, whichever host it is asked of.
    fn chosen_are_unique(&self, request: RequestId, ports: &[PortClaim]) -> Result<(), Refusal> {
        for PortClaim { port, .. } in ports.iter().filter(|claim| is_held(claim, false)) {
            if let Some((node, holder)) = self.ports().conflict_in_pool(port, request) {
                return Err(self.port_taken(*port, node, holder)?);
            }
        }
        Ok(())
    }

    fn port_taken(
        &self,
        port: PublishedPort,
        node: NodeId,
        request: RequestId,
    ) -> Result<Refusal, Refusal> {
        let node = self.expect_node(node)?.name.clone();
        let holder = self.expect_placement(request)?.name.clone();
        Ok(Refusal::PortTaken {
            port,
            node,
            holder,
            request,
        })
    }

    fn has_room(&self, id: NodeId, claim: Resources) -> Result<(), Refusal> {
        let node = self.expect_node(id)?;
        match claim.shortfall(self.free(id), node.capacity()) {
            Some(short) => Err(Refusal::NoRoom {
                node: node.name.clone(),
                short,
            }),
            None => Ok(()),
        }
    }

    fn has_generic(&self, id: NodeId, claim: &Counts) -> Result<(), Refusal> {
        let node = self.expect_node(id)?;
        let wishes = self.counted(claim.into());
        if wishes.is_empty() {
            return Ok(());
        }
        match self.stock(id).scarcity(&wishes) {
            Some(scarcity) => Err(Refusal::Scarce {
                node: node.name.clone(),
                scarcity,
            }),
            None => Ok(()),
        }
    }

    fn container_is_free(&self, container: ContainerId, request: RequestId) -> Result<(), Refusal> {
        match self.index.containers.get(&container) {
            Some(other) if *other != request => Err(Refusal::ContainerTaken {
                container,
                request: *other,
            }),
            Some(_) | None => Ok(()),
        }
    }
}
