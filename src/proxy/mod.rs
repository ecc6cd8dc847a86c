//! Docker's API over the cluster: one file per kind of object, and what they share.
//!
//! A request comes from [`listen`](serve), is matched to an operation by `api_compat::route`, and goes to one handler.
//! Handlers answer from the state and the inventory, or pass the request to the engine that has the object.
//!
//! **Invariant**: only this module answers clients; nothing that is not ours to change is parsed or collected.

mod any_node;
mod build;
mod build_network;
mod builders;
mod containers;
mod eager;
mod elsewhere;
mod events;
mod exchange;
mod exec;
mod fan_out;
mod flotilla;
mod forward;
mod images;
mod leftover;
mod linger;
mod listen;
mod looked_up;
mod networks;
mod nodes;
mod prunes;
mod raw_hijack;
mod reply;
mod rewound;
mod short_lists;
mod splice;
mod system;
mod told_after;
mod volumes;

use std::sync::Arc;

use api_compat::error::{ApiError, PLAIN_CONTENT_TYPE};
use api_compat::headers::{Identity, RAW_STREAM};
use api_compat::route::{self, BAD_REQUEST_BODY, Lookup, Match, Operation};
use api_compat::version::{ApiVersion, Unsupported};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use tracing::Instrument as _;

pub use listen::{Listener, Open, SocketFile, serve, serve_one};

use crate::balance::EntryPoint;
use crate::engine::{Container, Fleet, Host};
use crate::manager::Manager;
use crate::scheduler::PullTo;
use crate::tasks::to_its_end;
use exchange::{Exchange, Peer};
use leftover::{CutOff, Leftover};
use reply::{Outcome, Reply};

/// What the endpoint is told by its settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bodies that must be read whole may have so many bytes.
    pub max_body: usize,
    /// What `docker info` calls the cluster.
    pub cluster_name: String,
    /// `Api-Version` to advertise whatever the pool could do.
    pub advertise: Option<ApiVersion>,
    /// How many nodes a pull or a load brings an image to.
    pub pull_to: PullTo,
    /// Whether, in a pool of several nodes, a container is refused that binds a path which its node lacks.
    pub refuses_missing_paths: bool,
}

/// A request being handled. The type is spelt out because the compiler cannot see by itself that what borrows the proxy
/// may move between threads.
type Handling<'a> = std::pin::Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// The cluster as a Docker Engine.
#[derive(Debug)]
pub struct Proxy {
    manager: Arc<Manager>,
    fleet: Arc<Fleet>,
    entry: Arc<EntryPoint>,
    settings: Settings,
    execs: exec::Execs,
    builders: builders::Builders,
    versions: system::Advertised,
    open: Open,
}

impl Proxy {
    /// An endpoint over `manager`'s cluster.
    pub fn new(
        manager: Arc<Manager>,
        fleet: Arc<Fleet>,
        entry: Arc<EntryPoint>,
        settings: Settings,
    ) -> Self {
        Self {
            manager,
            fleet,
            entry,
            settings,
            execs: exec::Execs::default(),
            builders: builders::Builders::default(),
            versions: system::Advertised::default(),
            open: Open::default(),
        }
    }

    /// The client connections and streams that are open.
    pub fn open(&self) -> &Open {
        &self.open
    }

