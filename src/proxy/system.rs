//! `/_ping`, `/version`, `/info`, `/system/df`, `/auth`: the pool as one engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api_compat::disk_usage::{self, Usage};
use api_compat::error::ApiError;
use api_compat::headers::Identity;
use api_compat::info::{self, NodeDetails, NodeRow, Pool};
use api_compat::json_edit::{Edit, quote};
use api_compat::json_view::{Malformed, View};
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};

use super::exchange::Exchange;
use super::forward::with_query;
use super::nodes::{labels, order_by_health};
use super::reply::{self, Outcome, Reply};
use super::{Proxy, any_node, fan_out, volumes};
use crate::clock;
use crate::engine::{Container, EngineCall, Host, Verdict, full};
use crate::model::Availability;

/// What we call ourselves beside the engine that we pass for.
const OURSELVES: &str = concat!("Flotilla ", env!("CARGO_PKG_VERSION"));
/// The engine version that an empty pool passes for.
const REFERENCE_ENGINE: &str = "28.5.2";
/// Never advertised less than this if any node reaches it: newer clients refuse to speak to older engines.
const ADVERTISED_AT_LEAST: ApiVersion = ApiVersion::new(1, 44);
/// What is advertised is worked out again after so long, or when a node comes or goes.
const ADVERTISED_FOR: Duration = Duration::from_secs(1);
/// The only engine of a pool is asked itself, and may take so long before what it last said is told.
const ONE_ENGINE_PATIENCE: Duration = Duration::from_secs(2);
/// Engines walk all their volumes to say what they occupy.
const DISK_USAGE_PATIENCE: Duration = Duration::from_secs(30);

/// What replies say of the pool, and the newest version that any reply has named: it does not drop while the manager
/// runs, or clients that live long would break when an older node joins.
#[derive(Debug, Default)]
pub(crate) struct Advertised(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    newest: Option<ApiVersion>,
    identity: Option<(Instant, usize, Identity)>,
}

/// What the headers of this moment's replies say.
pub(super) fn identity(proxy: &Proxy) -> Identity {
    let hosts = proxy.fleet.hosts();
    let now = clock::instant();
    let mut kept = proxy
        .versions
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some((at, count, identity)) = &kept.identity
        && *count == hosts.len()
        && now.duration_since(*at) < ADVERTISED_FOR
    {
        return identity.clone();
    }
    let hosts: Vec<_> = hosts.values().collect();
    let found = advertised(&hosts, kept.newest);
    kept.newest = found.or(kept.newest);
    let version = proxy
        .settings
        .advertise
        .or(found)
        .unwrap_or(ApiVersion::MAX);
    let facts: Vec<_> = hosts.iter().map(|host| host.facts()).collect();
    let oldest = facts
        .iter()
        .map(|facts| facts.version.as_str())
        .min_by_key(|version| numbers(version));
    let identity = Identity {
        api_version: version,
        engine_version: oldest
            .filter(|version| !version.is_empty())
            .unwrap_or(REFERENCE_ENGINE)
            .to_owned(),
        experimental: !facts.is_empty() && facts.iter().all(|facts| facts.experimental),
    };
    kept.identity = Some((now, hosts.len(), identity.clone()));
    identity
}

/// The newest version that all nodes which are up understand (api-matrix 1.2); none if there are no nodes.
fn advertised(hosts: &[&Arc<Host>], before: Option<ApiVersion>) -> Option<ApiVersion> {
    let newest = |only_up: bool| -> Vec<ApiVersion> {
        hosts
            .iter()
            .filter(|host| !only_up || host.is_up())
            .map(|host| host.client.window().max)
            .collect()
    };
    let mut versions = newest(true);
    if versions.is_empty() {
        versions = newest(false);
    }
    let common = versions.iter().copied().min()?.min(ApiVersion::MAX);
    let some_reach = versions
        .iter()
        .any(|version| *version >= ADVERTISED_AT_LEAST);
    let floor = if some_reach {
        ADVERTISED_AT_LEAST
    } else {
        common
    };
    Some(common.max(floor).max(before.unwrap_or(common)))
}

/// `28.5.2` as numbers, so that versions compare.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse().ok())
        .collect()
}

