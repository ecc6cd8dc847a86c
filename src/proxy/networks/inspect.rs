//! `GET /networks/{id}`.

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::json_edit::{Edit, quote};
use api_compat::json_view::View;
use api_compat::network_create::with_our_id;
use api_compat::network_list;
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use http::StatusCode;

use super::super::exchange::Exchange;
use super::super::forward::{forward, with_query};
use super::super::reply::{self, Outcome, from_engine};
use super::super::{Proxy, fan_out};
use super::find::{Meant, Place, find, its_place, not_found};
use super::rows::{not_there, unreadable};
use crate::engine::EngineCall;
use crate::model;

/// How long a node may take to say who is in its builtin network.
const INSPECT_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

pub(super) async fn inspect(proxy: &Proxy, exchange: Exchange) -> Outcome {
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
    let bound = network.node().and_then(|node| proxy.fleet.host(&node));
    if let Some(host) = bound {
        // It may be there, and has not been seen since the manager began.
        host.ready().map_err(from_engine)?;
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
