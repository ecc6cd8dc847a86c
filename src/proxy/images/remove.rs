//! `DELETE /images/{name}`: on every node where the name or id is known.
//!
//! An engine refuses to remove what a container of its uses. So that no node loses an image which another one refuses to
//! remove, it is refused here if a container of any node uses it; and those where one does that may go by force are asked
//! first, one after the other. Nodes that are down remove it when they are back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::route::Operation;
use serde::{Deserialize, Serialize};

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::fan_out::{self, Answers, Missing, Part, Parts};
use super::super::forward::with_query;
use super::super::reply::{Outcome, from_manager, ok_json};
use super::super::told_after::reread_all;
use super::meant;
use super::users::{is_used, users};
use crate::engine::{EngineCall, Error, Host};
use crate::manager::tag_name;
use crate::model::{Caller, NodeId};
use crate::state::ImageRemoval;

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

/// What is gone of what one engine removed. Where the image is left on another node so is what it is made of, which an engine
/// names after it.
fn gone(mut records: Vec<Record>, is_left: impl Fn(&Record) -> bool) -> Vec<Record> {
    let stays = |record: &Record| record.deleted.is_some() && is_left(record);
    if let Some(at) = records.iter().position(stays) {
        records.truncate(at);
    }
    records.retain(|record| !is_left(record));
    records
}

/// Removes an image, or a name of it.
pub(super) async fn remove(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let removal = ImageRemoval {
        force: query.bool("force"),
        noprune: query.bool("noprune"),
    };
    let mut reference = exchange.name().to_owned();
    let mut targets = known_on(proxy.fleet.by_name(), &reference);
    if targets.is_empty()
        && let Some((node, rest)) = exchange.name().split_once('/')
        && let Some(host) = proxy.fleet.named(node)
    {
        targets = known_on(vec![host], rest);
        reference = rest.to_owned();
    }
    if targets.is_empty() {
        return meant::unknown(proxy, exchange).await;
    }
    targets.extend(unread(proxy, &targets));
    let target = with_query(
        Operation::ImageRemove.target(&[&reference]),
        exchange.raw_query(),
    );
    let call = EngineCall::delete(target).at(exchange.version);
    let caller = exchange.peer.caller.clone();
    drop(exchange);
    if proxy.fleet.only().is_none() {
        for target in &targets {
            target.may_go(proxy, &reference, removal)?;
        }
    }
    let (up, mut lost): (Vec<_>, Vec<_>) =
        targets.into_iter().partition(|target| target.host.is_up());
    let answered = ask(proxy, &up, &call).await;
    reread_all(&hosts_of(&up)).await;
    // Where the engine did not answer it may have done nothing.
    let silent = |part: &Part| {
        matches!(
            part.answer,
            Err(Error::Unreachable { .. } | Error::Down { .. })
        )
    };
    let silent: Vec<_> = answered.0.iter().filter(|part| silent(part)).collect();
    let silent: Vec<_> = silent.iter().map(|part| part.host.tag.id).collect();
    lost.extend(
        up.into_iter()
            .filter(|target| silent.contains(&target.host.tag.id)),
    );
    let (mut records, mut missing) = if silent.len() == answered.0.len() {
        (Vec::new(), Missing::default())
    } else {
        let (answers, missing) = answered.merge()?;
        let mut asked = proxy.fleet.by_name();
        asked.retain(|host| !silent.contains(&host.tag.id));
        (joined_records(&answers, &asked)?, missing)
    };
    if !lost.is_empty() {
        if records.is_empty() {
            records = lost.first().map(Target::record).into_iter().collect();
        }
        defer(proxy, &lost, removal, &caller).await?;
        missing = Missing::default();
        for target in &lost {
            missing.note_lost(&target.host);
        }
    }
    forget(proxy, &records, &caller).await?;
    let mut reply = ok_json(&records)?;
    missing.report(&proxy.fleet.ring, "image remove", &mut reply);
    Ok(reply)
}

/// What a name means on one node.
struct Target {
    host: Arc<Host>,
    /// The image's id there.
    id: String,
    /// What the image is called there if that is removed, rather than the image with all its names.
    name: Option<String>,
    /// Whether that is its last name.
    is_last: bool,
}

impl Target {
    /// What is remembered for a node that is down.
    fn known_as(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.id)
    }

    /// What an engine would say.
    fn record(&self) -> Record {
        match &self.name {
            Some(name) => Record {
                untagged: Some(name.clone()),
                deleted: None,
            },
            None => Record {
                untagged: None,
                deleted: Some(self.id.clone()),
            },
        }
    }

    /// Refuses, in an engine's words, what it would refuse because of a container, so that no node loses an image which
    /// another one keeps.
    fn may_go(
        &self,
        proxy: &Proxy,
        reference: &str,
        removal: ImageRemoval,
    ) -> Result<(), ApiError> {
        let node = &self.host.tag;
        // Of several names one may go whatever uses the image.
        if !self.is_last {
            return Ok(());
        }
        let users = users(proxy, &self.host, &self.id);
        let running = users.iter().find(|user| user.state.is_up());
        let user = running
            .or(users.first())
            .map(|user| short(&user.id.to_string()));
        let image = short(self.id.trim_start_matches("sha256:"));
        let why = match (&self.name, user) {
            (Some(_), Some(user)) if !removal.force => format!(
                "unable to remove repository reference \"{reference}\" (must force) - container {user} is using its \
                 referenced image {image}"
            ),
            (None, Some(user)) if running.is_some() => format!(
                "unable to delete {image} (cannot be forced) - image is being used by running container {user}"
            ),
            (None, Some(user)) if !removal.force => format!(
                "unable to delete {image} (must be forced) - image is being used by stopped container {user}"
            ),
            _ => return Ok(()),
        };
        Err(ApiError::conflict(format!(
            "conflict: {why} on node {}",
            node.name
        )))
    }
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn hosts_of(targets: &[Target]) -> Vec<Arc<Host>> {
    let hosts = targets.iter().map(|target| Arc::clone(&target.host));
    hosts.collect()
}

