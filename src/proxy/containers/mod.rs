//! `/containers/…` and `/commit`.

mod create;
mod inspect;
mod lifecycle;
mod list;
mod prune;
mod unlink;
mod wait;

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::route::Operation;
use http::{Method, StatusCode};

use super::exchange::Exchange;
use super::forward::{forward, with_query};
use super::reply::{self, Outcome};
use super::{Proxy, images, splice};
use crate::engine::{Container, Host, ListKind};

pub(super) use create::strategy;

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
    pass_to(&host, exchange, &container).await
}

/// The engine's answer; where it repeats what it was asked for, it repeats what the client wrote.
async fn pass_to(host: &Arc<Host>, exchange: Exchange, container: &Container) -> Outcome {
    let reference = exchange.name().to_owned();
    let bodyless = exchange.request.method() == Method::HEAD;
    let id = container.id.to_string();
    let route = &exchange.route;
    let path = route.operation.target(&[&id, &route.checkpoint]);
    let target = with_query(path, exchange.raw_query());
    let reply = forward(host, &target, exchange).await?;
    let failed = reply.status().is_client_error() || reply.status().is_server_error();
    if !failed || bodyless {
        return Ok(reply);
    }
    let mut error = reply::read_error(reply).await?;
    error.message = host.tag.networks.in_our_words(&error.message).into_owned();
    Err(in_the_clients_words(error, &id, &reference))
}

/// A failing attach is answered as a stream would be: the engine has taken the connection over by then.
async fn attach(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let (host, container) = match proxy.container(exchange.name()) {
        Ok(found) => found,
        Err(error) => return Ok(reply::in_place_of_a_stream(&error)),
    };
    let (id, reference) = (container.id.to_string(), exchange.name().to_owned());
    let path = exchange.route.operation.target(&[&id]);
    let target = with_query(path, exchange.raw_query());
    let reply = splice::upgrade(&host, &target, exchange, proxy.open.enter()).await?;
    if !reply.status().is_client_error() {
        return Ok(reply);
    }
    let mut error = reply::read_error(reply).await?;
    error.message = error.message.trim_end().to_owned();
    let error = in_the_clients_words(error, &id, &reference);
    Ok(reply::in_place_of_a_stream(&error))
}

/// `POST /commit`: the container is named in the query; the image is on its node.
async fn commit(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let mut query = exchange.query()?;
    if query.text("container").is_empty() {
        return Err(ApiError::bad_parameter("invalid name or ID supplied: \"\""));
    }
    let (host, container) = proxy.container(query.text("container"))?;
    query.set("container", &container.id.to_string());
    let (repository, tag) = (query.text("repo"), query.text("tag"));
    let name = images::joined(repository, tag);
    let caller = exchange.peer.caller.clone();
    let target = with_query(exchange.route.operation.target(&[]), &query.encode());
    let reply = forward(&host, &target, exchange).await?;
    if reply.status() == StatusCode::CREATED {
        host.reread(ListKind::Images).await;
        images::learn_name(proxy, &host, &name, &caller).await?;
    }
    Ok(reply)
}

/// What an engine writes before the name that it was given (moby `daemon/delete.go`, `stop.go`, `restart.go`,
/// `kill.go`, `attach.go`, `export.go`, `archive.go`). Elsewhere it writes the id, whatever it was given.
const BEFORE_A_NAME: [&str; 10] = [
    "No such container: ",
    "removal of container ",
    "cannot remove container \"",
    "cannot stop container: ",
    "cannot kill container: ",
    "Cannot restart container ",
    "Error exporting container ",
    "Container ",
    "container ",
    " in container ",
];
/// What follows the name where `container ` or `Container ` alone stands before it.
const AFTER_A_NAME: [&str; 3] = [
    " is paused, unpause the container before attach",
    " is paused, unpause the container before exec",
    " is restarting, wait until the container is running",
];

/// An engine was asked by id; where its error repeats that, the client reads what it wrote itself.
pub(super) fn in_the_clients_words(error: ApiError, id: &str, reference: &str) -> ApiError {
    let Some((before, after)) = error.message.split_once(id) else {
        return error;
    };
    let repeats = BEFORE_A_NAME.iter().any(|words| match *words {
        "Container " | "container " => before == *words && AFTER_A_NAME.contains(&after),
        " in container " => {
            before.ends_with(" in container ") && before.starts_with("Could not find")
        }
        words => before == words,
    });
    if !repeats {
        return error;
    }
    ApiError {
        status: error.status,
        message: format!("{before}{reference}{after}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_repeats_what_the_client_wrote_and_no_more() {
        let check = |said: &str, expected: &str| {
            let id = "a".repeat(64);
            let error = ApiError::conflict(said.replace("ID", &id));
            let expected = expected.replace("ID", &id);
            assert_eq!(in_the_clients_words(error, &id, "web").message, expected);
        };
        check("No such container: ID", "No such container: web");
        check(
            "cannot remove container \"ID\": container is running: stop the container before removing",
            "cannot remove container \"web\": container is running: stop the container before removing",
        );
        check(
            "cannot kill container: ID: container ID is not running",
            "cannot kill container: web: container ID is not running",
        );
        check(
            "Could not find the file /x in container ID",
            "Could not find the file /x in container web",
        );
        check("container ID is not running", "container ID is not running");
        check(
            "container ID is paused, unpause the container before attach",
            "container web is paused, unpause the container before attach",
        );
    }
}
