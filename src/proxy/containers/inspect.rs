//! `GET /containers/{id}/json`: the engine's own bytes, with the node added.

use api_compat::error::ApiError;
use api_compat::inspect::{self, Node, ShownAs};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::forward::with_query;
use super::super::nodes::labels;
use super::super::reply::{self, Outcome, from_engine};
use crate::engine::EngineCall;

/// Inspects a container on its engine.
pub(super) async fn inspect(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let (host, container) = proxy.container(exchange.name())?;
    let path = exchange
        .route
        .operation
        .target(&[&container.id.to_string()]);
    let call = EngineCall::get(with_query(path, exchange.raw_query())).at(exchange.version);
    let answer = host.call(call).await.map_err(from_engine)?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(ApiError::not_found(format!(
            "No such container: {}",
            exchange.name()
        )));
    }
    if !answer.status.is_success() {
        return Ok(reply::passed_on(answer));
    }
    let facts = host.facts();
    let tag = &host.tag;
    let labels: Vec<_> = labels(proxy, &host).into_iter().collect();
    let origin = tag.origin();
    let shown = ShownAs {
        node: Node {
            id: origin.id,
            ip: origin.ip,
            addr: origin.addr,
            name: origin.name,
            cpus: facts.capacity.cpu_nanos / 1_000_000_000,
            memory_bytes: facts.capacity.memory_bytes,
            labels: &labels,
        },
        address: tag.address.as_deref(),
        prefix_name: tag.prefix_names,
        network_id: &|id| tag.networks.our_id(id).map(|ours| ours.to_string()),
    };
    let body = inspect::edit(&answer.body, &shown)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let length = body.len();
    let mut edited = reply::passed_on(answer);
    *edited.body_mut() = crate::engine::full(body);
    edited
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(edited)
}
