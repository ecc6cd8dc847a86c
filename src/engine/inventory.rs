//! What was observed: every engine's containers, found by id, name and prefix, and listed newest first,
//! at a cost that does not grow with the fleet.
//!
//! Containers are immutable values; an observation replaces one. The index is one lock held for a few
//! instructions: readers take `Arc`s out and render without it.
//!
//! **Invariant**: nothing awaits here; nothing here is ever replicated.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use api_compat::labels;
use raft_store::watch;

use super::changes::Changes;
use super::container::{Container, image_hash, label_hash};
use crate::model::generic::Taken;
use crate::model::{ContainerId, NetworkId, NodeId, PublishedPort, Resources};

/// All observed containers of all engines.
#[derive(Debug, Default)]
pub struct Inventory {
    index: RwLock<Index>,
    publishers: Publishers,
    changes: Arc<Changes>,
    removed: OnceLock<Removed>,
}

/// Says which containers of a node are removed for all but its engine.
struct Removed(Box<dyn Fn(NodeId) -> BTreeSet<ContainerId> + Send + Sync>);

impl std::fmt::Debug for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Removed")
    }
}

/// Which containers have changed since somebody last looked, of those that publish ports of their nodes or did so.
#[derive(Debug)]
struct Publishers {
    changed: Mutex<Option<BTreeSet<ContainerId>>>,
    news: watch::Sender<u64>,
}

impl Default for Publishers {
    fn default() -> Self {
        Self {
            changed: Mutex::default(),
            news: watch::Sender::new(0),
        }
    }
}

impl Publishers {
    /// Nobody follows, nothing is kept.
    fn note(&self, containers: impl IntoIterator<Item = ContainerId>) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(changed) = &mut *changed else { return };
        let before = changed.len();
        changed.extend(containers);
        if changed.len() > before {
            self.news.send_modify(|count| *count += 1);
        }
    }
}

/// Newest first; ids part containers of one instant.
type Order = (Reverse<i64>, ContainerId);

#[derive(Debug, Default)]
struct Index {
    containers: BTreeMap<ContainerId, Arc<Container>>,
    order: BTreeSet<Order>,
    running: BTreeSet<Order>,
    names: HashMap<Box<str>, Holders>,
    /// The names that links give, by the name of the container that links: few have any.
    links: BTreeSet<(Box<str>, ContainerId)>,
    labels: HashMap<u64, BTreeSet<ContainerId>>,
    nodes: BTreeMap<NodeId, NodeTotals>,
}

/// Who holds a name: nearly always one container, so that one costs no allocation.
#[derive(Debug)]
enum Holders {
    One(ContainerId),
    /// Made behind our back on several nodes.
    Many(Vec<ContainerId>),
}

/// The containers of one node, and what they add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTotals {
    /// Its containers, by id.
    pub containers: BTreeSet<ContainerId>,
    /// Who publishes which of its ports, or may listen there.
    ports: BTreeSet<(u16, ContainerId)>,
    /// What those that run behind our back take beside CPU and memory.
    generic: Taken,
    /// What they add up to.
    pub counts: NodeCounts,
    /// How many were made from each image, by [`image_hash`].
    images: BTreeMap<u64, usize>,
    /// Who mounts images.
    image_mounts: BTreeSet<ContainerId>,
    /// Who joins which network of the cluster.
    networks: BTreeSet<(NetworkId, ContainerId)>,
}

/// What the containers of one node add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// How many there are.
    pub containers: usize,
    /// How many of them run (paused ones included).
    pub running: usize,
    /// How many of the running ones are paused.
    pub paused: usize,
    /// How many of all hold no placement of ours.
    pub unmanaged: usize,
    /// What those of them that run claim.
    pub unmanaged_claims: Resources,
}

/// What a reference to a container means.
#[derive(Debug)]
pub enum Found {
    /// This container.
    One(Arc<Container>),
    /// Nothing of the kind.
    None,
    /// Several containers have that name; made behind our back on several nodes.
    SameName(Vec<Arc<Container>>),
    /// Several ids begin so.
    SamePrefix,
}

