//! `POST /containers/{id}/wait`: the headers at once, the exit code when it comes. If the node goes away
//! meanwhile, the wait ends and says so.

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::forward::{forward_with_last_words, with_query};
use super::super::reply::Outcome;

/// Waits on the container's engine.
pub(super) async fn wait(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let (host, container) = proxy.container(exchange.name())?;
    let path = exchange
        .route
        .operation
        .target(&[&container.id.to_string()]);
    let target = with_query(path, exchange.raw_query());
    let lost = serde_json::json!({
        "Error": { "Message": format!("node {} lost", host.tag.name) },
        "StatusCode": 125,
    });
    forward_with_last_words(&host, &target, exchange, format!("{lost}\n")).await
}
