//! `/volumes/…`: each volume belongs to the engine that made it.

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use api_compat::json_edit::quote;
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use api_compat::volume_list::{self, Volume, VolumeQuery};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::exchange::Exchange;
use super::forward::{forward, with_query};
use super::reply::{self, Outcome, ok_json};
use super::short_lists::{Gathered, PRUNE_PATIENCE, engines_query, prune, read};
use super::{Proxy, fan_out, system};
use crate::engine::{EngineCall, Host, ListKind};

/// How long an engine may take to remove a volume.
const REMOVE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Answers what concerns volumes.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    match exchange.route.operation {
        Operation::VolumeList => list(proxy, exchange).await,
        Operation::VolumeCreate => create(proxy, exchange).await,
        Operation::VolumeRemove => remove(proxy, exchange).await,
        Operation::VolumePrune => prune_all(proxy, exchange).await,
        Operation::VolumeUpdate if proxy.fleet.only().is_none() => Err(ApiError::unavailable(
            "volume update only valid for cluster volumes, but swarm is unavailable",
        )),
        _ => pass(proxy, exchange).await,
    }
}

fn gather(proxy: &Proxy) -> Gathered {
    Gathered::listed(proxy, Host::volumes)
}

fn volumes(gathered: &Gathered) -> Vec<Volume<'_>> {
    gathered
        .views()
        .map(|(node, view)| Volume::of(view, node))
        .collect()
}

/// In a pool of one the engine's own list; else what was last read, unless only the engines know.
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
    if let Some(host) = proxy.fleet.only()
        && is_wanted(&host)
        && let Ok(answer) = host.call(call.clone()).await
    {
        return Ok(reply::passed_on(answer));
    }
    let mut gathered = gather(proxy);
    if wanted.asks_for_use() {
        gathered.ask(call, read_list).await;
    }
    let mut all = volumes(&gathered);
    all.retain(|volume| is_wanted(&gathered.hosts[volume.node]));
    let mut body = br#"{"Volumes":["#.to_vec();
    let start = body.len();
    for (volume, shown_as) in all
        .iter()
        .zip(volume_list::shown_names(&all, &gathered.names()))
    {
        if wanted.matches(volume, &shown_as) {
            if body.len() > start {
                body.push(b',');
            }
            volume
                .render(&mut body, &shown_as)
                .map_err(|error| ApiError::internal(error.to_string()))?;
        }
    }
    body.extend_from_slice(b"],\"Warnings\":");
    body.extend_from_slice(warnings(&gathered).as_bytes());
    body.push(b'}');
    let mut reply = reply::json(StatusCode::OK, body);
    gathered.missing.mark(&mut reply);
    Ok(reply)
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
    struct Listed {
        #[serde(rename = "Volumes")]
        volumes: Option<Vec<Box<RawValue>>>,
    }
    serde_json::from_slice::<Listed>(body).map(|listed| listed.volumes.unwrap_or_default())
}

/// The volumes that `reference` means, by node and by the name they have there.
fn find(proxy: &Proxy, reference: &str) -> Vec<(Arc<Host>, String)> {
    let gathered = gather(proxy);
    let all = volumes(&gathered);
    volume_list::find(&all, reference, |text, node| {
        gathered.hosts[node].tag.is(text)
    })
    .into_iter()
    .map(|volume| {
        (
            Arc::clone(&gathered.hosts[volume.node]),
            volume.name.to_string(),
        )
    })
    .collect()
}

fn ambiguous(reference: &str, found: &[(Arc<Host>, String)]) -> ApiError {
    let nodes: Vec<_> = found
        .iter()
        .map(|(host, _)| host.tag.name.as_str())
        .collect();
    let ways: Vec<_> = nodes
        .iter()
        .map(|node| format!("{node}/{reference}"))
        .collect();
    ApiError::bad_parameter(format!(
        "volume {reference} exists on {}: use {}",
        nodes.join(" and "),
        ways.join(" or ")
    ))
}

