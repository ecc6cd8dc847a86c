//! `DELETE /containers/{parent}/{alias}?link=1`: a name that a container has for another one goes, on the node of both.

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::json_view::View;
use api_compat::route::Operation;

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::forward::{forward, with_query};
use super::super::reply::{Outcome, from_engine};
use super::pass_to;
use crate::engine::{EngineCall, Host};
use crate::model::ContainerId;

/// Removes a link. The engine refuses what is a container's own name.
pub(super) async fn unlink(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let link = exchange.name().trim_start_matches('/');
    // A container's own name may have its node in front.
    if let Ok((host, container)) = proxy.container(link)
        && !container.is_linked_as(link)
    {
        return pass_to(&host, exchange, &container).await;
    }
    let no_such = || ApiError::not_found(format!("No such container: {link}"));
    let (parent, alias) = link.rsplit_once('/').ok_or_else(no_such)?;
    let (host, parent) = proxy.container(parent).map_err(|_| no_such())?;
    let link = format!("{}/{alias}", parent.name());
    let linked = linked(&host, &link).await?;
    let target = exchange.route.operation.target(&[&link]);
    let target = with_query(target, exchange.raw_query());
    let change = host.change(linked).await;
    let reply = forward(&host, &target, exchange).await;
    change.settle(None).await;
    reply
}

/// The container that has this name for its link.
async fn linked(host: &Arc<Host>, link: &str) -> Result<ContainerId, ApiError> {
    let inspect = EngineCall::get(Operation::ContainerInspect.target(&[link]));
    let inspected = host.ask(inspect).await.map_err(from_engine)?.body;
    let view = View::parse(&inspected).ok();
    let id = view.and_then(|view| view.get("Id")?.str()?.parse().ok());
    id.ok_or_else(|| {
        ApiError::internal(format!(
            "node {} names no container that {link} links to",
            host.tag.name
        ))
    })
}
