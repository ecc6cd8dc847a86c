//! `POST /containers/prune`: every engine prunes its own; the answers are added up.

use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use serde::{Deserialize, Serialize};

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::fan_out;
use super::super::reply::{Outcome, ok_json};
use crate::engine::EngineCall;

/// Removing many containers takes an engine a while.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    containers_deleted: Option<Vec<String>>,
    #[serde(default)]
    space_reclaimed: u64,
}

/// Removes stopped containers on every node that the filters name.
pub(super) async fn prune(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let mut query = exchange.query()?;
    let mut wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::CONTAINER_PRUNE)?;
    let nodes: Vec<String> = wanted.get("node").map(str::to_owned).collect();
    wanted.remove("node");
    if query.contains("filters") {
        query.set("filters", &wanted.to_json());
    }
    let hosts = proxy
        .fleet
        .by_name()
        .into_iter()
        .filter(|host| nodes.is_empty() || nodes.iter().any(|n| host.tag.is(n)));
    let target = super::super::forward::with_query("/containers/prune".to_owned(), &query.encode());
    let call = EngineCall::post(target, None).at(exchange.version);
    let (answers, missing) = fan_out::ask(hosts.collect(), &call, PATIENCE)
        .await
        .merge()?;
    let mut total = Pruned::default();
    for (host, answer) in answers {
        let pruned: Pruned = serde_json::from_slice(&answer.body)
            .map_err(|error| ApiError::internal(format!("node {}: {error}", host.tag.name)))?;
        for id in pruned.containers_deleted.unwrap_or_default() {
            proxy.manager.observed_removal(&host, &id).await;
            total.containers_deleted.get_or_insert_default().push(id);
        }
        total.space_reclaimed += pruned.space_reclaimed;
    }
    let mut reply = ok_json(&total)?;
    missing.mark(&mut reply);
    Ok(reply)
}
