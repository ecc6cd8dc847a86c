//! One observed container: the engine's own bytes of its list item, and the few facts beside them that
//! are needed without reading those bytes again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api_compat::container_item::{Head, Mount, Port, ShownAs, Template};
use api_compat::container_status::{ContainerStatus, Since as Age};
use api_compat::event::Origin;
use api_compat::json_view::Malformed;
use api_compat::labels;
use api_compat::published::is_reached_at;
use api_compat::version::ApiVersion;

use jiff::Timestamp;

use super::endpoint::Endpoint;
use super::own_networks::OwnNetworks;
use crate::model::generic::Wishes;
use crate::model::{
    BadId, ClusterId, ContainerId, NetworkId, NodeId, NodeName, Protocol, PublishedPort, RequestId,
    Resources,
};

const NANOS: i64 = 1_000_000_000;
/// Seconds since 1970 that count as a time, 1843 to 2255: sums and differences of such times, in nanoseconds, fit an `i64`,
/// whatever an engine claims.
const TIMES: RangeInclusive<i64> = -4_000_000_000..=9_000_000_000;

/// What all containers of one node share in their replies.
#[derive(Debug)]
pub struct HostTag {
    /// The node.
    pub id: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// Where its published ports can be reached, if anything is known of that.
    pub address: Option<String>,
    /// Where its engine listens.
    pub endpoint: Endpoint,
    /// [`Self::id`] and [`Self::endpoint`] as events show them.
    text: HostText,
    /// The cluster, to tell our own containers from others.
    pub cluster: ClusterId,
    /// Whether container names are shown as `/node/name`.
    pub prefix_names: bool,
    /// The networks of the cluster that it has.
    pub networks: OwnNetworks,
}

/// What events say of a node, written once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HostText {
    id: String,
    addr: String,
}

impl HostTag {
    /// A node.
    pub fn new(
        id: NodeId,
        name: NodeName,
        address: Option<String>,
        endpoint: Endpoint,
        cluster: ClusterId,
        prefix_names: bool,
    ) -> Self {
        let text = HostText {
            id: id.to_string(),
            addr: endpoint.shown(),
        };
        Self {
            id,
            name,
            address,
            endpoint,
            text,
            cluster,
            prefix_names,
            networks: OwnNetworks::default(),
        }
    }

    /// The node as its events name it.
    pub fn origin(&self) -> Origin<'_> {
        Origin {
            name: self.name.as_str(),
            id: &self.text.id,
            addr: self
                .text
                .addr
                .strip_prefix("tcp://")
                .unwrap_or(&self.text.addr),
            ip: self.address.as_deref().unwrap_or_default(),
        }
    }

    /// Whether its host is known to have this address.
    pub fn has(&self, address: IpAddr) -> bool {
        let known = [self.address.as_deref(), self.endpoint.published_address()];
        let mut known = known.into_iter().flatten();
        known.any(|known| known.parse() == Ok(address))
    }

    /// Whether `reference` names this node: by name or by id.
    pub fn is(&self, reference: &str) -> bool {
        self.name.as_str() == reference || self.text.id == reference
    }
}

/// A container's state, as list items spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Running, frozen.
    Paused,
    /// Its engine is about to start it again.
    Restarting,
    /// Its engine is removing it.
    Removing,
    /// It ran and ended.
    Exited,
    /// Its engine failed to remove it.
    Dead,
}

impl RunState {
    /// The state of this name; what is unknown counts as running, so that its claim counts too.
    pub fn read(text: &str) -> Self {
        match text {
            "created" => Self::Created,
            "paused" => Self::Paused,
            "restarting" => Self::Restarting,
            "removing" => Self::Removing,
            "exited" => Self::Exited,
            "dead" => Self::Dead,
            _ => Self::Running,
        }
    }

    /// The state's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether `docker ps` lists it without `-a`, and its claim is in use: an engine counts a
    /// restarting and a paused container as running.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// Whether it is frozen.
    pub const fn is_paused(self) -> bool {
        matches!(self, Self::Paused)
    }
}

/// What list items leave out and an inspect brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// What it may use.
    pub claim: Resources,
    /// What it takes beside that.
    pub generic: Wishes,
    /// Where it may listen, for all that is known: what it exposes, if it is on its host's network.
    pub exposed: Box<[PublishedPort]>,
    /// The containers that it cannot be without, by name or id.
    pub needs: Box<[String]>,
    /// It was updated since: an inspect will bring what it may use from now on.
    pub outdated: bool,
}

/// When a container last started and ended, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Since {
    /// Nanoseconds since 1970.
    pub started: Option<i64>,
    /// Nanoseconds since 1970.
    pub finished: Option<i64>,
}

