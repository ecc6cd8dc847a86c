//! `GET /containers/json`: all nodes' containers as one list, from memory.
//!
//! The inventory is at most one event behind. Only `size=1` asks engines, because only they know sizes; a
//! node that does not answer in time is shown without them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api_compat::container_item::{Head, Order};
use api_compat::error::ApiError;
use api_compat::list_filter::{Facts, ListQuery, Resolved};
use api_compat::version::ApiVersion;
use http::StatusCode;
use serde::Deserialize;

use super::super::exchange::Exchange;
use super::super::reply::{self, Outcome};
use super::super::{Proxy, builders, fan_out, images};
use crate::clock;
use crate::engine::{Container, EngineCall, Host};
use crate::manager::{Image, tag_name};
use crate::model::{ContainerId, NodeId};

/// How long the engines may take to measure their containers.
const SIZE_PATIENCE: Duration = Duration::from_secs(2);

/// Lists containers.
pub(super) async fn list(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = ListQuery::parse(&exchange.query()?)?;
    if query.ancestors().next().is_some() {
        builders::learn(proxy).await;
    }
    let moment = Moment::of(proxy);
    let shown = select(proxy, &query, &moment)?;
    let mut missing = fan_out::Missing::default();
    for host in moment.down.values() {
        if let Err(error) = host.ready() {
            missing.note(host, &error);
        }
    }
    let sizes = if query.size {
        sizes(proxy, &shown, exchange.version).await
    } else {
        BTreeMap::new()
    };
    let mut body = Vec::with_capacity(shown.len() * 1024 + 2);
    let mut named = Named::default();
    body.push(b'[');
    for container in &shown {
        if body.len() > 1 {
            body.push(b',');
        }
        let start = body.len();
        if named.means_another(proxy, container) {
            let (state, status) = moment.shown(container);
            container.render_with_image_id(&mut body, exchange.version, state, &status);
        } else {
            moment.render(container, &mut body, exchange.version);
        }
        if let Some(size) = sizes.get(&container.id) {
            let sized = with_size(&body[start..], size);
            body.truncate(start);
            body.extend_from_slice(&sized);
        }
    }
    body.push(b']');
    let mut reply = reply::json(StatusCode::OK, body);
    missing.mark(&mut reply);
    Ok(reply)
}

/// What the tags mean that the containers of one reply were made from.
#[derive(Default)]
struct Named(BTreeMap<String, Option<Arc<Image>>>);

impl Named {
    /// Whether the tag that a container was made from is another image's by now, or nobody's. An engine shows the image's
    /// id then, but it does not know where else in the pool a tag has moved.
    fn means_another(&mut self, proxy: &Proxy, container: &Container) -> bool {
        let Some((name, id)) = container.image() else {
            return false;
        };
        if id.is_empty() || name == id {
            return false;
        }
        if !self.0.contains_key(&*name) {
            // By an id or a digest it is meant for ever.
            let Some(tag) = tag_name(&name) else {
                return false;
            };
            self.0
                .insert(name.clone().into_owned(), proxy.manager.image(&tag));
        }
        let meant = self.0.get(&*name).and_then(Option::as_ref);
        if meant.is_some_and(|image| image.ids.iter().any(|meant| **meant == *id)) {
            return false;
        }
        let Some(host) = proxy.fleet.host(&container.host.id) else {
            return false;
        };
        match meant {
            // Another kind of image store has it under another id, which nobody may have noticed yet.
            Some(image) => {
                let kind = |host: &Host| host.facts().keeps_images_in_containerd();
                let mut holders = image.holders.iter();
                holders.any(|holder| kind(holder) == kind(&host))
            }
            None => host.is_up(),
        }
    }
}

/// What all items of one reply share.
struct Moment {
    now: i64,
    down: Arc<BTreeMap<NodeId, Arc<Host>>>,
    status_of_down: BTreeMap<NodeId, String>,
}

impl Moment {
    fn of(proxy: &Proxy) -> Self {
        let now = clock::now();
        let down = proxy.fleet.lost();
        let status_of_down = down
            .iter()
            .map(|(id, host)| {
                let age = now.duration_since(host.health().last_seen).as_secs().max(0);
                (*id, format!("Host Down (last seen {age}s)"))
            })
            .collect();
        Self {
            now: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            down,
            status_of_down,
        }
    }

    /// State and status to show: what is left of a lost node is marked (api-matrix 1.7).
    fn shown(&self, container: &Container) -> (&'static str, String) {
        match self.status_of_down.get(&container.host.id) {
            Some(status) if container.state.is_up() => ("dead", status.clone()),
            Some(status) => (container.state.as_str(), status.clone()),
            None => (container.state.as_str(), container.status_at(self.now)),
        }
    }

    fn render(&self, container: &Container, out: &mut Vec<u8>, version: ApiVersion) {
        let (state, status) = self.shown(container);
        container.render(out, version, state, &status);
    }
}

