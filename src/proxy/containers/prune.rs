//! `POST /containers/prune`: every engine prunes its own; the answers are added up.

use api_compat::filters::{self, Filters};
use serde::{Deserialize, Serialize};

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::fan_out;
use super::super::prunes::{self, PRUNE_PATIENCE};
use super::super::reply::{Outcome, ok_json};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    containers_deleted: Option<Vec<String>>,
    #[serde(default)]
    space_reclaimed: u64,
}

/// Removes stopped containers on every node that the filters name.
pub(super) async fn prune(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::CONTAINER_PRUNE)?;
    let path = "/containers/prune";
    let (hosts, call) = prunes::asked(proxy, path, &query, &wanted, exchange.version);
    let (answers, missing) = fan_out::ask(hosts, &call, PRUNE_PATIENCE).await.merge()?;
    let mut total = Pruned::default();
    for (host, answer) in answers {
        let pruned: Pruned = fan_out::read(&host, &answer.body)?;
        for id in pruned.containers_deleted.unwrap_or_default() {
            proxy.manager.observed_removal(&host, &id).await;
            total.containers_deleted.get_or_insert_default().push(id);
        }
        total.space_reclaimed += pruned.space_reclaimed;
    }
    let mut reply = ok_json(&total)?;
    missing.report(&proxy.fleet.ring, "container prune", &mut reply);
    Ok(reply)
}
