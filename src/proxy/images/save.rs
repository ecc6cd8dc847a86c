//! `GET /images/get`: several images in one archive, which only a node that has them all can write.

use std::collections::BTreeSet;

use api_compat::error::ApiError;

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::forward::{forward, with_query};
use super::super::reply::Outcome;
use super::super::system;

/// Saves the images named in the query from a node that has each as the pool means it.
pub(super) async fn save_many(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let names: Vec<String> = query.all("names").map(str::to_owned).collect();
    let mut found = Vec::new();
    for name in &names {
        match super::resolve(proxy, name) {
            Some(image) => found.push((name, image)),
            // Any engine says what it says of a name that it does not know.
            None => {
                let error = super::nowhere(proxy, name);
                return if error.status.is_server_error() {
                    Err(error)
                } else {
                    system::any_node(proxy, exchange).await
                };
            }
        }
    }
    let Some((_, first)) = found.first() else {
        return system::any_node(proxy, exchange).await;
    };
    let target = with_query(exchange.route.operation.target(&[]), exchange.raw_query());
    let has_all = |host: &&std::sync::Arc<crate::engine::Host>| {
        let images = host.images();
        found
            .iter()
            .all(|(name, image)| images.find(name).is_some_and(|own| own.id == image.id))
    };
    if let Some(host) = first.holders.iter().find(has_all) {
        let host = std::sync::Arc::clone(host);
        return forward(&host, &target, exchange).await;
    }
    let places: BTreeSet<String> = found
        .iter()
        .map(|(name, image)| {
            let nodes: Vec<_> = image
                .holders
                .iter()
                .map(|host| host.tag.name.as_str())
                .collect();
            format!("{name} is on {}", nodes.join(" and "))
        })
        .collect();
    let places: Vec<_> = places.into_iter().collect();
    Err(ApiError::conflict(format!(
        "no node has all of these images: {}; pull them, which brings them to all nodes, or save them one by one",
        places.join(", ")
    )))
}
