//! `GET /images/{name}/get` and `/images/get`: images as an archive. Several go into one, which only a node that has them all
//! can write; if none has, they are brought together on the one that has most.
//!
//! **Invariant**: a node that is lost before the client got anything is replaced; one that is lost later ends the archive
//! with an error, so that what is too short never looks whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::query::Query;
use api_compat::route::Operation;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};

use super::super::exchange::Exchange;
use super::super::forward::{forward, with_query};
use super::super::reply::{Outcome, Reply, from_manager};
use super::super::{Proxy, any_node, nodes};
use super::meant;
use crate::engine::Host;
use crate::manager::Image;
use crate::model::{Caller, NodeId};

/// Saves one image from a node that has it.
pub(super) async fn save(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let reference = exchange.name().to_owned();
    let mut lost = Lost::default();
    loop {
        // Anew each time: nodes go, and come.
        let found = meant::resolve(proxy, &reference);
        let next = found.and_then(|image| meant::ask(&lost.without(&image), &reference));
        let Some((host, name)) = next else {
            return match lost.error {
                Some(error) => Err(error),
                None => meant::unknown(proxy, exchange).await,
            };
        };
        let path = exchange.route.operation.target(&[&name]);
        let target = with_query(path, exchange.raw_query());
        let question = exchange.again(Bytes::new());
        if let Some(reply) = lost.unless(&host, begin(&host, &target, question).await) {
            return Ok(reply);
        }
    }
}

/// Saves the images named in the query from a node that has each as the pool means it.
pub(super) async fn save_many(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let names: Vec<String> = query.all("names").map(str::to_owned).collect();
    let caller = exchange.peer.caller.clone();
    let mut lost = Lost::default();
    loop {
        let mut found = Vec::new();
        for name in &names {
            match meant::resolve(proxy, name) {
                Some(image) => found.push((name, lost.without(&image))),
                None => return nobody_has(proxy, exchange, name, lost).await,
            }
        }
        let Some((_, first)) = found.first() else {
            return any_node::any_node(proxy, exchange).await;
        };
        let has_all = |host: &&Arc<Host>| {
            let mut all = found.iter();
            all.all(|(name, image)| image.is_meant_on(host, name))
        };
        let (host, query) = match first.holders.iter().find(has_all) {
            Some(host) => (Arc::clone(host), exchange.raw_query().to_owned()),
            None => match most_of(&found) {
                Some(host) => {
                    let gathered = gather(proxy, &host, &found, query.clone(), &caller).await;
                    match lost.unless(&host, gathered) {
                        Some(query) => (host, query.encode()),
                        None => continue,
                    }
                }
                None => return Err(lost.error.unwrap_or_else(|| nodes::nobody(proxy))),
            },
        };
        let target = with_query(Operation::ImageSaveMany.target(&[]), &query);
        let question = exchange.again(Bytes::new());
        if let Some(reply) = lost.unless(&host, begin(&host, &target, question).await) {
            return Ok(reply);
        }
    }
}

/// Any engine says what it says of a name that it does not know.
async fn nobody_has(proxy: &Proxy, exchange: Exchange, name: &str, lost: Lost) -> Outcome {
    let error = meant::nowhere(proxy, name);
    match lost.error {
        Some(lost) => Err(lost),
        None if error.status.is_server_error() => Err(error),
        None => any_node::any_node(proxy, exchange).await,
    }
}

/// The nodes that were lost before they sent anything, and how the first one was.
#[derive(Default)]
struct Lost {
    nodes: BTreeSet<NodeId>,
    error: Option<ApiError>,
}

impl Lost {
    /// The image as the other nodes have it.
    fn without(&self, image: &Image) -> Image {
        let mut image = image.clone();
        image
            .holders
            .retain(|host| !self.nodes.contains(&host.tag.id));
        image
    }

    /// What the node gave; nothing if it gave nothing, and then it is not asked again.
    fn unless<T>(&mut self, host: &Host, outcome: Result<T, ApiError>) -> Option<T> {
        match outcome {
            Ok(given) => Some(given),
            Err(error) => {
                tracing::info!(node = %host.tag.name, error = error.message, "another node is to save");
                self.nodes.insert(host.tag.id);
                self.error.get_or_insert(error);
                None
            }
        }
    }
}

/// The answer once its first part is here: until then another node can be asked. An engine that refuses has answered.
async fn begin(host: &Arc<Host>, target: &str, question: Exchange) -> Outcome {
    let reply = forward(host, target, question).await?;
    if !reply.status().is_success() {
        return Ok(reply);
    }
    let nothing = |why: &str| {
        let node = &host.tag.name;
        ApiError::unavailable(format!("node {node} sent nothing of the archive: {why}"))
    };
    let (parts, mut body) = reply.into_parts();
    let first = match body.frame().await {
        Some(first) => first.map_err(|error| nothing(&error.to_string()))?,
        None => return Err(nothing("its answer was empty")),
    };
    let whole = stream::iter([Ok(first)]).chain(BodyStream::new(body));
    let body = StreamBody::new(whole).boxed_unsync();
    Ok(Reply::from_parts(parts, body))
}

/// The node that has most of the images.
fn most_of(found: &[(&String, Image)]) -> Option<Arc<Host>> {
    let count = |host: &Arc<Host>| {
        let has = |(name, image): &&(&String, Image)| image.is_meant_on(host, name);
        found.iter().filter(has).count()
    };
    let holders = found.iter().flat_map(|(_, image)| &image.holders);
    holders.max_by_key(|host| count(host)).cloned()
}

/// Brings all of the images to the node. Returns the query with what it knows them by.
async fn gather(
    proxy: &Proxy,
    host: &Arc<Host>,
    found: &[(&String, Image)],
    mut query: Query,
    caller: &Caller,
) -> Result<Query, ApiError> {
    let mut names = Vec::new();
    for (name, image) in found {
        let known_as = if image.is_meant_on(host, name) {
            None
        } else {
            let brought = proxy.manager.have_image(name, host, caller).await;
            brought.map_err(from_manager)?
        };
        names.push(known_as.unwrap_or_else(|| (*name).clone()));
    }
    query.remove("names");
    names.iter().for_each(|name| query.add("names", name));
    Ok(query)
}