/// What is known of a container without having seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// The request that it was made for.
    pub request: RequestId,
    /// When it was promised.
    pub created: Timestamp,
    /// Whether it ran, or was about to, when it was last heard of.
    pub runs: bool,
    /// The cluster's networks that it joins, with their names.
    pub networks: Vec<(NetworkId, String)>,
    /// The named volumes that it mounts.
    pub volumes: Vec<String>,
}

/// One observed container. Immutable: an observation makes a new one.
#[derive(Debug, Clone)]
pub struct Container {
    /// The engine's id for it.
    pub id: ContainerId,
    /// Its node.
    pub host: Arc<HostTag>,
    /// When it was made, in nanoseconds since 1970: the order of lists. List items have whole seconds;
    /// the rest comes from events and inspects, or from the order in which the engine listed it.
    pub created_nanos: i64,
    /// Its state.
    pub state: RunState,
    /// For the age in its status.
    pub since: Since,
    /// The request of ours that it was made for, if its labels say so.
    pub request: Option<RequestId>,
    /// Nothing before its first inspect.
    pub details: Option<Details>,
    /// Its names as users write them: no slash in front, no node.
    pub names: Box<[Box<str>]>,
    /// Names that other containers' links give it, such as `web/db`: they are those containers', and go with them.
    pub links: Box<[Box<str>]>,
    /// The ports of its node that it publishes, while it runs.
    pub published: Box<[PublishedPort]>,
    /// With whom it shares entries of published ports, while it publishes any.
    pub entry: Option<Box<str>>,
    /// The networks of the cluster that it joins, running or not.
    pub networks: Box<[NetworkId]>,
    /// The volumes that it mounts, those without a name of their own by what their engine calls them.
    pub volumes: Box<[Box<str>]>,
    /// Whether it mounts images.
    pub(super) mounts_images: bool,
    /// [`label_hash`] of each label, with its value and without, as clients see them; the node is not
    /// among them.
    pub(super) labels: Box<[u64]>,
    /// [`image_hash`] of the image it was made from.
    pub(super) image: u64,
    status: ContainerStatus,
    /// The engine's words, for as long as it is not known when it started or ended.
    status_text: Box<str>,
    item: Template,
}

