//! `POST /networks/prune`.

use api_compat::error::ApiError;
use api_compat::filters::{self, Filters};
use api_compat::network_create::Create;
use api_compat::{labels, timestamp};
use serde::{Deserialize, Serialize};

use super::super::exchange::Exchange;
use super::super::prunes::{self, PRUNE_PATIENCE};
use super::super::reply::{Outcome, ok_json};
use super::super::{Proxy, fan_out};
use super::passes_through;
use crate::clock;
use crate::engine::ListKind;
use crate::model::Caller;

pub(super) async fn prune(proxy: &Proxy, exchange: Exchange) -> Outcome {
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        #[serde(default)]
        networks_deleted: Option<Vec<String>>,
    }
    let mut query = exchange.query()?;
    let wanted = Filters::parse(query.text("filters"))?;
    wanted.validate(filters::NETWORK_PRUNE)?;
    let ours = prune_ours(proxy, &exchange.peer.caller, &wanted).await?;
    let mut theirs = wanted.clone();
    let alone = passes_through(proxy).is_some();
    if !alone {
        // An engine does not know who is still promised to join.
        theirs.add("label!", labels::NETWORK);
        query.set("filters", &theirs.to_json());
    }
    let (mut hosts, call) =
        prunes::asked(proxy, "/networks/prune", &query, &theirs, exchange.version);
    if !alone && wanted.contains("label!") {
        // An engine keeps what has all of these labels, not what has any of them.
        hosts.retain(|host| host.tag.networks.here().is_empty());
    }
    let (answers, missing) = if !alone && hosts.is_empty() {
        Default::default()
    } else {
        fan_out::ask(hosts, &call, PRUNE_PATIENCE).await.merge()?
    };
    let mut total = Pruned {
        networks_deleted: (!ours.is_empty()).then_some(ours),
    };
    for (host, answer) in answers {
        let pruned: Pruned = fan_out::read(&host, &answer.body)?;
        if let Some(names) = pruned.networks_deleted {
            total.networks_deleted.get_or_insert_default().extend(names);
            host.reread(ListKind::Networks).await;
        }
    }
    let mut reply = ok_json(&total)?;
    missing.report(&proxy.fleet.ring, "network prune", &mut reply);
    Ok(reply)
}

/// Removes the cluster's networks that nothing joins and the filters let through; says which.
async fn prune_ours(
    proxy: &Proxy,
    caller: &Caller,
    wanted: &Filters,
) -> Result<Vec<String>, ApiError> {
    let now = clock::now();
    let until = match wanted.get("until").next() {
        Some(until) => timestamp::parse(until, now)?,
        None => None,
    };
    let mut pruned = Vec::new();
    let cluster = proxy.manager.cluster();
    for network in cluster.networks() {
        let host = network.node().and_then(|node| proxy.fleet.host(&node));
        let is_on_wanted = match host {
            Some(host) => {
                wanted.exact_match("node", host.tag.name.as_str())
                    || wanted.exact_match("node", &host.tag.id.to_string())
            }
            None => !wanted.contains("node"),
        };
        let labelled = Create::read(network.spec.as_bytes())
            .is_ok_and(|spec| wanted.match_labels_and_not(|label| spec.label(label)));
        let old = until.is_none_or(|until| network.created < until);
        if !is_on_wanted || !labelled || !old || proxy.manager.is_held(network.id) {
            continue;
        }
        // Whoever joins it meanwhile keeps it.
        if proxy
            .manager
            .remove_network(network.id, caller)
            .await
            .is_ok()
        {
            pruned.push(network.name.clone());
        }
    }
    Ok(pruned)
}
