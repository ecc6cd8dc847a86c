//! What networks say of where a container goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api_compat::create::{Create, Joined};
use api_compat::labels;

use crate::engine::Host;
use crate::manager::Manager;
use crate::model::NetworkId;
use crate::scheduler::Pin;
use crate::state::Cluster;

/// The networks of the cluster that a container is to join, by what its client calls them.
#[derive(Debug, Default)]
pub(in crate::manager) struct Joins(pub(super) BTreeMap<String, NetworkId>);

impl Joins {
    /// Each once.
    pub(in crate::manager) fn ids(&self) -> BTreeSet<NetworkId> {
        self.0.values().copied().collect()
    }

    /// Whether that is one of them.
    pub(in crate::manager) fn contains(&self, reference: &str) -> bool {
        self.0.contains_key(reference)
    }
}

impl Manager {
    /// The networks of the cluster that a container is to join.
    pub(in crate::manager) fn joins(&self, wanted: &Create<'_>) -> Joins {
        let known = wanted.networks.iter().filter_map(|reference| {
            let network = self.network(reference)?;
            Some((reference.to_string(), network.id))
        });
        Joins(known.collect())
    }

    /// Of `node/name` the node and the name, if its engine has such a network that is not the cluster's.
    pub(in crate::manager) fn network_of_node<'a>(
        &self,
        reference: &'a str,
    ) -> Option<(Arc<Host>, &'a str)> {
        let (node, name) = reference.split_once('/')?;
        let host = self.fleet.named(node)?;
        host.has_network(name).then_some((host, name))
    }

    /// What the engine of `host` knows a network by that its client called `node/name`.
    pub(in crate::manager) fn joined_of_node(
        &self,
        host: &Host,
        reference: &str,
    ) -> Option<Joined> {
        let (there, name) = self.network_of_node(reference)?;
        let is_here = there.tag.id == host.tag.id;
        is_here.then(|| Joined {
            name: name.to_owned(),
            // An engine finds a network by either.
            id: name.to_owned(),
        })
    }

    /// What the networks that a container joins tie it to.
    pub(in crate::manager) fn network_pins(&self, joins: &Joins, cluster: &Cluster) -> Vec<Pin> {
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
    /// its volumes, else with what the group shares with others. A later container may join several of them.
    pub(in crate::manager) fn beside_its_group(
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
        if nodes.is_empty() {
            let company = groups
                .iter()
                .map(|group| self.nodes_of_company(group, cluster));
            nodes.extend(company.flatten());
        }
        (!nodes.is_empty()).then(|| Pin {
            nodes,
            why: "what it belongs to".to_owned(),
        })
    }
}
