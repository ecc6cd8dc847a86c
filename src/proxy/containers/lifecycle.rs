//! Changes to one container: start, stop, restart, kill, pause, unpause, rename, update, remove.
//!
//! The engine does it and its answer goes back; before, the state promises what must be promised; after,
//! our lists show the change before the answer leaves.

use std::sync::Arc;

use api_compat::claim::Claim;
use api_compat::create::check_name;
use api_compat::error::ApiError;
use api_compat::json_view::View;
use api_compat::route::Operation;
use bytes::Bytes;
use http::StatusCode;

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::reply::{self, Outcome, Reply, from_manager};
use super::pass_to;
use super::unlink::unlink;
use super::wait::End;
use crate::engine::{Container, EngineCall, Host, full};
use crate::manager;
use crate::model::{Caller, PublishedPort, Resources};

/// Changes a container.
pub(super) async fn change(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let operation = exchange.route.operation;
    // An engine looks at the new name before it looks for the container.
    if operation == Operation::ContainerRename && exchange.query()?.text("name").is_empty() {
        return Err(ApiError::bad_parameter(
            "Neither old nor new names may be empty",
        ));
    }
    if operation == Operation::ContainerRemove && exchange.query()?.bool("link") {
        return unlink(proxy, exchange).await;
    }
    if operation == Operation::ContainerRemove
        && let Some((host, placement)) = proxy.manager.out_of_sight(exchange.name())
        && !host.is_up()
        && exchange.query()?.bool("force")
    {
        let caller = &exchange.peer.caller;
        let removed = proxy.manager.remove_out_of_sight(&host, &placement, caller);
        removed.await.map_err(from_manager)?;
        return Ok(reply::status(StatusCode::NO_CONTENT));
    }
    let found = proxy.container(exchange.name());
    let (host, container) = found.map_err(|error| match operation {
        Operation::ContainerKill => ApiError {
            message: format!(
                "cannot kill container: {}: {}",
                exchange.name(),
                error.message
            ),
            ..error
        },
        _ => error,
    })?;
    match operation {
        Operation::ContainerRemove => remove(proxy, exchange, host, container).await,
        Operation::ContainerRename => rename(proxy, exchange, host, container).await,
        Operation::ContainerUpdate => update(proxy, exchange, host, container).await,
        Operation::ContainerStart => start(proxy, exchange, host, container, "start").await,
        // The event `stop` may come before `die`, and it is `die` that changes the container.
        Operation::ContainerStop => settle(proxy, exchange, host, container, Some("die")).await,
        Operation::ContainerRestart => start(proxy, exchange, host, container, "restart").await,
        Operation::ContainerPause => settle(proxy, exchange, host, container, Some("pause")).await,
        Operation::ContainerUnpause => {
            settle(proxy, exchange, host, container, Some("unpause")).await
        }
        Operation::ContainerKill if is_deadly(exchange.query()?.text("signal")) => {
            kill(proxy, exchange, host, container).await
        }
        _ => settle(proxy, exchange, host, container, None).await,
    }
}

/// An engine answers once the container has ended, and tells of that a little later.
async fn kill(
    proxy: &Proxy,
    exchange: Exchange,
    host: Arc<Host>,
    container: Arc<Container>,
) -> Outcome {
    let (at, killed) = (Arc::clone(&host), Arc::clone(&container));
    let reply = settle(proxy, exchange, host, container, Some("die")).await?;
    if reply.status().is_success() {
        let inventory = &proxy.fleet.inventory;
        End::Exit.shown(inventory, &at, &killed).await;
        proxy.manager.ended(killed.id).await;
    }
    Ok(reply)
}

/// Whether nothing survives the signal; without one, that is what is sent.
fn is_deadly(signal: &str) -> bool {
    let name = signal.to_ascii_uppercase();
    matches!(name.as_str(), "" | "KILL" | "SIGKILL" | "9")
}

/// A container that had ended claims its resources again before it runs.
async fn start(
    proxy: &Proxy,
    exchange: Exchange,
    host: Arc<Host>,
    container: Arc<Container>,
    last: &'static str,
) -> Outcome {
    let changing = proxy.manager.changing(&container);
    let caller = exchange.peer.caller.clone();
    let claimed = proxy.manager.claim_for_start(&container, &caller).await;
    let outcome = match claimed {
        Ok(()) => {
            // Its engine listens on its ports from now on, and nobody else can.
            proxy.entry.make_way(&host.tag, &container).await;
            let started = settle(proxy, exchange, host, Arc::clone(&container), Some(last)).await;
            started.map_err(|error| blame_port(proxy, &container, error))
        }
        Err(error) => Err(from_manager(error)),
    };
    proxy.manager.changed_by_us(changing).await;
    outcome
}

