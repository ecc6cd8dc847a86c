//! `POST /networks/create`.

use api_compat::error::ApiError;
use api_compat::labels;
use api_compat::network_create::{self, Create, check_name};
use api_compat::route::Operation;
use http::StatusCode;

use super::super::exchange::Exchange;
use super::super::forward::{forward, with_query};
use super::super::reply::{self, Outcome, from_manager};
use super::super::{Proxy, nodes};
use super::passes_through;
use super::rows::{gather, networks};
use crate::engine::{Host, ListKind};
use crate::manager::NewNetwork;

/// A record, until its first container decides where it goes; `node/name` decides now.
pub(super) async fn create(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
    if let Some(host) = passes_through(proxy) {
        let target = with_query(Operation::NetworkCreate.target(&[]), exchange.raw_query());
        let reply = forward(&host, &target, exchange).await?;
        if reply.status().is_success() {
            host.reread(ListKind::Networks).await;
        }
        return Ok(reply);
    }
    if proxy.fleet.hosts().is_empty() {
        return Err(nodes::nobody(proxy));
    }
    let body = exchange.read_json().await?;
    let asked = Create::read(&body)?;
    let pinned = asked
        .name
        .split_once('/')
        .and_then(|(node, name)| Some((proxy.fleet.named(node)?, name)));
    let (host, name) = match pinned {
        Some((host, name)) => (Some(host), name),
        None => (None, &*asked.name),
    };
    check_name(name)?;
    can_be_made(proxy, &asked, host.as_deref())?;
    let gathered = gather(proxy);
    let strangers = networks(proxy, &gathered, &[]);
    if strangers.iter().any(|network| network.name == name) {
        return Err(ApiError::conflict(format!(
            "network with name {name} already exists"
        )));
    }
    let spec = String::from_utf8(body.to_vec())
        .map_err(|error| ApiError::bad_parameter(format!("invalid JSON: {error}")))?;
    let new = NewNetwork {
        name: name.to_owned(),
        spec,
        group: asked.label(labels::GROUP).map(str::to_owned),
        node: host.map(|host| host.tag.id),
    };
    let made = proxy.manager.create_network(new, &exchange.peer.caller);
    let id = made.await.map_err(from_manager)?;
    let made = format!("{{\"Id\":\"{id}\",\"Warning\":\"\"}}\n");
    Ok(reply::json(StatusCode::CREATED, made))
}

/// Refuses what no node of the pool could make.
fn can_be_made(proxy: &Proxy, asked: &Create<'_>, host: Option<&Host>) -> Result<(), ApiError> {
    if asked.driver == "overlay" {
        return Err(ApiError::not_implemented(
            "the network driver overlay is not supported on a cluster endpoint yet: networks across hosts are coming; until \
             then use the driver bridge, or none, and all that join the network run on one node",
        ));
    }
    if asked.is_config {
        return Err(ApiError::not_implemented(
            "configuration networks are not supported on a cluster endpoint: an engine that makes a network from one refuses \
             labels, by which the cluster knows its networks; give each network its options and subnets in its own create",
        ));
    }
    cuts_nobody_off(proxy, asked)?;
    let hosts = proxy.fleet.hosts();
    let known = |host: &Host| network_create::knows_driver(&host.facts().info, &asked.driver);
    let is_known = match host {
        Some(host) => known(host),
        None => hosts.values().any(|host| known(host)),
    };
    if is_known {
        return Ok(());
    }
    let driver = &asked.driver;
    Err(ApiError::not_found(format!("plugin {driver:?} not found")))
}

/// Refuses a subnet in which a node is: whichever host made the network would look for that node in it.
fn cuts_nobody_off(proxy: &Proxy, asked: &Create<'_>) -> Result<(), ApiError> {
    for host in proxy.fleet.by_name() {
        let tag = &host.tag;
        let known = [tag.address.as_deref(), tag.endpoint.published_address()];
        let numeric = known.into_iter().flatten();
        for address in numeric.filter_map(|address| address.parse().ok()) {
            if let Some(subnet) = asked.subnet_around(address) {
                return Err(ApiError::bad_parameter(format!(
                    "subnet {subnet} holds {address}, the address of node {}, which the network would cut off: choose another \
                     subnet",
                    tag.name
                )));
            }
        }
    }
    Ok(())
}
