//! `/build`, `/grpc`, `/session`: all builds of one client go to one node (`builders.rs`).
//!
//! **Invariant**: of what a build says and is told nothing is read here, but for the query.

use std::collections::BTreeSet;
use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use api_compat::policies::check_build_arguments;
use api_compat::route::Operation;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};

use super::build_network::BuildNetwork;
use super::builders::{builders, keep, learn, may_build};
use super::exchange::Exchange;
use super::forward::{forward_progress, with_query};
use super::prunes::{self, PRUNE_PATIENCE};
use super::reply::{Outcome, from_engine, ok_json};
use super::told_after::told_after;
use super::{Proxy, fan_out, splice};
use crate::engine::{EngineCall, ListKind};

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
    learn(proxy).await;
    dial(proxy, exchange).await
}

/// Connects the client to its builder, and to the next if that one cannot be reached: buildx takes a first connection that
/// fails for an engine without BuildKit, and asks for a container of its own instead of telling why.
async fn dial(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
    let target = with_query(exchange.route.operation.target(&[]), exchange.raw_query());
    let client_side = hyper::upgrade::on(&mut exchange.request);
    let mut kept = keep(proxy, &exchange, None)?;
    let mut lost = BTreeSet::new();
    loop {
        let host = Arc::clone(&kept.host);
        proxy.manager.untag_moved(&host).await;
        // What a client has to say it says once it is connected.
        let question = exchange.again(Bytes::new());
        let error = match splice::ask(&host, &target, question).await {
            Ok(answer) => return Ok(splice::take_over(&host, answer, client_side, kept)),
            Err(error) => error,
        };
        lost.insert(host.tag.id);
        if !error.is_transient() || !kept.go_on(proxy, &lost) {
            return Err(from_engine(error));
        }
        tracing::info!(node = %host.tag.name, %error, "another node is to build");
    }
}

/// The classic builder: the context streams in, progress streams out; what was built is in the lists when the stream
/// ends.
async fn build(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let mut query = exchange.query()?;
    check_build_arguments(query.text("buildargs"))?;
    let network = BuildNetwork::asked(proxy, &query)?;
    learn(proxy).await;
    let kept = keep(proxy, &exchange, network.node())?;
    let host = Arc::clone(&kept.host);
    proxy.manager.untag_moved(&host).await;
    let lent = network.bring(proxy, &host, &mut query).await?;
    let target = with_query(Operation::Build.target(&[]), &query.encode());
    let (builders, manager) = (kept.builders.clone(), Arc::clone(&kept.manager));
    let caller = kept.caller.clone();
    let reply = forward_progress(&host, &target, exchange).await?;
    let learnt = async move { builders.learn_from(&host, &manager, &caller).await };
    Ok(reply.map(|body| told_after(body, learnt, (kept, lent)).boxed_unsync()))
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