/// An engine neither says that an address is another host's, nor who has a port. Where it is known here, its words
/// are followed by that. A number that the pool chose may be taken by something that no engine knows of; the
/// container has it for good, so only another container gets another one.
fn blame_port(proxy: &Proxy, container: &Container, mut error: ApiError) -> ApiError {
    let node = &container.host.name;
    if lacks_address(&error.message) && proxy.fleet.only().is_none() {
        error.message = format!("{} (on node {node})", error.message);
    }
    if !says_taken(&error.message) {
        return error;
    }
    let in_the_way = proxy.manager.ports_in_the_way(container);
    if !in_the_way.is_empty() {
        let in_the_way = in_the_way.join(", ");
        error.message = format!("{} (on node {node} port {in_the_way})", error.message);
    } else if let Some(port) = named_port(&error.message, &proxy.manager.chosen_ports(container)) {
        error.message = format!(
            "{} (the pool chose host port {port} for this container, and something else on node {node} has it: remove the \
             container and create it again to get another)",
            error.message,
        );
    }
    error
}

/// Whether an engine could not listen on an address that its host does not have.
fn lacks_address(message: &str) -> bool {
    message.contains("cannot assign requested address")
}

/// Whether an engine could not listen on a port, or its network had given it away.
fn says_taken(message: &str) -> bool {
    ["address already in use", "port is already allocated"]
        .iter()
        .any(|words| message.contains(words))
}

/// Which of these ports an engine's message names.
fn named_port(message: &str, ports: &[PublishedPort]) -> Option<PublishedPort> {
    // Addresses are followed by their port; whatever else has a colon has no such number after it.
    let numbers = message.split(':').skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest.get(..end.unwrap_or(rest.len()))?.parse::<u16>().ok()
    });
    let numbers: Vec<_> = numbers.collect();
    let mut ports = ports.iter();
    ports.find(|port| numbers.contains(&port.number)).copied()
}

/// Passes the request on; `last` is the last event that it causes when it succeeds.
async fn settle(
    proxy: &Proxy,
    exchange: Exchange,
    host: Arc<Host>,
    container: Arc<Container>,
    last: Option<&'static str>,
) -> Outcome {
    let changing = proxy.manager.changing(&container);
    let change = host.change(container.id).await;
    let reply = pass_to(&host, exchange, &container).await;
    match reply.as_ref().map(Reply::status) {
        Ok(StatusCode::NOT_MODIFIED) => drop(change),
        Ok(status) if status.is_success() => change.settle(last).await,
        // A start that failed has left its mark too.
        _ => change.settle(None).await,
    }
    proxy.entry.follows(&container).await;
    proxy.manager.changed_by_us(changing).await;
    reply
}

async fn remove(
    proxy: &Proxy,
    exchange: Exchange,
    host: Arc<Host>,
    container: Arc<Container>,
) -> Outcome {
    let caller = exchange.peer.caller.clone();
    let can_wait = exchange.query()?.bool("force") && container.request.is_some();
    if can_wait && !host.is_up() {
        return remove_later(proxy, &host, &container, &caller).await;
    }
    let changing = proxy.manager.changing(&container);
    let change = host.change(container.id).await;
    let reply = pass_to(&host, exchange, &container).await;
    let gone = match &reply {
        Ok(reply) => reply.status().is_success(),
        Err(error) => error.status == StatusCode::NOT_FOUND,
    };
    if gone {
        change.removed().await;
        proxy
            .manager
            .removed(&container, &caller)
            .await
            .map_err(from_manager)?;
        proxy.entry.follows(&container).await;
        return reply;
    }
    change.settle(None).await;
    proxy.manager.changed_by_us(changing).await;
    if can_wait && reply.is_err() && !host.is_up() {
        // Its node was lost meanwhile; whether it is gone already shows when the node is back.
        return remove_later(proxy, &host, &container, &caller).await;
    }
    reply
}

/// The engine removes it when it is back; until then nothing shows it and its name is free.
async fn remove_later(
    proxy: &Proxy,
    host: &Host,
    container: &Container,
    caller: &Caller,
) -> Outcome {
    let put_off = proxy.manager.remove_later(host, container, caller).await;
    put_off.map_err(from_manager)?;
    proxy.fleet.inventory.remove(&container.id);
    Ok(reply::status(StatusCode::NO_CONTENT))
}