/// By which labels are found: the hash of `key=value`, or of `key` alone.
pub(super) fn label_hash(key: &str, value: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

/// By which the containers of an image are counted: the hash of its id.
pub(super) fn image_hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// A list item that is none.
#[derive(Debug, thiserror::Error)]
pub enum BadItem {
    /// Not the JSON that a list item is.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// An id of another form.
    #[error(transparent)]
    Id(#[from] BadId),
}

impl Container {
    /// Reads the engine's bytes of one list item.
    pub fn read(raw: &[u8], host: &Arc<HostTag>) -> Result<Self, BadItem> {
        let head = Head::parse(raw)?;
        let id: ContainerId = head.id.parse()?;
        let item = Template::new(
            raw,
            &ShownAs {
                name: host.name.as_str(),
                id: &host.text.id,
                address: host.address.as_deref(),
                prefix_names: host.prefix_names,
                network_id: &|id| host.networks.our_id(id).map(|ours| ours.to_string()),
            },
        )?;
        let ours = head
            .label(labels::CLUSTER)
            .is_some_and(|cluster| *cluster == *host.cluster.to_string());
        let request = head
            .label(labels::ID)
            .filter(|_| ours)
            .and_then(|request| request.parse().ok());
        let status = ContainerStatus::parse(&head.status);
        Ok(Self {
            id,
            host: Arc::clone(host),
            created_nanos: head.created.clamp(*TIMES.start(), *TIMES.end()) * NANOS,
            state: RunState::read(&head.state),
            since: Since::default(),
            request,
            details: None,
            names: own_names(&head),
            links: link_names(&head),
            entry: entry(&head),
            published: published(&head, host.address.as_deref()),
            networks: joined(&head, host),
            volumes: volumes(&head),
            mounts_images: head.mounts.iter().any(is_image),
            labels: label_hashes(&head),
            image: image_hash(&head.image_id),
            status_text: if status.since() == Age::Never {
                "".into()
            } else {
                head.status.as_ref().into()
            },
            status,
            item,
        })
    }

    /// What can be shown of a container that was promised and has not been listed since the manager began, because
    /// its node is down. Its image, command and the user's labels are not known.
    pub(super) fn unlisted(promised: &Unlisted, host: &Arc<HostTag>) -> Result<Self, BadItem> {
        let networks = promised.networks.iter();
        let networks = networks.map(|(id, name)| (name, serde_json::json!({"NetworkID": id})));
        let volumes = promised.volumes.iter();
        let volumes = volumes.map(|name| serde_json::json!({"Type": "volume", "Name": name}));
        let item = serde_json::json!({
            "Id": promised.id,
            "Names": [format!("/{}", promised.name)],
            "Image": "(not known)",
            "ImageID": "",
            "Command": "",
            "Created": promised.created.as_second(),
            "Ports": [],
            "Labels": {
                labels::ID: promised.request,
                labels::CLUSTER: host.cluster,
            },
            "State": if promised.runs { "running" } else { "exited" },
            "Status": if promised.runs { "Up" } else { "Exited" },
            "HostConfig": {"NetworkMode": "default"},
            "NetworkSettings": {"Networks": networks.collect::<BTreeMap<_, _>>()},
            "Mounts": volumes.collect::<Vec<_>>(),
        });
        Ok(Self {
            // What its engine knows them by is not known.
            networks: promised.networks.iter().map(|(id, _)| *id).collect(),
            ..Self::read(item.to_string().as_bytes(), host)?
        })
    }

    /// The container as one that has left a network of the cluster.
    pub(super) fn without_network(&self, network: NetworkId) -> Result<Self, BadItem> {
        let shown = network.to_string();
        // One that never ran knows the name only.
        let has_left = |name: &str, id: &str| {
            id == shown || (id.is_empty() && self.host.networks.joined(name, id) == Some(network))
        };
        let others = self.networks.iter().filter(|id| **id != network);
        Ok(Self {
            networks: others.copied().collect(),
            item: self.item.without_networks(has_left)?,
            ..self.clone()
        })
    }

    /// The first of its names, or its short id if it has none.
    pub fn name(&self) -> String {
        self.names.first().map_or_else(
            || self.id.to_string()[..12].to_owned(),
            |name| name.to_string(),
        )
    }

    /// Whether `reference` is a name that a link gives it, maybe with its node in front.
    pub fn is_linked_as(&self, reference: &str) -> bool {
        let mut links = self.links.iter();
        links.any(|link| {
            let node = reference.strip_suffix(&**link);
            node.is_some_and(|node| {
                let named = node.strip_suffix('/');
                node.is_empty() || named.is_some_and(|node| self.host.is(node))
            })
        })
    }

    /// Whether its health check, if it has one, says so.
    pub fn is_well(&self) -> bool {
        matches!(self.status.health(), "none" | "healthy")
    }

    /// What it claims outside of our placements; nothing if it has one of ours.
    pub fn unmanaged_claim(&self) -> Resources {
        self.unmanaged()
            .map_or(Resources::ZERO, |details| details.claim)
    }

    /// What is known of it, if it has no placement of ours.
    pub(super) fn unmanaged(&self) -> Option<&Details> {
        let details = self.details.as_ref();
        details.filter(|_| self.request.is_none())
    }

    /// Where it may be listening on its host, if it has no placement of ours.
    pub(super) fn exposed(&self) -> &[PublishedPort] {
        let details = self.unmanaged().filter(|_| self.state.is_up());
        details.map_or(&[], |details| &details.exposed)
    }

    /// Its status in words, as old as it is at `now` (nanoseconds since 1970).
    pub fn status_at(&self, now: i64) -> String {
        let from = match self.status.since() {
            Age::Started => self.since.started,
            Age::Finished => self.since.finished,
            Age::Never => Some(now),
        };
        match from {
            Some(from) => self
                .status
                .render(now.saturating_sub(from).div_euclid(NANOS).max(0))
                .to_string(),
            None => self.status_text.to_string(),
        }
    }

    /// Appends its list item for a client of `version`; `state` and `status` are what to show.
    pub fn render(&self, out: &mut Vec<u8>, version: ApiVersion, state: &str, status: &str) {
        self.item.render(out, version, state, status);
    }

    /// [`Self::render`], with the id of its image in place of the name.
    pub fn render_with_image_id(
        &self,
        out: &mut Vec<u8>,
        version: ApiVersion,
        state: &str,
        status: &str,
    ) {
        self.item.render_with_image_id(out, version, state, status);
    }

    /// Whether it mounts the volume of this name, be it by its own create or from another container.
    pub fn mounts(&self, volume: &str) -> bool {
        self.volumes.iter().any(|mounted| **mounted == *volume)
    }

    /// What its engine calls the images that it mounts.
    pub fn mounted_images(&self) -> Vec<String> {
        let mut item = Vec::new();
        self.render(&mut item, ApiVersion::MAX, "", "");
        let head = Head::parse(&item);
        let mounts = head.map(|head| head.mounts).unwrap_or_default();
        let images = mounts.iter().filter(|mount| is_image(mount));
        images.map(|mount| mount.name.to_string()).collect()
    }

    /// What its engine calls its image, and the image's id.
    pub fn image(&self) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
        self.item.image()
    }
}

fn own_names(head: &Head<'_>) -> Box<[Box<str>]> {
    let own = bare_names(head).filter(|name| !name.contains('/'));
    own.map(Box::from).collect()
}

fn link_names(head: &Head<'_>) -> Box<[Box<str>]> {
    let links = bare_names(head).filter(|name| name.contains('/'));
    links.map(Box::from).collect()
}

fn bare_names<'a>(head: &'a Head<'_>) -> impl Iterator<Item = &'a str> {
    let names = head.names.iter();
    names.map(|name| name.strip_prefix('/').unwrap_or(name))
}

/// `node` is where they are reached. A port on every address of one family is on all of them if it is there.
fn published(head: &Head<'_>, node: Option<&str>) -> Box<[PublishedPort]> {
    let node = node.unwrap_or_default();
    let are_twins = |one: &Port<'_>, other: &Port<'_>| {
        one.private == other.private && one.public == other.public && one.protocol == other.protocol
    };
    let is_there = |port: &Port<'_>| {
        let mut twins = head.ports.iter().filter(|twin| are_twins(twin, port));
        twins.any(|twin| is_reached_at(node, &twin.ip))
    };
    let read = |port: &Port<'_>| {
        let address: Option<IpAddr> = port.ip.parse().ok();
        let is_on_all = |address: &IpAddr| address.is_unspecified() && is_there(port);
        Some(PublishedPort {
            protocol: Protocol::read(&port.protocol)?,
            address: address.filter(|address| !is_on_all(address)),
            number: port.public,
        })
    };
    let published = head.ports.iter().filter(|port| port.public != 0);
    published.filter_map(read).collect()
}