/// Why a reference means no one container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// Containers of several nodes have that name.
    #[error("container name {name} exists on {}: use {} or an ID", .nodes.join(" and "), qualified(.nodes, .name))]
    Name {
        /// The name.
        name: String,
        /// The nodes.
        nodes: Vec<String>,
    },
    /// Several ids begin so.
    #[error("multiple IDs found with provided prefix: {prefix}")]
    Prefix {
        /// Their beginning.
        prefix: String,
    },
}

fn qualified(nodes: &[String], name: &str) -> String {
    let each: Vec<_> = nodes.iter().map(|node| format!("{node}/{name}")).collect();
    each.join(", ")
}

impl Found {
    /// The one container that `reference` means, if any; fails if it means several.
    pub fn sole(self, reference: &str) -> Result<Option<Arc<Container>>, Ambiguous> {
        match self {
            Self::One(container) => Ok(Some(container)),
            Self::None => Ok(None),
            Self::SamePrefix => Err(Ambiguous::Prefix {
                prefix: reference.to_owned(),
            }),
            Self::SameName(twins) => {
                let mut nodes: Vec<_> = twins
                    .iter()
                    .map(|twin| twin.host.name.to_string())
                    .collect();
                nodes.sort_unstable();
                Err(Ambiguous::Name {
                    name: reference.to_owned(),
                    nodes,
                })
            }
        }
    }
}

impl Inventory {
    /// An empty inventory.
    pub fn new() -> Self {
        Self::default()
    }

    /// What has changed of what placing goes by.
    pub fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Unmanaged containers leave less of their node.
    fn note_if_unmanaged(&self, container: &Container) {
        if container.request.is_none() {
            self.changes.note(container.host.id);
        }
    }

    /// From now on nothing is shown of the containers that `removed` says of their node: they were removed while it was down,
    /// and its engine has yet to be told. To be said once.
    pub fn hide(&self, removed: impl Fn(NodeId) -> BTreeSet<ContainerId> + Send + Sync + 'static) {
        let said_before = self.removed.set(Removed(Box::new(removed)));
        debug_assert!(said_before.is_ok(), "said twice");
    }

    fn removed_on(&self, node: NodeId) -> BTreeSet<ContainerId> {
        let removed = self.removed.get();
        removed.map(|removed| removed.0(node)).unwrap_or_default()
    }

    /// Records what was observed of a container.
    pub fn put(&self, container: Container) {
        if self.removed_on(container.host.id).contains(&container.id) {
            self.remove(&container.id);
            return;
        }
        let mut index = self.write();
        let before = index.remove(&container.id);
        for one in before.iter().map(Arc::as_ref).chain([&container]) {
            self.note_if_unmanaged(one);
        }
        let publishes = publishes(&container) || before.is_some_and(|before| publishes(&before));
        let id = container.id;
        index.insert(Arc::new(container));
        self.publishers.note(publishes.then_some(id));
    }

    /// Records that a container is gone. Returns what was known of it.
    pub fn remove(&self, id: &ContainerId) -> Option<Arc<Container>> {
        let gone = self.write().remove(id);
        if let Some(gone) = &gone {
            self.note_if_unmanaged(gone);
        }
        let publishes = gone.as_ref().is_some_and(|gone| publishes(gone));
        self.publishers.note(publishes.then_some(*id));
        gone
    }

    /// Begins to keep which containers that publish ports change, for [`take_published`](Self::take_published): all of
    /// them at first. What is returned changes when one does.
    pub fn follow_published(&self) -> watch::Receiver<u64> {
        let index = self.read();
        let publishers = index.containers.values().filter(|c| publishes(c));
        let changed = publishers.map(|container| container.id).collect();
        *self
            .publishers
            .changed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(changed);
        self.publishers.news.subscribe()
    }

    /// How often a container that publishes ports has changed since they are [followed](Self::follow_published).
    pub fn published_news(&self) -> u64 {
        *self.publishers.news.borrow()
    }

