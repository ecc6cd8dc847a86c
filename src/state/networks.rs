//! Commands about networks.
//!
//! A network that is no more than a record is *unbound*. The first placement that joins it binds it to its node; when the
//! last one goes, it is unbound in that very command. So a network is never bound to where nothing of it is needed,
//! whatever is cut off when, but for one whose user named a node.
//!
//! **Invariant**: all that join a network of one host are on the node that it is bound to.

use std::collections::BTreeSet;

use crate::model::{
    Name, NameHolder, NameKind, Network, NetworkId, NodeId, Realised, Realm, RequestId,
};

use super::Cluster;
use super::refusal::{Change, Refusal};

/// A network that is to be made.
pub(super) struct NewNetwork {
    pub(super) id: NetworkId,
    pub(super) name: String,
    pub(super) spec: String,
    pub(super) group: Option<String>,
    pub(super) node: Option<NodeId>,
}

impl Cluster {
    pub(super) fn add_network(&mut self, realm: Realm, new: NewNetwork) -> Result<Change, Refusal> {
        let NewNetwork { id, name, .. } = &new;
        if let Some(before) = self.networks.get(id)
            && before.name != *name
        {
            return Err(Refusal::NetworkReused {
                network: *id,
                name: before.name.clone(),
            });
        }
        match self.holder(&Name::network(realm, name)) {
            Some(NameHolder::Network(holder)) if holder == *id => return Ok(Change::Network(*id)),
            Some(NameHolder::Network(_) | NameHolder::Placement(_)) => {
                return Err(Refusal::NameTaken {
                    kind: NameKind::Network,
                    name: name.clone(),
                    holder: "another network".to_owned(),
                    request: None,
                    container: None,
                });
            }
            None => {}
        }
        let realised = match new.node {
            Some(node) => Realised::On {
                node: self.expect_node(node)?.id,
                engine_id: None,
            },
            None => Realised::Unbound,
        };
        let NewNetwork {
            id,
            name,
            spec,
            group,
            node,
        } = new;
        self.put_network(Network {
            id,
            realm,
            name,
            spec,
            created: self.now,
            group,
            pinned: node.is_some(),
            realised,
            deleting: false,
        });
        Ok(Change::Network(id))
    }

    pub(super) fn realise_network(
        &mut self,
        id: NetworkId,
        node: NodeId,
        engine_id: NetworkId,
    ) -> Result<Change, Refusal> {
        let wanted = self.expect_node(node)?.name.clone();
        let network = self.expect_network(id)?;
        self.is_not_elsewhere(network, node)?;
        if network.node() != Some(node) {
            return Err(Refusal::NetworkNotThere {
                network: network.name.clone(),
                node: wanted,
            });
        }
        let realised = Realised::On {
            node,
            engine_id: Some(engine_id),
        };
        self.put_network(Network {
            realised,
            ..network.clone()
        });
        Ok(Change::Network(id))
    }

    pub(super) fn join_network(
        &mut self,
        request: RequestId,
        id: NetworkId,
    ) -> Result<Change, Refusal> {
        let placement = self.expect_placement(request)?;
        if !placement.networks.contains(&id) {
            let node = placement.node;
            self.can_be_joined(id, node)?;
            self.bind_network(id, node);
        }
        self.change_networks(request, |joins, leaving| {
            add(joins, id);
            // Whoever connects it anew has settled what was to be done before.
            take(leaving, id);
        })
    }

    pub(super) fn leave_network(
        &mut self,
        request: RequestId,
        id: NetworkId,
    ) -> Result<Change, Refusal> {
        self.change_networks(request, |joins, _| {
            take(joins, id);
        })
    }

    /// The container's engine will be told. Until then the container may still be seen in the network, which binds nobody.
    pub(super) fn leave_network_later(
        &mut self,
        request: RequestId,
        id: NetworkId,
    ) -> Result<Change, Refusal> {
        self.change_networks(request, |joins, leaving| {
            if take(joins, id) {
                add(leaving, id);
            }
        })
    }

    pub(super) fn settle_leave(
        &mut self,
        request: RequestId,
        id: NetworkId,
    ) -> Result<Change, Refusal> {
        self.change_networks(request, |_, leaving| {
            take(leaving, id);
        })
    }

    /// Changes what a placement joins and what it is leaving.
    fn change_networks(
        &mut self,
        request: RequestId,
        change: impl FnOnce(&mut Vec<NetworkId>, &mut Vec<NetworkId>),
    ) -> Result<Change, Refusal> {
        let before = self.expect_placement(request)?;
        let mut placement = before.clone();
        change(&mut placement.networks, &mut placement.leaving);
        if placement != *before {
            self.put(placement);
        }
        Ok(Change::Placement(request))
    }

