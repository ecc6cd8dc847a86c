//! `/images/…` and `/distribution/…`: an image is in the pool if any node has it.
//!
//! What a reference means when nodes differ, the manager says (`manager::Image`).

mod bring;
mod distribution;
mod list;
mod prune;
mod pull;
mod remove;
mod save;

use std::sync::Arc;
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::image_ref::ImageRef;
use api_compat::json_edit::{Edit, quote};
use api_compat::route::Operation;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt as _;

use super::exchange::Exchange;
use super::fan_out::Parts;
use super::forward::{forward, forward_progress, with_query};
use super::reply::{self, Outcome, from_engine, from_manager};
use super::told_after::{reread_all, reread_at_end};
use super::{Proxy, any_node, build, fan_out, nodes};
use crate::engine::{EngineCall, Host, ListKind, full};
use crate::manager::{Image, tag_name};
use crate::model::Caller;

/// How long engines may take to move a tag.
const TAG_PATIENCE: Duration = Duration::from_secs(30);

/// More is not told of images in `docker info`.
const WARNINGS_MAX: usize = 8;

/// Answers what concerns images.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    use Operation as O;
    if !matches!(
        exchange.route.operation,
        O::ImageList | O::ImageSearch | O::ImageCreate | O::ImageLoad | O::DistributionInspect
    ) {
        build::learn(proxy).await;
    }
    match exchange.route.operation {
        O::ImageList => list::list(proxy, exchange).await,
        O::ImageInspect => inspect(proxy, exchange).await,
        O::ImageSave => save::save(proxy, exchange).await,
        O::ImageSaveMany => save::save_many(proxy, exchange).await,
        O::ImageCreate => bring::create(proxy, exchange).await,
        O::ImageLoad => bring::load(proxy, exchange).await,
        O::ImagePush => push(proxy, exchange).await,
        O::ImageTag => tag(proxy, exchange).await,
        O::ImageRemove => remove::remove(proxy, exchange).await,
        O::ImagePrune => prune::prune(proxy, exchange).await,
        O::ImageSearch => any_node::of_a_registry(proxy, exchange).await,
        O::DistributionInspect => distribution::inspect(proxy, exchange).await,
        _ => from_holder(proxy, exchange).await,
    }
}

/// What to ask of which node for this image: the client's own words if the node means the same by them.
fn ask(image: &Image, reference: &str) -> Option<(Arc<Host>, String)> {
    let host = image.holders.first()?;
    let name = if image.is_meant_on(host, reference) {
        reference.to_owned()
    } else {
        image.id_on(host)?
    };
    Some((Arc::clone(host), name))
}

/// The image that `reference` means in the pool, or `node/reference` on one node; nothing if no node that is up has it.
fn resolve(proxy: &Proxy, reference: &str) -> Option<Arc<Image>> {
    if let Some(found) = proxy.manager.image(reference) {
        return Some(found);
    }
    let (node, rest) = reference.split_once('/')?;
    let host = proxy.fleet.named(node).filter(|host| host.is_up())?;
    let images = host.images();
    let there = images.find(rest)?;
    Some(Arc::new(Image {
        id: there.id.clone(),
        ids: vec![there.id.clone()],
        tag: None,
        created: there.created,
        holders: vec![host],
    }))
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

async fn unknown(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let error = nowhere(proxy, exchange.name());
    if error.status == StatusCode::SERVICE_UNAVAILABLE {
        return Err(error);
    }
    any_node::any_node(proxy, exchange).await
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

/// Moves a tag: in the pool, and on every node that has the image. The others are told when they need it.
async fn tag(proxy: &Proxy, exchange: Exchange) -> Outcome {
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

/// What `docker info` says of images that nodes do not agree on.
pub(super) fn warnings(proxy: &Proxy) -> Vec<String> {
    let hosts = nodes::up(proxy);
    let names = |hosts: Vec<&Arc<Host>>| {
        let names: Vec<_> = hosts.iter().map(|host| host.tag.name.as_str()).collect();
        names.join(", ")
    };
    let (containerd, own): (Vec<_>, Vec<_>) = hosts
        .iter()
        .partition(|host| host.facts().keeps_images_in_containerd());
    let mut warnings = Vec::new();
    if !containerd.is_empty() && !own.is_empty() {
        warnings.push(format!(
            "WARNING: {} keep images in containerd's store, {} in the engine's own: one image has different ids there. Set \
             the same on all (\"features\": {{\"containerd-snapshotter\": …}} in daemon.json)",
            names(containerd),
            names(own)
        ));
    }
    let cluster = proxy.manager.cluster();
    for tag in cluster.tags() {
        let drifted: Vec<_> = hosts
            .iter()
            .filter(|host| {
                let images = host.images();
                let there = images.named(&tag.name);
                there.is_some_and(|image| tag.ids().all(|id| id != image.id))
            })
            .collect();
        let is_held = |host: &&Arc<Host>| tag.ids().any(|id| host.images().with_id(id).is_some());
        if !drifted.is_empty() && hosts.iter().any(|host| is_held(&host)) {
            warnings.push(format!(
                "WARNING: {} is another image on {}; it is put right when a container needs it there",
                tag.name,
                names(drifted)
            ));
        }
        if warnings.len() >= WARNINGS_MAX {
            break;
        }
    }
    warnings
}

/// `repository:tag`, or `repository@digest` where a digest stands in the tag's place.
pub(super) fn joined(repository: &str, tag: &str) -> String {
    match tag {
        "" => repository.to_owned(),
        digest if digest.contains(':') => format!("{repository}@{digest}"),
        tag => format!("{repository}:{tag}"),
    }
}

/// A node has made something new of a name: from now on that is what the name means.
pub(super) async fn learn_name(
    proxy: &Proxy,
    host: &Host,
    name: &str,
    caller: &Caller,
) -> Result<(), ApiError> {
    let images = host.images();
    let Some(image) = tag_name(name).and_then(|tag| images.named(&tag)) else {
        return Ok(());
    };
    let pointed = proxy.manager.point_tag(name, &image.id, caller).await;
    pointed.map_err(from_manager)
}
