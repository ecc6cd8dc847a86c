//! What a client means by a reference, who has that image, and what is said if nobody has.
//!
//! What a reference means when nodes differ, the manager says (`manager::Image`).
//!
//! **Invariant**: an image that only a node has which is down is never said not to exist.

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::image_ref::ImageRef;
use http::StatusCode;

use super::super::exchange::Exchange;
use super::super::reply::{Outcome, from_engine, from_manager};
use super::super::{Proxy, any_node};
use crate::engine::Host;
use crate::manager::{Image, tag_name};
use crate::model::Caller;

/// The image that `reference` means in the pool, or `node/reference` on one node; nothing if no node that is up has it.
pub(in crate::proxy) fn resolve(proxy: &Proxy, reference: &str) -> Option<Arc<Image>> {
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

/// What to ask of which node for this image: the client's own words if the node means the same by them.
pub(super) fn ask(image: &Image, reference: &str) -> Option<(Arc<Host>, String)> {
    let host = image.holders.first()?;
    let name = if image.is_meant_on(host, reference) {
        reference.to_owned()
    } else {
        image.id_on(host)?
    };
    Some((Arc::clone(host), name))
}

/// When no node that is up has the image: the word of a node that is down and had it, else `No such image`.
pub(super) fn nowhere(proxy: &Proxy, reference: &str) -> ApiError {
    match holder_that_is_down(proxy, reference) {
        Some(down) => ApiError {
            message: format!("image {reference} is on no other node: {}", down.message),
            ..down
        },
        None => no_such_image(reference),
    }
}

/// A pull that failed. A client pulls what a create finds on no node that is up; if a node that is down has it, it may be in
/// no registry at all, and a registry's words alone would mislead its user.
pub(super) fn pulled_in_vain(proxy: &Proxy, reference: &str, failure: ApiError) -> ApiError {
    if resolve(proxy, reference).is_some() {
        return failure;
    }
    match holder_that_is_down(proxy, reference) {
        Some(down) => ApiError {
            message: format!(
                "{}; the pool's own image of this name is on no other node: {}",
                failure.message, down.message
            ),
            ..failure
        },
        None => failure,
    }
}

/// What is said of a node that is down and had the image.
fn holder_that_is_down(proxy: &Proxy, reference: &str) -> Option<ApiError> {
    let hosts = proxy.fleet.by_name().into_iter();
    let mut down = hosts.filter_map(|host| Some((host.ready().err()?, host)));
    let (error, _) = down.find(|(_, host)| host.images().find(reference).is_some())?;
    Some(from_engine(error))
}

pub(super) async fn unknown(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let error = nowhere(proxy, exchange.name());
    if error.status == StatusCode::SERVICE_UNAVAILABLE {
        return Err(error);
    }
    any_node::any_node(proxy, exchange).await
}

pub(super) fn no_such_image(reference: &str) -> ApiError {
    let shown = ImageRef::parse(reference).map(|name| name.or_latest().familiar());
    ApiError::not_found(format!(
        "No such image: {}",
        shown.as_deref().unwrap_or(reference)
    ))
}

/// `repository:tag`, or `repository@digest` where a digest stands in the tag's place.
pub(in crate::proxy) fn joined(repository: &str, tag: &str) -> String {
    match tag {
        "" => repository.to_owned(),
        digest if digest.contains(':') => format!("{repository}@{digest}"),
        tag => format!("{repository}:{tag}"),
    }
}

/// A node has made something new of a name: from now on that is what the name means.
pub(in crate::proxy) async fn learn_name(
    proxy: &Proxy,
    host: &Host,
    name: &str,
    caller: &Caller,
) -> Result<(), ApiError> {
    let images = host.images();
    let Some(image) = tag_name(name).and_then(|tag| images.named(&tag)) else {
        return Ok(());
    };
    let pointed = proxy.manager.move_tag(name, &image.id, caller).await;
    pointed.map_err(from_manager)
}