async fn rename(
    proxy: &Proxy,
    exchange: Exchange,
    host: Arc<Host>,
    container: Arc<Container>,
) -> Outcome {
    let query = exchange.query()?;
    let new_name = query
        .text("name")
        .strip_prefix('/')
        .unwrap_or(query.text("name"))
        .to_owned();
    let caller = exchange.peer.caller.clone();
    // What makes no sense is refused by the engine, in its words.
    let sensible =
        check_name(&new_name).is_ok() && !container.names.iter().any(|name| **name == *new_name);
    if sensible {
        proxy
            .manager
            .begin_rename(&container, &new_name, &caller)
            .await
            .map_err(|error| {
                let is_taken = matches!(error, manager::Error::NameInUse { .. });
                let mut error = from_manager(error);
                if is_taken {
                    error.message = format!("Error when allocating new name: {}", error.message);
                }
                error
            })?;
    }
    let reply = settle(
        proxy,
        exchange,
        host,
        Arc::clone(&container),
        Some("rename"),
    )
    .await;
    if sensible {
        let renamed = reply
            .as_ref()
            .is_ok_and(|reply| reply.status().is_success());
        proxy.manager.end_rename(&container, renamed).await;
    }
    reply
}

async fn update(
    proxy: &Proxy,
    mut exchange: Exchange,
    host: Arc<Host>,
    container: Arc<Container>,
) -> Outcome {
    let body = exchange.read_body().await?;
    // What is seen of it until its engine has answered does not undo what is claimed.
    let changing = proxy.manager.changing(&container);
    let reply = claim_and_update(proxy, exchange, body, host, &container).await;
    proxy.manager.changed_by_us(changing).await;
    reply
}

async fn claim_and_update(
    proxy: &Proxy,
    mut exchange: Exchange,
    body: Bytes,
    host: Arc<Host>,
    container: &Arc<Container>,
) -> Outcome {
    let caller = exchange.peer.caller.clone();
    let before = proxy.manager.claim_of(container);
    if let Some(stated) = stated_after(&host, container, &body).await {
        let claim = proxy.manager.claim_where_stated(stated);
        proxy
            .manager
            .claim_for_update(container, claim, &caller)
            .await
            .map_err(from_manager)?;
    }
    *exchange.request.body_mut() = full(body);
    let reply = settle(proxy, exchange, host, Arc::clone(container), Some("update")).await;
    if !reply
        .as_ref()
        .is_ok_and(|reply| reply.status().is_success())
    {
        proxy
            .manager
            .claims_as_before(container, before, &caller)
            .await;
    }
    reply
}

/// What a container of ours will state that it claims. Unknown if its engine does not say what it states now: the update
/// will fail there too.
async fn stated_after(host: &Host, container: &Container, update: &[u8]) -> Option<Resources> {
    container.request?;
    let update = View::parse(update).ok()?;
    let inspect = EngineCall::get(format!("/containers/{}/json", container.id));
    let known = host.ask(inspect).await.ok()?.body;
    let config = View::parse(&known).ok()?.get("HostConfig")?;
    let claim = Claim::of_update(update, config);
    Some(Resources::new(claim.cpu_nanos, claim.memory_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn check(message: &str, chosen: &[u16], taken: Option<u16>) {
        let port = |number: &u16| PublishedPort {
            protocol: Protocol::Tcp,
            address: None,
            number: *number,
        };
        let ports: Vec<_> = chosen.iter().map(port).collect();
        let found = says_taken(message)
            .then(|| named_port(message, &ports))
            .flatten()
            .map(|port| port.number);
        assert_eq!(found, taken, "{message}");
    }

    #[test]
    fn only_a_port_that_the_engine_names_is_blamed() {
        let allocated = "driver failed: Bind for 0.0.0.0:15000 failed: port is already allocated";
        check(allocated, &[16_096, 15_000], Some(15_000));
        check(allocated, &[16_096], None);
        check(allocated, &[1500, 5000], None);
        check(allocated, &[], None);
        let in_use = "error starting userland proxy: listen tcp4 0.0.0.0:24000: bind: address already in use";
        check(in_use, &[24_000], Some(24_000));
        let slashed = "failed to bind host port [::]:24000/tcp: address already in use";
        check(slashed, &[24_000], Some(24_000));
        check("no such image: busybox:24000", &[24_000], None);
    }

    #[test]
    fn an_address_that_a_host_lacks_is_told_from_a_port_that_it_has_given_away() {
        let lacking = "failed to bind host port for 10.64.0.12:18306:172.17.0.2:80/tcp: cannot assign requested address";
        assert!(lacks_address(lacking) && !says_taken(lacking));
        let taken = "failed to bind host port 10.64.0.12:18306/tcp: address already in use";
        assert!(!lacks_address(taken) && says_taken(taken));
    }
}
