//! Reads an engine's objects for the watcher: one container, what its list item leaves out, and the short lists.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api_compat::create::exposed_ports;
use api_compat::inspect::{Link, Summary};
use api_compat::json_view::{Malformed, View};
use api_compat::labels;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::call::EngineCall;
use super::container::Container;
use super::error::Error;
use super::host::{Host, ListKind};
use super::images::Images;
use super::own_networks::OwnNetwork;
use crate::model::generic::Wishes;
use crate::model::{ContainerId, PublishedPort, Resources};

/// A read that has not come by then is made again with the next change of its object.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What an inspect adds to a list item.
pub(super) struct Inspected {
    /// `running`, `paused` …
    pub(super) state: String,
    /// What it may use.
    pub(super) claim: Resources,
    /// What it takes beside that.
    pub(super) generic: Wishes,
    /// Where it may listen on its host.
    pub(super) exposed: Box<[PublishedPort]>,
    /// The containers that it cannot be without, by name or id.
    pub(super) needs: Box<[String]>,
    /// Its names for others.
    pub(super) links: Vec<Link>,
    /// When it was made, in nanoseconds since 1970.
    pub(super) created: Option<i64>,
    /// When it last started; nothing if it never did.
    pub(super) started: Option<i64>,
    /// When it last ended; nothing if it never did.
    pub(super) finished: Option<i64>,
}

/// Reads one container's list item again; nothing if it is gone.
pub(super) async fn read_container(
    host: &Host,
    id: ContainerId,
) -> Result<Option<Box<Container>>, Error> {
    let target = format!("/containers/json?all=1&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D");
    let body = in_time(host, host.client.ask(EngineCall::get(target)))
        .await?
        .body;
    let items: Vec<&RawValue> =
        serde_json::from_slice(&body).map_err(|error| host.client.garbled(error))?;
    items
        .first()
        .map(|item| {
            Container::read(item.get().as_bytes(), &host.tag)
                .map(Box::new)
                .map_err(|error| host.client.garbled(error))
        })
        .transpose()
}

/// Reads what list items leave out.
pub(super) async fn inspect(host: &Host, id: ContainerId) -> Result<Inspected, Error> {
    let body = in_time(
        host,
        host.client
            .ask(EngineCall::get(format!("/containers/{id}/json"))),
    )
    .await?
    .body;
    let garbled = |error: Malformed| host.client.garbled(error);
    let summary = Summary::parse(&body).map_err(garbled)?;
    let view = View::parse(&body).map_err(garbled)?;
    let created = view.text_of("Created").parse().ok();
    let state = view
        .get("State")
        .map(|state| state.text_of("Status").into_owned());
    let nanos = |at: Option<Timestamp>| at.and_then(|at| i64::try_from(at.as_nanosecond()).ok());
    Ok(Inspected {
        state: state.unwrap_or_default(),
        claim: Resources {
            cpu_nanos: summary.claim.cpu_nanos,
            memory_bytes: summary.claim.memory_bytes,
        },
        exposed: exposed_on_host(&summary),
        generic: summary.generic,
        needs: summary.needs.into(),
        links: summary.links,
        created: nanos(created),
        started: nanos(summary.started_at),
        finished: nanos(summary.finished_at),
    })
}

/// What a container on its host's network exposes.
fn exposed_on_host(summary: &Summary<'_>) -> Box<[PublishedPort]> {
    if summary.network_mode != "host" {
        return Box::default();
    }
    let exposed = exposed_ports(&summary.exposed);
    exposed
        .filter_map(|(_, number, protocol)| PublishedPort::on_all(protocol, number))
        .collect()
}

/// Reads one of the short lists again and keeps it with the host.
pub(super) async fn read_list(host: &Host, kind: ListKind) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Volumes {
        #[serde(rename = "Volumes")]
        volumes: Option<Vec<Box<RawValue>>>,
    }
    let target = match kind {
        ListKind::Images => "/images/json",
        ListKind::Networks => "/networks",
        ListKind::Volumes => "/volumes",
    };
    let body = in_time(host, host.client.ask(EngineCall::get(target)))
        .await?
        .body;
    let garbled = |error| host.client.garbled(error);
    match kind {
        ListKind::Images => host.show_images(Images::read(&body).map_err(garbled)?),
        ListKind::Networks => {
            let networks: Vec<Box<RawValue>> = serde_json::from_slice(&body).map_err(garbled)?;
            let views = || {
                let items = networks.iter();
                items.filter_map(|item| View::parse(item.get().as_bytes()).ok())
            };
            let own = |network: View<'_>| OwnNetwork::read(network, host.tag.cluster);
            host.tag.networks.listed(views().filter_map(own).collect());
            let strangers = views().filter(|network| own(*network).is_none());
            let known_by =
                |network: View<'_>| ["Name", "Id"].map(|of| network.text_of(of).into_owned());
            host.network_names
                .store(Arc::new(strangers.flat_map(known_by).collect()));
            host.networks.store(Arc::new(networks));
        }
        ListKind::Volumes => {
            let volumes: Volumes = serde_json::from_slice(&body).map_err(garbled)?;
            let volumes = volumes.volumes.unwrap_or_default();
            host.volume_names
                .store(Arc::new(texts(&volumes, &["Name"])));
            host.volume_groups.store(Arc::new(groups(&volumes)));
            host.volumes.store(Arc::new(volumes));
        }
    }
    Ok(())
}

/// The groups that items say they belong to.
fn groups(items: &[Box<RawValue>]) -> BTreeSet<String> {
    items
        .iter()
        .filter_map(|item| View::parse(item.get().as_bytes()).ok())
        .filter_map(|item| item.at(&["Labels", labels::GROUP])?.str())
        .map(Cow::into_owned)
        .collect()
}

/// What these members of all items say.
fn texts(items: &[Box<RawValue>], members: &[&str]) -> BTreeSet<String> {
    items
        .iter()
        .filter_map(|item| View::parse(item.get().as_bytes()).ok())
        .flat_map(|item| {
            members
                .iter()
                .map(move |member| item.text_of(member).into_owned())
        })
        .collect()
}

/// Gives up on a read that does not come.
pub(super) async fn in_time<T>(
    host: &Host,
    read: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(READ_TIMEOUT, read)
        .await
        .unwrap_or_else(|_| {
            Err(Error::Unreachable {
                node: host.tag.name.clone(),
                source: std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to a read"),
            })
        })
}
