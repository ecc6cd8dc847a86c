//! The replicated cluster: a [`Command`] goes in, a [`Change`] or a [`Refusal`] comes out.
//!
//! What is promised is kept here and nowhere else; what is observed never is. `apply` checks again
//! whatever a race could have broken since the leader decided, and changes nothing when it refuses.
//!
//! **Invariant**: nothing here awaits, reads a clock, or draws a random number; the same commands
//! give the same cluster everywhere. No command costs more as placements grow.

#![warn(clippy::wildcard_enum_match_arm)]

mod apply;
mod audit;
mod command;
mod envelope;
mod images;
mod index;
mod machine;
mod networks;
mod nodes;
mod placements;
mod ports;
mod refusal;
mod snapshot;
#[cfg(test)]
mod tests;
mod tombstones;
mod volumes;

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::generic::{Stock, Taken, Wishes};
use crate::model::{
    BlobId, ClusterId, ContainerId, Name, NameHolder, Network, NetworkId, Node, NodeId, NodeName,
    Placement, Realm, RequestId, Resources, Tag, Volume,
};

pub use audit::{Broken, audit};
pub use command::{Command, ImageRemoval, Keep, NewVolume, Promise, RandomPorts, Settings};
pub use envelope::{BadEnvelope, Envelope, FEATURE_LEVEL, FORMAT};
pub use images::{Sighting, meant};
pub use index::Totals;
pub use machine::{Outcome, read_outcome};
pub use ports::{PortBook, PortHold};
pub use refusal::{Change, Refusal};
pub use tombstones::{Cause, Tombstone};

use index::Index;
use tombstones::Tombstones;

/// A picture of the cluster that does not change any more; cheap to keep.
pub type View = Arc<Cluster>;

/// All that the cluster has promised. Clones share what they have in common.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cluster {
    founding: Option<Founding>,
    /// The newest time that a command carried.
    now: Timestamp,
    nodes: OrdMap<NodeId, Arc<Node>>,
    placements: OrdMap<RequestId, Arc<Placement>>,
    networks: OrdMap<NetworkId, Arc<Network>>,
    /// What tags mean that the cluster has handled.
    tags: OrdMap<(Realm, String), Arc<Tag>>,
    /// Images, or names of them, that were removed while a node was down: they go when it is back.
    images_due: OrdMap<(NodeId, String), ImageRemoval>,
    volumes: OrdMap<Name, Arc<Volume>>,
    /// Volumes that were removed while their node was down: they go when it is back.
    volumes_due: OrdSet<(NodeId, String)>,
    /// Endpoints of nodes that an operator removed: settings alone do not bring them back.
    retired: OrdMap<String, Retired>,
    tombstones: Tombstones,
    /// Follows from the nodes, placements, networks and volumes alone.
    index: Index,
    /// Blobs that nothing needs since the store last asked.
    released: Vec<BlobId>,
}

/// A node that an operator removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The name it had.
    pub name: NodeName,
    /// When it was removed.
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Founding {
    id: ClusterId,
    settings: Settings,
    feature_level: u32,
}

impl Cluster {
    /// A cluster that has not been founded.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cluster's id, once founded.
    pub fn id(&self) -> Option<ClusterId> {
        self.founding.as_ref().map(|founding| founding.id)
    }

    /// The cluster's settings, once founded.
    pub fn settings(&self) -> Option<&Settings> {
        self.founding.as_ref().map(|founding| &founding.settings)
    }

    /// What every manager of the cluster understands.
    pub fn feature_level(&self) -> u32 {
        self.founding
            .as_ref()
            .map_or(FEATURE_LEVEL, |founding| founding.feature_level)
    }

    /// The newest time that a command carried.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The node of this id.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// The node of this name.
    pub fn node_named(&self, name: &NodeName) -> Option<&Arc<Node>> {
        self.index
            .node_names
            .get(name)
            .and_then(|id| self.nodes.get(id))
    }

    /// The node whose engine is reached so.
    pub fn node_at(&self, endpoint: &str) -> Option<&Arc<Node>> {
        self.index
            .endpoints
            .get(endpoint)
            .and_then(|id| self.nodes.get(id))
    }

    /// What is remembered of a node that an operator removed from this endpoint and that nobody added again.
    pub fn retired(&self, endpoint: &str) -> Option<&Retired> {
        self.retired.get(endpoint)
    }

    /// All placements, by request id.
    pub fn placements(&self) -> impl Iterator<Item = &Arc<Placement>> {
        self.placements.values()
    }

    /// The placement of this request.
    pub fn placement(&self, request: RequestId) -> Option<&Arc<Placement>> {
        self.placements.get(&request)
    }