    pub(super) fn begin_remove_network(&mut self, id: NetworkId) -> Result<Change, Refusal> {
        let network = self.expect_network(id)?;
        let users = self.network_users(id);
        if users > 0 {
            return Err(Refusal::NetworkInUse {
                network: network.name.clone(),
                users,
            });
        }
        self.put_network(Network {
            deleting: true,
            ..network.clone()
        });
        Ok(Change::Network(id))
    }

    pub(super) fn remove_network(
        &mut self,
        id: NetworkId,
        at_rest: &BTreeSet<RequestId>,
    ) -> Result<Change, Refusal> {
        let Some(network) = self.networks.get(&id).cloned() else {
            return Ok(Change::NetworkRemoved(id));
        };
        let joins = |request: &RequestId| {
            let placement = self.placement(*request);
            placement.is_some_and(|placement| placement.networks.contains(&id))
        };
        let at_rest: Vec<RequestId> = at_rest.iter().copied().filter(joins).collect();
        let users = self.network_users(id);
        if usize::try_from(users).unwrap_or(usize::MAX) > at_rest.len() {
            return Err(Refusal::NetworkInUse {
                network: network.name.clone(),
                users,
            });
        }
        for request in at_rest {
            self.leave_network(request, id)?;
        }
        // The last one that left has unbound it.
        let Some(network) = self.networks.get(&id).cloned() else {
            return Ok(Change::NetworkRemoved(id));
        };
        self.index.remove_network(&network);
        self.networks.remove(&id);
        Ok(Change::NetworkRemoved(id))
    }

    /// Whether a placement on `node` may join the network.
    pub(super) fn can_be_joined(&self, id: NetworkId, node: NodeId) -> Result<(), Refusal> {
        let network = self.expect_network(id)?;
        if network.deleting {
            return Err(Refusal::NetworkDeleting {
                network: network.name.clone(),
            });
        }
        self.is_not_elsewhere(network, node)
    }

    fn is_not_elsewhere(&self, network: &Network, node: NodeId) -> Result<(), Refusal> {
        match network.node() {
            Some(bound) if bound != node => Err(Refusal::NetworkElsewhere {
                network: network.name.clone(),
                bound: self.node_label(bound),
                node: self.expect_node(node)?.name.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// The first container of a network decides where it goes.
    pub(super) fn bind_network(&mut self, id: NetworkId, node: NodeId) {
        let unbound = self.networks.get(&id).cloned();
        if let Some(network) = unbound.filter(|network| network.realised == Realised::Unbound) {
            let realised = Realised::On {
                node,
                engine_id: None,
            };
            self.put_network(Network {
                realised,
                ..network.as_ref().clone()
            });
        }
    }

    /// The last container of a network is gone: what its node has of it is needed no more.
    pub(super) fn unbind_unused(&mut self, networks: &[NetworkId]) {
        for id in networks {
            let unused = self
                .networks
                .get(id)
                .filter(|network| !network.pinned && self.network_users(*id) == 0)
                .filter(|network| network.node().is_some())
                .cloned();
            if let Some(network) = unused {
                self.put_network(Network {
                    realised: Realised::Unbound,
                    ..network.as_ref().clone()
                });
            }
        }
    }

    /// What a node that leaves had of networks goes with it. Networks are few beside containers and
    /// nodes leave seldom: this may look at all.
    pub(super) fn unbind_networks_of(&mut self, gone: NodeId) {
        let bound: Vec<_> = self
            .networks
            .values()
            .filter(|network| network.node() == Some(gone))
            .cloned()
            .collect();
        for network in bound {
            self.put_network(Network {
                realised: Realised::Unbound,
                pinned: false,
                ..network.as_ref().clone()
            });
        }
    }

    pub(super) fn expect_network(&self, id: NetworkId) -> Result<&Network, Refusal> {
        self.networks
            .get(&id)
            .map(AsRef::as_ref)
            .ok_or(Refusal::NoSuchNetwork { network: id })
    }
}

/// Puts an id into a sorted list.
fn add(networks: &mut Vec<NetworkId>, id: NetworkId) {
    if let Err(at) = networks.binary_search(&id) {
        networks.insert(at, id);
    }
}

/// Takes an id out; whether it was there.
fn take(networks: &mut Vec<NetworkId>, id: NetworkId) -> bool {
    let before = networks.len();
    networks.retain(|network| *network != id);
    networks.len() < before
}