    /// Answers one request, and notes if its body is cut off. Never fails: errors are replies.
    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        cut_off: CutOff,
    ) -> Reply {
        let leftover = Leftover::new(cut_off);
        let request = request.map(|body| leftover.lend(body));
        let reply = self.answer_from(request, peer).await;
        leftover.read_on();
        reply
    }

    async fn answer_from(
        self: &Arc<Self>,
        request: Request<crate::engine::Body>,
        peer: Peer,
    ) -> Reply {
        let identity = self.identity();
        let uri = request.uri();
        if flotilla::is_ours(uri.path()) {
            let mut reply = flotilla::answer(self, request).await;
            identity.put(reply.headers_mut());
            return reply;
        }
        let mut reply = match route::lookup(request.method(), uri.path(), uri.query()) {
            Lookup::Found(route) => {
                match ApiVersion::negotiate(route.version.as_deref(), ApiVersion::MAX) {
                    Ok(version) => self.perform(request, route, version, peer).await,
                    Err(unsupported) => return refused_version(&identity, &unsupported),
                }
            }
            Lookup::Options { version } => {
                match ApiVersion::negotiate(version.as_deref(), ApiVersion::MAX) {
                    Ok(_) => reply::status(StatusCode::OK),
                    Err(unsupported) => return refused_version(&identity, &unsupported),
                }
            }
            // The engine answers these before its version middleware adds any header.
            Lookup::NotFound => return reply::error(&ApiError::page_not_found()),
            Lookup::Redirect(location) => return redirect(&location),
            Lookup::Undecodable => return undecodable(),
        };
        if reply.status() != StatusCode::SWITCHING_PROTOCOLS && !is_in_place_of_a_stream(&reply) {
            identity.put(reply.headers_mut());
        }
        reply
    }

    async fn perform(
        self: &Arc<Self>,
        request: Request<crate::engine::Body>,
        route: Match,
        version: ApiVersion,
        peer: Peer,
    ) -> Reply {
        let operation = route.operation;
        let span =
            tracing::debug_span!("request", operation = operation.name(), object = route.name);
        let exchange = Exchange {
            request,
            route,
            version,
            peer,
            max_body: self.settings.max_body,
        };
        looked_up::note(self, &exchange);
        async {
            let outcome = if is_finished_without_its_client(operation) {
                let proxy = Arc::clone(self);
                let handling = async move { proxy.handle(exchange).await };
                let broken = || Err(ApiError::internal("the manager failed: its log says why"));
                to_its_end(handling).await.unwrap_or_else(broken)
            } else {
                self.handle(exchange).await
            };
            match outcome {
                Ok(reply) => {
                    tracing::debug!(status = reply.status().as_u16(), "answered");
                    reply
                }
                Err(error) => {
                    let status = error.status.as_u16();
                    tracing::debug!(status, error = error.message, "refused");
                    reply::error(&error)
                }
            }
        }
        .instrument(span)
        .await
    }

    /// The one table of who answers what.
    fn handle(&self, exchange: Exchange) -> Handling<'_> {
        use Operation as O;
        match exchange.route.operation {
            O::Ping | O::PingHead | O::Version | O::Info | O::DiskUsage | O::Auth => {
                Box::pin(system::handle(self, exchange))
            }
            O::Events => Box::pin(events::handle(self, exchange)),
            O::ContainerList
            | O::ContainerCreate
            | O::ContainerPrune
            | O::ContainerInspect
            | O::ContainerTop
            | O::ContainerLogs
            | O::ContainerChanges
            | O::ContainerExport
            | O::ContainerStats
            | O::ContainerAttachWebsocket
            | O::ContainerStatPath
            | O::ContainerArchive
            | O::ContainerExtract
            | O::ContainerStart
            | O::ContainerStop
            | O::ContainerRestart
            | O::ContainerKill
            | O::ContainerPause
            | O::ContainerUnpause
            | O::ContainerWait
            | O::ContainerResize
            | O::ContainerAttach
            | O::ContainerRename
            | O::ContainerUpdate
            | O::ContainerRemove
            | O::CheckpointDelete
            | O::CheckpointList
            | O::CheckpointCreate
            | O::Commit => Box::pin(containers::handle(self, exchange)),
            O::ExecCreate | O::ExecStart | O::ExecResize | O::ExecInspect => {
                Box::pin(exec::handle(self, exchange))
            }
            O::ImageList
            | O::ImageSearch
            | O::ImageSaveMany
            | O::ImageSave
            | O::ImageHistory
            | O::ImageInspect
            | O::ImageLoad
            | O::ImageCreate
            | O::ImagePush
            | O::ImageTag
            | O::ImagePrune
            | O::ImageRemove
            | O::DistributionInspect => Box::pin(images::handle(self, exchange)),
            O::Build | O::BuildPrune | O::BuildCancel | O::Session | O::Grpc => {
                Box::pin(build::handle(self, exchange))
            }
            O::NetworkList
            | O::NetworkInspect
            | O::NetworkCreate
            | O::NetworkConnect
            | O::NetworkDisconnect
            | O::NetworkPrune
            | O::NetworkRemove => Box::pin(networks::handle(self, exchange)),
            O::VolumeList
            | O::VolumeInspect
            | O::VolumeCreate
            | O::VolumePrune
            | O::VolumeUpdate
            | O::VolumeRemove => Box::pin(volumes::handle(self, exchange)),
            O::DebugVars
            | O::DebugProfiles
            | O::PluginList
            | O::PluginInspect
            | O::PluginPrivileges
            | O::PluginRemove
            | O::PluginEnable
            | O::PluginDisable
            | O::PluginPull
            | O::PluginPush
            | O::PluginUpgrade
            | O::PluginSet
            | O::PluginCreate
            | O::SwarmInspect
            | O::SwarmInit
            | O::SwarmJoin
            | O::SwarmLeave
            | O::SwarmUpdate
            | O::SwarmUnlockKey
            | O::SwarmUnlock
            | O::ServiceList
            | O::ServiceInspect
            | O::ServiceCreate
            | O::ServiceUpdate
            | O::ServiceRemove
            | O::ServiceLogs
            | O::NodeList
            | O::NodeInspect
            | O::NodeUpdate
            | O::NodeRemove
            | O::TaskList
            | O::TaskInspect
            | O::TaskLogs
            | O::SecretList
            | O::SecretInspect
            | O::SecretCreate
            | O::SecretUpdate
            | O::SecretRemove
            | O::ConfigList
            | O::ConfigInspect
            | O::ConfigCreate
            | O::ConfigUpdate
            | O::ConfigRemove => Box::pin(elsewhere::handle(self, exchange)),
        }
    }

    /// What the headers of this moment's replies say.
    fn identity(&self) -> Identity {
        system::identity(self)
    }

    /// The container that `reference` means, and its node (api-matrix 1.5).
    pub(crate) fn container(
        &self,
        reference: &str,
    ) -> Result<(Arc<Host>, Arc<Container>), ApiError> {
        let found = self.fleet.inventory.find(reference).sole(reference);
        let found = found.map_err(|ambiguous| ApiError::bad_parameter(ambiguous.to_string()))?;
        let Some(container) = found else {
            if let Some((host, _)) = self.manager.out_of_sight(reference) {
                host.ready().map_err(reply::from_engine)?;
            }
            return Err(ApiError::not_found(format!(
                "No such container: {reference}"
            )));
        };
        let host = self.fleet.host(&container.host.id).ok_or_else(|| {
            ApiError::unavailable(format!("node {} has left the cluster", container.host.name))
        })?;
        Ok((host, container))
    }

    /// The node on which an exec instance lives.
    pub(crate) async fn exec_host(&self, id: &str) -> Result<Arc<Host>, ApiError> {
        exec::host(self, id).await
    }
}

