//! `/networks/…`: the cluster's networks are told of from the state, and by their node's engine where they are on one;
//! those that were made behind our back belong to their engines; the builtin ones, which every engine has, are shown as
//! one.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use api_compat::create::{check_content_type, syntax_error, with_network_id};
use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use api_compat::json_edit::{Edit, quote};
use api_compat::json_view::{Malformed, View};
use api_compat::network_create::{self, Create, check_name, shown, with_our_id};
use api_compat::network_list::{self, Found, Network, NetworkQuery};
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use api_compat::{labels, timestamp};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::exchange::Exchange;
use super::forward::{engines_query, forward, with_query};
use super::prunes::{self, PRUNE_PATIENCE};
use super::reply::{self, Outcome, from_engine, from_manager, ok_json};
use super::short_lists::Gathered;
use super::{Proxy, fan_out, nodes};
use crate::clock;
use crate::engine::{Container, EngineCall, EngineReply, Host, ListKind, OwnNetwork};
use crate::manager::NewNetwork;
use crate::model::{self, Caller, NetworkId, NodeId, Placement};

/// How long a node may take to say who is in its builtin network.
const INSPECT_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Answers what concerns networks.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    match exchange.route.operation {
        Operation::NetworkList => list(proxy, exchange).await,
        Operation::NetworkCreate => create(proxy, exchange).await,
        Operation::NetworkConnect | Operation::NetworkDisconnect => {
            join_or_leave(proxy, exchange).await
        }
        Operation::NetworkRemove => remove(proxy, exchange).await,
        Operation::NetworkPrune => prune_all(proxy, exchange).await,
        _ => inspect(proxy, exchange).await,
    }
}

fn gather(proxy: &Proxy) -> Gathered {
    Gathered::listed(proxy, Host::networks)
}

/// A network of the cluster as clients are to see it.
struct Ours {
    network: Arc<model::Network>,
    json: Vec<u8>,
    /// The place of its node in the lists; past their end if it is on none.
    node: usize,
}

/// The cluster's networks: the engine's words where one has it, in the first of the lists that tell of it.
fn ours(proxy: &Proxy, lists: &[&Gathered]) -> Result<Vec<Ours>, ApiError> {
    let told: Vec<_> = lists.iter().map(|list| there(proxy, list)).collect();
    let cluster = proxy.manager.cluster();
    let all = cluster.networks();
    all.map(|network| {
        let mut found = told.iter().filter_map(|told| told.get(&network.id));
        let (node, json) = match found.next() {
            Some((node, view)) => (*node, with_our_id(*view, network.id)),
            None => (usize::MAX, not_there(network).map(String::into_bytes)),
        };
        Ok(Ours {
            network: Arc::clone(network),
            json: json.map_err(|error| unreadable(network, &error))?,
            node,
        })
    })
    .collect()
}

/// What engines say of the cluster's networks, each told of by the engine of its node.
fn there<'a>(proxy: &Proxy, list: &'a Gathered) -> BTreeMap<NetworkId, (usize, View<'a>)> {
    let (cluster, id) = (proxy.manager.cluster(), proxy.manager.cluster_id());
    let all = list.views().filter_map(|(node, view)| {
        let own = OwnNetwork::read(view, id)?;
        let network = cluster.network(own.id)?;
        let host = list.hosts[node].tag.id;
        is_on(proxy, network, host).then_some((own.id, (node, view)))
    });
    all.collect()
}

/// Whether the node is where a network is: it is bound to it, or to none and strangers join it there.
fn is_on(proxy: &Proxy, network: &model::Network, node: NodeId) -> bool {
    let joined = || !proxy.fleet.inventory.joined(&node, network.id).is_empty();
    network.node().map_or_else(joined, |bound| bound == node)
}

fn not_there(network: &model::Network) -> Result<String, Malformed> {
    let (spec, name) = (network.spec.as_bytes(), &network.name);
    shown(spec, name, network.id, network.created)
}