    /// The placement that this container is bound to.
    pub fn placement_of(&self, container: ContainerId) -> Option<&Arc<Placement>> {
        self.index
            .containers
            .get(&container)
            .and_then(|request| self.placements.get(request))
    }

    /// The placements whose container's id begins so.
    pub fn placements_by_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Placement>> {
        let first = format!("{prefix:0<64}").parse::<ContainerId>().ok();
        let from = first.map(|first| self.index.containers.range(first..));
        from.into_iter()
            .flatten()
            .take_while(move |(id, _)| id.to_string().starts_with(prefix))
            .filter_map(|(_, request)| self.placements.get(request))
    }

    /// The placement that holds this container name, also while it is being renamed to or from it.
    pub fn placement_named(&self, realm: Realm, name: &str) -> Option<&Arc<Placement>> {
        match self.index.names.get(&Name::container(realm, name))? {
            NameHolder::Placement(request) => self.placements.get(request),
            NameHolder::Network(_) => None,
        }
    }

    /// The placements on a node.
    pub fn placements_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Placement>> {
        self.index
            .requests_on(node)
            .filter_map(|request| self.placements.get(&request))
    }

    /// What the placements on a node claim together.
    pub fn totals(&self, node: NodeId) -> Totals {
        self.index.totals.get(&node).copied().unwrap_or_default()
    }

    /// The nodes of which something is not as it was in `before`: what they are, or what the placements on them come to.
    /// Costs as much as has changed.
    pub fn nodes_changed_since(&self, before: &Self) -> BTreeSet<NodeId> {
        let nodes = before.nodes.diff(&self.nodes).map(|item| key(&item));
        let totals = before.index.totals.diff(&self.index.totals);
        let generic = before.index.generic.diff(&self.index.generic);
        nodes
            .chain(totals.map(|item| key(&item)))
            .chain(generic.map(|item| key(&item).0))
            .collect()
    }

    /// What is left of a node. What runs there unmanaged is not known here.
    pub fn free(&self, node: NodeId) -> Resources {
        let capacity = self
            .nodes
            .get(&node)
            .map_or(Resources::ZERO, |node| node.capacity());
        capacity.saturating_sub(self.totals(node).claimed)
    }

    /// What a node has beside CPU and memory, and what placements take of it. What runs there unmanaged is not known here.
    pub fn stock(&self, node: NodeId) -> Stock {
        let has = self.nodes.get(&node).map(|node| node.generic());
        Stock::new(
            has.unwrap_or_default(),
            Taken::counted(self.index.generic_on(node)),
        )
    }

    /// Those of the wishes that count: of what no node states how much it has, up or not, nothing is counted, and engines
    /// decide.
    pub fn counted(&self, mut wishes: Wishes) -> Wishes {
        wishes.retain(|name| {
            let mut nodes = self.nodes();
            nodes.any(|node| node.generic().get(name).is_some())
        });
        wishes
    }

    /// Who holds a name.
    pub fn holder(&self, name: &Name) -> Option<NameHolder> {
        self.index.names.get(name).copied()
    }

    /// All volumes that have a record, by name.
    pub fn volumes(&self) -> impl Iterator<Item = &Arc<Volume>> {
        self.volumes.values()
    }

    /// The record of a volume.
    pub fn volume(&self, realm: Realm, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.get(&Name::volume(realm, name))
    }

    /// How many placements mount a volume.
    pub fn volume_users(&self, realm: Realm, name: &str) -> u32 {
        let name = Name::volume(realm, name);
        self.index.volume_users.get(&name).copied().unwrap_or(0)
    }

    /// The volumes that a node has or may have.
    pub fn volumes_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Volume>> {
        self.index
            .volumes_on(node)
            .filter_map(|name| self.volumes.get(name))
    }

    /// The images that are to be removed from a node when it is back, by what they were called.
    pub fn images_due_on(&self, node: NodeId) -> impl Iterator<Item = (&str, ImageRemoval)> {
        self.images_due
            .range((node, String::new())..)
            .take_while(move |((on, _), _)| *on == node)
            .map(|((_, image), removal)| (image.as_str(), *removal))
    }

    /// The volumes that are to be removed from a node when it is back.
    pub fn volumes_due_on(&self, node: NodeId) -> impl Iterator<Item = &str> {
        self.volumes_due
            .range((node, String::new())..)
            .take_while(move |(on, _)| *on == node)
            .map(|(_, name)| name.as_str())
    }

