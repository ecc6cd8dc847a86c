//! `DELETE /volumes/{name}` and `POST /volumes/prune`.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use api_compat::volume_create::ANONYMOUS_LABEL;
use futures_util::future::join_all;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::fan_out::{self, Parts};
use super::super::forward::with_query;
use super::super::prunes::{self, PRUNE_PATIENCE};
use super::super::reply::{self, Outcome, from_manager, ok_json};
use super::find::{ambiguous, find};
use crate::engine::{EngineCall, Host, ListKind};
use crate::manager::{VolumeRemoval, VolumeRemovalOrder};
use crate::model::{Caller, LOCAL_DRIVER, Residence, Volume, VolumeSpec};

/// Removes a volume; different ones of one name on several nodes only by force, all of them.
pub(super) async fn remove(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let forced = exchange.query()?.bool("force");
    let mut found = find(proxy, &reference);
    if found.is_nothing() {
        match proxy.fleet.only() {
            Some(host) => found.hosts.push(host),
            None if forced => return Ok(reply::status(StatusCode::NO_CONTENT)),
            None => return Err(no_such_volume(&reference)),
        }
    }
    let is_one = found.record.as_ref().is_some_and(|record| {
        !matches!(record.residence, Residence::Unbound) || found.hosts.len() < 2
    });
    if found.hosts.len() > 1 && !is_one && !forced {
        return Err(ambiguous(&reference, &found.hosts));
    }
    let target = with_query(
        Operation::VolumeRemove.target(&[&found.name]),
        exchange.raw_query(),
    );
    let is_gone_if_missing = found.record.is_some() || forced;
    let order = VolumeRemovalOrder {
        name: &found.name,
        hosts: found.hosts,
        in_part: found.in_part,
        call: EngineCall::delete(target).at(exchange.version),
        force: forced,
    };
    let caller = &exchange.peer.caller;
    let removed = proxy.manager.remove_volume(order, caller).await;
    match removed.map_err(from_manager)? {
        VolumeRemoval::Done => Ok(reply::status(StatusCode::NO_CONTENT)),
        VolumeRemoval::Missing if is_gone_if_missing => Ok(reply::status(StatusCode::NO_CONTENT)),
        VolumeRemoval::Missing => Err(no_such_volume(&reference)),
        VolumeRemoval::Refused(refused) => Ok(reply::passed_on(refused)),
    }
}

/// An engine's words for a volume that it does not have.
pub(super) fn no_such_volume(reference: &str) -> ApiError {
    ApiError::not_found(format!("get {reference}: no such volume"))
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    #[serde(default)]
    volumes_deleted: Option<Vec<String>>,
    #[serde(default)]
    space_reclaimed: u64,
}

/// Every node prunes its own; records that nothing on any node belongs to follow the same rule.
pub(super) async fn prune_all(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let mut query = exchange.query()?;
    let mut wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::VOLUME_PRUNE)?;
    if exchange.version < ApiVersion::new(1, 42) && !wanted.contains("all") {
        // What older clients mean, said so that an engine which is called at a newer version understands it.
        wanted.add("all", "true");
        query.set("filters", &wanted.to_json());
    }
    let (hosts, call) = prunes::asked(proxy, "/volumes/prune", &query, &wanted, exchange.version);
    let caller = &exchange.peer.caller;
    let pruned = hosts
        .into_iter()
        .map(|host| prune_one(proxy, host, &call, caller));
    let (parts, gone): (Vec<_>, Vec<_>) = join_all(pruned).await.into_iter().unzip();
    let parts = Parts(parts.into_iter().flat_map(|parts| parts.0).collect());
    let (answers, missing) = parts.merge()?;
    let mut total = Pruned::default();
    for (host, answer) in answers {
        total.space_reclaimed += fan_out::read::<Pruned>(&host, &answer.body)?.space_reclaimed;
    }
    let mut names: Vec<_> = gone.into_iter().flatten().collect();
    names.extend(prune_records(proxy, &wanted, caller).await?);
    total.volumes_deleted = Some(names);
    let mut reply = ok_json(&total)?;
    missing.report(&proxy.fleet.ring, "volume prune", &mut reply);
    Ok(reply)
}

/// One node prunes, while no container is given volumes there. The second value names those that are gone.
async fn prune_one(
    proxy: &Proxy,
    host: Arc<Host>,
    call: &EngineCall,
    caller: &Caller,
) -> (Parts, Vec<String>) {
    let _turn = proxy.manager.volume_removal_turn(host.tag.id).await;
    let parts = fan_out::ask(vec![Arc::clone(&host)], call, PRUNE_PATIENCE).await;
    let mut gone = Vec::new();
    for answer in parts.0.iter().filter_map(|part| part.answer.as_ref().ok()) {
        let pruned = fan_out::read::<Pruned>(&host, &answer.body).unwrap_or_default();
        let names = pruned.volumes_deleted.unwrap_or_default();
        if answer.status.is_success() && !names.is_empty() {
            host.reread(ListKind::Volumes).await;
            gone = proxy.manager.volumes_pruned(&host, &names, caller).await;
        }
    }
    (parts, gone)
}

/// Records that no node has anything of, which nothing mounts and the filters name.
async fn prune_records(
    proxy: &Proxy,
    wanted: &Filters,
    caller: &Caller,
) -> Result<Vec<String>, ApiError> {
    if wanted.contains("node") {
        return Ok(Vec::new());
    }
    let all = wanted.bool_or("all", false)?;
    let cluster = proxy.manager.cluster();
    let is_wanted = |volume: &&Arc<Volume>| {
        let label = |name: &str| {
            let labels = volume.spec.labels.as_ref()?;
            labels.get(name).map(String::as_str)
        };
        let is_nowhere = volume.residence.nodes().next().is_none();
        is_nowhere
            && is_prunable(&volume.spec)
            && proxy.manager.volume_holders(&volume.spec.name).is_empty()
            && (all || label(ANONYMOUS_LABEL).is_some())
            && wanted.match_labels_and_not(label)
    };
    let names = cluster.volumes().filter(is_wanted);
    let names = names.map(|volume| volume.spec.name.clone()).collect();
    Ok(proxy.manager.prune_records(names, caller).await)
}

/// Engines prune only what is theirs alone: what has options, or another driver, may be more than a folder.
fn is_prunable(spec: &VolumeSpec) -> bool {
    spec.driver == LOCAL_DRIVER && spec.options.as_ref().is_none_or(BTreeMap::is_empty)
}