fn unreadable(network: &model::Network, error: &Malformed) -> ApiError {
    ApiError::internal(format!("network {}: {error}", network.name))
}

/// All networks: those of the engines that are not the cluster's, and the cluster's.
fn networks<'a>(proxy: &Proxy, gathered: &'a Gathered, ours: &'a [Ours]) -> Vec<Network<'a>> {
    let cluster = proxy.manager.cluster_id();
    let strangers = gathered
        .views()
        .filter(|(_, view)| OwnNetwork::read(*view, cluster).is_none())
        .map(|(node, view)| Network::of(view, node));
    let ours = ours.iter().filter_map(|network| {
        let view = View::parse(&network.json).ok()?;
        Some(Network::of_cluster(view, network.node))
    });
    strangers.chain(ours).collect()
}

/// In a pool of one the engine's own list; else what was last read, unless only the engines know.
async fn list(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let wanted = NetworkQuery::parse(&query)?;
    let target = with_query(
        "/networks".to_owned(),
        &engines_query(&query, wanted.filters()),
    );
    let call = EngineCall::get(target).at(exchange.version);
    let is_wanted =
        |host: &Host| wanted.wants_node(host.tag.name.as_str(), &host.tag.id.to_string());
    if let Some(host) = passes_through(proxy)
        && is_wanted(&host)
        && let Ok(answer) = host.call(call.clone()).await
    {
        return Ok(reply::passed_on(answer));
    }
    let listed = gather(proxy);
    let mut gathered = gather(proxy);
    // Below 1.28 lists tell who is in each network.
    if wanted.asks_for_use() || exchange.version < ApiVersion::new(1, 28) {
        gathered
            .ask(call, |body| serde_json::from_slice(body))
            .await;
    }
    let ours = ours(proxy, &[&gathered, &listed])?;
    let mut all = networks(proxy, &gathered, &ours);
    all.retain(|network| match gathered.hosts.get(network.node) {
        Some(host) => is_wanted(host),
        None => wanted.wants_any_node(),
    });
    if let Some(dangling) = wanted.dangling() {
        let joined = |id: &str| id.parse().is_ok_and(|id| proxy.manager.is_joined(id));
        all.retain(|network| !network.of_cluster || dangling != joined(&network.id));
    }
    let mut body = vec![b'['];
    for (network, shown_as) in network_list::rows(&all, &gathered.names()) {
        if wanted.matches(&network, &shown_as) {
            if body.len() > 1 {
                body.push(b',');
            }
            network_list::render(&mut body, &network, &shown_as)
                .map_err(|error| ApiError::internal(error.to_string()))?;
        }
    }
    body.push(b']');
    let mut reply = reply::json(StatusCode::OK, body);
    gathered.missing.mark(&mut reply);
    Ok(reply)
}

/// The engine that answers for the pool as it stands: the only one, if the cluster has no networks of its own.
fn passes_through(proxy: &Proxy) -> Option<Arc<Host>> {
    let only = proxy.fleet.only()?;
    let has_own = proxy.manager.cluster().networks().next().is_some();
    (!has_own).then_some(only)
}

/// One network on one node.
struct Place {
    host: Arc<Host>,
    id: String,
    name: String,
}

/// What a reference to a network means.
enum Meant {
    /// A network of the cluster.
    Cluster(Arc<model::Network>),
    /// One of engines: on several nodes only if it is a builtin one, or one that several nodes know by one id. Ready nodes
    /// come first.
    Engines(Vec<Place>),
}

