//! `/images/…`: an image is in the pool if any node has it.
//!
//! A reference may mean different images on different nodes. The pool means the one that most nodes hold under it which
//! are up, then the newest, then the one with the smallest id: every manager and every request finds the same.

mod bring;
mod list;
mod prune;
mod remove;
mod reread;
mod save;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::image_ref::ImageRef;
use api_compat::json_edit::{Edit, quote};
use api_compat::route::Operation;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt as _;

pub(super) use reread::reread_at_end;

use super::exchange::Exchange;
use super::forward::{forward, with_query};
use super::reply::{self, Outcome, from_engine};
use super::{Proxy, fan_out, system};
use crate::engine::{EngineCall, Host, ListKind, full};

/// How long engines may take to move a tag.
const TAG_PATIENCE: Duration = Duration::from_secs(30);

/// Answers what concerns images.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    use Operation as O;
    match exchange.route.operation {
        O::ImageList => list::list(proxy, exchange).await,
        O::ImageInspect => inspect(proxy, exchange).await,
        O::ImageSaveMany => save::save_many(proxy, exchange).await,
        O::ImageCreate => bring::create(proxy, exchange).await,
        O::ImageLoad => bring::load(proxy, exchange).await,
        O::ImagePush => push(proxy, exchange).await,
        O::ImageTag => tag(proxy, exchange).await,
        O::ImageRemove => remove::remove(proxy, exchange).await,
        O::ImagePrune => prune::prune(proxy, exchange).await,
        O::ImageSearch => system::any_node(proxy, exchange).await,
        _ => from_holder(proxy, exchange).await,
    }
}

/// The image that a reference means, and who has it.
struct Resolved {
    id: String,
    /// The nodes that are up and have it, by name; those where the reference means it first. Never empty.
    holders: Vec<Arc<Host>>,
    /// When it was built, in seconds since 1970.
    created: i64,
}

impl Resolved {
    /// The node to ask, and what it knows the image by: the client's own words if it means the same by them.
    fn ask(&self, reference: &str) -> Option<(Arc<Host>, String)> {
        let host = self.holders.first()?;
        let means_it = host
            .images()
            .find(reference)
            .is_some_and(|image| image.id == self.id);
        Some((
            Arc::clone(host),
            if means_it { reference } else { &self.id }.to_owned(),
        ))
    }
}

/// The image that `reference` means in the pool, or `node/reference` on one node; nothing if no node that is up has it.
fn resolve(proxy: &Proxy, reference: &str) -> Option<Resolved> {
    let hosts = system::order_by_health(system::up(proxy));
    if let Some(found) = resolve_among(&hosts, reference) {
        return Some(found);
    }
    let (node, rest) = reference.split_once('/')?;
    let host = hosts.iter().find(|host| host.tag.is(node))?;
    resolve_among(std::slice::from_ref(host), rest)
}

fn resolve_among(hosts: &[Arc<Host>], reference: &str) -> Option<Resolved> {
    let mut meant: BTreeMap<String, (i64, Vec<Arc<Host>>)> = BTreeMap::new();
    for host in hosts {
        if let Some(image) = host.images().find(reference) {
            let entry = meant
                .entry(image.id.clone())
                .or_insert((image.created, Vec::new()));
            entry.1.push(Arc::clone(host));
        }
    }
    let best = |(id, (created, by)): &(String, (i64, Vec<Arc<Host>>))| {
        (by.len(), *created, Reverse(id.clone()))
    };
    let (id, (created, mut holders)) = meant.into_iter().max_by_key(best)?;
    for host in hosts {
        let known = holders.iter().any(|holder| holder.tag.id == host.tag.id);
        if !known && host.images().find(&id).is_some() {
            holders.push(Arc::clone(host));
        }
    }
    Some(Resolved {
        id,
        holders,
        created,
    })
}