/// Answers what concerns the system as a whole.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    match exchange.route.operation {
        Operation::Ping | Operation::PingHead => Ok(ping(proxy, exchange.route.operation)),
        Operation::Version => version(proxy, exchange.version).await,
        Operation::Info => system_info(proxy, exchange.version).await,
        Operation::DiskUsage => disk_usage(proxy, exchange).await,
        _ => any_node::any_node(proxy, exchange).await,
    }
}

fn ping(proxy: &Proxy, operation: Operation) -> Reply {
    let body: &'static [u8] = if operation == Operation::Ping {
        b"OK"
    } else {
        b""
    };
    let mut reply = reply::status(StatusCode::OK);
    *reply.body_mut() = full(body);
    identity(proxy).put_ping(reply.headers_mut(), "inactive");
    reply
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    reply
}

/// `GET /version`: of a pool of one its engine's own, with our component added.
async fn version(proxy: &Proxy, client: ApiVersion) -> Outcome {
    let identity = identity(proxy);
    let platform = format!("{{\"Name\":{}}}", quote(OURSELVES));
    let ours = our_component(proxy);
    if let Some(host) = proxy.fleet.only()
        && let Some(body) = ask_only(&host, "/version", client).await
        && let Ok(mut edit) = Edit::new(&body)
    {
        let root = edit.root();
        edit.set(&["Platform"], &platform);
        edit.set(&["ApiVersion"], &quote(&identity.api_version.to_string()));
        edit.set(&["MinAPIVersion"], &quote(&ApiVersion::MIN.to_string()));
        let theirs = root
            .get("Components")
            .into_iter()
            .flat_map(|list| list.elements());
        let all: Vec<_> = theirs
            .map(|component| component.as_json())
            .chain([ours.as_str()])
            .collect();
        edit.set(&["Components"], &format!("[{}]", all.join(",")));
        return Ok(reply::json(StatusCode::OK, edit.finish()));
    }
    let (os, arch) = majority(proxy);
    let details = serde_json::json!({
        "ApiVersion": identity.api_version.to_string(),
        "Arch": arch,
        "BuildTime": "",
        "Experimental": identity.experimental.to_string(),
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": "",
        "MinAPIVersion": ApiVersion::MIN.to_string(),
        "Os": os,
    });
    let engine = quote(&identity.engine_version);
    let engine = format!("{{\"Name\":\"Engine\",\"Version\":{engine},\"Details\":{details}}}");
    let body = format!(
        "{{\"Platform\":{platform},\"Components\":[{engine},{ours}],\"Version\":{},\"ApiVersion\":{},\"MinAPIVersion\":{},\
         \"GitCommit\":\"\",\"GoVersion\":\"\",\"Os\":{},\"Arch\":{},\"KernelVersion\":\"\"{},\"BuildTime\":\"\"}}",
        quote(&identity.engine_version),
        quote(&identity.api_version.to_string()),
        quote(&ApiVersion::MIN.to_string()),
        quote(&os),
        quote(&arch),
        if identity.experimental {
            ",\"Experimental\":true"
        } else {
            ""
        },
    );
    Ok(reply::json(StatusCode::OK, body))
}

fn our_component(proxy: &Proxy) -> String {
    let hosts = proxy.fleet.hosts();
    let manager = &proxy.manager;
    let is_ready =
        |host: &&Arc<Host>| host.health().verdict == Verdict::Ready && manager.takes_work(host);
    let ready = hosts.values().filter(is_ready).count();
    let details = serde_json::json!({
        "Joining": proxy.fleet.joining().len().to_string(),
        "Nodes": hosts.len().to_string(),
        "ReadyNodes": ready.to_string(),
    });
    let version = quote(env!("CARGO_PKG_VERSION"));
    format!("{{\"Name\":\"Flotilla\",\"Version\":{version},\"Details\":{details}}}")
}