    /// All networks of the cluster, by id.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.values()
    }

    /// The network of this id, ours.
    pub fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.networks.get(&id)
    }

    /// The network of this name.
    pub fn network_named(&self, realm: Realm, name: &str) -> Option<&Arc<Network>> {
        match self.index.names.get(&Name::network(realm, name))? {
            NameHolder::Network(id) => self.networks.get(id),
            NameHolder::Placement(_) => None,
        }
    }

    /// The networks whose ids begin so.
    pub fn networks_by_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Network>> {
        let first = format!("{prefix:0<64}").parse::<NetworkId>().ok();
        let from = first.map(|first| self.networks.range(first..));
        from.into_iter()
            .flatten()
            .take_while(move |(id, _)| id.to_string().starts_with(prefix))
            .map(|(_, network)| network)
    }

    /// The networks of a group.
    pub fn networks_of_group<'a>(
        &'a self,
        group: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Network>> {
        let first = (group.to_owned(), NetworkId::from_bytes([0; 32]));
        let from = self.index.groups.range(first..);
        from.take_while(move |(of, _)| of == group)
            .filter_map(|(_, id)| self.networks.get(id))
    }

    /// How many placements join a network.
    pub fn network_users(&self, id: NetworkId) -> u32 {
        self.index.network_users.get(&id).copied().unwrap_or(0)
    }

    /// What a tag means, if the cluster has handled it: `busybox:latest`.
    pub fn tag(&self, realm: Realm, name: &str) -> Option<&Arc<Tag>> {
        self.tags.get(&(realm, name.to_owned()))
    }

    /// All tags that the cluster has handled, by realm and name.
    pub fn tags(&self) -> impl Iterator<Item = &Arc<Tag>> {
        self.tags.values()
    }

    /// The host ports that placements hold.
    pub fn ports(&self) -> &PortBook {
        &self.index.ports
    }

    /// What is remembered of a request that was given up or whose container was removed.
    pub fn tombstone(&self, request: RequestId) -> Option<&Tombstone> {
        self.tombstones.get(request)
    }

    /// The removals that wait for a node to come back.
    pub fn removals_due_on(&self, node: NodeId) -> impl Iterator<Item = &Tombstone> {
        self.tombstones.due_on(node)
    }

    /// Puts a placement in place of what it was before: the only way in.
    fn put(&mut self, mut placement: Placement) {
        let old = self.placements.get(&placement.request).cloned();
        if let Some(old) = &old {
            placement.version = old.version + 1;
            self.index.remove_placement(old);
            self.released
                .extend(old.recipe.filter(|_| old.recipe != placement.recipe));
        }
        self.index.add_placement(&placement);
        self.placements
            .insert(placement.request, Arc::new(placement));
        if let Some(old) = old {
            self.unbind_unused(&old.networks);
        }
    }

    /// Takes a placement out: the only way out.
    fn take(&mut self, request: RequestId) -> Option<Arc<Placement>> {
        let placement = self.placements.remove(&request)?;
        self.index.remove_placement(&placement);
        self.released.extend(placement.recipe);
        self.unbind_unused(&placement.networks);
        Some(placement)
    }

    fn put_node(&mut self, node: Node) {
        if let Some(old) = self.nodes.get(&node.id) {
            self.index.remove_node(old);
        }
        self.index.add_node(&node);
        self.nodes.insert(node.id, Arc::new(node));
    }

    fn put_network(&mut self, network: Network) {
        if let Some(old) = self.networks.get(&network.id) {
            self.index.remove_network(old);
        }
        self.index.add_network(&network);
        self.networks.insert(network.id, Arc::new(network));
    }

    /// Puts a volume's record in place of what it was before: the only way in.
    fn put_volume(&mut self, volume: Volume) {
        let name = Name::volume(volume.realm, &volume.spec.name);
        if let Some(old) = self.volumes.get(&name) {
            self.index.remove_volume(old);
        }
        self.index.add_volume(&volume);
        self.volumes.insert(name, Arc::new(volume));
    }

    /// Takes a volume's record out: the only way out.
    fn take_volume(&mut self, name: &Name) {
        if let Some(old) = self.volumes.remove(name) {
            self.index.remove_volume(&old);
        }
    }

    /// The node's name for a message; its id if it is gone.
    fn node_label(&self, id: NodeId) -> String {
        self.nodes
            .get(&id)
            .map_or_else(|| id.to_string(), |node| node.name.to_string())
    }
}

fn key<K: Clone, V>(item: &DiffItem<'_, '_, K, V>) -> K {
    match item {
        DiffItem::Add(key, _)
        | DiffItem::Remove(key, _)
        | DiffItem::Update { old: (key, _), .. } => K::clone(key),
    }
}