fn find(proxy: &Proxy, reference: &str) -> Result<Meant, ApiError> {
    if let Some(network) = proxy.manager.network_called(reference) {
        return Ok(Meant::Cluster(network));
    }
    let gathered = gather(proxy);
    let ours = ours(proxy, &[&gathered])?;
    let all = networks(proxy, &gathered, &ours);
    let is_node = |text: &str, node: usize| {
        let host = gathered.hosts.get(node);
        host.is_some_and(|host| host.tag.is(text))
    };
    let ambiguous = |count: usize, by: &str, way_out: String| {
        ApiError::bad_parameter(format!(
            "{count} matches found based on {by}: network {reference} is ambiguous{way_out}"
        ))
    };
    match network_list::find(&all, reference, is_node) {
        Found::None => Err(not_found(reference)),
        Found::One(found) => {
            if let Some(id) = found.iter().find(|n| n.of_cluster).map(|n| &n.id) {
                let network = ours.iter().find(|own| own.network.id.to_string() == **id);
                let network = network.ok_or_else(|| not_found(reference))?;
                return Ok(Meant::Cluster(Arc::clone(&network.network)));
            }
            let places = found.into_iter().map(|network| Place {
                host: Arc::clone(&gathered.hosts[network.node]),
                id: network.id.to_string(),
                name: network.name.to_string(),
            });
            Ok(Meant::Engines(places.collect()))
        }
        Found::SameName(found) => {
            let names = gathered.names();
            let ways: Vec<_> = found
                .iter()
                .map(|network| format!("{}/{reference}", names[network.node]))
                .collect();
            Err(ambiguous(
                found.len(),
                "name",
                format!(": use {} or an ID", ways.join(", ")),
            ))
        }
        Found::SamePrefix(count) => Err(ambiguous(count, "ID prefix", String::new())),
    }
}

/// The node that has a network of the cluster, and what its engine knows it by.
fn its_place(proxy: &Proxy, network: &model::Network) -> Option<(Arc<Host>, NetworkId)> {
    let hosts = proxy.fleet.hosts();
    let host = match network.node() {
        Some(bound) => hosts.get(&bound),
        None => hosts
            .values()
            .find(|host| is_on(proxy, network, host.tag.id)),
    }?;
    let own = host.tag.networks.of(network.id)?;
    Some((Arc::clone(host), own.engine_id))
}

fn not_found(reference: &str) -> ApiError {
    ApiError::not_found(format!("network {reference} not found"))
}

async fn inspect(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let places = match find(proxy, &reference)? {
        Meant::Cluster(network) => return inspect_ours(proxy, exchange, &network).await,
        Meant::Engines(places) => places,
    };
    let Some(place) = places.first() else {
        return Err(not_found(&reference));
    };
    let is_everywhere = network_list::is_builtin(&place.name) && places.len() > 1;
    if is_everywhere {
        return inspect_builtin(
            &places,
            &exchange.route.operation,
            exchange.raw_query(),
            exchange.version,
            &reference,
        )
        .await;
    }
    let target = with_query(
        exchange.route.operation.target(&[&place.id]),
        exchange.raw_query(),
    );
    let reply = forward(&place.host, &target, exchange).await?;
    if reply.status() == StatusCode::NOT_FOUND {
        Err(not_found(&reference))
    } else {
        Ok(reply)
    }
}

/// What its engine says, with our id; else what one that nobody has joined looks like.
async fn inspect_ours(proxy: &Proxy, exchange: Exchange, network: &model::Network) -> Outcome {
    let scope = exchange.query()?.text("scope").to_owned();
    if !matches!(&*scope, "" | "local") {
        return Err(not_found(exchange.name()));
    }
    let unreadable = |error| unreadable(network, &error);
    if let Some((host, id)) = its_place(proxy, network) {
        let path = exchange.route.operation.target(&[&id.to_string()]);
        let call = EngineCall::get(with_query(path, exchange.raw_query())).at(exchange.version);
        let answer = host.call(call).await.map_err(from_engine)?;
        if answer.status.is_success() {
            let view = View::parse(&answer.body).map_err(unreadable)?;
            let json = with_our_id(view, network.id).map_err(unreadable)?;
            return Ok(reply::json(StatusCode::OK, json));
        }
        if answer.status != StatusCode::NOT_FOUND {
            return Ok(reply::passed_on(answer));
        }
    }
    let json = not_there(network).map_err(unreadable)?;
    Ok(reply::json(StatusCode::OK, json))
}

