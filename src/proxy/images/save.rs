//! `GET /images/get`: several images in one archive, which only a node that has them all can write. If none has, they are
//! brought together on the one that has most.

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::query::Query;
use api_compat::route::Operation;

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::forward::{forward, with_query};
use super::super::reply::{Outcome, from_manager};
use super::super::system;
use crate::engine::Host;
use crate::manager::Image;
use crate::model::Caller;

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
    let has_all = |host: &&Arc<Host>| {
        let mut all = found.iter();
        all.all(|(name, image)| image.is_meant_on(host, name))
    };
    if let Some(host) = first.holders.iter().find(has_all) {
        let host = Arc::clone(host);
        return forward(&host, &target, exchange).await;
    }
    let caller = exchange.peer.caller.clone();
    let (host, query) = gather(proxy, &found, query.clone(), &caller).await?;
    let target = with_query(Operation::ImageSaveMany.target(&[]), &query.encode());
    forward(&host, &target, exchange).await
}

/// Brings all of the images to the node that has most of them. Returns what it knows them by.
async fn gather(
    proxy: &Proxy,
    found: &[(&String, Arc<Image>)],
    mut query: Query,
    caller: &Caller,
) -> Result<(Arc<Host>, Query), ApiError> {
    let has = |host: &Host, (name, image): &(&String, Arc<Image>)| image.is_meant_on(host, name);
    let count = |host: &Arc<Host>| found.iter().filter(|one| has(host, one)).count();
    let holders = found.iter().flat_map(|(_, image)| &image.holders);
    let host = holders.max_by_key(|host| count(host)).cloned();
    let host = host.ok_or_else(|| system::nobody(proxy))?;
    let mut names = Vec::new();
    for (name, image) in found {
        let known_as = if has(&host, &(*name, image.clone())) {
            None
        } else {
            let brought = proxy.manager.have_image(name, &host, caller).await;
            brought.map_err(from_manager)?
        };
        names.push(known_as.unwrap_or_else(|| (*name).clone()));
    }
    query.remove("names");
    names.iter().for_each(|name| query.add("names", name));
    Ok((host, query))
}
