//! `GET /images/json`: one row for each image, on however many nodes it is.

use std::sync::Arc;
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::image_list::{self, Built, ImageQuery, Known, Resolved, Row, Source};
use api_compat::json_view::View;
use api_compat::route::Operation;
use futures_util::future::join_all;
use http::StatusCode;
use jiff::Timestamp;

use super::super::Proxy;
use super::super::exchange::Exchange;
use super::super::fan_out::{self, Missing, Part};
use super::super::forward::{engines_query, with_query};
use super::super::reply::{self, Outcome};
use super::meant;
use crate::clock;
use crate::engine::{EngineCall, EngineReply, Host, Images};

/// How long the engines may take to list what is not kept here.
const PATIENCE: Duration = Duration::from_secs(2);

/// One node's images: as listed before, or as it says now.
enum Listed {
    Before(Arc<Images>),
    Now(EngineReply),
}

/// In a pool of one the engine's own list; else what was last read, unless more is asked for.
pub(super) async fn list(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let wanted = ImageQuery::parse(&query, exchange.version, clock::now())?;
    let target = with_query(
        "/images/json".to_owned(),
        &engines_query(&query, wanted.filters()),
    );
    let is_wanted =
        |host: &Host| wanted.wants_node(host.tag.name.as_str(), &host.tag.id.to_string());
    if let Some(host) = proxy.fleet.only()
        && is_wanted(&host)
        && let Ok(answer) = host
            .call(EngineCall::get(target).at(exchange.version))
            .await
    {
        return Ok(reply::passed_on(answer));
    }
    let resolved = wanted.resolved(
        built(proxy, wanted.before()).await?,
        built(proxy, wanted.since()).await?,
    );
    let hosts: Vec<_> = proxy
        .fleet
        .by_name()
        .into_iter()
        .filter(|host| is_wanted(host))
        .collect();
    let mut missing = Missing::default();
    for host in &hosts {
        if let Err(error) = host.ready() {
            missing.note(host, &error);
        }
    }
    let listed = if wanted.asks_for_more() {
        // The filters are ours to apply: whether a tag matches depends on what it means in the pool.
        let mut query = query.clone();
        query.remove("filters");
        query.remove("filter");
        let target = with_query("/images/json".to_owned(), &query.encode());
        ask(&hosts, &EngineCall::get(target).at(exchange.version)).await
    } else {
        hosts
            .iter()
            .map(|host| Listed::Before(host.images()))
            .collect()
    };
    let sources: Vec<_> = hosts
        .iter()
        .zip(&listed)
        .map(|(host, listed)| Source {
            node: host.tag.name.as_str(),
            healthy: host.is_up(),
            images: listed.views(),
        })
        .collect();
    let mut body = vec![b'['];
    let cluster = proxy.manager.cluster();
    let mut known = Known::default();
    for tag in cluster.tags() {
        known.tags.insert(&tag.name, &tag.image);
        let twins = tag.twins.iter();
        known
            .twins
            .extend(twins.map(|twin| (twin.as_str(), tag.image.as_str())));
    }
    let mut rows = image_list::merge(&sources, &known);
    look_closer(&hosts, &mut rows, &resolved).await;
    for mut row in rows {
        if wanted.select(&mut row, &resolved) {
            // What the engines listed is as old as their images are: containers come and go in between.
            row.containers = containers(proxy, &hosts, &row);
            if body.len() > 1 {
                body.push(b',');
            }
            row.render(&mut body, exchange.version, true)
                .map_err(|error| ApiError::internal(error.to_string()))?;
        }
    }
    body.push(b']');
    let mut reply = reply::json(StatusCode::OK, body);
    missing.mark(&mut reply);
    Ok(reply)
}

/// How many containers were made from an image, on all its nodes.
fn containers(proxy: &Proxy, hosts: &[Arc<Host>], row: &Row<'_>) -> i64 {
    let holders = hosts
        .iter()
        .filter(|host| row.nodes.contains(&host.tag.name.as_str()));
    let counts = holders.map(|host| proxy.fleet.inventory.made_from(&host.tag.id, &row.id));
    i64::try_from(counts.sum::<usize>()).unwrap_or(i64::MAX)
}

/// When the named images were built; an unknown one is the engine's 404.
async fn built<'a>(
    proxy: &Proxy,
    references: impl Iterator<Item = &'a str>,
) -> Result<Vec<Built>, ApiError> {
    let mut all = Vec::new();
    for reference in references {
        let found = meant::resolve(proxy, reference);
        let image = found.ok_or_else(|| meant::nowhere(proxy, reference))?;
        let on_holder = image.holders.first();
        let on_holder = on_holder.and_then(|host| Some((host, image.id_on(host)?)));
        let nanos = match on_holder {
            Some((host, id)) => nanos_of(host, &id).await,
            None => 0,
        };
        all.push((image.created, nanos));
    }
    Ok(all)
}

/// Asks for what no list tells of images that were built in the second that a filter is about.
async fn look_closer(hosts: &[Arc<Host>], rows: &mut [Row<'_>], resolved: &Resolved) {
    let near = rows
        .iter_mut()
        .filter(|row| resolved.depends_on_nanos(row.created));
    let asked = near.map(|row| async move {
        let mut up = hosts.iter().filter(|host| host.is_up());
        if let Some(host) = up.find(|host| host.images().with_id(&row.id).is_some()) {
            row.nanos = nanos_of(host, &row.id).await;
        }
    });
    join_all(asked).await;
}

/// The nanoseconds beyond the second in which an image was built; none if its node does not say in time.
async fn nanos_of(host: &Host, id: &str) -> i32 {
    let asked = host.ask(EngineCall::get(Operation::ImageInspect.target(&[id])));
    let Ok(Ok(inspected)) = tokio::time::timeout(PATIENCE, asked).await else {
        return 0;
    };
    let view = View::parse(&inspected.body).ok();
    let created = view.map(|view| view.text_of("Created").parse::<Timestamp>());
    match created {
        Some(Ok(created)) => created.subsec_nanosecond(),
        _ => 0,
    }
}

/// What the engines say now; of one that does not answer in time what it said before.
async fn ask(hosts: &[Arc<Host>], call: &EngineCall) -> Vec<Listed> {
    let parts = fan_out::ask(hosts.to_vec(), call, PATIENCE).await;
    let now = |Part { host, answer }: Part| match answer {
        Ok(reply) if reply.status.is_success() => Listed::Now(reply),
        _ => Listed::Before(host.images()),
    };
    parts.0.into_iter().map(now).collect()
}

impl Listed {
    fn views(&self) -> Vec<View<'_>> {
        match self {
            Self::Before(images) => images
                .all()
                .iter()
                .filter_map(|image| View::parse(image.raw.get().as_bytes()).ok())
                .collect(),
            Self::Now(reply) => View::parse(&reply.body)
                .map(|list| list.elements().collect())
                .unwrap_or_default(),
        }
    }
}