/// The nodes on which a name means anything, and what: it is removed there even if it means different images.
fn known_on(hosts: Vec<Arc<Host>>, reference: &str) -> Vec<Target> {
    let known = |host: Arc<Host>| {
        let images = host.images();
        let image = images.find(reference)?;
        let tag = tag_name(reference).filter(|tag| image.tags.contains(tag));
        Some(Target {
            id: image.id.clone(),
            is_last: image.tags.len() <= 1,
            name: tag.or_else(|| reference.contains('@').then(|| reference.to_owned())),
            host,
        })
    };
    hosts.into_iter().filter_map(known).collect()
}

/// The nodes that are down since before this manager began: they may have the tag that is removed. Whether a container uses
/// the image there is not known; if one does, its engine keeps the tag.
fn unread(proxy: &Proxy, targets: &[Target]) -> Vec<Target> {
    let Some(tag) = targets.iter().find_map(|target| target.name.as_ref()) else {
        return Vec::new();
    };
    let hosts = proxy.fleet.by_name().into_iter();
    hosts
        .filter(|host| !host.is_up() && host.images().all().is_empty())
        .filter(|host| !proxy.manager.image_is_due(host, tag))
        .map(|host| Target {
            host,
            id: String::new(),
            name: Some(tag.clone()),
            is_last: false,
        })
        .collect()
}

/// Asks the engines: those where a container uses the image first, one after the other; if one refuses, no further one is
/// asked.
async fn ask(proxy: &Proxy, targets: &[Target], call: &EngineCall) -> Parts {
    let is_used = |target: &&Target| is_used(proxy, &target.host, &target.id);
    let (using, rest): (Vec<_>, Vec<_>) = targets.iter().partition(is_used);
    let mut parts = Vec::new();
    for target in using {
        let host = Arc::clone(&target.host);
        let answered = fan_out::ask(vec![host], call, PATIENCE).await;
        let refused = answered.0.iter().any(|part| {
            let answer = part.answer.as_ref();
            answer.is_ok_and(|reply| !reply.status.is_success())
        });
        parts.extend(answered.0);
        if refused {
            return Parts(parts);
        }
    }
    let rest = rest.iter().map(|target| Arc::clone(&target.host)).collect();
    parts.extend(fan_out::ask(rest, call, PATIENCE).await.0);
    Parts(parts)
}

/// Has what nodes that cannot be reached are to remove done when they are back.
async fn defer(
    proxy: &Proxy,
    lost: &[Target],
    removal: ImageRemoval,
    caller: &Caller,
) -> Result<(), ApiError> {
    let mut by_name: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for target in lost {
        let nodes = by_name.entry(target.known_as()).or_default();
        nodes.push(target.host.tag.id);
    }
    for (name, nodes) in by_name {
        let manager = &proxy.manager;
        let deferred = manager.defer_image_removal(name.to_owned(), nodes, removal, caller);
        deferred.await.map_err(from_manager)?;
    }
    Ok(())
}

/// All that is gone from the pool, each thing once.
fn joined_records(answers: &Answers, hosts: &[Arc<Host>]) -> Result<Vec<Record>, ApiError> {
    let mut records: Vec<Record> = Vec::new();
    for (host, answer) in answers {
        let removed = fan_out::read::<Vec<Record>>(host, &answer.body)?;
        for record in gone(removed, |record| record.is_left(hosts)) {
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    Ok(records)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_is_told() {
        // `-name` was untagged, `!id` deleted.
        let check = |removed: &str, left: &str, wanted: &str| {
            let record = |word: &str| Record {
                untagged: word.strip_prefix('-').map(str::to_owned),
                deleted: word.strip_prefix('!').map(str::to_owned),
            };
            let records = |text: &str| text.split_whitespace().map(record).collect::<Vec<_>>();
            let left = records(left);
            let told = gone(records(removed), |record| left.contains(record));
            assert_eq!(told, records(wanted), "{removed} but {left:?}");
        };
        check("-it:1 !image !layer", "", "-it:1 !image !layer");
        check("-it:1 !image !layer", "!image", "-it:1");
        check("-it:1 !image !layer", "-it:1", "!image !layer");
        check("-it:1 -it:2 !image", "-it:1 !image", "-it:2");
        check("", "!image", "");
    }
}