/// What the first ready node says of its builtin network, with the containers of all nodes in it.
fn inspect_builtin(
    places: &[Place],
    operation: &Operation,
    query: &str,
    version: ApiVersion,
    reference: &str,
) -> impl Future<Output = Outcome> + Send + use<> {
    let hosts: Vec<_> = places.iter().map(|place| Arc::clone(&place.host)).collect();
    let name = places
        .first()
        .map(|place| place.name.clone())
        .unwrap_or_default();
    let call = EngineCall::get(with_query(operation.target(&[&name]), query)).at(version);
    let reference = reference.to_owned();
    async move {
        let (answers, missing) = fan_out::ask(hosts, &call, INSPECT_PATIENCE).await.merge()?;
        let Some((_, first)) = answers.first() else {
            return Err(not_found(&reference));
        };
        let garbled = |error: api_compat::json_view::Malformed| {
            ApiError::internal(format!("network {name}: {error}"))
        };
        let mut edit = Edit::new(&first.body).map_err(garbled)?;
        let mut members = Vec::new();
        for (_, answer) in &answers {
            let network = View::parse(&answer.body).map_err(garbled)?;
            let containers = network
                .get("Containers")
                .into_iter()
                .flat_map(|containers| containers.members());
            members.extend(
                containers
                    .map(|member| format!("{}:{}", quote(&member.key), member.value.as_json())),
            );
        }
        edit.set(&["Containers"], &format!("{{{}}}", members.join(",")));
        let mut reply = reply::json(StatusCode::OK, edit.finish());
        missing.mark(&mut reply);
        Ok(reply)
    }
}

