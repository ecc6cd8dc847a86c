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
//! joins it, running or not. One network is made or removed on one engine at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use api_compat::create::{Create, Joined};
use api_compat::labels;
use api_compat::network_create::for_engine;
use bytes::Bytes;
use http::StatusCode;
use tokio::sync::{Notify, OwnedMutexGuard};

use super::{Error, Manager};
use crate::clock;
use crate::engine::{self, Container, EngineCall, Host, ListKind, OwnNetwork};
use crate::model::{
    Caller, ContainerId, Network, NetworkId, NodeId, Placement, Realised, Realm, RequestId,
};
use crate::scheduler::Pin;
use crate::state::{Cluster, Command, Refusal};
use crate::tasks::{Stopping, spawn_stream};

/// An engine may take so long to make or remove a network.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an engine did not remove it is asked to remove again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(10);

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

/// The networks of the cluster that a container is to join, by what its client calls them.
#[derive(Debug, Default)]
pub(super) struct Joins(BTreeMap<String, NetworkId>);

impl Joins {
    /// Each once.
    pub(super) fn ids(&self) -> BTreeSet<NetworkId> {
        self.0.values().copied().collect()
    }

    /// Whether that is one of them.
    pub(super) fn contains(&self, reference: &str) -> bool {
        self.0.contains_key(reference)
    }
}

