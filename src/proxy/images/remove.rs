//! `DELETE /images/{name}`: on every node where the name or id is known.
//!
//! An engine refuses to remove what a container of its uses. So that no node loses an image which another one refuses to
//! remove, those where a container uses it are asked first, one after the other.

use std::sync::Arc;
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::route::Operation;
use serde::{Deserialize, Serialize};

use super::super::exchange::Exchange;
use super::super::fan_out::{self, Parts};
use super::super::forward::with_query;
use super::super::reply::{Outcome, from_manager, ok_json};
use super::super::short_lists::read;
use super::super::{Proxy, system};
use crate::engine::{EngineCall, Host};
use crate::model::Caller;

/// Removing large images takes engines a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// What an engine did: one of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(rename = "Untagged", default, skip_serializing_if = "Option::is_none")]
    untagged: Option<String>,
    #[serde(rename = "Deleted", default, skip_serializing_if = "Option::is_none")]
    deleted: Option<String>,
}

impl Record {
    /// Whether what was removed from one node is still on another that is up.
    pub(super) fn is_left(&self, hosts: &[Arc<Host>]) -> bool {
        let names = || self.untagged.iter().chain(&self.deleted);
        let mut up = hosts.iter().filter(|host| host.is_up());
        up.any(|host| {
            let images = host.images();
            names().any(|name| images.named(name).is_some())
        })
    }
}

/// Removes an image, or a name of it.
pub(super) async fn remove(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let mut reference = exchange.name().to_owned();
    let mut targets = known_on(system::up(proxy), &reference);
    if targets.is_empty()
        && let Some((node, rest)) = exchange.name().split_once('/')
        && let Some(host) = proxy.fleet.named(node).filter(|host| host.is_up())
    {
        targets = known_on(vec![host], rest);
        reference = rest.to_owned();
    }
    if targets.is_empty() {
        return super::unknown(proxy, exchange).await;
    }
    let target = with_query(
        Operation::ImageRemove.target(&[&reference]),
        exchange.raw_query(),
    );
    let call = EngineCall::delete(target).at(exchange.version);
    let caller = exchange.peer.caller.clone();
    drop(exchange);
    let (using, rest): (Vec<_>, Vec<_>) = targets
        .into_iter()
        .partition(|(host, id)| proxy.fleet.inventory.made_from(&host.tag.id, id) > 0);
    let mut parts = Vec::new();
    for (host, _) in &using {
        let answered = fan_out::ask(vec![Arc::clone(host)], &call, PATIENCE).await;
        let refused = answered.0.iter().any(|part| {
            !part
                .answer
                .as_ref()
                .is_ok_and(|reply| reply.status.is_success())
        });
        parts.extend(answered.0);
        if refused && parts.len() == 1 {
            return finish(proxy, Parts(parts), &caller).await;
        }
        if refused {
            break;
        }
    }
    if parts.len() == using.len() {
        let hosts = rest.into_iter().map(|(host, _)| host).collect();
        parts.extend(fan_out::ask(hosts, &call, PATIENCE).await.0);
    }
    finish(proxy, Parts(parts), &caller).await
}

/// The nodes on which a name means anything, and what: it is removed there even if it means different images.
fn known_on(hosts: Vec<Arc<Host>>, reference: &str) -> Vec<(Arc<Host>, String)> {
    let known = |host: Arc<Host>| {
        let id = host.images().find(reference)?.id.clone();
        Some((host, id))
    };
    hosts.into_iter().filter_map(known).collect()
}

/// What tags meant that are gone is forgotten.
pub(super) async fn forget(
    proxy: &Proxy,
    records: &[Record],
    caller: &Caller,
) -> Result<(), ApiError> {
    let tags = records.iter().filter_map(|record| record.untagged.clone());
    let dropped = proxy.manager.drop_tags(tags.collect(), caller).await;
    dropped.map_err(from_manager)
}

/// All that was done, each thing once.
async fn finish(proxy: &Proxy, parts: Parts, caller: &Caller) -> Outcome {
    let hosts: Vec<_> = parts.0.iter().map(|part| Arc::clone(&part.host)).collect();
    super::reread_all(&hosts).await;
    let (answers, missing) = parts.merge()?;
    let mut records: Vec<Record> = Vec::new();
    for (host, answer) in answers {
        for record in read::<Vec<Record>>(&host, &answer.body)? {
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    forget(proxy, &records, caller).await?;
    let mut reply = ok_json(&records)?;
    missing.mark(&mut reply);
    Ok(reply)
}
