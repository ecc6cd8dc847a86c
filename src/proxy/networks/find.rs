//! What a reference to a network means.

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::network_list::{self, Found};

use super::super::Proxy;
use super::rows::{gather, is_on, networks, ours};
use crate::engine::Host;
use crate::model::{self, NetworkId};

/// One network on one node.
pub(super) struct Place {
    pub(super) host: Arc<Host>,
    pub(super) id: String,
    pub(super) name: String,
}

/// What a reference to a network means.
pub(super) enum Meant {
    /// A network of the cluster.
    Cluster(Arc<model::Network>),
    /// One of engines: on several nodes only if it is a builtin one, or one that several nodes know by one id. Ready nodes
    /// come first.
    Engines(Vec<Place>),
}

pub(super) fn find(proxy: &Proxy, reference: &str) -> Result<Meant, ApiError> {
    if let Some(network) = proxy.manager.network_called(reference) {
        return Ok(Meant::Cluster(network));
    }
    let gathered = gather(proxy);
    let ours = ours(proxy, &[&gathered])?;
    let all = networks(proxy, &gathered, &ours);
    let is_node = |text: &str, node: usize| {
        let host = gathered.hosts.get(node);
        host.is_some_and(|host| host.tag.is(text))
    };
    let ambiguous = |count: usize, by: &str, way_out: String| {
        ApiError::bad_parameter(format!(
            "{count} matches found based on {by}: network {reference} is ambiguous{way_out}"
        ))
    };
    match network_list::find(&all, reference, is_node) {
        Found::None => Err(not_found(reference)),
        Found::One(found) => {
            if let Some(id) = found.iter().find(|n| n.of_cluster).map(|n| &n.id) {
                let network = ours.iter().find(|own| own.network.id.to_string() == **id);
                let network = network.ok_or_else(|| not_found(reference))?;
                return Ok(Meant::Cluster(Arc::clone(&network.network)));
            }
            let places = found.into_iter().map(|network| Place {
                host: Arc::clone(&gathered.hosts[network.node]),
                id: network.id.to_string(),
                name: network.name.to_string(),
            });
            Ok(Meant::Engines(places.collect()))
        }
        Found::SameName(found) => {
            let names = gathered.names();
            let ways: Vec<_> = found
                .iter()
                .map(|network| format!("{}/{reference}", names[network.node]))
                .collect();
            Err(ambiguous(
                found.len(),
                "name",
                format!(": use {} or an ID", ways.join(", ")),
            ))
        }
        Found::SamePrefix(count) => Err(ambiguous(count, "ID prefix", String::new())),
    }
}

/// The node that has a network of the cluster, and what its engine knows it by.
pub(super) fn its_place(proxy: &Proxy, network: &model::Network) -> Option<(Arc<Host>, NetworkId)> {
    let hosts = proxy.fleet.hosts();
    let host = match network.node() {
        Some(bound) => hosts.get(&bound),
        None => hosts
            .values()
            .find(|host| is_on(proxy, network, host.tag.id)),
    }?;
    let own = host.tag.networks.of(network.id)?;
    Some((Arc::clone(host), own.engine_id))
}

pub(super) fn not_found(reference: &str) -> ApiError {
    ApiError::not_found(format!("network {reference} not found"))
}
