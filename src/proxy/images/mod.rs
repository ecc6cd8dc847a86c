//! `/images/…` and `/distribution/…`: an image is in the pool if any node has it.
//!
//! **Invariant**: of what nodes have, one image is shown once and by one id.

mod bring;
mod distribution;
mod drift;
mod list;
mod meant;
mod prune;
mod pull;
mod remove;
mod save;
mod tag;
mod unlisted;
mod users;

pub(super) use drift::warnings;
pub(super) use meant::{joined, learn_name, resolve};
pub(super) use unlisted::look_for;

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::image_ref::ImageRef;
use api_compat::json_edit::{Edit, quote};
use api_compat::route::Operation;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;

use super::exchange::Exchange;
use super::forward::{forward, forward_progress, with_query};
use super::reply::{self, Outcome, from_engine};
use super::told_after::reread_at_end;
use super::{Proxy, any_node, builders, nodes};
use crate::engine::{EngineCall, Host, full};
use meant::{ask, no_such_image, unknown};

/// Answers what concerns images.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    use Operation as O;
    if !matches!(
        exchange.route.operation,
        O::ImageSearch | O::ImageCreate | O::ImageLoad | O::DistributionInspect
    ) {
        builders::learn(proxy).await;
    }
    if matches!(
        exchange.route.operation,
        O::ImageInspect | O::ImageHistory | O::ImageSave | O::ImageTag | O::ImageRemove
    ) {
        look_for(proxy, exchange.name()).await;
    }
    match exchange.route.operation {
        O::ImageList => list::list(proxy, exchange).await,
        O::ImageInspect => inspect(proxy, exchange).await,
        O::ImageSave => save::save(proxy, exchange).await,
        O::ImageSaveMany => save::save_many(proxy, exchange).await,
        O::ImageCreate => bring::create(proxy, exchange).await,
        O::ImageLoad => bring::load(proxy, exchange).await,
        O::ImagePush => push(proxy, exchange).await,
        O::ImageTag => tag::tag(proxy, exchange).await,
        O::ImageRemove => remove::remove(proxy, exchange).await,
        O::ImagePrune => prune::prune(proxy, exchange).await,
        O::ImageSearch => any_node::of_a_registry(proxy, exchange).await,
        O::DistributionInspect => distribution::inspect(proxy, exchange).await,
        _ => from_holder(proxy, exchange).await,
    }
}

/// Passes the request to a node that has the image. If none has, any engine says so in its own words: it also tells a
/// bad name from an unknown one.
async fn from_holder(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let Some((host, name)) = resolve(proxy, &reference).and_then(|found| ask(&found, &reference))
    else {
        return unknown(proxy, exchange).await;
    };
    let target = with_query(
        exchange.route.operation.target(&[&name]),
        exchange.raw_query(),
    );
    forward(&host, &target, exchange).await
}

/// In a larger pool an image says which nodes have it.
async fn inspect(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let Some(found) = resolve(proxy, &reference).filter(|_| proxy.fleet.only().is_none()) else {
        return from_holder(proxy, exchange).await;
    };
    let Some((host, name)) = ask(&found, &reference) else {
        return Err(no_such_image(&reference));
    };
    let target = with_query(
        exchange.route.operation.target(&[&name]),
        exchange.raw_query(),
    );
    let answer = host
        .call(EngineCall::get(target).at(exchange.version))
        .await
        .map_err(from_engine)?;
    if !answer.status.is_success() {
        return Ok(reply::passed_on(answer));
    }
    let mut edit = Edit::new(&answer.body).map_err(|error| {
        ApiError::internal(format!(
            "[node {}] image {reference}: {error}",
            host.tag.name
        ))
    })?;
    let mut nodes: Vec<_> = found
        .holders
        .iter()
        .map(|holder| quote(holder.tag.name.as_str()))
        .collect();
    nodes.sort_unstable();
    edit.set(&["Nodes"], &format!("[{}]", nodes.join(",")));
    // Another kind of image store has it under another id.
    if found.id_on(&host).is_some_and(|id| id != found.id) {
        edit.set(&["Id"], &quote(&found.id));
    }
    let body = edit.finish();
    let mut reply = reply::passed_on(answer);
    reply
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *reply.body_mut() = full(body);
    Ok(reply)
}

/// Pushes from a node that has the image under that name.
async fn push(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let name = exchange.name().to_owned();
    let tag = exchange.query()?.text("tag").to_owned();
    let tagged = if tag.is_empty() {
        name.clone()
    } else {
        format!("{name}:{tag}")
    };
    // All tags of a repository are pushed from a node that has its latest, else from one that has any.
    let host = resolve(proxy, &tagged)
        .and_then(|found| found.holders.first().cloned())
        .or_else(|| {
            tag.is_empty()
                .then(|| holder_of_any(proxy, &name))
                .flatten()
        });
    let Some(host) = host else {
        return any_node::any_node(proxy, exchange).await;
    };
    let target = with_query(Operation::ImagePush.target(&[&name]), exchange.raw_query());
    // A push gives the image a digest of the registry's.
    let guard = proxy.open.enter();
    let reply = forward_progress(&host, &target, exchange).await?;
    Ok(reply.map(|body| reread_at_end(body, host, guard).boxed_unsync()))
}

fn holder_of_any(proxy: &Proxy, repository: &str) -> Option<Arc<Host>> {
    let wanted = ImageRef::parse(repository).ok()?.familiar_name();
    let has_any = |host: &Arc<Host>| {
        let images = host.images();
        let mut tags = images.all().iter().flat_map(|image| &image.tags);
        tags.any(|tag| ImageRef::parse(tag).is_ok_and(|tag| tag.familiar_name() == wanted))
    };
    nodes::order_by_health(nodes::up(proxy))
        .into_iter()
        .find(has_any)
}
