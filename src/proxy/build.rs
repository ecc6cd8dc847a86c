//! `/build`, `/grpc`, `/session`: all builds of one client go to one node.
//!
//! One `docker build` is several connections, and what ties them together is inside HTTP/2, which nobody
//! reads here. So the node is chosen per client, by rendezvous hash over the nodes that may build: the
//! same client hits the same build cache, and losing a node moves only that node's clients. The choice is
//! kept while any of the client's connections is open, even if the nodes change meanwhile (api-matrix 4.4).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use api_compat::route::Operation;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};

use super::exchange::Exchange;
use super::forward::{forward, with_query};
use super::listen::OpenGuard;
use super::reply::{Outcome, ok_json};
use super::short_lists::{PRUNE_PATIENCE, prune as prune_call, read};
use super::{Proxy, fan_out, splice};
use crate::engine::{EngineCall, Host, ListKind};
use crate::model::NodeId;

/// A node with this engine label set to `false` builds nothing.
const BUILDER_LABEL: &str = "com.flotilla.builder";

/// Which node each client with open build connections builds on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Builders(Arc<Mutex<HashMap<String, Kept>>>);

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
    _open: OpenGuard,
}

impl Builders {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BuildConnection {
    fn drop(&mut self) {
        let mut kept = self.builders.lock();
        if let Some(entry) = kept.get_mut(&self.client) {
            entry.connections -= 1;
            if entry.connections == 0 {
                kept.remove(&self.client);
            }
        }
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
    let kept = keep(proxy, &exchange.peer.identity)?;
    let target = with_query(exchange.route.operation.target(&[]), exchange.raw_query());
    let host = Arc::clone(&kept.host);
    splice::upgrade(&host, &target, exchange, kept).await
}

/// The classic builder: the context streams in, progress streams out; what was built is in the lists when the stream
/// ends.
async fn build(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let kept = keep(proxy, &exchange.peer.identity)?;
    let target = with_query(Operation::Build.target(&[]), exchange.raw_query());
    let host = Arc::clone(&kept.host);
    let reply = forward(&host, &target, exchange).await?;
    Ok(reply.map(|body| super::images::reread_at_end(body, host, kept).boxed_unsync()))
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
    let (mut hosts, call) = prune_call(proxy, "/build/prune", &query, &wanted, exchange.version);
    hosts.retain(may_build);
    let (answers, missing) = fan_out::ask(hosts, &call, PRUNE_PATIENCE).await.merge()?;
    let mut total = Pruned::default();
    for (host, answer) in answers {
        let pruned: Pruned = read(&host, &answer.body)?;
        total.space_reclaimed += pruned.space_reclaimed;
        if let Some(caches) = pruned.caches_deleted {
            total.caches_deleted.get_or_insert_default().extend(caches);
        }
        host.reread(ListKind::Images).await;
    }
    let mut reply = ok_json(&total)?;
    missing.mark(&mut reply);
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
fn keep(proxy: &Proxy, client: &str) -> Result<BuildConnection, ApiError> {
    let mut kept = proxy.builders.lock();
    let current = kept
        .get(client)
        .and_then(|entry| proxy.fleet.host(&entry.node))
        .filter(|host| host.is_up());
    let host = match current {
        Some(host) => host,
        None => choose(&builders(proxy), client).ok_or_else(|| {
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
    Ok(BuildConnection {
        builders: proxy.builders.clone(),
        client: client.to_owned(),
        host,
        _open: proxy.open.enter(),
    })
}

/// Rendezvous hash: the node with the highest score for this client.
pub(super) fn choose(hosts: &[Arc<Host>], client: &str) -> Option<Arc<Host>> {
    let score = |host: &Arc<Host>| {
        let mut hasher = DefaultHasher::new();
        (client, host.tag.name.as_str()).hash(&mut hasher);
        hasher.finish()
    };
    hosts
        .iter()
        .filter(|host| host.is_up())
        .max_by_key(|host| score(host))
        .cloned()
}
