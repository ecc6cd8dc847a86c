//! What follows from nodes, placements, networks and volumes, kept so that no question needs a scan.
//!
//! **Invariant**: built anew from them, it is the same.

use imbl::{OrdMap, OrdSet};

use crate::model::{
    ContainerId, Name, NameHolder, Network, NetworkId, Node, NodeId, NodeName, Placement, Realm,
    RequestId, Resources, Volume,
};

use super::ports::PortBook;
use crate::model::generic::Counts;

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Index {
    pub(super) node_names: OrdMap<NodeName, NodeId>,
    pub(super) endpoints: OrdMap<String, NodeId>,
    pub(super) containers: OrdMap<ContainerId, RequestId>,
    pub(super) names: OrdMap<Name, NameHolder>,
    pub(super) volume_users: OrdMap<Name, u32>,
    volumes_by_node: OrdSet<(NodeId, Name)>,
    pub(super) network_users: OrdMap<NetworkId, u32>,
    pub(super) groups: OrdSet<(String, NetworkId)>,
    pub(super) totals: OrdMap<NodeId, Totals>,
    /// What those that claim take beside CPU and memory.
    pub(super) generic: OrdMap<(NodeId, String), u64>,
    pub(super) ports: PortBook,
    by_node: OrdSet<(NodeId, RequestId)>,
}

/// What the placements on one node come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// What those that claim, claim.
    pub claimed: Resources,
    /// How many there are, claiming or not.
    pub placements: u32,
    /// Tells the claims of those that claim from any others, but for the odds of 64 bits.
    pub digest: u64,
}

impl Index {
    pub(super) fn requests_on(&self, node: NodeId) -> impl Iterator<Item = RequestId> {
        let first = RequestId::from_bytes([0; 16]);
        self.by_node
            .range((node, first)..)
            .take_while(move |(on, _)| *on == node)
            .map(|(_, request)| *request)
    }

    pub(super) fn add_node(&mut self, node: &Node) {
        self.node_names.insert(node.name.clone(), node.id);
        self.endpoints.insert(node.endpoint.clone(), node.id);
    }

    pub(super) fn remove_node(&mut self, node: &Node) {
        self.node_names.remove(&node.name);
        self.endpoints.remove(&node.endpoint);
    }

    pub(super) fn add_network(&mut self, network: &Network) {
        let name = Name::network(network.realm, &network.name);
        self.names.insert(name, NameHolder::Network(network.id));
        if let Some(group) = &network.group {
            self.groups.insert((group.clone(), network.id));
        }
    }

    pub(super) fn remove_network(&mut self, network: &Network) {
        self.names
            .remove(&Name::network(network.realm, &network.name));
        if let Some(group) = &network.group {
            self.groups.remove(&(group.clone(), network.id));
        }
    }

    pub(super) fn volumes_on(&self, node: NodeId) -> impl Iterator<Item = &Name> {
        let first = Name::volume(Realm::DEFAULT, "");
        self.volumes_by_node
            .range((node, first)..)
            .take_while(move |(on, _)| *on == node)
            .map(|(_, name)| name)
    }

    pub(super) fn add_volume(&mut self, volume: &Volume) {
        let name = Name::volume(volume.realm, &volume.spec.name);
        let places = volume.residence.nodes().map(|node| (node, name.clone()));
        self.volumes_by_node.extend(places);
    }

    pub(super) fn remove_volume(&mut self, volume: &Volume) {
        let name = Name::volume(volume.realm, &volume.spec.name);
        for node in volume.residence.nodes() {
            self.volumes_by_node.remove(&(node, name.clone()));
        }
    }

    pub(super) fn add_placement(&mut self, placement: &Placement) {
        let request = placement.request;
        self.by_node.insert((placement.node, request));
        if let Some(container) = placement.container {
            self.containers.insert(container, request);
        }
        for name in names(placement) {
            self.names.insert(name, NameHolder::Placement(request));
        }
        for volume in volumes(placement) {
            *self.volume_users.entry(volume).or_insert(0) += 1;
        }
        for network in &placement.networks {
            *self.network_users.entry(*network).or_insert(0) += 1;
        }
        let totals = self.totals.entry(placement.node).or_default();
        totals.placements += 1;
        if placement.claiming {
            totals.claimed = totals.claimed.saturating_add(placement.claim);
            totals.digest = totals.digest.wrapping_add(digest(placement));
            for (name, count) in some(&placement.generic) {
                let sum = self
                    .generic
                    .entry((placement.node, name.to_owned()))
                    .or_default();
                *sum = sum.saturating_add(count);
            }
        }
        self.ports.add(placement);
    }

    pub(super) fn remove_placement(&mut self, placement: &Placement) {
        self.by_node.remove(&(placement.node, placement.request));
        if let Some(container) = placement.container {
            self.containers.remove(&container);
        }
        for name in names(placement) {
            self.names.remove(&name);
        }
        for volume in volumes(placement) {
            match self.volume_users.get(&volume).copied() {
                Some(users) if users > 1 => drop(self.volume_users.insert(volume, users - 1)),
                Some(_) | None => drop(self.volume_users.remove(&volume)),
            }
        }
        for network in &placement.networks {
            match self.network_users.get(network).copied() {
                Some(users) if users > 1 => drop(self.network_users.insert(*network, users - 1)),
                Some(_) | None => drop(self.network_users.remove(network)),
            }
        }
        if let Some(mut totals) = self.totals.get(&placement.node).copied() {
            totals.placements -= 1;
            if placement.claiming {
                totals.claimed = totals.claimed.saturating_sub(placement.claim);
                totals.digest = totals.digest.wrapping_sub(digest(placement));
            }
            if totals.placements == 0 {
                self.totals.remove(&placement.node);
            } else {
                self.totals.insert(placement.node, totals);
            }
        }
        for (name, count) in some(&placement.generic).filter(|_| placement.claiming) {
            let key = (placement.node, name.to_owned());
            match self.generic.get(&key).copied() {
                Some(sum) if sum > count => drop(self.generic.insert(key, sum - count)),
                Some(_) | None => drop(self.generic.remove(&key)),
            }
        }
        self.ports.remove(placement);
    }

    /// What the placements on a node take beside CPU and memory.
    pub(super) fn generic_on(&self, node: NodeId) -> Counts {
        self.generic
            .range((node, String::new())..)
            .take_while(|((on, _), _)| *on == node)
            .map(|((_, name), count)| (name.as_str(), *count))
            .collect()
    }
}

/// Numbers that come to something.
fn some(counts: &Counts) -> impl Iterator<Item = (&str, u64)> {
    counts.iter().filter(|(_, count)| *count > 0)
}

/// Of a placement and its claim (FNV-1a): sums of these do not depend on the order.
fn digest(placement: &Placement) -> u64 {
    let Resources {
        cpu_nanos,
        memory_bytes,
    } = placement.claim;
    let request = placement.request.as_bytes().iter().copied();
    let claim = [cpu_nanos, memory_bytes]
        .into_iter()
        .flat_map(u64::to_le_bytes);
    request
        .chain(claim)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The names a placement holds: two during a rename.
pub(super) fn names(placement: &Placement) -> impl Iterator<Item = Name> {
    std::iter::once(&placement.name)
        .chain(placement.renaming.as_ref())
        .map(|name| Name::container(placement.realm, name))
}

/// The volumes a placement mounts.
pub(super) fn volumes(placement: &Placement) -> impl Iterator<Item = Name> {
    placement
        .volumes
        .iter()
        .map(|name| Name::volume(placement.realm, name))
}
