//! `POST /images/prune`: every engine prunes its own; the answers are added up.
//!
//! An engine knows its own containers. An image that a container of another node uses is kept everywhere: it is what the
//! container goes on with if that node dies. Where an engine would remove such an image, its images are removed one by
//! one instead, by the same rules.
//!
//! **Invariant**: what any container is made of or mounts, running or not, on a node that is up or down, stays where it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use api_compat::filters::{self, Filters};
use api_compat::json_view::View;
use api_compat::query::Query;
use api_compat::route::Operation;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::fan_out::{self, Part};
use super::super::forward::{engines_query, with_query};
use super::super::prunes::{self, PRUNE_PATIENCE};
use super::super::reply::{Outcome, ok_json};
use super::super::told_after::reread_all;

use super::remove::{Record, forget};
use super::users::is_used;
use crate::engine::{EngineCall, EngineReply, Error, Host, Images};
use crate::model::Caller;

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    #[serde(default)]
    images_deleted: Option<Vec<Record>>,
    #[serde(default)]
    space_reclaimed: u64,
}

impl Pruned {
    fn add(&mut self, other: Self) {
        for record in other.images_deleted.unwrap_or_default() {
            let all = self.images_deleted.get_or_insert_default();
            if !all.contains(&record) {
                all.push(record);
            }
        }
        self.space_reclaimed += other.space_reclaimed;
    }
}

/// Removes images that are not used, on every node that the filters name.
pub(super) async fn prune(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let caller = exchange.peer.caller.clone();
    let wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::IMAGE_PRUNE)?;
    let (hosts, call) = prunes::asked(proxy, "/images/prune", &query, &wanted, exchange.version);
    join_all(hosts.iter().map(|host| proxy.manager.untag_moved(host))).await;
    let (careful, plain): (Vec<_>, Vec<_>) = hosts
        .iter()
        .cloned()
        .partition(|host| host.is_up() && !used_elsewhere(proxy, host).is_empty());
    let by_engines = fan_out::ask(plain, &call, PRUNE_PATIENCE);
    let one_by_one = careful
        .iter()
        .map(|host| prune_one_by_one(proxy, host, &wanted));
    let (mut parts, by_us) = tokio::join!(by_engines, join_all(one_by_one));
    reread_all(&hosts).await;
    let mut total = Pruned::default();
    for (host, outcome) in careful.into_iter().zip(by_us) {
        let answer = outcome.map(|pruned| {
            total.add(pruned);
            done()
        });
        parts.0.push(Part { host, answer });
    }
    let (answers, missing) = parts.merge()?;
    for (host, answer) in answers.iter().filter(|(_, answer)| !answer.body.is_empty()) {
        total.add(fan_out::read(host, &answer.body)?);
    }
    finish(proxy, total, &caller).await.map(|mut reply| {
        missing.report(&proxy.fleet.ring, "image prune", &mut reply);
        reply
    })
}

/// What is still on a node is not told as removed.
async fn finish(proxy: &Proxy, mut total: Pruned, caller: &Caller) -> Outcome {
    if let Some(records) = &mut total.images_deleted {
        let all = proxy.fleet.by_name();
        records.retain(|record| !record.is_left(&all));
        forget(proxy, records, caller).await?;
    }
    ok_json(&total)
}

/// What stands for the answer of a node whose images were removed one by one.
fn done() -> EngineReply {
    EngineReply {
        status: http::StatusCode::OK,
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::new(),
    }
}

/// The images of a node that none of its containers uses, but one of another node.
fn used_elsewhere(proxy: &Proxy, host: &Host) -> BTreeSet<String> {
    let cluster = proxy.manager.cluster();
    let others: Vec<_> = proxy.fleet.by_name();
    let images = host.images();
    let ids = |id: &str| -> Vec<String> {
        let mut all = vec![id.to_owned()];
        let tags = cluster.tags().filter(|tag| tag.ids().any(|one| one == id));
        all.extend(tags.flat_map(|tag| tag.ids().map(str::to_owned)));
        all
    };
    let unused = images.all().iter().map(|image| &image.id);
    unused
        .filter(|id| !is_used(proxy, host, id))
        .filter(|id| {
            let ids = ids(id);
            let is_used_on = |other: &Arc<Host>| {
                let mut all = ids.iter();
                all.any(|id| is_used(proxy, other, id))
            };
            others.iter().any(is_used_on)
        })
        .cloned()
        .collect()
}

/// What an engine does for a prune, but for images that containers of other nodes use. Like an engine it goes on where it
/// may not remove something.
async fn prune_one_by_one(
    proxy: &Proxy,
    host: &Arc<Host>,
    wanted: &Filters,
) -> Result<Pruned, Error> {
    let before = layers_size(host).await?;
    let mut records = Vec::new();
    for image in candidates(host, wanted).await?.all() {
        // Asked each time: a container may have been made meanwhile.
        if is_used(proxy, host, &image.id) || used_elsewhere(proxy, host).contains(&image.id) {
            continue;
        }
        let names = match image.tags.as_slice() {
            [] => std::slice::from_ref(&image.id),
            tags => tags,
        };
        for name in names {
            let call = EngineCall::delete(Operation::ImageRemove.target(&[name]));
            let answer = patiently(host, call).await?;
            if answer.status.is_success() {
                let removed: Vec<Record> = fan_out::read(host, &answer.body).unwrap_or_default();
                records.extend(removed);
            } else {
                let message = answer.message();
                tracing::info!(node = %host.tag.name, name, message, "an image is not pruned");
            }
        }
    }
    let after = layers_size(host).await?;
    Ok(Pruned {
        images_deleted: (!records.is_empty()).then_some(records),
        space_reclaimed: before.saturating_sub(after),
    })
}

/// The images that a prune with these filters would remove if nothing used them.
async fn candidates(host: &Arc<Host>, wanted: &Filters) -> Result<Images, Error> {
    let mut filters = wanted.clone();
    let all = wanted
        .get("dangling")
        .any(|value| matches!(value, "false" | "0"));
    filters.remove("dangling");
    if !all {
        filters.add("dangling", "true");
    }
    let mut query = Query::default();
    query.set("filters", &filters.to_json());
    let target = with_query(
        Operation::ImageList.target(&[]),
        &engines_query(&query, &filters),
    );
    let answer = patiently(host, EngineCall::get(target)).await?;
    if !answer.status.is_success() {
        return Err(Error::Refused {
            node: host.tag.name.clone(),
            status: answer.status,
            message: answer.message(),
        });
    }
    Images::read(&answer.body).map_err(|error| garbled(host, &error))
}

/// How much the images of a node occupy.
async fn layers_size(host: &Arc<Host>) -> Result<u64, Error> {
    let answer = patiently(host, EngineCall::get("/system/df?type=image")).await?;
    let view = View::parse(&answer.body).map_err(|error| garbled(host, &error))?;
    Ok(u64::try_from(view.int_of("LayersSize")).unwrap_or_default())
}

fn garbled(host: &Host, error: &dyn std::fmt::Display) -> Error {
    Error::Garbled {
        node: host.tag.name.clone(),
        why: error.to_string(),
    }
}

async fn patiently(host: &Arc<Host>, call: EngineCall) -> Result<EngineReply, Error> {
    tokio::time::timeout(PRUNE_PATIENCE, host.call(call))
        .await
        .unwrap_or_else(|_| Err(host.no_answer(PRUNE_PATIENCE)))
}
