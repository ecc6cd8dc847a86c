//! What networks and volumes have in common: short lists of several nodes, read before or asked for now.

use std::sync::Arc;
use std::time::Duration;

use api_compat::json_view::View;
use serde_json::value::RawValue;

use super::fan_out::{self, Missing, Part};
use super::{Proxy, nodes};
use crate::engine::{EngineCall, Host};

/// How long the engines may take to list what is not kept here.
const PATIENCE: Duration = Duration::from_secs(2);

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