/// A record, until its first container decides where it goes; `node/name` decides now.
async fn create(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
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
    let content_type = exchange.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let content_type = content_type.map(str::to_owned);
    let body = exchange.read_body().await?;
    check_content_type(content_type.as_deref(), !body.is_empty())?;
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

/// `connect` and `disconnect` happen on the container's node.
async fn join_or_leave(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
    let body = exchange.read_body().await?;
    let (operation, reference) = (exchange.route.operation, exchange.route.name.clone());
    let (version, query) = (exchange.version, exchange.raw_query().to_owned());
    let caller = exchange.peer.caller.clone();
    drop(exchange);
    let asked =
        View::parse(&body).map_err(|error| ApiError::bad_parameter(syntax_error(&body, &error)))?;
    let endpoint = asked.get_folded("EndpointConfig");
    let mut objects = [Some(asked), endpoint].into_iter().flatten();
    if let Some(field) = objects.find_map(|object| object.repeated_field()) {
        return Err(ApiError::bad_parameter(format!(
            "invalid JSON: the field {field} occurs twice"
        )));
    }
    let named = asked.get_folded("Container");
    let container_name = named
        .and_then(|name| name.str())
        .unwrap_or_default()
        .into_owned();
    if container_name.is_empty() {
        return Err(ApiError::bad_parameter("invalid name or ID supplied: \"\""));
    }
    let forced = asked.get_folded("Force").and_then(|force| force.bool()) == Some(true);
    let post = |id: &str, body: Bytes| {
        EngineCall::post(with_query(operation.target(&[id]), &query), Some(body)).at(version)
    };
    let leaves = operation == Operation::NetworkDisconnect;
    let unseen = proxy.manager.out_of_sight(&container_name);
    if let Some((host, placement)) = unseen.filter(|(host, _)| leaves && forced && !host.is_up()) {
        return leave_later(proxy, &reference, &host, Some(placement), &caller).await;
    }
    let (host, container) = match proxy.container(&container_name) {
        Ok((host, container)) if leaves && !host.is_up() => {
            let placement = proxy.manager.held_by(&container);
            if forced {
                return leave_later(proxy, &reference, &host, placement, &caller).await;
            }
            let way_out = match placement {
                Some(_) => "with force (-f) it is cut off when the node is back",
                None => "try again when the node is back",
            };
            return Err(is_down(&host, way_out));
        }
        Ok(found) => found,
        // With `force` an engine also cuts off what is left of a container that is gone.
        Err(_) if forced && leaves => {
            let place = match find(proxy, &reference)? {
                Meant::Cluster(network) => {
                    let its_place = its_place(proxy, &network);
                    its_place.map(|(host, id)| (host, id.to_string(), Some(network)))
                }
                Meant::Engines(places) => {
                    let first = places.into_iter().next();
                    first.map(|place| (place.host, place.id, None))
                }
            };
            // What is on no node has no endpoints.
            let no_endpoint =
                || ApiError::not_found(format!("endpoint {container_name} not found"));
            let (host, id, ours) = place.ok_or_else(no_endpoint)?;
            let answer = host
                .call(post(&id, body.clone()))
                .await
                .map_err(from_engine)?;
            let Some(network) = ours else {
                return Ok(reply::passed_on(answer));
            };
            return told_by_name(answer, &id, &network.name).map_err(|error| {
                let is_gone = error.status == StatusCode::NOT_FOUND;
                if is_gone { no_endpoint() } else { error }
            });
        }
        Err(error) => return Err(error),
    };
    let changing = proxy.manager.changing(&container);
    let outcome = async {
        let ours = match find(proxy, &reference) {
            Ok(Meant::Cluster(network)) => Some(network),
            Ok(Meant::Engines(_)) | Err(_) => None,
        };
        let joins = operation == Operation::NetworkConnect;
        let joining = match &ours {
            Some(network) if joins => {
                let manager = &proxy.manager;
                let joining = manager.join_network(network.id, &host, &container, &caller);
                Some(joining.await.map_err(from_manager)?)
            }
            Some(_) | None => None,
        };
        let network = match (&ours, &joining) {
            (_, Some(joining)) => joining.engine_id.to_string(),
            (Some(network), None) => {
                // What its node does not have it cannot be in.
                let here = host.tag.networks.of(network.id);
                let here = here.ok_or_else(|| not_connected(&container.id, &network.name))?;
                here.engine_id.to_string()
            }
            (None, None) => on_node_of(proxy, &host, &reference, &container)?,
        };
        let mut edit =
            Edit::new(&body).map_err(|error| ApiError::bad_parameter(error.to_string()))?;
        if let Some(name) = named {
            edit.replace(name, quote(&container.id.to_string()));
        }
        if let Some(endpoint) = endpoint
            && let Some(told) = with_network_id(endpoint, &network)
        {
            edit.replace(endpoint, told);
        }
        let change = host.change(container.id).await;
        let call = post(&network, Bytes::from(edit.finish()));
        match host.call(call).await {
            Ok(answer) => {
                if answer.status.is_success() {
                    let runs = container.state.is_up();
                    // A container that does not run is only noted down: no event tells of it.
                    let last = if joins { "connect" } else { "disconnect" };
                    change.settle(runs.then_some(last)).await;
                }
                let Some(ours) = &ours else {
                    return Ok(reply::passed_on(answer));
                };
                // Its last container has left it a moment ago, and the network its node.
                let is_gone = leaves && answer.status == StatusCode::NOT_FOUND;
                told_by_name(answer, &network, &ours.name).map_err(|error| match is_gone {
                    true => not_connected(&container.id, &ours.name),
                    false => error,
                })
            }
            Err(error) => {
                // Whether it was done, or the node is lost, shows then.
                change.settle(None).await;
                Err(from_engine(error))
            }
        }
    }
    .await;
    proxy.manager.changed_by_us(changing).await;
    if leaves && forced && outcome.is_err() && !host.is_up() {
        // Its node was lost meanwhile; whether it is cut off already shows when the node is back.
        let placement = proxy.manager.held_by(&container);
        return leave_later(proxy, &reference, &host, placement, &caller).await;
    }
    outcome
}

/// Cuts a container of a node that is down off from a network of the cluster: its engine is told when it is back.
async fn leave_later(
    proxy: &Proxy,
    reference: &str,
    host: &Host,
    placement: Option<Arc<Placement>>,
    caller: &Caller,
) -> Outcome {
    let Some(placement) = placement else {
        let way_out = "only what the cluster made can be cut off later";
        return Err(is_down(host, way_out));
    };
    let Meant::Cluster(network) = find(proxy, reference)? else {
        let way_out = "only from networks of the cluster can it be cut off later";
        return Err(is_down(host, way_out));
    };
    if !placement.networks.contains(&network.id) {
        let container = placement.container.map(|id| id.to_string());
        let container = container.unwrap_or_else(|| placement.name.clone());
        return Err(not_connected(&container, &network.name));
    }
    let manager = &proxy.manager;
    let later = manager.leave_network_later(network.id, &placement, caller);
    later.await.map_err(from_manager)?;
    Ok(reply::status(StatusCode::OK))
}

/// An engine's answer about a network of the cluster. An error that names the network by the engine's id, which no client
/// knows, names it as clients do.
fn told_by_name(answer: EngineReply, engine_id: &str, name: &str) -> Outcome {
    let message = answer.message();
    if answer.status.is_success() || !message.contains(engine_id) {
        return Ok(reply::passed_on(answer));
    }
    Err(ApiError {
        status: answer.status,
        message: message.replace(engine_id, name),
    })
}

/// An engine's words for a container that is in another network, if any.
fn not_connected(container: &dyn Display, network: &str) -> ApiError {
    ApiError::internal(format!(
        "container {container} is not connected to network {network}"
    ))
}

/// The error for what cannot be done now because the container's node is down, with what to do about it.
fn is_down(host: &Host, way_out: &str) -> ApiError {
    let down = host.ready().err().map(from_engine);
    let mut error = down.unwrap_or_else(|| {
        ApiError::unavailable(format!("node {} was lost for a moment", host.tag.name))
    });
    error.message = format!("{}: {way_out}", error.message);
    error
}

/// What the container's engine knows a network by that is not the cluster's. If no engine has it that one says so in its
/// own words.
fn on_node_of(
    proxy: &Proxy,
    host: &Arc<Host>,
    reference: &str,
    container: &Container,
) -> Result<String, ApiError> {
    let gathered = gather(proxy);
    let all = networks(proxy, &gathered, &[]);
    let here: Vec<_> = all
        .iter()
        .filter(|n| gathered.hosts[n.node].tag.id == host.tag.id)
        .cloned()
        .collect();
    let is_node = |text: &str, node: usize| gathered.hosts[node].tag.is(text);
    if let Found::One(found) = network_list::find(&here, reference, is_node)
        && let Some(network) = found.first()
    {
        return Ok(network.id.to_string());
    }
    let elsewhere: Vec<_> = match network_list::find(&all, reference, is_node) {
        Found::One(found) | Found::SameName(found) => found
            .iter()
            .map(|n| gathered.names()[n.node].to_owned())
            .collect(),
        Found::None | Found::SamePrefix(_) => return Ok(reference.to_owned()),
    };
    Err(ApiError::conflict(format!(
        "container {} is on node {}, and network {reference} is only on {}: a network of one host cannot reach \
         another; connect it to a network of its own node",
        container.name(),
        host.tag.name,
        elsewhere.join(" and ")
    )))
}

async fn remove(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let places = match find(proxy, &reference)? {
        Meant::Cluster(network) => {
            let caller = &exchange.peer.caller;
            let removed = proxy.manager.remove_network(network.id, caller);
            removed.await.map_err(from_manager)?;
            return Ok(reply::status(StatusCode::NO_CONTENT));
        }
        Meant::Engines(places) => places,
    };
    let Some(place) = places.first() else {
        return Err(not_found(&reference));
    };
    let target = with_query(
        Operation::NetworkRemove.target(&[&place.id]),
        exchange.raw_query(),
    );
    debug_assert_eq!(exchange.request.method(), Method::DELETE);
    let answer = place
        .host
        .call(EngineCall::delete(target).at(exchange.version))
        .await
        .map_err(from_engine)?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(not_found(&reference));
    }
    if answer.status.is_success() {
        for place in &places {
            place.host.reread(ListKind::Networks).await;
        }
    }
    Ok(reply::passed_on(answer))
}