fn entry(head: &Head<'_>) -> Option<Box<str>> {
    if head.ports.iter().all(|port| port.public == 0) {
        return None;
    }
    labels::entry_group(|name| head.label(name).map(|value| value.to_string())).map(Into::into)
}

fn joined(head: &Head<'_>, host: &HostTag) -> Box<[NetworkId]> {
    let networks = head.networks.iter();
    networks
        .filter_map(|network| host.networks.joined(&network.name, &network.id))
        .collect()
}

fn is_image(mount: &Mount<'_>) -> bool {
    mount.kind == "image"
}

fn volumes(head: &Head<'_>) -> Box<[Box<str>]> {
    let mounts = head.mounts.iter().filter(|mount| mount.kind == "volume");
    mounts.map(|mount| Box::from(mount.name.as_ref())).collect()
}

fn label_hashes(head: &Head<'_>) -> Box<[u64]> {
    let both = |key: &str, value: &str| [label_hash(key, Some(value)), label_hash(key, None)];
    head.labels
        .iter()
        .filter(|(key, _)| !labels::is_hidden(key) && key != labels::NODE)
        .flat_map(|(key, value)| both(key, value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusterId, NodeId};

    fn created_at(seconds: i64) -> Container {
        let tag = Arc::new(HostTag::new(
            NodeId::from_bytes([1; 16]),
            "alpha".parse().expect("a name"),
            None,
            "tcp://10.0.0.1:2375".parse().expect("an endpoint"),
            ClusterId::from_bytes([9; 16]),
            false,
        ));
        let item = serde_json::json!({
            "Id": ContainerId::from_bytes([5; 32]),
            "Names": ["/web"],
            "Created": seconds,
            "State": "running",
            "Status": "Up 2 seconds",
        });
        Container::read(item.to_string().as_bytes(), &tag).expect("reads")
    }

    #[test]
    fn volumes_are_mounts_with_names() {
        let item = serde_json::json!({
            "Id": ContainerId::from_bytes([5; 32]),
            "Mounts": [
                {"Type": "volume", "Name": "data", "Source": "/var/lib/docker/volumes/data/_data"},
                {"Type": "bind", "Name": "dat", "Source": "/srv"},
            ],
        });
        let container = Container::read(item.to_string().as_bytes(), &created_at(0).host);
        let container = container.expect("reads");
        assert_eq!(*container.volumes, [Box::from("data")]);
        assert!(container.mounts("data") && !container.mounts("dat"));
    }

    #[test]
    fn no_time_of_an_engine_is_too_far_to_reckon_with() {
        let now = 1_764_000_000 * NANOS;
        assert_eq!(created_at(1_764_000_000).created_nanos, now);
        for seconds in [i64::MIN, i64::MAX] {
            let created = created_at(seconds).created_nanos;
            assert!(created.checked_add(NANOS).is_some(), "{created}");
            assert!(now.checked_sub(created).is_some(), "{created}");
        }
        let mut running = created_at(0);
        running.since.started = Some(i64::MIN);
        assert!(
            running.status_at(now).starts_with("Up "),
            "{}",
            running.status_at(now)
        );
    }
}