/// Inspects and the like go to the volume's engine.
async fn pass(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let found = find(proxy, &reference);
    let (host, name) = match found.as_slice() {
        [one] => one.clone(),
        [] => match proxy.fleet.only() {
            Some(host) => (host, reference),
            None => {
                return Err(ApiError::not_found(format!(
                    "get {reference}: no such volume"
                )));
            }
        },
        several => return Err(ambiguous(&reference, several)),
    };
    let target = with_query(
        exchange.route.operation.target(&[&name]),
        exchange.raw_query(),
    );
    forward(&host, &target, exchange).await
}

async fn create(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let Some(host) = proxy.fleet.only() else {
        return Err(if proxy.fleet.hosts().is_empty() {
            system::nobody(proxy)
        } else {
            ApiError::not_implemented(
                "volume create is not supported on a cluster endpoint yet: volumes that are made on the node of their \
                 first container are coming; until then name the volume in `docker run -v`, which makes it on the \
                 container's node, or create it on the engine itself",
            )
        });
    };
    let target = with_query(Operation::VolumeCreate.target(&[]), exchange.raw_query());
    let reply = forward(&host, &target, exchange).await?;
    if reply.status().is_success() {
        host.reread(ListKind::Volumes).await;
    }
    Ok(reply)
}

/// Removes a volume; those of one name on several nodes only by force, all of them.
async fn remove(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let forced = exchange.query()?.bool("force");
    let mut found = find(proxy, &reference);
    if found.len() > 1 && !forced {
        return Err(ambiguous(&reference, &found));
    }
    if found.is_empty() {
        match proxy.fleet.only() {
            Some(host) => found.push((host, reference.clone())),
            None if forced => return Ok(reply::status(StatusCode::NO_CONTENT)),
            None => {
                return Err(ApiError::not_found(format!(
                    "get {reference}: no such volume"
                )));
            }
        }
    }
    let Some((_, name)) = found.first() else {
        return Ok(reply::status(StatusCode::NO_CONTENT));
    };
    let target = with_query(
        Operation::VolumeRemove.target(&[name]),
        exchange.raw_query(),
    );
    let call = EngineCall::delete(target).at(exchange.version);
    let hosts: Vec<_> = found.iter().map(|(host, _)| Arc::clone(host)).collect();
    let outcome = fan_out::ask(hosts.clone(), &call, REMOVE_PATIENCE)
        .await
        .merge();
    for host in hosts.iter().filter(|host| host.is_up()) {
        host.reread(ListKind::Volumes).await;
    }
    let (_, missing) = outcome?;
    let mut reply = reply::status(StatusCode::NO_CONTENT);
    missing.mark(&mut reply);
    Ok(reply)
}

async fn prune_all(proxy: &Proxy, exchange: Exchange) -> Outcome {
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        #[serde(default)]
        volumes_deleted: Option<Vec<String>>,
        #[serde(default)]
        space_reclaimed: u64,
    }
    let mut query = exchange.query()?;
    let mut wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::VOLUME_PRUNE)?;
    if exchange.version < ApiVersion::new(1, 42) && !wanted.contains("all") {
        // What older clients mean, said so that an engine which is called at a newer version understands it.
        wanted.add("all", "true");
        query.set("filters", &wanted.to_json());
    }
    let (hosts, call) = prune(proxy, "/volumes/prune", &query, &wanted, exchange.version);
    let (answers, missing) = fan_out::ask(hosts, &call, PRUNE_PATIENCE).await.merge()?;
    let mut total = Pruned {
        volumes_deleted: Some(Vec::new()),
        space_reclaimed: 0,
    };
    for (host, answer) in answers {
        let pruned: Pruned = read(&host, &answer.body)?;
        let names = pruned.volumes_deleted.unwrap_or_default();
        if !names.is_empty() {
            host.reread(ListKind::Volumes).await;
        }
        total.volumes_deleted.get_or_insert_default().extend(names);
        total.space_reclaimed += pruned.space_reclaimed;
    }
    let mut reply = ok_json(&total)?;
    missing.mark(&mut reply);
    Ok(reply)
}
