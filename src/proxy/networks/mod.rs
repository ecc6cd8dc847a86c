//! `/networks/…`: the cluster's networks are told of from the state, and by their node's engine where they are on one;
//! those that were made behind our back belong to their engines; the builtin ones, which every engine has, are shown as
//! one.

mod create;
mod find;
mod inspect;
mod list;
mod members;
mod prune;
mod remove;
mod rows;

use std::sync::Arc;

use api_compat::route::Operation;

use super::Proxy;
use super::exchange::Exchange;
use super::reply::Outcome;
use crate::engine::Host;

/// Answers what concerns networks.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    match exchange.route.operation {
        Operation::NetworkList => list::list(proxy, exchange).await,
        Operation::NetworkCreate => create::create(proxy, exchange).await,
        Operation::NetworkConnect | Operation::NetworkDisconnect => {
            members::join_or_leave(proxy, exchange).await
        }
        Operation::NetworkRemove => remove::remove(proxy, exchange).await,
        Operation::NetworkPrune => prune::prune(proxy, exchange).await,
        _ => inspect::inspect(proxy, exchange).await,
    }
}

/// The engine that answers for the pool as it stands: the only one, if the cluster has no networks of its own.
fn passes_through(proxy: &Proxy) -> Option<Arc<Host>> {
    let only = proxy.fleet.only()?;
    let has_own = proxy.manager.cluster().networks().next().is_some();
    (!has_own).then_some(only)
}
