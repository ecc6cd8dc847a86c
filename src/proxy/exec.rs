//! `/containers/{id}/exec` and `/exec/…`: an exec instance lives on its container's node, and is found there
//! by whichever manager is asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::route::Operation;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::StatusCode;

use super::containers::in_the_clients_words;
use super::exchange::Exchange;
use super::forward::{forward, with_query};
use super::reply::{self, Outcome, from_engine};
use super::{Proxy, splice};
use crate::engine::{EngineCall, Host};
use crate::model::NodeId;

/// So many exec instances are remembered; older ones are asked for.
const REMEMBERED: usize = 10_000;
/// How long the engines may take to say whether they have an exec instance.
const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// Where the exec instances live that were made through this manager.
#[derive(Debug, Default)]
pub(crate) struct Execs(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    nodes: HashMap<String, NodeId>,
    order: VecDeque<String>,
}

impl Execs {
    fn remember(&self, id: String, node: NodeId) {
        let mut kept = self.lock();
        if kept.nodes.insert(id.clone(), node).is_none() {
            kept.order.push_back(id);
        }
        if kept.order.len() > REMEMBERED
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.nodes.remove(&oldest);
        }
    }

    fn node(&self, id: &str) -> Option<NodeId> {
        self.lock().nodes.get(id).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers what concerns exec instances.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    if exchange.route.operation == Operation::ExecCreate {
        return create(proxy, exchange).await;
    }
    let id = exchange.name().to_owned();
    let host = host(proxy, &id).await?;
    let target = with_query(
        exchange.route.operation.target(&[&id]),
        exchange.raw_query(),
    );
    if exchange.route.operation == Operation::ExecStart && splice::wants_upgrade(exchange.headers())
    {
        return splice::upgrade(&host, &target, exchange, proxy.open.enter()).await;
    }
    forward(&host, &target, exchange).await
}

async fn create(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
    #[derive(serde::Deserialize)]
    struct Created {
        #[serde(rename = "Id")]
        id: String,
    }
    let (host, container) = proxy.container(exchange.name())?;
    let target = with_query(
        Operation::ExecCreate.target(&[&container.id.to_string()]),
        exchange.raw_query(),
    );
    let body = exchange.read_body().await?;
    let content_type = exchange.headers().get(http::header::CONTENT_TYPE).cloned();
    let call = EngineCall::post(target, Some(body))
        .at(exchange.version)
        .of_type(content_type);
    let answer = host.call(call).await.map_err(from_engine)?;
    if answer.status == StatusCode::CREATED
        && let Ok(created) = serde_json::from_slice::<Created>(&answer.body)
    {
        proxy.execs.remember(created.id, host.tag.id);
    }
    if answer.status.is_client_error() {
        let error = ApiError {
            status: answer.status,
            message: answer.message(),
        };
        let id = container.id.to_string();
        return Err(in_the_clients_words(error, &id, exchange.name()));
    }
    Ok(reply::passed_on(answer))
}

/// The node on which the exec instance `id` lives: remembered, else asked of all engines at once.
pub(super) async fn host(proxy: &Proxy, id: &str) -> Result<Arc<Host>, ApiError> {
    if let Some(host) = proxy
        .execs
        .node(id)
        .and_then(|node| proxy.fleet.host(&node))
    {
        return Ok(host);
    }
    let target = Operation::ExecInspect.target(&[id]);
    let mut asked: FuturesUnordered<_> = proxy
        .fleet
        .by_name()
        .into_iter()
        .filter(|host| host.is_up())
        .map(|host| {
            let call = EngineCall::get(target.clone());
            async move {
                let answer = tokio::time::timeout(ASK_PATIENCE, host.call(call)).await;
                matches!(answer, Ok(Ok(reply)) if reply.status.is_success()).then_some(host)
            }
        })
        .collect();
    while let Some(found) = asked.next().await {
        if let Some(host) = found {
            proxy.execs.remember(id.to_owned(), host.tag.id);
            return Ok(host);
        }
    }
    Err(ApiError::not_found(format!("No such exec instance: {id}")))
}
