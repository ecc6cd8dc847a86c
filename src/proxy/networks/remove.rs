//! `DELETE /networks/{id}`.

use api_compat::route::Operation;
use http::{Method, StatusCode};

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::forward::with_query;
use super::super::reply::{self, Outcome, from_engine, from_manager};
use super::find::{Meant, find, not_found};
use crate::engine::{EngineCall, ListKind};

pub(super) async fn remove(proxy: &Proxy, exchange: Exchange) -> Outcome {
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
