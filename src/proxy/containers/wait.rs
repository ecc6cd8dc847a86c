//! `POST /containers/{id}/wait`: the headers at once, the exit code when it comes. If the node goes away
//! meanwhile, the wait ends and says so.
//!
//! **Invariant**: who was told that a container has ended does not find it running in our lists, nor what it claimed taken,
//! unless its engine, asked again since, still lists it so.

use std::sync::Arc;

use futures_util::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::forward::{forward_with_last_words, with_query};
use super::super::reply::{Outcome, Reply};
use crate::engine::{Container, Host, Inventory, RunState};

/// So often an engine that has told of an end is asked for it, if its list is behind: each time its event is awaited first.
const LOOKS: usize = 8;

/// Waits on the container's engine.
pub(super) async fn wait(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let (host, container) = proxy.container(exchange.name())?;
    let path = exchange
        .route
        .operation
        .target(&[&container.id.to_string()]);
    let target = with_query(path, exchange.raw_query());
    let end = End::of(exchange.query()?.text("condition"));
    let lost = serde_json::json!({
        "Error": { "Message": format!("node {} lost", host.tag.name) },
        "StatusCode": 125,
    });
    let reply = forward_with_last_words(&host, &target, exchange, format!("{lost}\n")).await?;
    if reply.status() != StatusCode::OK {
        return Ok(reply);
    }
    let manager = Arc::clone(&proxy.manager);
    let inventory = Arc::clone(&proxy.fleet.inventory);
    let (parts, body) = reply.into_parts();
    let told = stream::once(async move {
        let code = body.collect().await?.to_bytes();
        end.shown(&inventory, &host, &container).await;
        manager.ended(container.id).await;
        Ok(Frame::data(code))
    });
    Ok(Reply::from_parts(
        parts,
        StreamBody::new(told).boxed_unsync(),
    ))
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Exit,
    Removal,
}

impl End {
    fn of(condition: &str) -> Self {
        match condition {
            "removed" => Self::Removal,
            _ => Self::Exit,
        }
    }

    /// Returns when our lists show it. An engine answers who waits a little before it tells of the event, and its own
    /// list may be behind that.
    pub(super) async fn shown(self, inventory: &Inventory, host: &Host, container: &Container) {
        let started = |known: &Container| known.since.started;
        let first = inventory.get(&container.id).map(|known| started(&known));
        let last = match self {
            Self::Exit => "die",
            Self::Removal => "destroy",
        };
        for _ in 0..LOOKS {
            let Some(known) = inventory.get(&container.id) else {
                return;
            };
            let is_again = first != Some(started(&known));
            let runs = matches!(known.state, RunState::Running | RunState::Paused);
            if self == Self::Exit && (is_again || !runs) {
                return;
            }
            let settled = async { host.change(container.id).await.settle(Some(last)).await };
            tokio::select! {
                biased;
                _ = host.lost() => return,
                () = settled => {}
            }
        }
    }
}
