//! Commands about networks.

use crate::model::{Name, NameHolder, NameKind, Network, NetworkId, NodeId, Realised, Realm};

use super::Cluster;
use super::refusal::{Change, Refusal};

impl Cluster {
    pub(super) fn add_network(
        &mut self,
        realm: Realm,
        id: NetworkId,
        name: String,
        spec: String,
    ) -> Result<Change, Refusal> {
        if let Some(before) = self.networks.get(&id)
            && before.name != name
        {
            return Err(Refusal::NetworkReused {
                network: id,
                name: before.name.clone(),
            });
        }
        match self.holder(&Name::network(realm, &name)) {
            Some(NameHolder::Network(holder)) if holder == id => return Ok(Change::Network(id)),
            Some(NameHolder::Network(_) | NameHolder::Placement(_)) => {
                return Err(Refusal::NameTaken {
                    kind: NameKind::Network,
                    name,
                    holder: "another network".to_owned(),
                    request: None,
                    container: None,
                });
            }
            None => {}
        }
        let realised = Realised::Unbound;
        self.put_network(Network {
            id,
            realm,
            name,
            spec,
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
        if let Some(bound) = self.bound_elsewhere(network, node) {
            let network = network.name.clone();
            return Err(Refusal::NetworkElsewhere {
                network,
                bound,
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

    pub(super) fn remove_network(&mut self, id: NetworkId) -> Result<Change, Refusal> {
        let Some(network) = self.networks.get(&id).cloned() else {
            return Ok(Change::NetworkRemoved(id));
        };
        let users = self.network_users(id);
        if users > 0 {
            return Err(Refusal::NetworkInUse {
                network: network.name.clone(),
                users,
            });
        }
        self.index.remove_network(&network);
        self.networks.remove(&id);
        Ok(Change::NetworkRemoved(id))
    }

    /// Where a network keeps its containers, if that is not `node`. One that nobody joins any more
    /// keeps nobody.
    pub(super) fn bound_elsewhere(&self, network: &Network, node: NodeId) -> Option<String> {
        match &network.realised {
            Realised::On { node: bound, .. }
                if *bound != node && self.network_users(network.id) > 0 =>
            {
                Some(self.node_label(*bound))
            }
            Realised::On { .. } | Realised::Unbound | Realised::Fabric => None,
        }
    }

    /// The first container of a network decides where it goes.
    pub(super) fn bind_network(&mut self, id: NetworkId, node: NodeId) {
        let Some(network) = self.networks.get(&id) else {
            return;
        };
        let realised = match &network.realised {
            Realised::Unbound => Realised::On {
                node,
                engine_id: None,
            },
            Realised::On { node: bound, .. } if *bound != node => Realised::On {
                node,
                engine_id: None,
            },
            Realised::On { .. } | Realised::Fabric => return,
        };
        let network = network.as_ref().clone();
        self.put_network(Network {
            realised,
            ..network
        });
    }

    /// What a node that leaves had of networks goes with it. Networks are few beside containers and
    /// nodes leave seldom: this may look at all.
    pub(super) fn unbind_networks_of(&mut self, gone: NodeId) {
        let bound: Vec<_> = self
            .networks
            .values()
            .filter(|network| matches!(network.realised, Realised::On { node, .. } if node == gone))
            .cloned()
            .collect();
        for network in bound {
            let realised = Realised::Unbound;
            self.put_network(Network {
                realised,
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
