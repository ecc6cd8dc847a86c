//! What networks and volumes have in common: short lists of several nodes, read before or asked for now, and prunes.

use std::sync::Arc;
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::filters::Filters;
use api_compat::json_view::View;
use api_compat::query::Query;
use api_compat::version::ApiVersion;
use serde_json::value::RawValue;

use super::fan_out::{self, Missing, Part};
use super::forward::with_query;
use super::{Proxy, nodes};
use crate::engine::{EngineCall, Host};

/// How long the engines may take to list what is not kept here.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long they may take to remove what is not used.
pub(super) const PRUNE_PATIENCE: Duration = Duration::from_secs(300);

/// The elements of one node's list.
pub(super) type List = Arc<Vec<Box<RawValue>>>;

/// The lists of several nodes: those of ready nodes first.
pub(super) struct Gathered {
    pub(super) hosts: Vec<Arc<Host>>,
    lists: Vec<List>,
    /// The nodes that are not up: what they last listed may be out of date.
    pub(super) missing: Missing,
}

impl Gathered {
    /// What was last read.
    pub(super) fn listed(proxy: &Proxy, read: fn(&Host) -> List) -> Self {
        let hosts = nodes::order_by_health(proxy.fleet.by_name());
        let lists = hosts.iter().map(|host| read(host)).collect();
        let mut missing = Missing::default();
        for host in &hosts {
            if let Err(error) = host.ready() {
                missing.note(host, &error);
            }
        }
        Self {
            hosts,
            lists,
            missing,
        }
    }

    /// What the engines say now, in place of what was read before; a node that does not answer in time keeps that.
    pub(super) async fn ask(
        &mut self,
        call: EngineCall,
        read: fn(&[u8]) -> serde_json::Result<Vec<Box<RawValue>>>,
    ) {
        let parts = fan_out::ask(self.hosts.clone(), &call, PATIENCE).await;
        for (Part { answer, .. }, list) in parts.0.into_iter().zip(&mut self.lists) {
            if let Ok(reply) = answer
                && reply.status.is_success()
                && let Ok(fresh) = read(&reply.body)
            {
                *list = Arc::new(fresh);
            }
        }
    }

    /// All elements, each with the place of its node in [`Self::hosts`].
    pub(super) fn views(&self) -> impl Iterator<Item = (usize, View<'_>)> {
        let lists = self.lists.iter().enumerate();
        lists
            .flat_map(|(node, list)| list.iter().map(move |item| (node, item)))
            .filter_map(|(node, item)| Some((node, View::parse(item.get().as_bytes()).ok()?)))
    }

    /// The names of the nodes.
    pub(super) fn names(&self) -> Vec<&str> {
        self.hosts
            .iter()
            .map(|host| host.tag.name.as_str())
            .collect()
    }
}

/// The query for one engine: without the filters that are ours.
pub(super) fn engines_query(query: &Query, filters: &Filters) -> String {
    let mut query = query.clone();
    if query.contains("filters") {
        let mut filters = filters.clone();
        filters.remove("node");
        query.set("filters", &filters.to_json());
    }
    query.encode()
}

/// The nodes that are to prune, and what to ask them.
pub(super) fn prune(
    proxy: &Proxy,
    path: &str,
    query: &Query,
    filters: &Filters,
    version: ApiVersion,
) -> (Vec<Arc<Host>>, EngineCall) {
    let wanted = |host: &Arc<Host>| {
        filters.exact_match("node", host.tag.name.as_str())
            || filters.exact_match("node", &host.tag.id.to_string())
    };
    let hosts = proxy.fleet.by_name().into_iter().filter(wanted).collect();
    let target = with_query(path.to_owned(), &engines_query(query, filters));
    (hosts, EngineCall::post(target, None).at(version))
}

/// An engine's answer as a value.
pub(super) fn read<'a, T: serde::Deserialize<'a>>(
    host: &Host,
    body: &'a [u8],
) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::internal(format!(
            "[node {}] its answer cannot be read: {error}",
            host.tag.name
        ))
    })
}
