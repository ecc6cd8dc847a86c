//! `POST /volumes/create`: in a pool a record, which the first container that mounts the volume binds to its node.

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::route::Operation;
use api_compat::volume_create::{
    ANONYMOUS_LABEL, VolumeCreate, check_local_name, check_local_options, unknown_driver,
};
use http::StatusCode;

use super::super::exchange::Exchange;
use super::super::forward::{forward, with_query};
use super::super::reply::{Outcome, from_manager};
use super::super::{Proxy, nodes};
use super::find::{ambiguous, find};
use super::show;
use crate::clock;
use crate::engine::{Host, ListKind};
use crate::model::{Caller, KIND_LABEL, LOCAL_DRIVER, VolumeSpec};

/// Makes a volume, or a record of one.
pub(super) async fn create(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
    if let Some(host) = proxy.fleet.only() {
        return make_on_the_only_one(&host, exchange).await;
    }
    if proxy.fleet.hosts().is_empty() {
        return Err(nodes::nobody(proxy));
    }
    let body = exchange.read_json().await?;
    let wanted = VolumeCreate::parse(&body)?;
    if wanted.is_cluster_volume {
        return Err(ApiError::not_implemented(
            "cluster volumes (CSI) are not supported on a cluster endpoint: use a volume driver that reaches the storage \
             from each node, and the label com.flotilla.volume=shared",
        ));
    }
    let (host, spec) = spec(proxy, wanted)?;
    let name = spec.name.clone();
    let caller = exchange.peer.caller.clone();
    match host {
        Some(host) => make_there(proxy, spec, &host, &caller).await?,
        None => record(proxy, spec, &caller).await?,
    }
    let mut reply = show(proxy, &name, exchange.version).await?;
    if reply.status() == StatusCode::OK {
        *reply.status_mut() = StatusCode::CREATED;
    }
    Ok(reply)
}

async fn make_on_the_only_one(host: &Arc<Host>, exchange: Exchange) -> Outcome {
    let target = with_query(Operation::VolumeCreate.target(&[]), exchange.raw_query());
    let reply = forward(host, &target, exchange).await?;
    if reply.status().is_success() {
        host.reread(ListKind::Volumes).await;
    }
    Ok(reply)
}

/// What is to be made, and the node if one was named. Fails as an engine would.
fn spec(proxy: &Proxy, wanted: VolumeCreate) -> Result<(Option<Arc<Host>>, VolumeSpec), ApiError> {
    let mut labels = wanted.labels;
    let named = wanted.name.split_once('/');
    let named = named.and_then(|(node, name)| Some((proxy.fleet.named(node)?, name.to_owned())));
    let (host, name) = match named {
        Some((host, name)) => (Some(host), name),
        None => (None, wanted.name),
    };
    let name = if name.is_empty() {
        let anonymous = labels.get_or_insert_default();
        anonymous.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        made_up_name()
    } else {
        name
    };
    let driver = match wanted.driver.as_str() {
        "" => LOCAL_DRIVER.to_owned(),
        _ => wanted.driver,
    };
    if let Some(kind) = labels.as_ref().and_then(|labels| labels.get(KIND_LABEL))
        && !matches!(kind.as_str(), "shared" | "per-node")
    {
        return Err(ApiError::bad_parameter(format!(
            "create {name}: the label {KIND_LABEL} is {kind:?}: it may be \"shared\" (the same on every node) or \
             \"per-node\" (one on each)"
        )));
    }
    if driver == LOCAL_DRIVER {
        check_local_name(&name)?;
        // An engine answers with what it has, and does not read the options.
        if find(proxy, &name).is_nothing() {
            check_local_options(
                &name,
                wanted.options.as_ref().unwrap_or(&Default::default()),
            )?;
        }
    } else if proxy.manager.volume_driver_hosts(&driver).is_empty() {
        return Err(unknown_driver(&name, &driver));
    }
    let spec = VolumeSpec {
        name,
        driver,
        options: wanted.options,
        labels,
    };
    Ok((host, spec))
}

/// As engines make them up: 64 hexadecimal digits.
fn made_up_name() -> String {
    let bytes: [u8; 32] = clock::random_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A record; or what nodes have under that name already, as an engine answers with what it has.
async fn record(proxy: &Proxy, spec: VolumeSpec, caller: &Caller) -> Result<(), ApiError> {
    let name = spec.name.clone();
    let found = find(proxy, &name);
    let (spec, has_it) = match (&found.record, found.hosts.as_slice()) {
        (None, [host]) => match proxy.manager.listed_volume(host, &name) {
            Some(listed) if listed.driver == spec.driver => (listed, Some(host.tag.id)),
            Some(listed) => return Err(conflict(&name, &listed.driver)),
            None => (spec, None),
        },
        (None, [_, _, ..]) => return Err(ambiguous(&name, &found.hosts)),
        _ => (spec, None),
    };
    let added = proxy.manager.add_volume(spec, has_it, caller).await;
    added.map_err(|error| in_a_create(&name, error))
}

/// `node/name` says where: it is made there at once.
async fn make_there(
    proxy: &Proxy,
    spec: VolumeSpec,
    host: &Arc<Host>,
    caller: &Caller,
) -> Result<(), ApiError> {
    let name = spec.name.clone();
    let found = find(proxy, &name);
    let elsewhere = found.hosts.iter().find(|other| other.tag.id != host.tag.id);
    if let Some(other) = elsewhere.filter(|_| spec.kind() == crate::model::VolumeKind::OneNode) {
        return Err(ApiError::conflict(format!(
            "create {name}: volume {name} is on node {} already",
            other.tag.name
        )));
    }
    let made = proxy.manager.add_volume_on(spec, host, caller).await;
    match made.map_err(|error| in_a_create(&name, error))? {
        None => Ok(()),
        Some(refused) => Err(ApiError {
            status: refused.status,
            message: refused.message(),
        }),
    }
}

/// An engine begins what it refuses with what it was doing.
fn in_a_create(name: &str, error: crate::manager::Error) -> ApiError {
    let error = from_manager(error);
    if error.status == StatusCode::CONFLICT {
        return ApiError::conflict(format!("create {name}: {}", error.message));
    }
    error
}

fn conflict(name: &str, driver: &str) -> ApiError {
    ApiError::conflict(format!(
        "create {name}: driver '{driver}' already has volume '{name}': volume name must be unique"
    ))
}
