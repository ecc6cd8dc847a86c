//! `POST /containers/create`: reads what placing needs, has the manager place it, and answers as the
//! chosen node's engine did.

use std::borrow::Cow;

use api_compat::create::{Body, NetworkMode, check_name};
use api_compat::error::ApiError;
use api_compat::features;
use api_compat::json_edit::{Edit, quote};
use api_compat::policies::Policies;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};

use super::super::exchange::Exchange;
use super::super::reply::{self, Outcome, from_manager};
use super::super::{Proxy, builders, images};
use crate::engine::full;
use crate::manager::CreateOrder;
use crate::scheduler::{NoStrategy, Strategy};

/// Creates a container somewhere.
pub(super) async fn create(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
    let mut query = exchange.query()?;
    let bytes = exchange.read_json().await?;
    let name = query
        .text("name")
        .strip_prefix('/')
        .unwrap_or(query.text("name"))
        .to_owned();
    let mut body = Body::parse(&bytes)?;
    builders::learn(proxy).await;
    let mut wanted = body.read()?;
    images::look_for(proxy, &wanted.image).await;
    if wanted.publish_all || wanted.network_mode == NetworkMode::Host {
        let exposed = proxy.manager.exposed_by(&wanted.image).await;
        wanted.exposed.extend(exposed.into_iter().map(Cow::Owned));
    }
    let policies = Policies::take(&mut body)?;
    let strategy = strategy(&policies)?;
    let features = features::needed(body.edit().root(), exchange.version);
    // The engine looks for the image first: a missing one is what the client can do something about.
    if !name.is_empty() && proxy.manager.has_image(&wanted.image) {
        check_name(&name)?;
    }
    query.remove("name");
    let sees_one_node = wanted.mounts_engine_socket() && proxy.fleet.hosts().len() > 1;
    let paths_must_exist = proxy.settings.refuses_missing_paths && proxy.fleet.only().is_none();
    let body = body.finish();
    let order = CreateOrder {
        name: (!name.is_empty()).then_some(name),
        wanted: &wanted,
        policies: &policies,
        strategy,
        features,
        body: &body,
        paths_must_exist,
        query,
        version: exchange.version,
        caller: exchange.peer.caller.clone(),
    };
    let created = proxy.manager.create(order).await.map_err(from_manager)?;
    let mut reply = reply::passed_on(created.reply.clone());
    let mut warnings: Vec<String> = created.warning.iter().cloned().collect();
    if policies.reschedule {
        warnings.push(
            "the reschedule policy on-node-failure has no effect yet: if its node is lost, this container is not started on \
             another one"
                .to_owned(),
        );
    }
    let in_vain = proxy.manager.counting_for_nothing(&wanted);
    warnings.extend(in_vain.iter().map(|label| {
        format!(
            "the label {label} claims nothing, since no node says how much it has: `flotilla node update NODE --label-add \
             {label}=COUNT` does"
        )
    }));
    if sees_one_node {
        warnings.push(format!(
            "this container is given the engine socket of node {} and sees that node only: to work with the whole pool, \
             set DOCKER_HOST to the pool's address in it instead",
            created.node
        ));
    }
    warnings.extend(proxy.entry.warnings(&created));
    if reply.status() == StatusCode::CREATED && !warnings.is_empty() {
        let warned = with_warnings(&created.reply.body, &warnings)?;
        reply
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(warned.len()));
        *reply.body_mut() = full(warned);
    }
    Ok(reply)
}

/// The strategy that a label asks for.
pub(in super::super) fn strategy(policies: &Policies) -> Result<Option<Strategy>, ApiError> {
    let asked = policies.strategy.as_deref().map(str::parse);
    asked.transpose().map_err(|error: NoStrategy| {
        ApiError::bad_parameter(format!("label com.flotilla.strategy: {error}"))
    })
}

fn with_warnings(body: &[u8], ours: &[String]) -> Result<Vec<u8>, ApiError> {
    let unreadable =
        |error| ApiError::internal(format!("the engine's answer cannot be read: {error}"));
    let mut edit = Edit::new(body).map_err(unreadable)?;
    let mut warnings: Vec<String> = edit
        .root()
        .get("Warnings")
        .map(|list| {
            list.elements()
                .map(|warning| warning.as_json().to_owned())
                .collect()
        })
        .unwrap_or_default();
    warnings.extend(ours.iter().map(|warning| quote(warning)));
    edit.set(&["Warnings"], &format!("[{}]", warnings.join(",")));
    Ok(edit.finish())
}