/// When no node that is up has the image: the word of a node that is down and had it, else `No such image`.
fn nowhere(proxy: &Proxy, reference: &str) -> ApiError {
    let lost = proxy
        .fleet
        .by_name()
        .into_iter()
        .find(|host| !host.is_up() && host.images().find(reference).is_some());
    match lost.and_then(|host| host.ready().err()) {
        Some(error) => {
            let down = from_engine(error);
            ApiError {
                message: format!("image {reference} is on no other node: {}", down.message),
                ..down
            }
        }
        None => no_such_image(reference),
    }
}

fn no_such_image(reference: &str) -> ApiError {
    let shown = ImageRef::parse(reference).map(|name| name.or_latest().familiar());
    ApiError::not_found(format!(
        "No such image: {}",
        shown.as_deref().unwrap_or(reference)
    ))
}

/// Passes the request to a node that has the image. If none has, any engine says so in its own words: it also tells a
/// bad name from an unknown one.
async fn from_holder(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let Some((host, name)) = resolve(proxy, &reference).and_then(|found| found.ask(&reference))
    else {
        return unknown(proxy, exchange).await;
    };
    let target = with_query(
        exchange.route.operation.target(&[&name]),
        exchange.raw_query(),
    );
    forward(&host, &target, exchange).await
}

async fn unknown(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let error = nowhere(proxy, exchange.name());
    if error.status == StatusCode::SERVICE_UNAVAILABLE {
        return Err(error);
    }
    system::any_node(proxy, exchange).await
}

/// In a larger pool an image says which nodes have it.
async fn inspect(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let Some(found) = resolve(proxy, &reference).filter(|_| proxy.fleet.only().is_none()) else {
        return from_holder(proxy, exchange).await;
    };
    let Some((host, name)) = found.ask(&reference) else {
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
        return system::any_node(proxy, exchange).await;
    };
    let target = with_query(Operation::ImagePush.target(&[&name]), exchange.raw_query());
    // A push gives the image a digest of the registry's.
    let guard = proxy.open.enter();
    let reply = forward(&host, &target, exchange).await?;
    Ok(reply.map(|body| reread_at_end(body, host, guard).boxed_unsync()))
}

fn holder_of_any(proxy: &Proxy, repository: &str) -> Option<Arc<Host>> {
    let wanted = ImageRef::parse(repository).ok()?.familiar_name();
    let has_any = |host: &Arc<Host>| {
        let images = host.images();
        let mut tags = images.all().iter().flat_map(|image| &image.tags);
        tags.any(|tag| ImageRef::parse(tag).is_ok_and(|tag| tag.familiar_name() == wanted))
    };
    system::order_by_health(system::up(proxy))
        .into_iter()
        .find(has_any)
}

/// Moves a tag on every node that has the image.
async fn tag(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let Some(found) = resolve(proxy, &reference) else {
        return unknown(proxy, exchange).await;
    };
    let [host] = found.holders.as_slice() else {
        let target = with_query(
            Operation::ImageTag.target(&[&found.id]),
            exchange.raw_query(),
        );
        let call = EngineCall::post(target, None).at(exchange.version);
        let outcome = fan_out::ask(found.holders.clone(), &call, TAG_PATIENCE)
            .await
            .merge();
        reread_all(&found.holders).await;
        let (_, missing) = outcome?;
        let mut reply = reply::status(StatusCode::CREATED);
        missing.mark(&mut reply);
        return Ok(reply);
    };
    let (_, name) = found
        .ask(&reference)
        .unwrap_or_else(|| (Arc::clone(host), found.id.clone()));
    let target = with_query(Operation::ImageTag.target(&[&name]), exchange.raw_query());
    let reply = forward(host, &target, exchange).await?;
    if reply.status().is_success() {
        host.reread(ListKind::Images).await;
    }
    Ok(reply)
}

/// Reads the images of all these nodes again, all at once.
async fn reread_all(hosts: &[Arc<Host>]) {
    let up = hosts.iter().filter(|host| host.is_up());
    futures_util::future::join_all(up.map(|host| host.reread(ListKind::Images))).await;
}