async fn prune_all(proxy: &Proxy, exchange: Exchange) -> Outcome {
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        #[serde(default)]
        networks_deleted: Option<Vec<String>>,
    }
    let mut query = exchange.query()?;
    let wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::NETWORK_PRUNE)?;
    let ours = prune_ours(proxy, &exchange.peer.caller, &wanted).await?;
    let mut theirs = wanted.clone();
    let alone = passes_through(proxy).is_some();
    if !alone {
        // An engine does not know who is still promised to join.
        theirs.add("label!", labels::NETWORK);
        query.set("filters", &theirs.to_json());
    }
    let (mut hosts, call) =
        prunes::asked(proxy, "/networks/prune", &query, &theirs, exchange.version);
    if !alone && wanted.contains("label!") {
        // An engine keeps what has all of these labels, not what has any of them.
        hosts.retain(|host| host.tag.networks.here().is_empty());
    }
    let (answers, missing) = if !alone && hosts.is_empty() {
        Default::default()
    } else {
        fan_out::ask(hosts, &call, PRUNE_PATIENCE).await.merge()?
    };
    let mut total = Pruned {
        networks_deleted: (!ours.is_empty()).then_some(ours),
    };
    for (host, answer) in answers {
        let pruned: Pruned = fan_out::read(&host, &answer.body)?;
        if let Some(names) = pruned.networks_deleted {
            total.networks_deleted.get_or_insert_default().extend(names);
            host.reread(ListKind::Networks).await;
        }
    }
    let mut reply = ok_json(&total)?;
    missing.report(&proxy.fleet.ring, "network prune", &mut reply);
    Ok(reply)
}

