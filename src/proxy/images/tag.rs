//! `POST /images/{name}/tag`: a tag moves for the pool, and on every node that has the image.
//!
//! **Invariant**: what no engine did does not stand.

use std::sync::Arc;
use std::time::Duration;

use api_compat::route::Operation;
use http::StatusCode;

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::fan_out::{self, Parts};
use super::super::forward::{forward, with_query};
use super::super::reply::{self, Outcome, from_manager};
use super::super::told_after::reread_all;
use super::meant::{ask, joined, resolve, unknown};
use crate::engine::{EngineCall, ListKind};
use crate::manager::Image;

/// How long engines may take to move a tag.
pub(super) const TAG_PATIENCE: Duration = Duration::from_secs(30);

/// Moves a tag: in the pool, and on every node that has the image. The others are told when they need it.
pub(super) async fn tag(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let Some(found) = resolve(proxy, &reference) else {
        return unknown(proxy, exchange).await;
    };
    let query = exchange.query()?;
    let name = joined(query.text("repo"), query.text("tag"));
    let caller = exchange.peer.caller.clone();
    let before = proxy.manager.tag_before(&name);
    let pointed = proxy.manager.point_tag_at(&name, &found, &caller).await;
    pointed.map_err(from_manager)?;
    let outcome = tag_on_holders(proxy, &found, &reference, exchange).await;
    // What no engine did must not stand.
    if !outcome
        .as_ref()
        .is_ok_and(|reply| reply.status().is_success())
    {
        let restored = proxy.manager.restore_tag(&name, before, &caller).await;
        restored.map_err(from_manager)?;
    } else {
        proxy.manager.untag_former(&name, before).await;
    }
    outcome
}

async fn tag_on_holders(
    proxy: &Proxy,
    found: &Image,
    reference: &str,
    exchange: Exchange,
) -> Outcome {
    let query = exchange.raw_query().to_owned();
    let target = |name: &str| with_query(Operation::ImageTag.target(&[name]), &query);
    if let [host] = found.holders.as_slice() {
        let (_, name) = ask(found, reference).unwrap_or((Arc::clone(host), found.id.clone()));
        let target = target(&name);
        let reply = forward(host, &target, exchange).await?;
        if reply.status().is_success() {
            host.reread(ListKind::Images).await;
        }
        return Ok(reply);
    }
    let version = exchange.version;
    drop(exchange);
    let asked = found.holders.iter().filter_map(|host| {
        let call = EngineCall::post(target(&found.id_on(host)?), None).at(version);
        Some(async move {
            fan_out::ask(vec![Arc::clone(host)], &call, TAG_PATIENCE)
                .await
                .0
        })
    });
    let parts = futures_util::future::join_all(asked).await;
    let outcome = Parts(parts.into_iter().flatten().collect()).merge();
    reread_all(&found.holders).await;
    let (_, missing) = outcome?;
    let mut reply = reply::status(StatusCode::CREATED);
    missing.report(&proxy.fleet.ring, "image tag", &mut reply);
    Ok(reply)
}
