//! `POST /networks/{id}/connect` and `/disconnect`: both happen on the container's node.

use std::fmt::Display;
use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::network_list::{self, Found};
use api_compat::network_members::{Change, Member, with_ids};
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use bytes::Bytes;
use http::StatusCode;

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::forward::with_query;
use super::super::reply::{self, Outcome, from_engine, from_manager};
use super::find::{Meant, find, its_place};
use super::rows::{gather, networks};
use crate::engine::{Container, EngineCall, EngineReply, Host};
use crate::model::{Caller, Placement};

/// Which container is to join or leave which network.
struct Asked {
    operation: Operation,
    version: ApiVersion,
    query: String,
    caller: Caller,
    body: Bytes,
    network: String,
    container: String,
    forced: bool,
}

impl Asked {
    async fn read(mut exchange: Exchange) -> Result<Self, ApiError> {
        let body = exchange.read_json().await?;
        let operation = exchange.route.operation;
        let change = if operation == Operation::NetworkConnect {
            Change::Connect
        } else {
            Change::Disconnect
        };
        let Member { container, forced } = change.read(&body)?;
        Ok(Self {
            operation,
            version: exchange.version,
            query: exchange.raw_query().to_owned(),
            caller: exchange.peer.caller.clone(),
            body,
            network: exchange.route.name.clone(),
            container,
            forced,
        })
    }

    fn joins(&self) -> bool {
        self.operation == Operation::NetworkConnect
    }

    /// Whether the container is to leave even if its engine cannot be asked.
    fn cuts_off(&self) -> bool {
        self.forced && !self.joins()
    }

    /// The call for an engine that knows the network by this id.
    fn call(&self, network: &str, body: Bytes) -> EngineCall {
        let target = with_query(self.operation.target(&[network]), &self.query);
        EngineCall::post(target, Some(body)).at(self.version)
    }
}

pub(super) async fn join_or_leave(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let asked = Asked::read(exchange).await?;
    let unseen = proxy.manager.out_of_sight(&asked.container);
    if let Some((host, placement)) = unseen.filter(|(host, _)| asked.cuts_off() && !host.is_up()) {
        return leave_later(proxy, &asked, &host, Some(placement)).await;
    }
    let (host, container) = match proxy.container(&asked.container) {
        Ok(found) => found,
        Err(_) if asked.cuts_off() => return cut_off_what_is_left(proxy, &asked).await,
        Err(error) => return Err(error),
    };
    if !asked.joins() && !host.is_up() {
        let placement = proxy.manager.held_by(&container);
        if asked.forced {
            return leave_later(proxy, &asked, &host, placement).await;
        }
        let way_out = match placement {
            Some(_) => "with force (-f) it is cut off when the node is back",
            None => "try again when the node is back",
        };
        return Err(is_down(&host, way_out));
    }
    let changing = proxy.manager.changing(&container);
    let outcome = change(proxy, &asked, &host, &container).await;
    proxy.manager.changed_by_us(changing).await;
    if asked.cuts_off() && outcome.is_err() && !host.is_up() {
        // Its node was lost meanwhile; whether it is cut off already shows when the node is back.
        let placement = proxy.manager.held_by(&container);
        return leave_later(proxy, &asked, &host, placement).await;
    }
    outcome
}

/// Has the container's engine do it.
async fn change(proxy: &Proxy, asked: &Asked, host: &Arc<Host>, container: &Container) -> Outcome {
    let ours = match find(proxy, &asked.network) {
        Ok(Meant::Cluster(network)) => Some(network),
        Ok(Meant::Engines(_)) | Err(_) => None,
    };
    let joining = match &ours {
        Some(network) if asked.joins() => {
            let manager = &proxy.manager;
            let joining = manager.join_network(network.id, host, container, &asked.caller);
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
        (None, None) => on_node_of(proxy, host, &asked.network, container)?,
    };
    let body = with_ids(&asked.body, &container.id.to_string(), &network)?;
    let call = asked.call(&network, Bytes::from(body));
    let change = host.change(container.id).await;
    let answer = match host.call(call).await {
        Ok(answer) => answer,
        Err(error) => {
            // Whether it was done, or the node is lost, shows then.
            change.settle(None).await;
            return Err(from_engine(error));
        }
    };
    if answer.status.is_success() {
        let runs = container.state.is_up();
        // A container that does not run is only noted down: no event tells of it.
        let last = if asked.joins() {
            "connect"
        } else {
            "disconnect"
        };
        change.settle(runs.then_some(last)).await;
    }
    let Some(ours) = &ours else {
        return Ok(reply::passed_on(answer));
    };
    // Its last container has left it a moment ago, and the network its node.
    let is_gone = !asked.joins() && answer.status == StatusCode::NOT_FOUND;
    told_by_name(answer, &network, &ours.name).map_err(|error| match is_gone {
        true => not_connected(&container.id, &ours.name),
        false => error,
    })
}

/// With `force` an engine also cuts off what is left of a container that is gone.
async fn cut_off_what_is_left(proxy: &Proxy, asked: &Asked) -> Outcome {
    let place = match find(proxy, &asked.network)? {
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
    let no_endpoint = || ApiError::not_found(format!("endpoint {} not found", asked.container));
    let (host, id, ours) = place.ok_or_else(no_endpoint)?;
    let call = asked.call(&id, asked.body.clone());
    let answer = host.call(call).await.map_err(from_engine)?;
    let Some(network) = ours else {
        return Ok(reply::passed_on(answer));
    };
    told_by_name(answer, &id, &network.name).map_err(|error| {
        let is_gone = error.status == StatusCode::NOT_FOUND;
        if is_gone { no_endpoint() } else { error }
    })
}

/// Cuts a container of a node that is down off from a network of the cluster: its engine is told when it is back.
async fn leave_later(
    proxy: &Proxy,
    asked: &Asked,
    host: &Host,
    placement: Option<Arc<Placement>>,
) -> Outcome {
    let Some(placement) = placement else {
        let way_out = "only what the cluster made can be cut off later";
        return Err(is_down(host, way_out));
    };
    let Meant::Cluster(network) = find(proxy, &asked.network)? else {
        let way_out = "only from networks of the cluster can it be cut off later";
        return Err(is_down(host, way_out));
    };
    if !placement.networks.contains(&network.id) {
        let container = placement.container.map(|id| id.to_string());
        let container = container.unwrap_or_else(|| placement.name.clone());
        return Err(not_connected(&container, &network.name));
    }
    let manager = &proxy.manager;
    let later = manager.leave_network_later(network.id, &placement, &asked.caller);
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
