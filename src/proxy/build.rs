//! `/build`, `/grpc`, `/session`: all builds of one client go to one node.
//!
//! One `docker build` is several connections, and what ties them together is inside HTTP/2, which nobody
//! reads here. So the node is chosen per client, by rendezvous hash over the nodes that may build: the
//! same client hits the same build cache, and losing a node moves only that node's clients. The choice is
//! kept while any of the client's connections is open, even if the nodes change meanwhile (api-matrix 4.4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use api_compat::route::Operation;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};

use super::exchange::Exchange;
use super::forward::{forward_progress, with_query};
use super::listen::OpenGuard;
use super::prunes::{self, PRUNE_PATIENCE};
use super::reply::{Outcome, ok_json};
use super::told_after::told_after;
use super::{Proxy, fan_out, nodes, splice};
use crate::engine::{EngineCall, Host, Images, ListKind};
use crate::manager::{Manager, moved};
use crate::model::{Caller, NodeId};
use crate::tasks::spawn_stream;

/// A node with this engine label set to `false` builds nothing.
const BUILDER_LABEL: &str = "com.flotilla.builder";

/// Which node each client with open build connections builds on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Builders {
    clients: Arc<Mutex<HashMap<String, Kept>>>,
    /// The images of each node that builds, or that built until just now, as they were when its builds began: a tag
    /// that has moved since was moved by a build. What BuildKit does, its client alone is told.
    pictures: Arc<Mutex<HashMap<NodeId, Arc<Images>>>>,
    /// Held while what was built is learnt: whoever comes second finds it done.
    learning: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Kept {
    node: NodeId,
    connections: usize,
}

/// One open build connection.
struct BuildConnection {
    builders: Builders,
    client: String,
    host: Arc<Host>,
    manager: Arc<Manager>,
    caller: Caller,
    _open: OpenGuard,
}

impl Builders {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pictures(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Images>>> {
        self.pictures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_building(&self, node: NodeId) -> bool {
        let clients = self.lock();
        let mut all = clients.values();
        all.any(|kept| kept.node == node)
    }

    /// Commits what builds on a node have made of tags.
    async fn learn_from(&self, host: &Host, manager: &Manager, caller: &Caller) {
        let _learning = self.learning.lock().await;
        let node = host.tag.id;
        if !self.pictures().contains_key(&node) {
            return;
        }
        host.reread(ListKind::Images).await;
        let now = host.images();
        let before = if self.is_building(node) {
            self.pictures().insert(node, Arc::clone(&now))
        } else {
            self.pictures().remove(&node)
        };
        let moved = before
            .map(|before| moved(&before, &now))
            .unwrap_or_default();
        for (tag, image) in moved {
            if let Err(error) = manager.point_tag(&tag, &image, caller).await {
                tracing::warn!(tag, %error, "what a build made of a tag could not be committed");
            }
        }
    }
}

/// Learns what was built until now, so that what comes after a build finds what it made.
pub(super) async fn learn(proxy: &Proxy) {
    let nodes: Vec<NodeId> = {
        let pictures = proxy.builders.pictures();
        let mut nodes: Vec<_> = pictures.keys().copied().collect();
        nodes.sort_unstable();
        nodes
    };
    for node in nodes {
        match proxy.fleet.host(&node).filter(|host| host.is_up()) {
            Some(host) => {
                let caller = proxy.manager.as_caller();
                let builders = &proxy.builders;
                builders.learn_from(&host, &proxy.manager, &caller).await;
            }
            // What a lost node built is nowhere else.
            None => drop(proxy.builders.pictures().remove(&node)),
        }
    }
}

impl Drop for BuildConnection {
    fn drop(&mut self) {
        let mut kept = self.builders.lock();
        if let Some(entry) = kept.get_mut(&self.client) {
            entry.connections -= 1;
            if entry.connections == 0 {
                kept.remove(&self.client);
                drop(kept);
                self.learn_behind();
            }
        }
    }
}

impl BuildConnection {
    /// The last connection of a client has ended: nobody need come and ask for what it built.
    fn learn_behind(&self) {
        let (builders, host) = (self.builders.clone(), Arc::clone(&self.host));
        let (manager, caller) = (Arc::clone(&self.manager), self.caller.clone());
        spawn_stream(
            tracing::debug_span!("learn", node = %host.tag.name),
            async move {
                builders.learn_from(&host, &manager, &caller).await;
            },
        );
    }
}

/// Answers what concerns builds.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    match exchange.route.operation {
        Operation::Session | Operation::Grpc => connect(proxy, exchange).await,
        Operation::BuildPrune => prune(proxy, exchange).await,
        Operation::BuildCancel => cancel(proxy, exchange).await,
        _ => build(proxy, exchange).await,
    }
}

