//! Networks of the cluster: records with our id, which exist on one node's engine for as long as containers join them.
//!
//! Where a network is follows from who joins it (`state::networks`); here the engines are made to agree. Before the engine
//! of a container's node is asked for the container, it gets the networks that the container joins; what an engine has and
//! nothing needs there is removed. Both are known by label, so that neither depends on what was done before:
//!
//! | step | if we crash right after |
//! | --- | --- |
//! | commit the record | it is there and nowhere else |
//! | commit the reservation, which binds the network | the reservation is given up, which unbinds it |
//! | the engine makes the network, with our label | the same; then it is left over, and removed when the node is listed |
//! | commit its id there | the same |
//! | commit the end of its last container, which unbinds it | it is left over, and removed when the node is listed |
//! | commit the end of the record | the same, under that id |
//!
//! So it is when a node is lost: what is left over there is removed once it is back. A container may be cut off meanwhile:
//! that is promised (`LeaveNetworkLater`), what is seen of it does not undo it, and the engine is told before the node
//! takes work.
//!
//! **Invariant**: no network is removed from an engine while the cluster says that it is there, or while a container
//! runs in it; nor, as long as the cluster knows it, while one that does not run joins it there. One network is made or
//! removed on one engine at a time.

mod engines;
mod leaving;
mod placing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard};

use super::{Error, Manager};
use crate::clock;
use crate::engine::{Container, Host};
use crate::model::{Caller, Network, NetworkId, NodeId, Placement, Realm, RequestId};
use crate::state::{Cluster, Command, Refusal};

pub(super) use leaving::{adopted, joining};
pub(super) use placing::Joins;

/// An engine may take so long to make or remove a network, or to cut a container off from one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network that is to be made.
#[derive(Debug)]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// The body of the request as it was sent.
    pub spec: String,
    /// What it belongs to.
    pub group: Option<String>,
    /// The node that it is to be on.
    pub node: Option<NodeId>,
}

/// What is under way with networks, and what is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Networks {
    turns: Mutex<BTreeMap<NetworkId, Weak<tokio::sync::Mutex<()>>>>,
    untidy: Mutex<BTreeSet<NodeId>>,
    /// Nodes whose engines did not remove what is left over: they are asked again.
    failed: Mutex<BTreeSet<NodeId>>,
    wake: Notify,
}

/// The right to make or remove one network.
type Turn = OwnedMutexGuard<()>;

