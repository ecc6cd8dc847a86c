//! `POST /images/prune`: every engine prunes its own; the answers are added up.
//!
//! An engine keeps what its own containers use. What a container of another node uses is kept there, from where it comes
//! back when it is needed: it is not told as removed.

use api_compat::filters::{self, Filters};
use serde::{Deserialize, Serialize};

use super::super::exchange::Exchange;
use super::super::reply::{Outcome, ok_json};
use super::super::short_lists::{PRUNE_PATIENCE, prune as prune_call, read};
use super::super::{Proxy, fan_out};
use super::remove::{Record, forget};

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    #[serde(default)]
    images_deleted: Option<Vec<Record>>,
    #[serde(default)]
    space_reclaimed: u64,
}

/// Removes images that are not used, on every node that the filters name.
pub(super) async fn prune(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let caller = exchange.peer.caller.clone();
    let wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::IMAGE_PRUNE)?;
    let (hosts, call) = prune_call(proxy, "/images/prune", &query, &wanted, exchange.version);
    let outcome = fan_out::ask(hosts.clone(), &call, PRUNE_PATIENCE)
        .await
        .merge();
    super::reread_all(&hosts).await;
    let (answers, missing) = outcome?;
    let mut total = Pruned::default();
    for (host, answer) in answers {
        let pruned: Pruned = read(&host, &answer.body)?;
        for record in pruned.images_deleted.unwrap_or_default() {
            let all = total.images_deleted.get_or_insert_default();
            if !all.contains(&record) {
                all.push(record);
            }
        }
        total.space_reclaimed += pruned.space_reclaimed;
    }
    if let Some(records) = &mut total.images_deleted {
        let all = proxy.fleet.by_name();
        records.retain(|record| !record.is_left(&all));
        forget(proxy, records, &caller).await?;
    }
    let mut reply = ok_json(&total)?;
    missing.mark(&mut reply);
    Ok(reply)
}
