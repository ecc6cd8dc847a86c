//! What a reference to a volume means: a record, or what nodes list under that name.

use std::sync::Arc;

use api_compat::error::ApiError;

use super::super::{Proxy, nodes};
use crate::engine::Host;
use crate::model::{Realm, Residence, Volume};

/// What a reference means.
#[derive(Debug)]
pub(super) struct Found {
    /// The record that the whole of it belongs to.
    pub(super) record: Option<Arc<Volume>>,
    /// The nodes that have it, or have it by their record.
    pub(super) hosts: Vec<Arc<Host>>,
    /// Its name there.
    pub(super) name: String,
    /// It was named by one of its nodes, and others have more of it.
    pub(super) in_part: bool,
}

impl Found {
    /// Whether there is nothing of the kind.
    pub(super) fn is_nothing(&self) -> bool {
        self.record.is_none() && self.hosts.is_empty()
    }

    /// The node to ask about it; none if there is only the record. Fails if several nodes have different ones.
    pub(super) fn one(&self, reference: &str) -> Result<Option<Arc<Host>>, ApiError> {
        let residence = self.record.as_ref().map(|record| &record.residence);
        match (residence, self.hosts.as_slice()) {
            (Some(Residence::PerNode { .. }), _) if !self.in_part => Ok(None),
            (Some(Residence::Shared { .. }), hosts) => {
                Ok(hosts.iter().find(|host| host.is_up()).cloned())
            }
            (_, [one]) => Ok(Some(Arc::clone(one))),
            (_, []) => Ok(None),
            (_, several) => Err(ambiguous(reference, several)),
        }
    }
}

/// Finds what a reference means: a name, or `node/name`.
pub(super) fn find(proxy: &Proxy, reference: &str) -> Found {
    let cluster = proxy.manager.cluster();
    let record = cluster.volume(Realm::DEFAULT, reference).cloned();
    let holders = nodes::order_by_health(proxy.manager.volume_holders(reference));
    let bound = record.as_ref().and_then(|record| record.residence.bound());
    let hosts = match bound {
        Some(node) => proxy.fleet.host(&node).into_iter().collect(),
        None => with_those_out_of_sight(proxy, record.as_deref(), holders),
    };
    let found = Found {
        record,
        hosts,
        name: reference.to_owned(),
        in_part: false,
    };
    let by_node = reference
        .split_once('/')
        .filter(|_| found.is_nothing())
        .map(|(node, name)| on_node(proxy, node, name));
    // What is nowhere is called what the client called it.
    by_node
        .filter(|by_node| !by_node.is_nothing())
        .unwrap_or(found)
}

/// What is on several nodes by its record is also on those that are down and whose lists were never read.
fn with_those_out_of_sight(
    proxy: &Proxy,
    record: Option<&Volume>,
    mut holders: Vec<Arc<Host>>,
) -> Vec<Arc<Host>> {
    let recorded = record
        .into_iter()
        .flat_map(|record| record.residence.nodes());
    for host in recorded.filter_map(|node| proxy.fleet.host(&node)) {
        let is_listed = holders.iter().any(|holder| holder.tag.id == host.tag.id);
        if !is_listed && !host.is_up() {
            holders.push(host);
        }
    }
    holders
}

fn on_node(proxy: &Proxy, node: &str, name: &str) -> Found {
    let cluster = proxy.manager.cluster();
    let record = cluster.volume(Realm::DEFAULT, name).cloned();
    let host = proxy.fleet.named(node);
    let is_there = |host: &Arc<Host>| {
        let id = host.tag.id;
        let by_record = record.as_ref().is_some_and(|record| {
            record.residence.bound() == Some(id)
                || (!host.is_up() && record.residence.nodes().any(|at| at == id))
        });
        let holders = proxy.manager.volume_holders(name);
        by_record || holders.iter().any(|holder| holder.tag.id == id)
    };
    let hosts: Vec<_> = host.into_iter().filter(is_there).collect();
    let record = record.filter(|record| {
        let bound = record.residence.bound();
        let is_elsewhere = bound.is_some_and(|bound| hosts.iter().all(|host| host.tag.id != bound));
        !hosts.is_empty() && !is_elsewhere
    });
    let in_part = !matches!(
        record.as_ref().map(|record| &record.residence),
        Some(Residence::On { .. })
    );
    Found {
        record,
        hosts,
        name: name.to_owned(),
        in_part,
    }
}

/// Several nodes have different ones.
pub(super) fn ambiguous(name: &str, hosts: &[Arc<Host>]) -> ApiError {
    let nodes: Vec<_> = hosts.iter().map(|host| host.tag.name.as_str()).collect();
    let ways: Vec<_> = nodes.iter().map(|node| format!("{node}/{name}")).collect();
    ApiError::bad_parameter(format!(
        "volume {name} exists on {}: use {}",
        nodes.join(" and "),
        ways.join(" or ")
    ))
}
