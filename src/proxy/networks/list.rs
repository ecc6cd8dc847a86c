//! `GET /networks`.

use api_compat::error::ApiError;
use api_compat::network_list::{self, NetworkQuery};
use api_compat::version::ApiVersion;
use http::StatusCode;

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::forward::{engines_query, with_query};
use super::super::reply::{self, Outcome};
use super::passes_through;
use super::rows::{gather, networks, ours};
use crate::engine::{EngineCall, Host};

/// In a pool of one the engine's own list; else what was last read, unless only the engines know.
pub(super) async fn list(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let wanted = NetworkQuery::parse(&query)?;
    let target = with_query(
        "/networks".to_owned(),
        &engines_query(&query, wanted.filters()),
    );
    let call = EngineCall::get(target).at(exchange.version);
    let is_wanted =
        |host: &Host| wanted.wants_node(host.tag.name.as_str(), &host.tag.id.to_string());
    if let Some(host) = passes_through(proxy)
        && is_wanted(&host)
        && let Ok(answer) = host.call(call.clone()).await
    {
        return Ok(reply::passed_on(answer));
    }
    let listed = gather(proxy);
    let mut gathered = gather(proxy);
    // Below 1.28 lists tell who is in each network.
    if wanted.asks_for_use() || exchange.version < ApiVersion::new(1, 28) {
        gathered
            .ask(call, |body| serde_json::from_slice(body))
            .await;
    }
    let ours = ours(proxy, &[&gathered, &listed])?;
    let mut all = networks(proxy, &gathered, &ours);
    all.retain(|network| match gathered.hosts.get(network.node) {
        Some(host) => is_wanted(host),
        None => wanted.wants_any_node(),
    });
    if let Some(dangling) = wanted.dangling() {
        let joined = |id: &str| id.parse().is_ok_and(|id| proxy.manager.is_joined(id));
        all.retain(|network| !network.of_cluster || dangling != joined(&network.id));
    }
    let mut body = vec![b'['];
    for (network, shown_as) in network_list::rows(&all, &gathered.names()) {
        if wanted.matches(&network, &shown_as) {
            if body.len() > 1 {
                body.push(b',');
            }
            network_list::render(&mut body, &network, &shown_as)
                .map_err(|error| ApiError::internal(error.to_string()))?;
        }
    }
    body.push(b']');
    let mut reply = reply::json(StatusCode::OK, body);
    gathered.missing.mark(&mut reply);
    Ok(reply)
}