/// The operating system and architecture that most nodes have.
fn majority(proxy: &Proxy) -> (String, String) {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for host in proxy.fleet.hosts().values() {
        let facts = host.facts();
        *counts
            .entry((facts.os.clone(), facts.arch.clone()))
            .or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or_else(
        || ("linux".to_owned(), "amd64".to_owned()),
        |(platform, _)| platform,
    )
}

/// What the only engine answers, if it answers at once.
async fn ask_only(host: &Arc<Host>, path: &str, client: ApiVersion) -> Option<bytes::Bytes> {
    let asked = host.ask(EngineCall::get(path).at(client));
    tokio::time::timeout(ONE_ENGINE_PATIENCE, asked)
        .await
        .ok()?
        .ok()
        .map(|answer| answer.body)
}

/// `GET /info`: of a pool of one its engine's own; of several what they last said, so that none is waited for.
async fn system_info(proxy: &Proxy, client: ApiVersion) -> Outcome {
    let garbled = |error: Malformed| ApiError::internal(format!("an engine's info: {error}"));
    if let Some(host) = proxy.fleet.only()
        && let Some(body) = ask_only(&host, "/info", client).await
    {
        return Ok(reply::json(
            StatusCode::OK,
            info::of_one(&body).map_err(garbled)?,
        ));
    }
    let hosts = proxy.fleet.by_name();
    let facts: Vec<_> = order_by_health(hosts.clone())
        .iter()
        .map(|host| host.facts())
        .collect();
    let views: Vec<_> = facts
        .iter()
        .filter_map(|facts| View::parse(&facts.info).ok())
        .collect();
    let merged = info::merge(&views, &pool(proxy, &hosts)).map_err(garbled)?;
    let body = info::for_version(&merged, client).map_err(garbled)?;
    Ok(reply::json(StatusCode::OK, body))
}

fn pool(proxy: &Proxy, hosts: &[Arc<Host>]) -> Pool {
    let cluster = proxy.manager.cluster();
    let joining = proxy.fleet.joining();
    let now = clock::now();
    let mut images = BTreeSet::new();
    let mut pool = Pool {
        id: cluster.id().map(|id| id.to_string()).unwrap_or_default(),
        name: proxy.settings.cluster_name.clone(),
        server_version: identity(proxy).engine_version,
        operating_system: format!(
            "{OURSELVES} ({} node{})",
            hosts.len(),
            if hosts.len() == 1 { "" } else { "s" }
        ),
        system_time: api_compat::timestamp::rfc3339_nano(now),
        rows: vec![
            ("Strategy".to_owned(), proxy.manager.strategy().to_string()),
            (
                "Nodes".to_owned(),
                (hosts.len() + joining.len()).to_string(),
            ),
        ],
        ..Pool::default()
    };
    for host in hosts {
        let (facts, health) = (host.facts(), host.health());
        let counts = proxy.fleet.inventory.counts(&host.tag.id);
        let reserved = counts
            .unmanaged_claims
            .saturating_add(cluster.totals(host.tag.id).claimed);
        let (containers, paused) = (counts.containers, counts.paused);
        let running = counts.running.saturating_sub(paused);
        pool.containers += containers;
        pool.running += running;
        pool.paused += paused;
        if health.verdict != Verdict::Down {
            pool.cpus += facts.capacity.cpu_nanos / 1_000_000_000;
            pool.memory_bytes = pool
                .memory_bytes
                .saturating_add(facts.capacity.memory_bytes);
        }
        images.extend(host.images().all().iter().map(|image| image.id.clone()));
        let labels = labels(proxy, host);
        let node = cluster.node(host.tag.id);
        let availability = node.map(|node| node.availability);
        // What is reserved is reserved of this, which may be less than it has, or more.
        let allocatable = node.map_or(facts.capacity, |node| node.capacity());
        let status = match health.verdict {
            Verdict::Ready if !proxy.manager.takes_work(host) => {
                "Ready (its containers are being counted)".to_owned()
            }
            Verdict::Ready => match availability {
                Some(Availability::Pause) => "Ready (paused: it takes no new containers)",
                Some(Availability::Drain) => "Ready (drained: it takes no new containers)",
                Some(Availability::Active) | None => "Ready",
            }
            .to_owned(),
            Verdict::Suspect => format!("Suspect ({})", health.reason),
            Verdict::Down => {
                let seconds = now.duration_since(health.last_seen).as_secs().max(0);
                format!("Down ({}; last seen {seconds}s ago)", health.reason)
            }
        };
        if health.verdict == Verdict::Down {
            pool.warnings.push(format!(
                "WARNING: node {} is down: {}",
                host.tag.name, health.reason
            ));
        }
        let stock = proxy.manager.stock_of(host.tag.id);
        let generic: BTreeMap<_, _> = stock
            .all_left()
            .map(|(name, left)| {
                (
                    name.to_owned(),
                    (left.of.saturating_sub(left.free), left.of),
                )
            })
            .collect();
        if health.verdict != Verdict::Down {
            for (name, (_, has)) in &generic {
                *pool.generic.entry(name.clone()).or_default() += has;
            }
        }
        let details = NodeDetails {
            containers,
            running,
            paused,
            reserved_cpu_nanos: reserved.cpu_nanos,
            cpu_nanos: allocatable.cpu_nanos,
            reserved_memory_bytes: reserved.memory_bytes,
            memory_bytes: allocatable.memory_bytes,
            generic,
            labels,
            updated_at: api_compat::timestamp::rfc3339_nano(health.last_seen),
            server_version: facts.version.clone(),
        };
        let (name, endpoint) = (host.tag.name.to_string(), host.tag.endpoint.shown());
        NodeRow {
            name,
            endpoint,
            status,
            details: Some(details),
        }
        .rows(&mut pool.rows);
    }
    for (endpoint, reason) in joining {
        let endpoint = endpoint.shown();
        pool.warnings.push(format!(
            "WARNING: the engine at {endpoint} has not joined yet: {reason}"
        ));
        let status = format!("Joining ({reason})");
        NodeRow {
            name: "(unknown)".to_owned(),
            endpoint,
            status,
            details: None,
        }
        .rows(&mut pool.rows);
    }
    pool.images = images.len();
    pool.warnings.extend(super::images::warnings(proxy));
    pool
}

/// `GET /system/df`: what each node occupies, added up.
async fn disk_usage(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let kinds: Vec<&str> = if exchange.version < ApiVersion::new(1, 42) {
        Vec::new()
    } else {
        query.all("type").collect()
    };
    if let Some(unknown) = kinds.iter().find(|kind| !disk_usage::KINDS.contains(kind)) {
        return Err(ApiError::bad_parameter(format!(
            "unknown object type: {unknown}"
        )));
    }
    let asks = |kind| kinds.is_empty() || kinds.contains(&kind);
    let target = with_query("/system/df".to_owned(), exchange.raw_query());
    let call = EngineCall::get(target).at(exchange.version);
    let (answers, missing) = fan_out::ask(proxy.fleet.by_name(), &call, DISK_USAGE_PATIENCE)
        .await
        .merge()?;
    let garbled = |host: &Host, error: &dyn std::fmt::Display| {
        ApiError::internal(format!(
            "[node {}] its answer cannot be read: {error}",
            host.tag.name
        ))
    };
    let mut usages = Vec::with_capacity(answers.len());
    for (host, answer) in &answers {
        let body = View::parse(&answer.body).map_err(|error| garbled(host, &error))?;
        let containers = match body.get("Containers").filter(|_| asks("container")) {
            Some(list) => Some(
                shown_containers(list, host, exchange.version)
                    .map_err(|error| garbled(host, &error))?,
            ),
            None => None,
        };
        usages.push(Usage {
            node: host.tag.name.as_str(),
            body,
            containers,
        });
    }
    let unmade = match asks("volume") {
        true => volumes::unmade(&proxy.manager.cluster())?,
        false => Vec::new(),
    };
    let internal = |error: Malformed| ApiError::internal(error.to_string());
    let unmade: Result<Vec<_>, _> = unmade.iter().map(|volume| View::parse(volume)).collect();
    let merged = disk_usage::merge(&usages, &unmade.map_err(internal)?).map_err(internal)?;
    let mut reply = reply::json(StatusCode::OK, merged);
    missing.mark(&mut reply);
    Ok(reply)
}

/// One node's containers as lists show them.
fn shown_containers(
    list: View<'_>,
    host: &Host,
    version: ApiVersion,
) -> Result<Vec<String>, String> {
    list.elements()
        .map(|item| {
            let read = Container::read(item.as_json().as_bytes(), &host.tag);
            let container = read.map_err(|error| error.to_string())?;
            let mut shown = Vec::new();
            container.render(
                &mut shown,
                version,
                &item.text_of("State"),
                &item.text_of("Status"),
            );
            Ok(String::from_utf8_lossy(&shown).into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let oldest = ["28.5.2", "20.10.24+dfsg1", "9.1"]
            .into_iter()
            .min_by_key(|version| numbers(version));
        assert_eq!(oldest, Some("9.1"));
        assert_eq!(numbers("20.10.24+dfsg1"), [20, 10, 24]);
    }
}