/// A container is about to join a network, which does not go away meanwhile.
#[derive(Debug)]
pub struct Joining {
    /// What its engine knows the network by.
    pub engine_id: NetworkId,
    /// Held where no promise keeps the network.
    _turn: Option<Turn>,
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
            let remove = Command::RemoveNetwork { network: id };
            self.log_failure(self.commit(remove).await);
            // The engine may have made it all the same.
            self.networks.untidy(node);
            return Err(error);
        }
        Ok(id)
    }

    /// Removes a network that no container joins any more. What a node that is down has of it goes when it is back.
    pub async fn remove_network(&self, id: NetworkId, caller: &Caller) -> Result<(), Error> {
        loop {
            self.nobody_is_in(id).await?;
            let remove = Command::RemoveNetwork { network: id };
            match self.commit_for(any_request(), caller.clone(), remove).await {
                Ok(_) => break,
                // Engines may have removed containers a moment ago, and nobody told us yet.
                Err(Error::Refused(Refusal::NetworkInUse { .. }))
                    if self.one_that_is_gone_is_forgotten(id).await => {}
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

    /// The containers that are seen in a network.
    fn seen_in(&self, id: NetworkId) -> Vec<Arc<Container>> {
        let hosts = self.fleet.hosts();
        let nodes = hosts.keys();
        nodes
            .flat_map(|node| self.fleet.inventory.joined(node, id))
            .collect()
    }

    /// Fails if containers are in the network. One that was removed a moment ago may still be seen, so the engine of one is
    /// asked.
    async fn nobody_is_in(&self, id: NetworkId) -> Result<(), Error> {
        loop {
            let seen = self.seen_in(id);
            let Some(first) = seen.first() else {
                return Ok(());
            };
            if !self.still_exists(first.host.id, first.id).await {
                continue;
            }
            let name = self.cluster().network(id).map(|n| n.name.clone());
            return Err(Error::NetworkInUse {
                network: name.unwrap_or_else(|| id.to_string()),
                runs: seen.iter().any(|holder| holder.state.is_up()),
                holders: seen
                    .iter()
                    .map(|holder| (holder.name(), holder.id))
                    .collect(),
            });
        }
    }

    /// Asks for a container that is promised to be in the network and not seen there; ends its promise if it is gone.
    async fn one_that_is_gone_is_forgotten(&self, id: NetworkId) -> bool {
        let cluster = self.cluster();
        let node = cluster.network(id).and_then(|network| network.node());
        let joins = |placement: &&Arc<Placement>| placement.networks.contains(&id);
        let promised = node.and_then(|node| cluster.placements_on(node).find(joins).cloned());
        let Some((placement, container)) = promised.and_then(|p| Some((p.clone(), p.container?)))
        else {
            return false;
        };
        if self.still_exists(placement.node, container).await {
            return false;
        }
        let request = placement.request;
        self.commit(Command::Remove { request }).await.is_ok()
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

    /// Cuts a container off from a network while its node is down: it joins it no more from now on, and its engine is told
    /// when it is back.
    pub async fn leave_network_later(
        self: &Arc<Self>,
        id: NetworkId,
        placement: &Placement,
        caller: &Caller,
    ) -> Result<(), Error> {
        let (request, node) = (placement.request, placement.node);
        let later = Command::LeaveNetworkLater {
            request,
            network: id,
        };
        self.commit_for(request, caller.clone(), later).await?;
        if let Some(container) = placement.container {
            self.fleet.inventory.leave_network(&container, id);
        }
        if let Some(host) = self.fleet.host(&node) {
            self.settle_if_up(&host).await;
        }
        Ok(())
    }

    /// Has the engine of a node that is back cut off what was cut off while it was down. Whether nothing is left to do.
    pub(super) async fn cut_off_what_is_due(&self, node: NodeId) -> bool {
        let Some(host) = self.fleet.host(&node) else {
            return true;
        };
        let cluster = self.cluster();
        let mut due = Vec::new();
        for placement in cluster.placements_on(node) {
            let leaving = placement.leaving.iter();
            due.extend(leaving.map(|network| (placement.request, *network)));
        }
        let mut all = true;
        for (request, network) in due {
            if let Err(error) = self.cut_off(&host, request, network).await {
                tracing::warn!(%error, node = %host.tag.name, "a container could not be cut off from a network yet");
                all = false;
            }
        }
        all
    }

    /// Has the engine cut a container off from a network, if that is due.
    async fn cut_off(
        &self,
        host: &Host,
        request: RequestId,
        network: NetworkId,
    ) -> Result<(), Error> {
        let is_due = |placement: &&Arc<Placement>| placement.leaving.contains(&network);
        if self.cluster().placement(request).filter(is_due).is_none() {
            return Ok(());
        }
        let _turn = self.networks.turn(network).await;
        // It may have been done while others had their turn.
        let cluster = self.cluster();
        let Some(placement) = cluster.placement(request).filter(is_due) else {
            return Ok(());
        };
        // Without either there is nothing to be cut.
        if let Some(container) = placement.container
            && let Some(own) = host.tag.networks.of(network)
        {
            disconnect(host, container, &own).await?;
        }
        let settle = Command::SettleLeave { request, network };
        self.commit(settle).await.map(drop)
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

    /// The networks of the cluster that a container is to join.
    pub(super) fn joins(&self, wanted: &Create<'_>) -> Joins {
        let known = wanted.networks.iter().filter_map(|reference| {
            let network = self.network(reference)?;
            Some((reference.to_string(), network.id))
        });
        Joins(known.collect())
    }

    /// Of `node/name` the node and the name, if its engine has such a network that is not the cluster's.
    pub(super) fn network_of_node<'a>(&self, reference: &'a str) -> Option<(Arc<Host>, &'a str)> {
        let (node, name) = reference.split_once('/')?;
        let host = self.fleet.named(node)?;
        host.has_network(name).then_some((host, name))
    }

    /// What the engine of `host` knows a network by that its client called `node/name`.
    pub(super) fn joined_of_node(&self, host: &Host, reference: &str) -> Option<Joined> {
        let (there, name) = self.network_of_node(reference)?;
        let is_here = there.tag.id == host.tag.id;
        is_here.then(|| Joined {
            name: name.to_owned(),
            // An engine finds a network by either.
            id: name.to_owned(),
        })
    }

    /// The node that a network is bound to, or where containers that are not ours join it.
    fn where_it_is(&self, network: &Network) -> Option<NodeId> {
        let hosts = self.fleet.hosts();
        let seen = || {
            let mut nodes = hosts.keys();
            nodes.find(|node| !self.fleet.inventory.joined(node, network.id).is_empty())
        };
        network.node().or_else(|| seen().copied())
    }

    /// What the networks that a container joins tie it to.
    pub(super) fn network_pins(&self, joins: &Joins, cluster: &Cluster) -> Vec<Pin> {
        let networks = joins.ids().into_iter().filter_map(|id| cluster.network(id));
        networks
            .filter_map(|network| {
                let node = self.where_it_is(network)?;
                let name = cluster.node(node).map(|node| node.name.to_string());
                Some(Pin {
                    nodes: BTreeSet::from([node]),
                    why: format!(
                        "network {}, which is on {}",
                        network.name,
                        name.unwrap_or_else(|| node.to_string())
                    ),
                })
            })
            .collect()
    }

    /// Where a container that joins a network which is nowhere yet is better off: with the networks of its group, else with
    /// its volumes. A later container may join several of them.
    pub(super) fn beside_its_group(
        &self,
        wanted: &Create<'_>,
        joins: &Joins,
        cluster: &Cluster,
    ) -> Option<Pin> {
        let unbound: Vec<_> = joins
            .ids()
            .into_iter()
            .filter_map(|id| cluster.network(id))
            .filter(|network| network.node().is_none())
            .collect();
        if unbound.is_empty() {
            return None;
        }
        let named = wanted.labels.iter().find(|(key, _)| key == labels::GROUP);
        let groups: BTreeSet<&str> = unbound
            .iter()
            .filter_map(|network| network.group.as_deref())
            .chain(named.map(|(_, group)| &**group))
            .collect();
        let networks = groups
            .iter()
            .flat_map(|group| cluster.networks_of_group(group));
        let mut nodes: BTreeSet<_> = networks.filter_map(|network| network.node()).collect();
        if nodes.is_empty() {
            let hosts = self.fleet.hosts();
            let has_volume = |host: &Host| groups.iter().any(|group| host.has_volume_of(group));
            nodes.extend(hosts.values().filter(|h| has_volume(h)).map(|h| h.tag.id));
        }
        (!nodes.is_empty()).then(|| Pin {
            nodes,
            why: "what it belongs to".to_owned(),
        })
    }

    /// Has the engine make the networks that a container joins, if it has not got them, and says what it knows them by.
    pub(super) async fn joined_on(
        &self,
        host: &Arc<Host>,
        joins: &Joins,
    ) -> Result<BTreeMap<String, Joined>, Error> {
        let mut joined = BTreeMap::new();
        for (reference, id) in &joins.0 {
            let own = self.network_on(host, *id).await?;
            let (name, id) = (own.name, own.engine_id.to_string());
            joined.insert(reference.clone(), Joined { name, id });
        }
        Ok(joined)
    }

    /// What the engine has of a network that is bound to its node; makes it if it has nothing.
    async fn network_on(&self, host: &Arc<Host>, id: NetworkId) -> Result<OwnNetwork, Error> {
        let network = self.expect_network(id)?;
        if let Some(own) = host.tag.networks.of(id)
            && is_recorded(&network, host.tag.id, &own)
        {
            return Ok(own);
        }
        let turn = self.networks.turn(id).await;
        // It may have been made, or left over and removed, while others had their turn.
        let network = self.expect_network(id)?;
        let own = self.made_on(host, &network, &turn).await?;
        if !is_recorded(&network, host.tag.id, &own) {
            let realise = Command::RealiseNetwork {
                network: id,
                node: host.tag.id,
                engine_id: own.engine_id,
            };
            self.commit(realise).await?;
        }
        Ok(own)
    }

    async fn made_on(
        &self,
        host: &Arc<Host>,
        network: &Network,
        _turn: &Turn,
    ) -> Result<OwnNetwork, Error> {
        let here = |own: &OwnNetwork| own.id == network.id;
        if let Some(own) = host.tag.networks.of(network.id) {
            return Ok(own);
        }
        let answer = self.make_network(host, network).await?;
        if answer != StatusCode::CONFLICT {
            host.reread(ListKind::Networks).await;
            return host.tag.networks.of(network.id).ok_or_else(|| {
                Error::Impossible(format!(
                    "network {} was made on node {} and is gone again: try again",
                    network.name, host.tag.name
                ))
            });
        }
        // Somebody has the name there: it itself, made before a crash; one of ours that is left over; or a stranger.
        host.reread(ListKind::Networks).await;
        let all = host.tag.networks.here();
        if let Some(own) = all.iter().find(|own| here(own)) {
            return Ok(own.clone());
        }
        let left_over = all.iter().find(|own| own.name == network.name);
        if let Some(own) = left_over
            && self.is_left_over(host, own)
        {
            let (host, own) = (Arc::clone(host), own.clone());
            self.delete_network(&host, &own).await;
            if self.make_network(&host, network).await? != StatusCode::CONFLICT {
                host.reread(ListKind::Networks).await;
            }
        }
        host.tag.networks.of(network.id).ok_or_else(|| {
            Error::Impossible(format!(
                "network {} cannot be made on node {}: its engine has another one of that name, which was not made by the \
                 cluster; remove or rename one of them",
                network.name, host.tag.name
            ))
        })
    }

    /// Asks the engine to make the network; that it has one of that name is an answer.
    async fn make_network(&self, host: &Host, network: &Network) -> Result<StatusCode, Error> {
        let (id, cluster) = (network.id.to_string(), self.settings.cluster.to_string());
        let own = [(labels::NETWORK, &*id), (labels::CLUSTER, &*cluster)];
        let body = for_engine(network.spec.as_bytes(), &network.name, &own)
            .map_err(|error| Error::Impossible(format!("network {}: {error}", network.name)))?;
        let call = EngineCall::post("/networks/create", Some(Bytes::from(body)));
        host.tag.networks.expect(&network.name, network.id);
        let answer = tokio::time::timeout(PATIENCE, host.call(call)).await;
        let answer = answer.unwrap_or_else(|_| Err(host.no_answer(PATIENCE)));
        let failed = |status: StatusCode, message: String| {
            host.tag.networks.expect_no_more(&network.name);
            engine::Error::Refused {
                node: host.tag.name.clone(),
                // To a client that creates a container, 404 means that the image is missing.
                status: match status {
                    StatusCode::NOT_FOUND => StatusCode::BAD_REQUEST,
                    status => status,
                },
                message: format!(
                    "network {} cannot be made on node {}: {message}",
                    network.name, host.tag.name
                ),
            }
        };
        match answer {
            Ok(reply) if reply.status.is_success() => {
                tracing::info!(network = network.name, node = %host.tag.name, "network made");
                Ok(reply.status)
            }
            Ok(reply) if reply.status == StatusCode::CONFLICT => {
                host.tag.networks.expect_no_more(&network.name);
                Ok(reply.status)
            }
            Ok(reply) => Err(failed(reply.status, reply.message()).into()),
            Err(error) => {
                host.tag.networks.expect_no_more(&network.name);
                Err(error.into())
            }
        }
    }

    /// The node on which the command may end the need for a network.
    pub(super) fn networks_are_left_on(&self, command: &Command) -> Option<NodeId> {
        let (Command::Remove { request }
        | Command::Release { request }
        | Command::LeaveNetwork { request, .. }) = command
        else {
            return None;
        };
        let cluster = self.cluster();
        let placement = cluster.placement(*request);
        placement
            .filter(|placement| !placement.networks.is_empty())
            .map(|placement| placement.node)
    }

    /// Removes what nodes have of networks and nothing needs there, until the manager stops.
    pub(super) async fn keep_networks_tidy(self: Arc<Self>, mut stopping: Stopping) {
        loop {
            let has_failed = !lock(&self.networks.failed).is_empty();
            let mut untidy = BTreeSet::new();
            tokio::select! {
                () = stopping.wait() => return,
                () = self.networks.wake.notified() => {}
                () = tokio::time::sleep(TRY_AGAIN), if has_failed => {
                    untidy.append(&mut lock(&self.networks.failed));
                }
            }
            untidy.append(&mut lock(&self.networks.untidy));
            for node in untidy {
                // Engines may take long: the other nodes do not wait for that.
                let manager = Arc::clone(&self);
                spawn_stream(tracing::info_span!("networks"), async move {
                    manager.tidy(node).await;
                });
            }
        }
    }

    async fn tidy(&self, node: NodeId) {
        let host = self.fleet.host(&node).filter(|host| host.is_up());
        let Some(host) = host else { return };
        for own in host.tag.networks.here() {
            if self.is_left_over(&host, &own) {
                self.remove_left_over(&host, &own).await;
            }
        }
    }

    async fn remove_left_over(&self, host: &Arc<Host>, own: &OwnNetwork) {
        let _turn = self.networks.turn(own.id).await;
        let still_there = host.tag.networks.of(own.id).as_ref() == Some(own);
        if still_there && host.is_up() && self.is_left_over(host, own) {
            self.delete_network(host, own).await;
        }
    }

    fn is_left_over(&self, host: &Host, own: &OwnNetwork) -> bool {
        let node = host.tag.id;
        let cluster = self.cluster();
        let bound = cluster.network(own.id).and_then(|network| network.node());
        let joined = !self.fleet.inventory.joined(&node, own.id).is_empty();
        // Before all containers are listed nobody knows who joins; and those that are to be removed join still.
        let is_settled = host.is_synced() && cluster.removals_due_on(node).next().is_none();
        is_settled && is_left_over(bound, node, joined)
    }

    async fn delete_network(&self, host: &Arc<Host>, own: &OwnNetwork) {
        let call = EngineCall::delete(format!("/networks/{}", own.engine_id));
        let answer = tokio::time::timeout(PATIENCE, host.call(call)).await;
        match answer.unwrap_or_else(|_| Err(host.no_answer(PATIENCE))) {
            Ok(reply) if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND => {
                tracing::info!(network = own.name, node = %host.tag.name, "network removed");
                host.reread(ListKind::Networks).await;
                return;
            }
            Ok(reply) => {
                tracing::warn!(network = own.name, node = %host.tag.name, message = reply.message(), "a network could not be removed");
            }
            Err(error) => {
                tracing::warn!(network = own.name, %error, "a network could not be removed");
            }
        }
        lock(&self.networks.failed).insert(host.tag.id);
        self.networks.wake.notify_one();
    }
}

/// Has an engine cut a container off; that it is not connected, or gone, is as good. Returns when our lists show it.
async fn disconnect(
    host: &Host,
    container: ContainerId,
    own: &OwnNetwork,
) -> Result<(), engine::Error> {
    let body = format!("{{\"Container\":\"{container}\",\"Force\":true}}");
    let target = format!("/networks/{}/disconnect", own.engine_id);
    let change = host.change(container).await;
    let asked = host.ask(EngineCall::post(target, Some(Bytes::from(body))));
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    match answer.unwrap_or_else(|_| Err(host.no_answer(PATIENCE))) {
        Ok(_) => {}
        Err(engine::Error::Refused {
            status, message, ..
        }) if status == StatusCode::NOT_FOUND || message.contains("is not connected to") => {}
        Err(error) => return Err(error),
    }
    // Of one that does not run no event tells; it costs a moment to wait for it.
    change.settle(Some("disconnect")).await;
    tracing::info!(%container, network = own.name, node = %host.tag.name, "container cut off from a network");
    Ok(())
}

fn any_request() -> RequestId {
    RequestId::from_bytes(clock::random_bytes())
}

/// Whether the state knows what the engine has.
fn is_recorded(network: &Network, node: NodeId, own: &OwnNetwork) -> bool {
    network.realised
        == Realised::On {
            node,
            engine_id: Some(own.engine_id),
        }
}

/// Whether what a node has of a network is needed there no more: the network is bound elsewhere, nowhere or gone, and no
/// container of the node joins it.
fn is_left_over(bound: Option<NodeId>, node: NodeId, joined: bool) -> bool {
    bound != Some(node) && !joined
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

/// What follows for the networks that a container of ours is promised to join from those that it is seen in.
pub(super) fn joining(
    container: &Container,
    placement: &Placement,
    cluster: &Cluster,
) -> Option<Command> {
    let request = placement.request;
    let may_join = |id: &NetworkId| {
        let network = cluster.network(*id).filter(|network| !network.deleting);
        network.is_some_and(|n| n.node().is_none_or(|bound| bound == placement.node))
    };
    let mut seen = container.networks.iter();
    let is_known = |id| placement.networks.contains(id) || placement.leaving.contains(id);
    let joined = seen.find(|id| !is_known(id) && may_join(id));
    if let Some(network) = joined.copied() {
        return Some(Command::JoinNetwork { request, network });
    }
    let mut promised = placement.networks.iter();
    let left = promised.find(|id| !container.networks.contains(id));
    left.map(|network| Command::LeaveNetwork {
        request,
        network: *network,
    })
}

/// The networks that an adopted container can be promised to join.
pub(super) fn adopted(container: &Container, cluster: &Cluster) -> Vec<NetworkId> {
    let node = container.host.id;
    let fits = |id: &&NetworkId| {
        let network = cluster.network(**id).filter(|network| !network.deleting);
        network.is_some_and(|network| network.node().is_none_or(|bound| bound == node))
    };
    container.networks.iter().filter(fits).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::HostTag;
    use crate::state::{Envelope, Promise};
    use crate::state::{RandomPorts, Settings};
    use jiff::Timestamp;

    fn id(number: u8) -> NetworkId {
        NetworkId::from_bytes([number; 32])
    }

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    /// Networks `front` (01…), bound to node 1, and `back` (12…), which is nowhere.
    fn cluster() -> Cluster {
        let commands = [
            Command::Found {
                cluster: crate::model::ClusterId::from_bytes([9; 16]),
                settings: Settings {
                    name: "c".to_owned(),
                    random_ports: RandomPorts::default(),
                },
            },
            Command::AddNode {
                node: node(1),
                name: "host1".parse().expect("a name"),
                endpoint: "e".to_owned(),
                address: None,
                labels: BTreeMap::new(),
            },
            add(0x01, "front", Some(node(1))),
            add(0x12, "back", None),
            add(0x13, "host1/deep", None),
        ];
        let mut cluster = Cluster::new();
        for command in commands {
            let request = RequestId::from_bytes([1; 16]);
            let envelope = Envelope::new(request, Caller::local(), Timestamp::UNIX_EPOCH, command);
            cluster.apply(envelope).expect("accepted");
        }
        cluster
    }

    fn add(number: u8, name: &str, node: Option<NodeId>) -> Command {
        Command::AddNetwork {
            network: id(number),
            name: name.to_owned(),
            spec: "{}".to_owned(),
            group: None,
            node,
        }
    }

    #[test]
    fn a_reference_is_an_id_a_name_or_a_beginning() {
        let cluster = cluster();
        let check = |reference: &str, expected: &str| {
            let is_node = |text: &str, at| text == "host1" && at == node(1);
            let is_strangers = || reference == "12";
            let found = meant(&cluster, reference, is_node, is_strangers);
            assert_eq!(
                found.map_or("-", |n| n.name.as_str()),
                expected,
                "{reference}"
            );
        };
        check("front", "front");
        check(&id(0x12).to_string(), "back");
        check("host1/front", "front");
        check("host1/back", "-");
        check("host2/front", "-");
        check("host1/deep", "host1/deep");
        check("0101", "front");
        check("1", "-");
        check("121", "back");
        // An engine has a network that is called so.
        check("12", "-");
        check("", "-");
        check("bridge", "-");
    }

    /// A container of node 1 as its engine lists it, in these networks.
    fn seen_in(networks: &[u8]) -> Container {
        let tag = Arc::new(HostTag::new(
            node(1),
            "host1".parse().expect("a name"),
            None,
            "tcp://10.0.0.1:2375".parse().expect("an endpoint"),
            crate::model::ClusterId::from_bytes([9; 16]),
            false,
        ));
        let mut joined = serde_json::Map::new();
        for number in networks {
            tag.networks.made(OwnNetwork {
                id: id(*number),
                engine_id: id(number + 0x80),
                name: format!("n{number}"),
            });
            let endpoint = serde_json::json!({"NetworkID": id(number + 0x80)});
            joined.insert(format!("n{number}"), endpoint);
        }
        let item = serde_json::json!({
            "Id": ContainerId::from_bytes([5; 32]),
            "Names": ["/web"],
            "Labels": {},
            "State": "running",
            "Status": "Up 2 seconds",
            "NetworkSettings": {"Networks": joined},
        });
        Container::read(item.to_string().as_bytes(), &tag).expect("reads")
    }

    #[test]
    fn what_is_seen_is_followed_but_for_what_is_due() {
        let mut cluster = cluster();
        let request = RequestId::from_bytes([2; 16]);
        let mut apply = |command| {
            let at = Timestamp::UNIX_EPOCH;
            let envelope = Envelope::new(request, Caller::local(), at, command);
            cluster.apply(envelope).expect("accepted");
            cluster.clone()
        };
        apply(Command::JudgeReady { node: node(1) });
        let joined = apply(Command::Reserve(Promise {
            request,
            name: "web".to_owned(),
            node: node(1),
            owner: crate::model::Owner::Plain,
            claim: crate::model::Resources::ZERO,
            generic: crate::model::generic::Counts::default(),
            ports: Vec::new(),
            networks: vec![id(0x01)],
            volumes: Vec::new(),
            new_volumes: Vec::new(),
            acting: crate::model::ManagerId::from_bytes([1; 16]),
            recipe: None,
        }));
        let network = id(0x01);
        let leaving = apply(Command::LeaveNetworkLater { request, network });
        let left = apply(Command::SettleLeave { request, network });
        let check = |cluster: &Cluster, seen: &[u8], expected: Option<Command>| {
            let placement = cluster.placement(request).expect("there");
            assert_eq!(joining(&seen_in(seen), placement, cluster), expected);
        };
        let join = |number| {
            let network = id(number);
            Some(Command::JoinNetwork { request, network })
        };
        let leave = Some(Command::LeaveNetwork { request, network });
        check(&joined, &[0x01], None);
        check(&joined, &[], leave);
        check(&joined, &[0x01, 0x12], join(0x12));
        // Its engine has not been told yet.
        check(&leaving, &[0x01], None);
        check(&leaving, &[0x01, 0x12], join(0x12));
        check(&leaving, &[], None);
        check(&left, &[0x01], join(0x01));
        check(&left, &[], None);
    }

    #[test]
    fn what_nothing_needs_on_a_node_is_left_over() {
        for (bound, joined, expected) in [
            (Some(1), false, false),
            (Some(1), true, false),
            (Some(2), false, true),
            (None, false, true),
            (Some(2), true, false),
            (None, true, false),
        ] {
            assert_eq!(is_left_over(bound.map(node), node(1), joined), expected);
        }
    }
}