/// Removes the cluster's networks that nothing joins and the filters let through; says which.
async fn prune_ours(
    proxy: &Proxy,
    caller: &Caller,
    wanted: &Filters,
) -> Result<Vec<String>, ApiError> {
    let now = clock::now();
    let until = match wanted.get("until").next() {
        Some(until) => timestamp::parse(until, now)?,
        None => None,
    };
    let mut pruned = Vec::new();
    let cluster = proxy.manager.cluster();
    for network in cluster.networks() {
        let host = network.node().and_then(|node| proxy.fleet.host(&node));
        let is_on_wanted = match host {
            Some(host) => {
                wanted.exact_match("node", host.tag.name.as_str())
                    || wanted.exact_match("node", &host.tag.id.to_string())
            }
            None => !wanted.contains("node"),
        };
        let labelled = Create::read(network.spec.as_bytes())
            .is_ok_and(|spec| wanted.match_labels_and_not(|label| spec.label(label)));
        let old = until.is_none_or(|until| network.created < until);
        if !is_on_wanted || !labelled || !old || proxy.manager.is_held(network.id) {
            continue;
        }
        // Whoever joins it meanwhile keeps it.
        if proxy
            .manager
            .remove_network(network.id, caller)
            .await
            .is_ok()
        {
            pruned.push(network.name.clone());
        }
    }
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn the_engines_own_id_of_a_network_is_told_to_nobody() {
        let answer = |status: u16, message: &str| EngineReply {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: format!("{{\"message\":\"{message}\"}}").into(),
        };
        let check = |status: u16, message: &str, expected: &str| {
            let told = told_by_name(answer(status, message), "0a1b", "front");
            let told = told.map_or_else(|error| error.message, |_| "passed on".to_owned());
            assert_eq!(told, expected);
        };
        check(404, "network 0a1b not found", "network front not found");
        check(
            500,
            "container c is not connected to the network 0a1b",
            "container c is not connected to the network front",
        );
        check(404, "No such container: c", "passed on");
        check(200, "0a1b", "passed on");
    }
}