    /// The containers that have changed what they publish, or whether they run, since this was last called.
    pub fn take_published(&self) -> BTreeSet<ContainerId> {
        let mut changed = self
            .publishers
            .changed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        changed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Records that a container carries our labels without being ours: it was made of an image that was
    /// committed from one of ours.
    pub fn disown(&self, id: &ContainerId) {
        let mut index = self.write();
        if let Some(container) = index.remove(id) {
            let mut stranger = Container::clone(&container);
            stranger.request = None;
            self.note_if_unmanaged(&stranger);
            self.publishers.note(publishes(&stranger).then_some(*id));
            index.insert(Arc::new(stranger));
        }
    }

    /// Records that a container is to leave a network of the cluster when its node is back.
    pub fn leave_network(&self, id: &ContainerId, network: NetworkId) {
        let mut index = self.write();
        let Some(container) = index.containers.get(id) else {
            return;
        };
        // What is kept was read before, so it can be read.
        if let Ok(left) = container.without_network(network) {
            index.remove(id);
            index.insert(Arc::new(left));
        }
    }

    /// Records all that one node has: what is not among `containers` is gone from it.
    pub fn replace_node(&self, node: NodeId, mut containers: Vec<Container>) {
        let removed = self.removed_on(node);
        containers.retain(|container| !removed.contains(&container.id));
        let mut index = self.write();
        let kept: BTreeSet<ContainerId> = containers.iter().map(|c| c.id).collect();
        let gone: Vec<ContainerId> = index
            .nodes
            .get(&node)
            .map(|totals| totals.containers.difference(&kept).copied().collect())
            .unwrap_or_default();
        let mut publishers = BTreeSet::new();
        for id in gone {
            let before = index.remove(&id);
            publishers.extend(before.filter(|c| publishes(c)).map(|_| id));
        }
        for container in containers {
            let before = index.remove(&container.id);
            if publishes(&container) || before.is_some_and(|before| publishes(&before)) {
                publishers.insert(container.id);
            }
            index.insert(Arc::new(container));
        }
        self.changes.note(node);
        self.publishers.note(publishers);
    }

    /// The container with this full id.
    pub fn get(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.read().containers.get(id).cloned()
    }

    /// Finds a container by full id, name, `/name`, `node/name`, a prefix of its id or, if there is no such node, the name
    /// that another one's link gives it, in this order (api-matrix 1.5).
    pub fn find(&self, reference: &str) -> Found {
        let reference = reference.strip_prefix('/').unwrap_or(reference);
        let index = self.read();
        if let Ok(id) = reference.parse::<ContainerId>()
            && let Some(container) = index.containers.get(&id)
        {
            return Found::One(Arc::clone(container));
        }
        match index.named(reference).as_slice() {
            [] => {}
            [one] => return Found::One(Arc::clone(one)),
            several => return Found::SameName(several.to_vec()),
        }
        if let Some((node, name)) = reference.split_once('/') {
            let on_node = |c: &&Arc<Container>| c.host.is(node);
            if let Some(found) = index.named(name).iter().find(on_node) {
                return Found::One(Arc::clone(found));
            }
            return match index.with_prefix(name) {
                Found::One(container) if container.host.is(node) => Found::One(container),
                _ => index.with_link(reference, node, name),
            };
        }
        index.with_prefix(reference)
    }

    /// The containers of `node` to which the links of its container `name` give names.
    pub fn linked_by(&self, node: &NodeId, name: &str) -> Vec<ContainerId> {
        let index = self.read();
        let (first, under) = (ContainerId::from_bytes([0; 32]), format!("{name}/"));
        let links = index.links.range((Box::from(&*under), first)..);
        let links = links.take_while(|(link, _)| link.starts_with(&under));
        let is_there = |id: &&ContainerId| {
            let linked = index.containers.get(id);
            linked.is_some_and(|linked| linked.host.id == *node)
        };
        links.map(|(_, id)| id).filter(is_there).copied().collect()
    }

    /// The containers of this exact name, on whatever nodes.
    pub fn named(&self, name: &str) -> Vec<Arc<Container>> {
        self.read().named(name)
    }

    /// All containers, newest first, `running` ones only if asked.
    pub fn list(&self, running: bool) -> Vec<Arc<Container>> {
        let index = self.read();
        let order = if running {
            &index.running
        } else {
            &index.order
        };
        order
            .iter()
            .filter_map(|(_, id)| index.containers.get(id).cloned())
            .collect()
    }

    /// Up to `limit` of the newest containers that `wanted` accepts.
    pub fn newest(
        &self,
        limit: usize,
        running: bool,
        mut wanted: impl FnMut(&Container) -> bool,
    ) -> Vec<Arc<Container>> {
        /// So many are looked at under the lock at a time, so that writers never wait for a whole scan.
        const CHUNK: usize = 256;
        let mut found = Vec::with_capacity(limit.min(CHUNK));
        let mut after: Option<Order> = None;
        loop {
            let chunk: Vec<(Order, Arc<Container>)> = {
                let index = self.read();
                let order = if running {
                    &index.running
                } else {
                    &index.order
                };
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                order
                    .range((from, Bound::Unbounded))
                    .take(CHUNK.min(limit.saturating_sub(found.len()).max(16)))
                    .filter_map(|key| index.containers.get(&key.1).map(|c| (*key, Arc::clone(c))))
                    .collect()
            };
            let Some((last, _)) = chunk.last() else {
                return found;
            };
            after = Some(*last);
            for (_, container) in chunk {
                if wanted(&container) {
                    found.push(container);
                    if found.len() >= limit {
                        return found;
                    }
                }
            }
        }
    }

    /// The containers that may carry a label (`value`: with this value), newest first. A superset by
    /// the odds of a hash: the caller checks each.
    pub fn labelled(&self, key: &str, value: Option<&str>) -> Vec<Arc<Container>> {
        let index = self.read();
        let mut found: Vec<_> = if key == labels::NODE {
            index.on_nodes_named(value).collect()
        } else {
            let ids = index.labels.get(&label_hash(key, value));
            ids.into_iter()
                .flatten()
                .filter_map(|id| index.containers.get(id).cloned())
                .collect()
        };
        found.sort_by_key(|c| order_of(c));
        found
    }

    /// What the containers of `node` add up to.
    pub fn totals(&self, node: &NodeId) -> NodeTotals {
        self.read().nodes.get(node).cloned().unwrap_or_default()
    }

    /// The container that publishes this port of the node, or one that overlaps it.
    pub fn publisher(&self, node: &NodeId, port: &PublishedPort) -> Option<Arc<Container>> {
        self.user_of(node, port, |container| &container.published)
    }

    /// A container on the node's own network that was made behind our back and exposes this port.
    pub fn exposer(&self, node: &NodeId, port: &PublishedPort) -> Option<Arc<Container>> {
        self.user_of(node, port, Container::exposed)
    }

    fn user_of(
        &self,
        node: &NodeId,
        port: &PublishedPort,
        uses: impl Fn(&Container) -> &[PublishedPort],
    ) -> Option<Arc<Container>> {
        let index = self.read();
        let first = ContainerId::from_bytes([0; 32]);
        let last = ContainerId::from_bytes([0xff; 32]);
        let users = &index.nodes.get(node)?.ports;
        let users = users.range((port.number, first)..=(port.number, last));
        let mut users = users.filter_map(|(_, id)| index.containers.get(id));
        users
            .find(|user| uses(user).iter().any(|other| other.overlaps(port)))
            .cloned()
    }

    /// What containers of `node` take beside CPU and memory that were made behind our back.
    pub fn unmanaged_generic(&self, node: &NodeId) -> Taken {
        let index = self.read();
        let totals = index.nodes.get(node);
        totals
            .map(|totals| totals.generic.clone())
            .unwrap_or_default()
    }

    /// What the containers of `node` add up to, without naming them.
    pub fn counts(&self, node: &NodeId) -> NodeCounts {
        self.read()
            .nodes
            .get(node)
            .map(|totals| totals.counts)
            .unwrap_or_default()
    }

    /// How many containers of `node` were made from the image with this id.
    pub fn made_from(&self, node: &NodeId, image: &str) -> usize {
        let index = self.read();
        let images = index.nodes.get(node).map(|totals| &totals.images);
        images
            .and_then(|images| images.get(&image_hash(image)))
            .copied()
            .unwrap_or_default()
    }

    /// The containers of `node` that were made from the image with this id.
    pub fn users_of(&self, node: &NodeId, image: &str) -> Vec<Arc<Container>> {
        if self.made_from(node, image) == 0 {
            return Vec::new();
        }
        let wanted = image_hash(image);
        let index = self.read();
        let there = index.nodes.get(node).map(|totals| &totals.containers);
        let there = there.into_iter().flatten();
        there
            .filter_map(|id| index.containers.get(id))
            .filter(|container| container.image == wanted)
            .cloned()
            .collect()
    }

    /// The containers of `node` that mount images, running or not.
    pub fn mounting_images(&self, node: &NodeId) -> Vec<Arc<Container>> {
        let index = self.read();
        let there = index.nodes.get(node).map(|totals| &totals.image_mounts);
        let there = there.into_iter().flatten();
        let there = there.filter_map(|id| index.containers.get(id));
        there.cloned().collect()
    }

    /// The containers of `node` that mount the volume of this name, running or not.
    pub fn mounting(&self, node: &NodeId, volume: &str) -> Vec<Arc<Container>> {
        let there: Vec<_> = {
            let index = self.read();
            let of_node = index.nodes.get(node).map(|totals| &totals.containers);
            let ids = of_node.into_iter().flatten();
            ids.filter_map(|id| index.containers.get(id).cloned())
                .collect()
        };
        let mounting = there.into_iter();
        mounting
            .filter(|container| container.mounts(volume))
            .collect()
    }

    /// The containers of `node` that join a network of the cluster, running or not.
    pub fn joined(&self, node: &NodeId, network: NetworkId) -> Vec<Arc<Container>> {
        let index = self.read();
        let first = ContainerId::from_bytes([0; 32]);
        let last = ContainerId::from_bytes([0xff; 32]);
        let of_node = index.nodes.get(node);
        let ids = of_node.map(|all| all.networks.range((network, first)..=(network, last)));
        ids.into_iter()
            .flatten()
            .filter_map(|(_, id)| index.containers.get(id).cloned())
            .collect()
    }

    /// A writer that panicked leaves the index usable: every change to it is whole or absent for the
    /// one container concerned, and the next sync of its node mends that.
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn publishes(container: &Container) -> bool {
    !container.published.is_empty()
}

fn order_of(container: &Container) -> Order {
    (Reverse(container.created_nanos), container.id)
}

impl Index {
    fn insert(&mut self, container: Arc<Container>) {
        let id = container.id;
        self.order.insert(order_of(&container));
        if container.state.is_up() {
            self.running.insert(order_of(&container));
        }
        for name in &container.names {
            self.names
                .entry(name.clone())
                .and_modify(|holders| holders.add(id))
                .or_insert(Holders::One(id));
        }
        let links = container.links.iter();
        self.links.extend(links.map(|link| (link.clone(), id)));
        for hash in &container.labels {
            self.labels.entry(*hash).or_default().insert(id);
        }
        self.nodes
            .entry(container.host.id)
            .or_default()
            .add(&container);
        self.containers.insert(id, container);
    }

    fn remove(&mut self, id: &ContainerId) -> Option<Arc<Container>> {
        let container = self.containers.remove(id)?;
        self.order.remove(&order_of(&container));
        self.running.remove(&order_of(&container));
        for name in &container.names {
            if let Some(holders) = self.names.get_mut(name)
                && holders.drop_and_is_empty(id)
            {
                self.names.remove(name);
            }
        }
        for link in &container.links {
            self.links.remove(&(link.clone(), *id));
        }
        for hash in &container.labels {
            if let Some(ids) = self.labels.get_mut(hash) {
                ids.remove(id);
                if ids.is_empty() {
                    self.labels.remove(hash);
                }
            }
        }
        if let Some(totals) = self.nodes.get_mut(&container.host.id) {
            totals.drop(&container);
        }
        Some(container)
    }

    /// What is on the node of this name, or on any: the label that says so would be on every container,
    /// so it is not kept with the others.
    fn on_nodes_named(&self, name: Option<&str>) -> impl Iterator<Item = Arc<Container>> {
        let is_wanted = move |totals: &&NodeTotals| {
            let mut all = totals.containers.iter();
            let any = all.find_map(|id| self.containers.get(id));
            any.is_some_and(|any| name.is_none_or(|name| any.host.name.as_str() == name))
        };
        let wanted = self.nodes.values().filter(is_wanted);
        wanted
            .flat_map(|totals| &totals.containers)
            .filter_map(|id| self.containers.get(id).cloned())
    }

    fn named(&self, name: &str) -> Vec<Arc<Container>> {
        let ids: &[ContainerId] = match self.names.get(name) {
            None => &[],
            Some(Holders::One(id)) => std::slice::from_ref(id),
            Some(Holders::Many(ids)) => ids,
        };
        ids.iter()
            .filter_map(|id| self.containers.get(id).cloned())
            .collect()
    }

    /// What `reference`, which is `node/name` too, means by the names that links give. On a node of that name nothing but
    /// `name` is meant.
    fn with_link(&self, reference: &str, node: &str, name: &str) -> Found {
        let is_node = self.nodes.values().any(|totals| {
            let mut all = totals.containers.iter();
            let any = all.find_map(|id| self.containers.get(id));
            any.is_some_and(|any| any.host.is(node))
        });
        let link = if is_node { name } else { reference };
        let mut linked = self.linked_as(link);
        linked.retain(|container| !is_node || container.host.is(node));
        match linked.as_slice() {
            [] => Found::None,
            [one] => Found::One(Arc::clone(one)),
            _ => Found::SameName(linked),
        }
    }

    /// The containers to which a link gives this name, on whatever nodes.
    fn linked_as(&self, link: &str) -> Vec<Arc<Container>> {
        let first = ContainerId::from_bytes([0; 32]);
        let links = self.links.range((Box::from(link), first)..);
        let links = links.take_while(|(name, _)| **name == *link);
        links
            .filter_map(|(_, id)| self.containers.get(id).cloned())
            .collect()
    }

    fn with_prefix(&self, prefix: &str) -> Found {
        let Some((low, high)) = prefix_range(prefix) else {
            return Found::None;
        };
        let mut hits = self
            .containers
            .range(low..=high)
            .map(|(_, container)| container);
        match (hits.next(), hits.next()) {
            (None, _) => Found::None,
            (Some(one), None) => Found::One(Arc::clone(one)),
            (Some(_), Some(_)) => Found::SamePrefix,
        }
    }
}

/// The lowest and the highest id that begin with these hexadecimal digits.
fn prefix_range(prefix: &str) -> Option<(ContainerId, ContainerId)> {
    if prefix.is_empty() || prefix.len() > 64 {
        return None;
    }
    let fill = |digit: char| {
        let mut text = prefix.to_owned();
        text.extend(std::iter::repeat_n(digit, 64 - prefix.len()));
        text.parse::<ContainerId>().ok()
    };
    Some((fill('0')?, fill('f')?))
}

impl Holders {
    fn add(&mut self, id: ContainerId) {
        match self {
            Self::One(first) if *first == id => {}
            Self::One(first) => *self = Self::Many(vec![*first, id]),
            Self::Many(ids) if ids.contains(&id) => {}
            Self::Many(ids) => ids.push(id),
        }
    }

    fn drop_and_is_empty(&mut self, id: &ContainerId) -> bool {
        match self {
            Self::One(only) => only == id,
            Self::Many(ids) => {
                ids.retain(|other| other != id);
                ids.is_empty()
            }
        }
    }
}

impl NodeTotals {
    fn add(&mut self, container: &Container) {
        self.containers.insert(container.id);
        *self.images.entry(container.image).or_default() += 1;
        if container.mounts_images {
            self.image_mounts.insert(container.id);
        }
        let joined = container.networks.iter();
        self.networks
            .extend(joined.map(|network| (*network, container.id)));
        let published = container.published.iter();
        let ports = published.chain(container.exposed());
        self.ports
            .extend(ports.map(|port| (port.number, container.id)));
        let counts = &mut self.counts;
        let claim = container.unmanaged_claim();
        counts.containers += 1;
        counts.unmanaged += usize::from(container.request.is_none());
        if container.state.is_up() {
            counts.running += 1;
            counts.unmanaged_claims = counts.unmanaged_claims.saturating_add(claim);
            if let Some(details) = container.unmanaged() {
                self.generic.add(&details.generic);
            }
        }
        counts.paused += usize::from(container.state.is_paused());
    }

    fn drop(&mut self, container: &Container) {
        self.containers.remove(&container.id);
        self.image_mounts.remove(&container.id);
        for network in &container.networks {
            self.networks.remove(&(*network, container.id));
        }
        for port in container.published.iter().chain(container.exposed()) {
            self.ports.remove(&(port.number, container.id));
        }
        if let Some(made) = self.images.get_mut(&container.image) {
            *made -= 1;
            if *made == 0 {
                self.images.remove(&container.image);
            }
        }
        let counts = &mut self.counts;
        let claim = container.unmanaged_claim();
        counts.containers -= 1;
        counts.unmanaged -= usize::from(container.request.is_none());
        if container.state.is_up() {
            counts.running -= 1;
            counts.unmanaged_claims = counts.unmanaged_claims.saturating_sub(claim);
            if let Some(details) = container.unmanaged() {
                self.generic.remove(&details.generic);
            }
        }
        counts.paused -= usize::from(container.state.is_paused());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::HostTag;
    use crate::model::ClusterId;

    fn node(number: u8, name: &str) -> Arc<HostTag> {
        Arc::new(HostTag::new(
            NodeId::from_bytes([number; 16]),
            name.parse().expect("a name"),
            None,
            "tcp://10.0.0.1:2375".parse().expect("an endpoint"),
            ClusterId::from_bytes([9; 16]),
            false,
        ))
    }

    fn container(number: u8, node: &Arc<HostTag>, names: &[&str]) -> Container {
        let names: Vec<_> = names.iter().map(|name| format!("/{name}")).collect();
        let item = serde_json::json!({"Id": ContainerId::from_bytes([number; 32]), "Names": names});
        Container::read(item.to_string().as_bytes(), node).expect("reads")
    }

    #[test]
    fn names_that_links_give_come_after_nodes() {
        let (alpha, beta) = (node(1, "alpha"), node(2, "beta"));
        let inventory = Inventory::new();
        inventory.put(container(1, &alpha, &["db", "web/db", "beta/db"]));
        inventory.put(container(2, &alpha, &["web"]));
        inventory.put(container(3, &beta, &["other/it", "it", "web-2/it"]));
        let check = |reference: &str, expected: Option<u8>| {
            let found = inventory.find(reference).sole(reference).expect("one");
            let expected = expected.map(|number| ContainerId::from_bytes([number; 32]));
            assert_eq!(found.map(|found| found.id), expected, "{reference}");
        };
        check("db", Some(1));
        check("web/db", Some(1));
        check("/web/db", Some(1));
        check("alpha/web/db", Some(1));
        check("beta/web/db", None);
        // The node has none of that name, so nothing else is meant.
        check("beta/db", None);
        check("web/it", None);
        let linked = |name: &str| inventory.linked_by(&alpha.id, name);
        assert_eq!(linked("web"), [ContainerId::from_bytes([1; 32])]);
        assert_eq!(linked("other"), []);
        inventory.put(container(1, &alpha, &["db"]));
        check("web/db", None);
        assert_eq!(linked("web"), []);
    }

    #[test]
    fn what_is_ambiguous_says_how_to_be_clear() {
        let twins = Ambiguous::Name {
            name: "web".to_owned(),
            nodes: vec!["host1".to_owned(), "host2".to_owned()],
        };
        assert_eq!(
            twins.to_string(),
            "container name web exists on host1 and host2: use host1/web, host2/web or an ID"
        );
    }
}