/// Whether an operation has several steps that belong together: a client that leaves between two of them
/// must not leave a name reserved or a change half recorded.
fn is_finished_without_its_client(operation: Operation) -> bool {
    use Operation as O;
    matches!(
        operation,
        O::ContainerCreate
            | O::ContainerStart
            | O::ContainerStop
            | O::ContainerRestart
            | O::ContainerKill
            | O::ContainerPause
            | O::ContainerUnpause
            | O::ContainerRename
            | O::ContainerUpdate
            | O::ContainerRemove
            | O::ContainerPrune
            | O::Commit
            | O::ImageTag
            | O::ImageRemove
            | O::NetworkCreate
            | O::NetworkConnect
            | O::NetworkDisconnect
            | O::NetworkRemove
            | O::NetworkPrune
            | O::VolumeCreate
            | O::VolumeRemove
            | O::VolumePrune
    )
}

/// Whether an engine would have written this into a connection that it had taken over, without any header of its own.
fn is_in_place_of_a_stream(reply: &Reply) -> bool {
    let content_type = reply.headers().get(CONTENT_TYPE);
    reply.status().is_client_error() && content_type.is_some_and(|value| value == RAW_STREAM)
}

fn refused_version(identity: &Identity, unsupported: &Unsupported) -> Reply {
    let mut reply = reply::unsupported(unsupported);
    identity.put_on_refused_version(reply.headers_mut());
    reply
}

fn redirect(location: &str) -> Reply {
    let mut reply = reply::status(StatusCode::MOVED_PERMANENTLY);
    if let Ok(location) = HeaderValue::from_str(location) {
        reply.headers_mut().insert(LOCATION, location);
    }
    reply
}

fn undecodable() -> Reply {
    let mut reply = reply::status(StatusCode::BAD_REQUEST);
    *reply.body_mut() = crate::engine::full(BAD_REQUEST_BODY);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(PLAIN_CONTENT_TYPE));
    reply
        .headers_mut()
        .insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    reply
}
