//! `/containers/…` and `/commit`.

mod create;
mod inspect;
mod lifecycle;
mod list;
mod prune;
mod wait;

use api_compat::error::ApiError;
use api_compat::route::Operation;
use http::StatusCode;

use super::exchange::Exchange;
use super::forward::{forward, with_query};
use super::reply::Outcome;
use super::{Proxy, splice};
use crate::engine::ListKind;

/// Answers what concerns containers.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    use Operation as O;
    match exchange.route.operation {
        O::ContainerList => list::list(proxy, exchange).await,
        O::ContainerCreate => create::create(proxy, exchange).await,
        O::ContainerPrune => prune::prune(proxy, exchange).await,
        O::ContainerInspect => inspect::inspect(proxy, exchange).await,
        O::ContainerStart
        | O::ContainerStop
        | O::ContainerRestart
        | O::ContainerKill
        | O::ContainerPause
        | O::ContainerUnpause
        | O::ContainerRename
        | O::ContainerUpdate
        | O::ContainerRemove => lifecycle::change(proxy, exchange).await,
        O::ContainerWait => wait::wait(proxy, exchange).await,
        O::ContainerAttach | O::ContainerAttachWebsocket
            if splice::wants_upgrade(exchange.headers()) =>
        {
            attach(proxy, exchange).await
        }
        O::Commit => commit(proxy, exchange).await,
        _ => pass(proxy, exchange).await,
    }
}

/// Passes the request to the container's engine and its answer back.
async fn pass(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let (host, container) = proxy.container(exchange.name())?;
    let route = &exchange.route;
    let path = route
        .operation
        .target(&[&container.id.to_string(), &route.checkpoint]);
    let target = with_query(path, exchange.raw_query());
    forward(&host, &target, exchange).await
}

async fn attach(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let (host, container) = proxy.container(exchange.name())?;
    let path = exchange
        .route
        .operation
        .target(&[&container.id.to_string()]);
    let target = with_query(path, exchange.raw_query());
    splice::upgrade(&host, &target, exchange, proxy.open.enter()).await
}

/// `POST /commit`: the container is named in the query; the image is on its node.
async fn commit(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let mut query = exchange.query()?;
    let (host, container) = proxy.container(query.text("container"))?;
    query.set("container", &container.id.to_string());
    let target = with_query(exchange.route.operation.target(&[]), &query.encode());
    let reply = forward(&host, &target, exchange).await?;
    if reply.status() == StatusCode::CREATED {
        host.reread(ListKind::Images).await;
    }
    Ok(reply)
}

/// The error of an engine speaks of the container by the id we put into the path; the client wrote
/// something else, and an engine would have repeated that.
pub(super) fn in_the_clients_words(error: ApiError, id: &str, reference: &str) -> ApiError {
    let known = [
        "cannot kill container: ",
        "cannot stop container: ",
        "Cannot restart container ",
        "cannot restart container: ",
    ];
    for start in known {
        if let Some(rest) = error.message.strip_prefix(start)
            && let Some(rest) = rest.strip_prefix(id)
        {
            return ApiError {
                status: error.status,
                message: format!("{start}{reference}{rest}"),
            };
        }
    }
    error
}
