//! Networks as clients are to see them: the cluster's under our ids, those of engines as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::json_view::{Malformed, View};
use api_compat::network_create::{shown, with_our_id};
use api_compat::network_list::Network;

use super::super::Proxy;
use super::super::short_lists::Gathered;
use crate::engine::{Host, OwnNetwork};
use crate::model::{self, NetworkId, NodeId};

pub(super) fn gather(proxy: &Proxy) -> Gathered {
    Gathered::listed(proxy, Host::networks)
}

/// A network of the cluster as clients are to see it.
pub(super) struct Ours {
    pub(super) network: Arc<model::Network>,
    json: Vec<u8>,
    /// The place of its node in the lists; past their end if it is on none.
    node: usize,
}

/// The cluster's networks: the engine's words where one has it, in the first of the lists that tell of it.
pub(super) fn ours(proxy: &Proxy, lists: &[&Gathered]) -> Result<Vec<Ours>, ApiError> {
    let told: Vec<_> = lists.iter().map(|list| there(proxy, list)).collect();
    let cluster = proxy.manager.cluster();
    let all = cluster.networks();
    all.map(|network| {
        let mut found = told.iter().filter_map(|told| told.get(&network.id));
        let (node, json) = match found.next() {
            Some((node, view)) => (*node, with_our_id(*view, network.id)),
            None => (usize::MAX, not_there(network).map(String::into_bytes)),
        };
        Ok(Ours {
            network: Arc::clone(network),
            json: json.map_err(|error| unreadable(network, &error))?,
            node,
        })
    })
    .collect()
}

/// What engines say of the cluster's networks, each told of by the engine of its node.
fn there<'a>(proxy: &Proxy, list: &'a Gathered) -> BTreeMap<NetworkId, (usize, View<'a>)> {
    let (cluster, id) = (proxy.manager.cluster(), proxy.manager.cluster_id());
    let all = list.views().filter_map(|(node, view)| {
        let own = OwnNetwork::read(view, id)?;
        let network = cluster.network(own.id)?;
        let host = list.hosts[node].tag.id;
        is_on(proxy, network, host).then_some((own.id, (node, view)))
    });
    all.collect()
}

/// Whether the node is where a network is: it is bound to it, or to none and strangers join it there.
pub(super) fn is_on(proxy: &Proxy, network: &model::Network, node: NodeId) -> bool {
    let joined = || !proxy.fleet.inventory.joined(&node, network.id).is_empty();
    network.node().map_or_else(joined, |bound| bound == node)
}

pub(super) fn not_there(network: &model::Network) -> Result<String, Malformed> {
    let (spec, name) = (network.spec.as_bytes(), &network.name);
    shown(spec, name, network.id, network.created)
}

pub(super) fn unreadable(network: &model::Network, error: &Malformed) -> ApiError {
    ApiError::internal(format!("network {}: {error}", network.name))
}

/// All networks: those of the engines that are not the cluster's, and the cluster's.
pub(super) fn networks<'a>(
    proxy: &Proxy,
    gathered: &'a Gathered,
    ours: &'a [Ours],
) -> Vec<Network<'a>> {
    let cluster = proxy.manager.cluster_id();
    let strangers = gathered
        .views()
        .filter(|(_, view)| OwnNetwork::read(*view, cluster).is_none())
        .map(|(node, view)| Network::of(view, node));
    let ours = ours.iter().filter_map(|network| {
        let view = View::parse(&network.json).ok()?;
        Some(Network::of_cluster(view, network.node))
    });
    strangers.chain(ours).collect()
}
