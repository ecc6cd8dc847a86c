//! `GET /distribution/{name}/json`: what a name means in its registry; if that cannot be reached, what it means here.
//!
//! **Invariant**: what a registry says, a refusal too, is the answer; what the pool knows is asked for only where no node
//! reaches the registry, and a pull never goes by it.

use std::time::Duration;

use api_compat::distribution::{Described, of_image};
use api_compat::image_ref::ImageRef;
use api_compat::json_view::View;
use api_compat::route::Operation;
use http::StatusCode;

use super::super::exchange::Exchange;
use super::super::reply::{self, Outcome};
use super::super::{Proxy, any_node, nodes};
use crate::engine::{EngineCall, Host};
use crate::manager::Image;

/// Engines say at once what they have.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks nodes about the registry, then the catalogue.
pub(in super::super) async fn inspect(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let name = exchange.name().to_owned();
    let asked = any_node::of_a_registry(proxy, exchange).await;
    let unreached = match &asked {
        Ok(reply) => reply.status().is_server_error(),
        Err(error) => error.status.is_server_error(),
    };
    // A pool of one answers as its engine does.
    if !unreached || proxy.fleet.only().is_some() {
        return asked;
    }
    let known = tokio::time::timeout(PATIENCE, in_catalogue(proxy, &name)).await;
    let Ok(Some(known)) = known else {
        return asked;
    };
    tracing::debug!(
        name,
        digest = known.digest,
        "no registry answers: told from the catalogue"
    );
    Ok(reply::json(StatusCode::OK, known.body))
}

/// What a node that has the image says of its manifest.
async fn in_catalogue(proxy: &Proxy, name: &str) -> Option<Described> {
    let name = ImageRef::parse(name).ok()?.or_latest();
    let reference = name.familiar();
    let image = proxy.manager.image(&reference)?;
    let told = told_by_registry(&image, &name);
    for host in nodes::order_by_health(nodes::up(proxy)) {
        let images = host.images();
        let meant = image.id_on(&host);
        // Another kind of store has it under another id, which nobody may have noticed yet.
        let other = || images.named(&reference).map(|image| image.id.clone());
        let Some(id) = meant.clone().or_else(other) else {
            continue;
        };
        if !host.facts().keeps_images_in_containerd() {
            continue;
        }
        let is_it = |digest: &String| match &name.digest {
            Some(wanted) => wanted == digest,
            None => told.contains(digest) || (told.is_empty() && meant.is_some()),
        };
        let described = described_on(&host, &id).await;
        if let Some(described) = described.filter(|described| is_it(&described.digest)) {
            return Some(described);
        }
    }
    None
}

/// The digests that the image has in its registry, from nodes that have them from nowhere else: containerd's store gives
/// every image a digest, pushed or not, and one that came as an archive another than it has there.
fn told_by_registry(image: &Image, name: &ImageRef) -> Vec<String> {
    let repository = format!("{}@", name.familiar_name());
    let mut told = Vec::new();
    for host in &image.holders {
        if host.facts().keeps_images_in_containerd() {
            continue;
        }
        let images = host.images();
        let here = image.id_on(host);
        let here = here.and_then(|id| images.with_id(&id));
        let digests = here.into_iter().flat_map(|image| &image.digests);
        told.extend(
            digests.filter_map(|digest| digest.strip_prefix(&repository).map(str::to_owned)),
        );
    }
    told
}

async fn described_on(host: &Host, id: &str) -> Option<Described> {
    let path = Operation::ImageInspect.target(&[id]);
    let asked = host.ask(EngineCall::get(format!("{path}?manifests=1")));
    let answer = asked.await.ok()?;
    of_image(View::parse(&answer.body).ok()?)
}
