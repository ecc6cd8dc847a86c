//! `/volumes/…`: volumes of all nodes as one list, and records of those that are on no node yet.
//!
//! What a node has is shown in its engine's own bytes; a record is shown as an engine shows a fresh volume, without a
//! mount point.

mod create;
mod find;
mod remove;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use api_compat::error::ApiError;
use api_compat::json_edit::quote;
use api_compat::json_view::{Malformed, View};
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use api_compat::volume_list::{Volume as Listed, VolumeQuery};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Proxy;
use super::exchange::Exchange;
use super::forward::{engines_query, forward, with_query};
use super::reply::{self, Outcome, from_engine};
use super::short_lists::Gathered;
use crate::engine::{EngineCall, Host};
use crate::model::{Realm, Residence, Volume, VolumeKind};
use crate::state::Cluster;
use find::find;
use remove::no_such_volume;
use rows::{Place, Row, Source, rows};

/// Answers what concerns volumes.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    match exchange.route.operation {
        Operation::VolumeList => list(proxy, exchange).await,
        Operation::VolumeCreate => create::create(proxy, exchange).await,
        Operation::VolumeRemove => remove::remove(proxy, exchange).await,
        Operation::VolumePrune => remove::prune_all(proxy, exchange).await,
        Operation::VolumeUpdate if proxy.fleet.only().is_none() => Err(ApiError::unavailable(
            "volume update only valid for cluster volumes, but swarm is unavailable",
        )),
        _ => pass(proxy, exchange).await,
    }
}

/// In a pool of one the engine's own list, unless there are records that it knows nothing of; else what was last read,
/// unless only the engines know.
async fn list(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let wanted = VolumeQuery::parse(&query)?;
    let target = with_query(
        "/volumes".to_owned(),
        &engines_query(&query, wanted.filters()),
    );
    let call = EngineCall::get(target).at(exchange.version);
    let is_wanted =
        |host: &Host| wanted.wants_node(host.tag.name.as_str(), &host.tag.id.to_string());
    let cluster = proxy.manager.cluster();
    if let Some(host) = proxy.fleet.only()
        && is_wanted(&host)
        && !cluster.volumes().any(|volume| is_nowhere(volume))
        && let Ok(answer) = host.call(call.clone()).await
    {
        return Ok(reply::passed_on(answer));
    }
    let known = Gathered::listed(proxy, Host::volumes);
    let mut asked = Gathered::listed(proxy, Host::volumes);
    if wanted.dangling().is_some() {
        asked.ask(call, read_list).await;
    }
    let (present, kept) = (by_place(&known), by_place(&asked));
    let mut items = Vec::new();
    for row in lines(&known, &present, &cluster) {
        let name = match row.source {
            Source::Listed(at) => present[at].1.name.to_string(),
            Source::Record => row.shown_as.clone(),
        };
        let record = cluster.volume(Realm::DEFAULT, &name);
        let is_used = record.map(|record| is_in_use(&cluster, record));
        let item = match (row.source, record) {
            (Source::Listed(at), _) => {
                let (place, volume) = &present[at];
                let is_kept = kept.binary_search_by(|(other, _)| other.cmp(place)).is_ok();
                let is_shared =
                    record.is_some_and(|record| record.spec.kind() == VolumeKind::Shared);
                (use_is_wanted(wanted.dangling(), is_kept, is_used, is_shared)
                    && is_wanted(&known.hosts[place.0]))
                .then(|| shown(&wanted, volume, &row.shown_as))
            }
            (Source::Record, Some(record)) => {
                let json = rendered(record)?;
                let view = View::parse(&json).map_err(unreadable)?;
                let home = record.residence.bound();
                let is_here = match home.and_then(|node| proxy.fleet.host(&node)) {
                    Some(host) => is_wanted(&host),
                    None => !wanted.filters().contains("node"),
                };
                (use_is_wanted(wanted.dangling(), false, is_used, true) && is_here)
                    .then(|| shown(&wanted, &Listed::of(view, usize::MAX), &row.shown_as))
            }
            (Source::Record, None) => None,
        };
        items.extend(item.transpose()?.flatten());
    }
    let mut body = br#"{"Volumes":["#.to_vec();
    body.extend_from_slice(&items.join(&b','));
    body.extend_from_slice(b"],\"Warnings\":");
    body.extend_from_slice(warnings(&known).as_bytes());
    body.push(b'}');
    let mut reply = reply::json(StatusCode::OK, body);
    known.missing.mark(&mut reply);
    Ok(reply)
}