/// The containers that the query asks for, newest first.
fn select(
    proxy: &Proxy,
    query: &ListQuery,
    moment: &Moment,
) -> Result<Vec<Arc<Container>>, ApiError> {
    let inventory = &proxy.fleet.inventory;
    let unfiltered = query.filters().is_empty();
    let running = !query.shows_stopped();
    let lost = |container: &Container| moment.down.contains_key(&container.host.id);
    let limit = query.limit.unwrap_or(usize::MAX);
    if unfiltered && query.limit.is_none() {
        let mut all = inventory.list(running);
        if running && !moment.down.is_empty() {
            all.retain(|container| !lost(container));
        }
        return Ok(all);
    }
    if unfiltered {
        return Ok(inventory.newest(limit, running, |container| !running || !lost(container)));
    }
    let resolved = resolve(proxy, query)?;
    let mut scratch = Vec::new();
    let mut wanted = |container: &Container| {
        scratch.clear();
        moment.render(container, &mut scratch, ApiVersion::MAX);
        let Ok(head) = Head::parse(&scratch) else {
            return false;
        };
        let node_id = container.host.id.to_string();
        let facts = Facts {
            node_name: container.host.name.as_str(),
            node_id: &node_id,
            created_nanos: container.created_nanos,
            is_task: false,
            health: None,
        };
        query.matches(&head, &facts, &resolved)
    };
    // The most telling of the filters narrows the search; all of them are checked on what is left.
    let candidates = if let Some(ids) = by_id(proxy, query) {
        ids
    } else if let Some(label) = query.labels().next() {
        let (key, value) = label
            .split_once('=')
            .map_or((label, None), |(key, value)| (key, Some(value)));
        inventory.labelled(key, value)
    } else {
        return Ok(inventory.newest(limit, running, wanted));
    };
    Ok(candidates
        .into_iter()
        .filter(|container| wanted(container))
        .take(limit)
        .collect())
}

/// The containers that an `id` filter of full ids names.
fn by_id(proxy: &Proxy, query: &ListQuery) -> Option<Vec<Arc<Container>>> {
    let ids: Vec<ContainerId> = query
        .ids()
        .map(|id| id.parse().ok())
        .collect::<Option<_>>()?;
    if ids.is_empty() {
        return None;
    }
    let mut found: Vec<_> = ids
        .iter()
        .filter_map(|id| proxy.fleet.inventory.get(id))
        .collect();
    found.sort_by_key(|container| (std::cmp::Reverse(container.created_nanos), container.id));
    found.dedup_by_key(|container| container.id);
    Some(found)
}

/// Looks up what the filters name.
fn resolve(proxy: &Proxy, query: &ListQuery) -> Result<Resolved, ApiError> {
    let place = |reference: Option<&str>| {
        let Some(reference) = reference else {
            return Ok(None);
        };
        let (_, container) = proxy.container(reference)?;
        let id = container.id.to_string();
        Ok::<_, ApiError>(Some(Order::of(container.created_nanos, &id).into_owned()))
    };
    let mut images = BTreeSet::new();
    for name in query.ancestors() {
        match images::resolve(proxy, name) {
            Some(image) => images.extend(image.ids.iter().cloned()),
            // Nodes that are down may have had it.
            None => images.extend(proxy.fleet.hosts().values().filter_map(|host| {
                let known = host.images();
                known.find(name).map(|image| image.id.clone())
            })),
        }
    }
    Ok(Resolved {
        images,
        before: place(query.before())?,
        since: place(query.since())?,
    })
}

/// What an engine adds to an item when it is asked for sizes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    id: String,
    #[serde(default)]
    size_rw: Option<i64>,
    #[serde(default)]
    size_root_fs: Option<i64>,
}

async fn sizes(
    proxy: &Proxy,
    shown: &[Arc<Container>],
    version: ApiVersion,
) -> BTreeMap<ContainerId, Size> {
    let nodes: BTreeSet<NodeId> = shown.iter().map(|container| container.host.id).collect();
    let hosts = nodes
        .iter()
        .filter_map(|node| proxy.fleet.host(node))
        .collect();
    let call = EngineCall::get("/containers/json?all=1&size=1").at(version);
    let parts = fan_out::ask(hosts, &call, SIZE_PATIENCE).await;
    let mut sizes = BTreeMap::new();
    for reply in parts.0.into_iter().filter_map(|part| part.answer.ok()) {
        for size in serde_json::from_slice::<Vec<Size>>(&reply.body).unwrap_or_default() {
            if let Ok(id) = size.id.parse() {
                sizes.insert(id, size);
            }
        }
    }
    sizes
}

/// The item with its sizes where an engine has them: before the labels. No text inside the item can look like that
/// place, because its quotes would be escaped.
fn with_size(item: &[u8], size: &Size) -> Vec<u8> {
    const PLACE: &[u8] = b",\"Labels\":";
    let place = memchr::memmem::find(item, PLACE).unwrap_or(item.len().saturating_sub(1));
    let sizes = [("SizeRw", size.size_rw), ("SizeRootFs", size.size_root_fs)];
    let sizes = sizes
        .into_iter()
        .filter_map(|(key, bytes)| Some((key, bytes?)));
    let mut sized = item[..place].to_vec();
    for (key, bytes) in sizes {
        sized.extend_from_slice(format!(",\"{key}\":{bytes}").as_bytes());
    }
    sized.extend_from_slice(&item[place..]);
    sized
}