impl Networks {
    async fn turn(&self, id: NetworkId) -> Turn {
        let turn = {
            let mut turns = lock(&self.turns);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&id).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(id, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// The node may have networks that nothing needs there.
    pub(super) fn untidy(&self, node: NodeId) {
        lock(&self.untidy).insert(node);
        self.wake.notify_one();
    }
}

/// A writer that panicked has left a set or a map that is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A container is about to join a network, which does not go away meanwhile.
#[derive(Debug)]
pub struct Joining {
    /// What its engine knows the network by.
    pub engine_id: NetworkId,
    /// Held where no promise keeps the network.
    _turn: Option<Turn>,
}

/// A network that is lent to what nobody else knows of. When it is given back, its node may have no need of it.
#[derive(Debug)]
pub struct Lent {
    joining: Joining,
    manager: Arc<Manager>,
    node: NodeId,
}

impl Lent {
    /// What its engine knows the network by.
    pub fn engine_id(&self) -> NetworkId {
        self.joining.engine_id
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.manager.networks.untidy(self.node);
    }
}

impl Manager {
    /// Makes a network: a record, and on the node if one is named.
    pub async fn create_network(
        &self,
        new: NewNetwork,
        caller: &Caller,
    ) -> Result<NetworkId, Error> {
        let id = NetworkId::from_bytes(clock::random_bytes());
        let node = new.node;
        let add = Command::AddNetwork {
            network: id,
            name: new.name,
            spec: new.spec,
            group: new.group,
            node,
        };
        self.commit_for(any_request(), caller.clone(), add).await?;
        let Some(node) = node else { return Ok(id) };
        let made = match self.fleet.host(&node) {
            Some(host) => self.network_on(&host, id).await.map(drop),
            None => Err(Error::Refused(Refusal::NoSuchNode { node })),
        };
        if let Err(error) = made {
            let remove = Command::RemoveNetwork {
                network: id,
                at_rest: BTreeSet::new(),
            };
            self.log_failure(self.commit(remove).await);
            // The engine may have made it all the same.
            self.networks.untidy(node);
            return Err(error);
        }
        Ok(id)
    }

    /// Removes a network in which no container runs. What a node that is down has of it goes when it is back.
    pub async fn remove_network(&self, id: NetworkId, caller: &Caller) -> Result<(), Error> {
        loop {
            self.nobody_runs_in(id).await?;
            let remove = Command::RemoveNetwork {
                network: id,
                at_rest: self.at_rest_in(id),
            };
            match self.commit_for(any_request(), caller.clone(), remove).await {
                Ok(_) => break,
                // Engines may have removed containers a moment ago, and nobody told us yet.
                Err(Error::Refused(Refusal::NetworkInUse { .. }))
                    if self.one_that_is_gone_is_forgotten(id).await => {}
                Err(Error::Refused(refusal @ Refusal::NetworkInUse { .. })) => {
                    return Err(self.in_use_by_promise(id, refusal));
                }
                Err(error) => return Err(error),
            }
        }
        for host in self.fleet.hosts().values() {
            if let Some(own) = host.tag.networks.of(id) {
                self.remove_left_over(host, &own).await;
            }
        }
        Ok(())
    }

    /// Whether anything joins the network, as far as is known.
    pub fn is_joined(&self, id: NetworkId) -> bool {
        self.cluster().network_users(id) > 0 || !self.seen_in(id).is_empty()
    }

    /// Whether anything keeps the network from being removed, as far as is known. What its node does not list any more keeps
    /// nothing: nobody has committed that yet.
    pub fn is_held(&self, id: NetworkId) -> bool {
        if self.seen_in(id).iter().any(|one| one.state.is_up()) {
            return true;
        }
        let at_rest = self.at_rest_in(id);
        let mut promised = self.promised_in(id).into_iter();
        promised.any(|one| !at_rest.contains(&one.request) && !self.is_listed_no_more(&one))
    }

    fn is_listed_no_more(&self, placement: &Placement) -> bool {
        let Some(container) = placement.container else {
            return false;
        };
        let host = self.fleet.host(&placement.node);
        host.is_some_and(|host| host.is_up() && host.is_synced())
            && self.fleet.inventory.get(&container).is_none()
    }

    /// The placements in a network whose containers do not run. An engine lets a network go that has only such, and refuses
    /// to start them without it.
    fn at_rest_in(&self, id: NetworkId) -> BTreeSet<RequestId> {
        let cluster = self.cluster();
        let seen = self.seen_in(id).into_iter();
        let at_rest = seen.filter(|container| !container.state.is_up());
        at_rest
            .filter_map(|container| {
                let placement = cluster.placement(container.request?)?;
                let is_its = placement.container.is_none_or(|its| its == container.id);
                (is_its && placement.networks.contains(&id)).then_some(placement.request)
            })
            .collect()
    }

    /// The containers that are seen in a network.
    fn seen_in(&self, id: NetworkId) -> Vec<Arc<Container>> {
        let hosts = self.fleet.hosts();
        let nodes = hosts.keys();
        nodes
            .flat_map(|node| self.fleet.inventory.joined(node, id))
            .collect()
    }

    /// Fails if containers run in the network. One that was removed a moment ago may still be seen, so the engine of one is
    /// asked.
    async fn nobody_runs_in(&self, id: NetworkId) -> Result<(), Error> {
        loop {
            let mut seen = self.seen_in(id);
            seen.retain(|container| container.state.is_up());
            let Some(first) = seen.first() else {
                return Ok(());
            };
            if !self.still_exists(first.host.id, first.id).await {
                continue;
            }
            let name = self.cluster().network(id).map(|n| n.name.clone());
            return Err(Error::NetworkInUse {
                network: name.unwrap_or_else(|| id.to_string()),
                holders: seen
                    .iter()
                    .map(|holder| (holder.name(), holder.id))
                    .collect(),
            });
        }
    }

    /// What is promised to be in the network, seen there or not: a node that is down may have connected it.
    fn promised_in(&self, id: NetworkId) -> Vec<Arc<Placement>> {
        let cluster = self.cluster();
        let node = cluster.network(id).and_then(|network| network.node());
        let there = node
            .into_iter()
            .flat_map(|node| cluster.placements_on(node));
        there
            .filter(|placement| placement.networks.contains(&id))
            .cloned()
            .collect()
    }

    /// Asks for the containers that are promised to be in the network; ends the promise of one that is gone.
    async fn one_that_is_gone_is_forgotten(&self, id: NetworkId) -> bool {
        for placement in self.promised_in(id) {
            if let Some(container) = placement.container
                && !self.still_exists(placement.node, container).await
            {
                let request = placement.request;
                return self.commit(Command::Remove { request }).await.is_ok();
            }
        }
        false
    }

    /// A refusal that names what is promised to be in the network, if anything of it is made yet.
    fn in_use_by_promise(&self, id: NetworkId, refusal: Refusal) -> Error {
        let at_rest = self.at_rest_in(id);
        let promised = self.promised_in(id).into_iter();
        let holders: Vec<_> = promised
            .filter(|placement| !at_rest.contains(&placement.request))
            .filter_map(|placement| Some((placement.name.to_string(), placement.container?)))
            .collect();
        match refusal {
            Refusal::NetworkInUse { network, .. } if !holders.is_empty() => {
                Error::NetworkInUse { network, holders }
            }
            other => Error::Refused(other),
        }
    }

    /// What a container of `host` is to be connected by; promised if it is ours.
    pub async fn join_network(
        &self,
        id: NetworkId,
        host: &Arc<Host>,
        container: &Container,
        caller: &Caller,
    ) -> Result<Joining, Error> {
        if let Some(placement) = self.held_by(container) {
            let request = placement.request;
            // Else it would be cut off after it was connected.
            self.cut_off(host, request, id).await?;
            let join = Command::JoinNetwork {
                request,
                network: id,
            };
            self.commit_for(request, caller.clone(), join).await?;
            let engine_id = self.network_on(host, id).await?.engine_id;
            return Ok(Joining {
                engine_id,
                _turn: None,
            });
        }
        self.join_unpromised(id, host).await
    }

    /// Lends a network to a build on `host`: no promise is about the containers of its steps.
    pub async fn lend_network(
        self: &Arc<Self>,
        id: NetworkId,
        host: &Arc<Host>,
    ) -> Result<Lent, Error> {
        let joining = if self.expect_network(id)?.node() == Some(host.tag.id) {
            let engine_id = self.network_on(host, id).await?.engine_id;
            Joining {
                engine_id,
                _turn: None,
            }
        } else {
            self.join_unpromised(id, host).await?
        };
        Ok(Lent {
            joining,
            manager: Arc::clone(self),
            node: host.tag.id,
        })
    }

    async fn join_unpromised(&self, id: NetworkId, host: &Arc<Host>) -> Result<Joining, Error> {
        let turn = self.networks.turn(id).await;
        let network = self.expect_network(id)?;
        if let Some(bound) = self.where_it_is(&network).filter(|b| *b != host.tag.id) {
            let bound = self
                .fleet
                .host(&bound)
                .map(|host| host.tag.name.to_string());
            return Err(Error::Refused(Refusal::NetworkElsewhere {
                network: network.name.clone(),
                bound: bound.unwrap_or_default(),
                node: host.tag.name.clone(),
            }));
        }
        let engine_id = self.made_on(host, &network, &turn).await?.engine_id;
        Ok(Joining {
            engine_id,
            _turn: Some(turn),
        })
    }

    /// The placement that a container holds: others carry copies of its labels.
    pub fn held_by(&self, container: &Container) -> Option<Arc<Placement>> {
        let cluster = self.cluster();
        let placement = cluster.placement(container.request?)?;
        (placement.container == Some(container.id)).then(|| Arc::clone(placement))
    }

    /// The network of the cluster with this id or name.
    pub fn network_called(&self, reference: &str) -> Option<Arc<Network>> {
        called(&self.cluster(), reference).cloned()
    }

    /// The network of the cluster that `reference` means: an id, a name, `node/name`, or the beginning of an id.
    pub fn network(&self, reference: &str) -> Option<Arc<Network>> {
        let is_node = |text: &str, node: NodeId| {
            let host = self.fleet.host(&node);
            host.is_some_and(|host| host.tag.is(text))
        };
        let is_strangers = || {
            let hosts = self.fleet.hosts();
            hosts.values().any(|host| host.has_network(reference))
        };
        meant(&self.cluster(), reference, is_node, is_strangers).cloned()
    }

    fn expect_network(&self, id: NetworkId) -> Result<Arc<Network>, Error> {
        let gone = Error::Refused(Refusal::NoSuchNetwork { network: id });
        self.cluster().network(id).cloned().ok_or(gone)
    }

    /// The node that a network is bound to, or where containers that are not ours join it.
    pub fn where_it_is(&self, network: &Network) -> Option<NodeId> {
        let hosts = self.fleet.hosts();
        let seen = || {
            let mut nodes = hosts.keys();
            nodes.find(|node| !self.fleet.inventory.joined(node, network.id).is_empty())
        };
        network.node().or_else(|| seen().copied())
    }
}

fn any_request() -> RequestId {
    RequestId::from_bytes(clock::random_bytes())
}

/// The network with this id or name.
fn called<'a>(cluster: &'a Cluster, reference: &str) -> Option<&'a Arc<Network>> {
    let by_id = reference.parse().ok().and_then(|id| cluster.network(id));
    by_id.or_else(|| cluster.network_named(Realm::DEFAULT, reference))
}

/// The network that `reference` means. Where engines have one of that name which is not the cluster's, it is not the
/// beginning of an id.
fn meant<'a>(
    cluster: &'a Cluster,
    reference: &'a str,
    is_node: impl Fn(&str, NodeId) -> bool,
    is_strangers: impl Fn() -> bool,
) -> Option<&'a Arc<Network>> {
    let found = called(cluster, reference);
    if found.is_some() || reference.is_empty() || is_strangers() {
        return found;
    }
    if let Some((node, name)) = reference.split_once('/')
        && let Some(network) = cluster.network_named(Realm::DEFAULT, name)
        && network.node().is_some_and(|bound| is_node(node, bound))
    {
        return Some(network);
    }
    let mut several = cluster.networks_by_prefix(reference);
    several.next().filter(|_| several.next().is_none())
}