/// The volume under this name, if the filters let it through.
fn shown(
    wanted: &VolumeQuery,
    volume: &Listed<'_>,
    shown_as: &str,
) -> Result<Option<Vec<u8>>, ApiError> {
    if !wanted.matches(volume, shown_as) {
        return Ok(None);
    }
    let mut item = Vec::new();
    volume.render(&mut item, shown_as).map_err(unreadable)?;
    Ok(Some(item))
}

fn unreadable(error: Malformed) -> ApiError {
    ApiError::internal(error.to_string())
}

/// All that the nodes list, by the place of the node and the name.
fn by_place(gathered: &Gathered) -> Vec<((usize, String), Listed<'_>)> {
    let mut all: Vec<_> = gathered
        .views()
        .map(|(node, view)| Listed::of(view, node))
        .map(|volume| ((volume.node, volume.name.clone().into_owned()), volume))
        .collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

/// The lines to show. What is to be removed from a node when it is back is none.
fn lines(
    gathered: &Gathered,
    present: &[((usize, String), Listed<'_>)],
    cluster: &Cluster,
) -> Vec<Row> {
    let place_of = |node| gathered.hosts.iter().position(|host| host.tag.id == node);
    let places: BTreeMap<&str, Place> = cluster
        .volumes()
        .map(|volume| {
            let place = match &volume.residence {
                Residence::Unbound => Place::Unbound,
                Residence::On { node, .. } => Place::On(place_of(*node)),
                Residence::Shared { .. } => Place::Shared,
                Residence::PerNode { .. } => Place::PerNode,
            };
            (volume.spec.name.as_str(), place)
        })
        .collect();
    let due: BTreeSet<(usize, &str)> = gathered
        .hosts
        .iter()
        .enumerate()
        .flat_map(|(at, host)| {
            let due = cluster.volumes_due_on(host.tag.id);
            due.map(move |name| (at, name))
        })
        .collect();
    let listed: Vec<(usize, &str)> = present
        .iter()
        .map(|((node, name), _)| (*node, name.as_str()))
        .collect();
    rows(&listed, &due, &gathered.names(), &places)
}

/// Whether a volume's use is what is asked for. `is_kept`: its engine, which knows of its own containers only, says so.
/// `is_used` is what is promised on all nodes, if the volume has a record; only that counts for what is on `several`
/// nodes or on none.
fn use_is_wanted(
    dangling: Option<bool>,
    is_kept: bool,
    is_used: Option<bool>,
    several: bool,
) -> bool {
    match (dangling, is_used) {
        (None, _) => true,
        (Some(dangling), Some(is_used)) if several => dangling != is_used,
        (Some(true), Some(true)) => false,
        (Some(_), _) => is_kept,
    }
}

fn is_in_use(cluster: &Cluster, volume: &Volume) -> bool {
    cluster.volume_users(volume.realm, &volume.spec.name) > 0
}

fn is_nowhere(volume: &Volume) -> bool {
    volume.residence.nodes().next().is_none()
}

/// The volumes that are on no node yet, as an engine's `system/df` shows what takes no space.
pub(super) fn unmade(cluster: &Cluster) -> Result<Vec<Vec<u8>>, ApiError> {
    let unmade = cluster.volumes().filter(|volume| is_nowhere(volume));
    let shown = unmade.map(|volume| {
        let usage = Usage {
            ref_count: cluster.volume_users(volume.realm, &volume.spec.name),
            size: 0,
        };
        rendered_with(volume, Some(usage))
    });
    shown.collect()
}

/// A record as an engine shows a volume that nothing has been mounted from.
fn rendered(volume: &Volume) -> Result<Vec<u8>, ApiError> {
    rendered_with(volume, None)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    ref_count: u32,
    size: u64,
}

fn rendered_with(volume: &Volume, usage: Option<Usage>) -> Result<Vec<u8>, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shown<'a> {
        created_at: String,
        driver: &'a str,
        labels: &'a Option<BTreeMap<String, String>>,
        mountpoint: &'a str,
        name: &'a str,
        options: &'a Option<BTreeMap<String, String>>,
        scope: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        usage_data: Option<Usage>,
    }
    let scope = match volume.residence {
        Residence::On { .. } => "local",
        Residence::Unbound | Residence::Shared { .. } | Residence::PerNode { .. } => "global",
    };
    let shown = Shown {
        created_at: volume.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        driver: &volume.spec.driver,
        labels: &volume.spec.labels,
        mountpoint: "",
        name: &volume.spec.name,
        options: &volume.spec.options,
        scope,
        usage_data: usage,
    };
    serde_json::to_vec(&shown).map_err(|error| ApiError::internal(error.to_string()))
}

fn warnings(gathered: &Gathered) -> String {
    let down: Vec<_> = gathered
        .hosts
        .iter()
        .filter_map(|host| host.ready().err())
        .map(|error| quote(&format!("{error}: its volumes are shown as last seen")))
        .collect();
    if down.is_empty() {
        "null".to_owned()
    } else {
        format!("[{}]", down.join(","))
    }
}

fn read_list(body: &[u8]) -> serde_json::Result<Vec<Box<RawValue>>> {
    #[derive(Deserialize)]
    struct Lists {
        #[serde(rename = "Volumes")]
        volumes: Option<Vec<Box<RawValue>>>,
    }
    serde_json::from_slice::<Lists>(body).map(|listed| listed.volumes.unwrap_or_default())
}

/// Inspects and the like go to the volume's engine; a record is shown from memory.
async fn pass(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    if exchange.route.operation == Operation::VolumeInspect
        && find(proxy, &reference).record.is_some()
    {
        return show(proxy, &reference, exchange.version).await;
    }
    let found = find(proxy, &reference);
    let Some(host) = found.one(&reference)?.or_else(|| proxy.fleet.only()) else {
        return Err(no_such_volume(&reference));
    };
    let target = with_query(
        exchange.route.operation.target(&[&found.name]),
        exchange.raw_query(),
    );
    forward(&host, &target, exchange).await
}

/// A volume as its engine shows it, else as its record does.
async fn show(proxy: &Proxy, reference: &str, version: ApiVersion) -> Outcome {
    let found = find(proxy, reference);
    if let Some(host) = found.one(reference)? {
        let target = Operation::VolumeInspect.target(&[&found.name]);
        let call = EngineCall::get(target).at(version);
        let answer = host.call(call).await.map_err(from_engine)?;
        // One that is promised there is not made before its container.
        if answer.status != StatusCode::NOT_FOUND || found.record.is_none() {
            return Ok(reply::passed_on(answer));
        }
    }
    match &found.record {
        Some(record) => Ok(reply::json(StatusCode::OK, rendered(record)?)),
        None => Err(no_such_volume(reference)),
    }
}

#[cfg(test)]
mod tests {
    use super::use_is_wanted;

    #[test]
    fn a_volume_is_unused_if_no_node_uses_it() {
        // Nobody asks.
        assert!(use_is_wanted(None, false, Some(true), false));
        // On one node its engine knows, but for a container that is just being made.
        assert!(use_is_wanted(Some(true), true, Some(false), false));
        assert!(!use_is_wanted(Some(true), true, Some(true), false));
        assert!(!use_is_wanted(Some(true), false, Some(false), false));
        assert!(use_is_wanted(Some(false), true, None, false));
        // On several, or on none, only the promises of all nodes tell.
        assert!(use_is_wanted(Some(true), false, Some(false), true));
        assert!(!use_is_wanted(Some(true), true, Some(true), true));
        assert!(use_is_wanted(Some(false), false, Some(true), true));
        assert!(!use_is_wanted(Some(false), false, Some(false), true));
    }
}