async fn connect(proxy: &Proxy, exchange: Exchange) -> Outcome {
    if !splice::wants_upgrade(exchange.headers()) {
        return Err(match exchange.route.operation {
            Operation::Grpc => ApiError::internal("no upgrade proto in request"),
            _ => splice::no_upgrade(),
        });
    }
    let kept = keep(proxy, &exchange)?;
    let target = with_query(exchange.route.operation.target(&[]), exchange.raw_query());
    let host = Arc::clone(&kept.host);
    splice::upgrade(&host, &target, exchange, kept).await
}

/// The classic builder: the context streams in, progress streams out; what was built is in the lists when the stream
/// ends.
async fn build(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let kept = keep(proxy, &exchange)?;
    let target = with_query(Operation::Build.target(&[]), exchange.raw_query());
    let host = Arc::clone(&kept.host);
    let (builders, manager) = (kept.builders.clone(), Arc::clone(&kept.manager));
    let caller = kept.caller.clone();
    let reply = forward_progress(&host, &target, exchange).await?;
    let learnt = async move { builders.learn_from(&host, &manager, &caller).await };
    Ok(reply.map(|body| told_after(body, learnt, kept).boxed_unsync()))
}

async fn cancel(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let id = exchange.query()?;
    if id.text("id").is_empty() {
        return Err(ApiError::bad_parameter("build ID not provided"));
    }
    let target = with_query(Operation::BuildCancel.target(&[]), exchange.raw_query());
    let call = EngineCall::post(target, None).at(exchange.version);
    // Only the engine that runs the build knows the id; the others take it calmly.
    fan_out::ask(builders(proxy), &call, PRUNE_PATIENCE)
        .await
        .merge()?;
    Ok(super::reply::status(StatusCode::OK))
}

async fn prune(proxy: &Proxy, exchange: Exchange) -> Outcome {
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        #[serde(default)]
        caches_deleted: Option<Vec<String>>,
        #[serde(default)]
        space_reclaimed: u64,
    }
    let query = exchange.query()?;
    let wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::BUILD_PRUNE)?;
    let (mut hosts, call) = prunes::asked(proxy, "/build/prune", &query, &wanted, exchange.version);
    hosts.retain(may_build);
    let (answers, missing) = fan_out::ask(hosts, &call, PRUNE_PATIENCE).await.merge()?;
    let mut total = Pruned::default();
    for (host, answer) in answers {
        let pruned: Pruned = fan_out::read(&host, &answer.body)?;
        total.space_reclaimed += pruned.space_reclaimed;
        if let Some(caches) = pruned.caches_deleted {
            total.caches_deleted.get_or_insert_default().extend(caches);
        }
        host.reread(ListKind::Images).await;
    }
    let mut reply = ok_json(&total)?;
    missing.report(&proxy.fleet.ring, "build prune", &mut reply);
    Ok(reply)
}

/// The nodes that may build.
fn builders(proxy: &Proxy) -> Vec<Arc<Host>> {
    let mut hosts = proxy.fleet.by_name();
    hosts.retain(may_build);
    hosts
}

fn may_build(host: &Arc<Host>) -> bool {
    let facts = host.facts();
    facts
        .labels
        .get(BUILDER_LABEL)
        .is_none_or(|value| value != "false")
}

/// The node on which this client builds, kept while the returned value lives.
fn keep(proxy: &Proxy, exchange: &Exchange) -> Result<BuildConnection, ApiError> {
    let client = &*exchange.peer.identity;
    let mut kept = proxy.builders.lock();
    let current = kept
        .get(client)
        .and_then(|entry| proxy.fleet.host(&entry.node))
        .filter(|host| host.is_up());
    let host = match current {
        Some(host) => host,
        None => nodes::choose(&builders(proxy), client).ok_or_else(|| {
            ApiError::unavailable(format!(
                "no node can build: each is down or has the engine label {BUILDER_LABEL}=false"
            ))
        })?,
    };
    let entry = kept.entry(client.to_owned()).or_insert(Kept {
        node: host.tag.id,
        connections: 0,
    });
    entry.node = host.tag.id;
    entry.connections += 1;
    let mut pictures = proxy.builders.pictures();
    pictures.entry(host.tag.id).or_insert_with(|| host.images());
    drop(pictures);
    Ok(BuildConnection {
        builders: proxy.builders.clone(),
        client: client.to_owned(),
        host,
        manager: Arc::clone(&proxy.manager),
        caller: exchange.peer.caller.clone(),
        _open: proxy.open.enter(),
    })
}
