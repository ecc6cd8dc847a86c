//! What a pool does not do yet, or never will: plugins, swarm mode, debugging. Each is answered as an engine would that
//! has none of it, so that clients which only look go on, and those which act learn what to do instead.

use std::collections::BTreeSet;
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use api_compat::json_view::View;
use api_compat::route::Operation;
use http::StatusCode;

use super::exchange::Exchange;
use super::forward::{forward, with_query};
use super::reply::{self, Outcome, Reply};
use super::{Proxy, any_node, fan_out};
use crate::engine::EngineCall;

/// Engines may take so long to list their plugins.
const LIST_PATIENCE: Duration = Duration::from_secs(2);

/// An engine outside a swarm says so.
const NO_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                          this node to swarm and try again.";

/// Answers what a pool does not do.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    use Operation as O;
    match exchange.route.operation {
        O::DebugVars | O::DebugProfiles => Err(ApiError::page_not_found()),
        O::PluginList
        | O::PluginInspect
        | O::PluginPrivileges
        | O::PluginRemove
        | O::PluginEnable
        | O::PluginDisable
        | O::PluginPull
        | O::PluginPush
        | O::PluginUpgrade
        | O::PluginSet
        | O::PluginCreate => plugins(proxy, exchange).await,
        O::SwarmInit => Err(ApiError::not_implemented(
            "swarm init is not supported on a cluster endpoint yet: this pool needs none to run containers on all its \
             nodes; services, stacks, secrets and configs will come without it",
        )),
        O::SwarmJoin => Err(ApiError::not_implemented(
            "swarm join is not supported on a cluster endpoint: a pool takes engines in by `flotilla node add`",
        )),
        O::SwarmLeave => Ok(refused(ApiError::unavailable(
            "This node is not part of a swarm",
        ))),
        O::ServiceLogs | O::TaskLogs => {
            let query = exchange.query()?;
            // The engine looks at this first.
            if query.bool("stdout") || query.bool("stderr") {
                return Ok(refused(ApiError::unavailable(NO_MANAGER)));
            }
            Err(ApiError::internal(
                "Bad parameters: you must choose at least one stream",
            ))
        }
        _ => Ok(refused(ApiError::unavailable(NO_MANAGER))),
    }
}

/// A 503 as the engine sends it: waiting would not help, so nothing says how long to wait.
fn refused(error: ApiError) -> Reply {
    reply::json(error.status, error.json_body())
}

/// In a pool of one the plugins are its engine's. In a larger one they can be listed, and are managed on each engine.
async fn plugins(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let (operation, name) = (exchange.route.operation, exchange.route.name.clone());
    if let Some(host) = proxy.fleet.only() {
        let target = with_query(operation.target(&[&name]), exchange.raw_query());
        return forward(&host, &target, exchange).await;
    }
    let what = match operation {
        Operation::PluginList => return list(proxy, exchange).await,
        Operation::PluginInspect => {
            return Err(ApiError::not_found(format!("plugin {name:?} not found")));
        }
        Operation::PluginPrivileges => return any_node::any_node(proxy, exchange).await,
        Operation::PluginRemove => "plugin rm",
        Operation::PluginEnable => "plugin enable",
        Operation::PluginDisable => "plugin disable",
        Operation::PluginPull => "plugin install",
        Operation::PluginPush => "plugin push",
        Operation::PluginUpgrade => "plugin upgrade",
        Operation::PluginSet => "plugin set",
        _ => "plugin create",
    };
    Err(ApiError::not_implemented(format!(
        "{what} is not supported on a cluster endpoint: run it against the engine of each node that needs the plugin"
    )))
}

async fn list(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let mut query = exchange.query()?;
    let mut wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::PLUGINS)?;
    let hosts = proxy.fleet.by_name().into_iter();
    let hosts = hosts.filter(|host| {
        wanted.exact_match("node", host.tag.name.as_str())
            || wanted.exact_match("node", &host.tag.id.to_string())
    });
    let hosts = hosts.collect();
    wanted.remove("node");
    query.set("filters", &wanted.to_json());
    let target = with_query("/plugins".to_owned(), &query.encode());
    let call = EngineCall::get(target).at(exchange.version);
    let (answers, missing) = fan_out::ask(hosts, &call, LIST_PATIENCE).await.merge()?;
    let mut seen = BTreeSet::new();
    let mut rows = Vec::new();
    for (host, answer) in &answers {
        let list = View::parse(&answer.body).map_err(|error| {
            ApiError::internal(format!("[node {}] its plugins: {error}", host.tag.name))
        })?;
        for plugin in list.elements() {
            if seen.insert((plugin.text_of("Id"), plugin.text_of("Name"))) {
                rows.push(plugin.as_json());
            }
        }
    }
    let mut reply = reply::json(StatusCode::OK, format!("[{}]", rows.join(",")));
    missing.mark(&mut reply);
    Ok(reply)
}
