//! `/networks/…`: each network belongs to the engine that made it; the builtin ones, which every engine has, are shown
//! as one.

use std::sync::Arc;

use api_compat::create::syntax_error;
use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use api_compat::json_edit::{Edit, quote};
use api_compat::json_view::View;
use api_compat::network_list::{self, Found, Network, NetworkQuery};
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::exchange::Exchange;
use super::forward::{forward, with_query};
use super::reply::{self, Outcome, from_engine, ok_json};
use super::short_lists::{Gathered, PRUNE_PATIENCE, engines_query, prune, read};
use super::{Proxy, fan_out, system};
use crate::engine::{EngineCall, Host, ListKind};

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

fn networks(gathered: &Gathered) -> Vec<Network<'_>> {
    gathered
        .views()
        .map(|(node, view)| Network::of(view, node))
        .collect()
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
    if let Some(host) = proxy.fleet.only()
        && is_wanted(&host)
        && let Ok(answer) = host.call(call.clone()).await
    {
        return Ok(reply::passed_on(answer));
    }
    let mut gathered = gather(proxy);
    // Below 1.28 lists tell who is in each network.
    if wanted.asks_for_use() || exchange.version < ApiVersion::new(1, 28) {
        gathered
            .ask(call, |body| serde_json::from_slice(body))
            .await;
    }
    let mut all = networks(&gathered);
    all.retain(|network| is_wanted(&gathered.hosts[network.node]));
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

/// One network on one node.
struct Place {
    host: Arc<Host>,
    id: String,
    name: String,
}

/// Where the network is that `reference` means: on several nodes only if it is a builtin one, or one that several nodes
/// know by one id. Ready nodes come first.
fn find(proxy: &Proxy, reference: &str) -> Result<Vec<Place>, ApiError> {
    let gathered = gather(proxy);
    let all = networks(&gathered);
    let is_node = |text: &str, node: usize| gathered.hosts[node].tag.is(text);
    let ambiguous = |count: usize, by: &str, way_out: String| {
        ApiError::bad_parameter(format!(
            "{count} matches found based on {by}: network {reference} is ambiguous{way_out}"
        ))
    };
    match network_list::find(&all, reference, is_node) {
        Found::None => Err(not_found(reference)),
        Found::One(found) => Ok(found
            .into_iter()
            .map(|network| Place {
                host: Arc::clone(&gathered.hosts[network.node]),
                id: network.id.to_string(),
                name: network.name.to_string(),
            })
            .collect()),
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

fn not_found(reference: &str) -> ApiError {
    ApiError::not_found(format!("network {reference} not found"))
}

async fn inspect(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let places = find(proxy, &reference)?;
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

async fn create(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let Some(host) = proxy.fleet.only() else {
        return Err(if proxy.fleet.hosts().is_empty() {
            system::nobody(proxy)
        } else {
            ApiError::not_implemented(
                "network create is not supported on a cluster endpoint yet: networks that are made on the node of their \
                 first container are coming; until then use the network `bridge`, or create the network on the engine \
                 itself and use it by name",
            )
        });
    };
    let target = with_query(Operation::NetworkCreate.target(&[]), exchange.raw_query());
    let reply = forward(&host, &target, exchange).await?;
    if reply.status().is_success() {
        host.reread(ListKind::Networks).await;
    }
    Ok(reply)
}

/// `connect` and `disconnect` happen on the container's node.
async fn join_or_leave(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
    let body = exchange.read_body().await?;
    let (operation, reference) = (exchange.route.operation, exchange.route.name.clone());
    let (version, query) = (exchange.version, exchange.raw_query().to_owned());
    drop(exchange);
    let asked =
        View::parse(&body).map_err(|error| ApiError::bad_parameter(syntax_error(&body, &error)))?;
    if let Some(field) = asked.repeated_field() {
        return Err(ApiError::bad_parameter(format!(
            "invalid JSON: the field {field} occurs twice"
        )));
    }
    let named = asked.get_folded("Container");
    let container_name = named
        .and_then(|name| name.str())
        .unwrap_or_default()
        .into_owned();
    let forced = asked.get_folded("Force").and_then(|force| force.bool()) == Some(true);
    let post = |id: &str, body: Bytes| {
        EngineCall::post(with_query(operation.target(&[id]), &query), Some(body)).at(version)
    };
    let (host, container) = match proxy.container(&container_name) {
        Ok(found) => found,
        // With `force` an engine also cuts off what is left of a container that is gone.
        Err(_) if forced && operation == Operation::NetworkDisconnect => {
            let places = find(proxy, &reference)?;
            let Some(place) = places.first() else {
                return Err(not_found(&reference));
            };
            let answer = place
                .host
                .call(post(&place.id, body.clone()))
                .await
                .map_err(from_engine)?;
            return Ok(reply::passed_on(answer));
        }
        Err(error) => return Err(error),
    };
    let id = container.id.to_string();
    let network = on_node_of(proxy, &host, &reference, &container.name())?;
    let body = match named {
        Some(name) => {
            let mut edit =
                Edit::new(&body).map_err(|error| ApiError::bad_parameter(error.to_string()))?;
            edit.replace(name, quote(&id));
            Bytes::from(edit.finish())
        }
        None => body.clone(),
    };
    let change = host.change(container.id).await;
    let answer = host.call(post(&network, body)).await.map_err(from_engine)?;
    if answer.status.is_success() {
        let (joins, runs) = (
            operation == Operation::NetworkConnect,
            container.state.is_up(),
        );
        // A container that does not run is only noted down: no event tells of it.
        let last = if joins { "connect" } else { "disconnect" };
        change.settle(runs.then_some(last)).await;
    }
    Ok(reply::passed_on(answer))
}

/// What the container's engine knows the network by. If no engine has it that one says so in its own words.
fn on_node_of(
    proxy: &Proxy,
    host: &Arc<Host>,
    reference: &str,
    container: &str,
) -> Result<String, ApiError> {
    let gathered = gather(proxy);
    let all = networks(&gathered);
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
        "container {container} is on node {}, and network {reference} is only on {}: a network of one host cannot reach \
         another; connect it to a network of its own node",
        host.tag.name,
        elsewhere.join(" and ")
    )))
}

async fn remove(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let places = find(proxy, &reference)?;
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
    let query = exchange.query()?;
    let wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::NETWORK_PRUNE)?;
    let (hosts, call) = prune(proxy, "/networks/prune", &query, &wanted, exchange.version);
    let (answers, missing) = fan_out::ask(hosts, &call, PRUNE_PATIENCE).await.merge()?;
    let mut total = Pruned::default();
    for (host, answer) in answers {
        let pruned: Pruned = read(&host, &answer.body)?;
        if let Some(names) = pruned.networks_deleted {
            total.networks_deleted.get_or_insert_default().extend(names);
            host.reread(ListKind::Networks).await;
        }
    }
    let mut reply = ok_json(&total)?;
    missing.mark(&mut reply);
    Ok(reply)
}
