//! Which nodes can be asked, which of them first, and what is said if there is none.
//!
//! **Invariant**: nothing here awaits: what is known of the nodes now decides.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use api_compat::error::ApiError;

use super::Proxy;
use super::reply::from_engine;
use crate::engine::{Host, Verdict};

/// The nodes that are not down, by name.
pub(super) fn up(proxy: &Proxy) -> Vec<Arc<Host>> {
    proxy
        .fleet
        .by_name()
        .into_iter()
        .filter(|host| host.is_up())
        .collect()
}

/// The ready ones first, then the suspect, then the others.
pub(super) fn order_by_health(mut hosts: Vec<Arc<Host>>) -> Vec<Arc<Host>> {
    hosts.sort_by_key(|host| match host.health().verdict {
        Verdict::Ready => 0,
        Verdict::Suspect => 1,
        Verdict::Down => 2,
    });
    hosts
}

/// Rendezvous hash: the node with the highest score for this client, of those that answer.
pub(super) fn choose(hosts: &[Arc<Host>], client: &str) -> Option<Arc<Host>> {
    let score = |host: &Arc<Host>| {
        let mut hasher = DefaultHasher::new();
        (client, host.tag.name.as_str()).hash(&mut hasher);
        hasher.finish()
    };
    hosts
        .iter()
        .filter(|host| host.is_up())
        .max_by_key(|host| (host.health().verdict == Verdict::Ready, score(host)))
        .cloned()
}

/// The error when no node is up.
pub(super) fn nobody(proxy: &Proxy) -> ApiError {
    let down: Vec<_> = proxy
        .fleet
        .by_name()
        .iter()
        .filter_map(|host| host.ready().err())
        .map(|error| from_engine(error).message)
        .chain(proxy.fleet.joining().iter().map(|(endpoint, why)| {
            format!(
                "the engine at {} has not joined yet: {why}",
                endpoint.shown()
            )
        }))
        .collect();
    if down.is_empty() {
        return ApiError::unavailable(
            "the cluster has no nodes: add one with `flotilla node add ENDPOINT`",
        );
    }
    ApiError::unavailable(down.join("; "))
}

/// A node's labels: those of its engine and, before them, those that an operator gave it.
pub(super) fn labels(proxy: &Proxy, host: &Host) -> BTreeMap<String, String> {
    let mut labels = host.facts().labels.clone();
    if let Some(node) = proxy.manager.cluster().node(host.tag.id) {
        labels.extend(node.labels.clone());
    }
    labels
}
