//! Wires the parts together, starts the tasks, and drains them at the end.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::balance::EntryPoint;
use crate::config::{Config, Listen, MissingBind, Names};
use crate::data::{self, Data};
use crate::engine::{Fleet, Transports};
use crate::manager::{self, Manager, Member};
use crate::proxy::{self, Listener, Proxy, SocketFile};
use crate::tasks::Tasks;

/// Why a manager could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing can be kept, or what was kept cannot be trusted.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// Nobody can connect there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The cluster could not be founded.
    #[error(transparent)]
    Manager(#[from] manager::Error),
    /// The store can no longer be trusted.
    #[error("the store has failed: {0}")]
    Store(String),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signal(io::Error),
}

/// Runs a manager until it is told to stop.
pub async fn run(config: Config) -> Result<(), Error> {
    allow_descriptors();
    let data = open(config.data.clone()).await?;
    let mut listeners = Vec::new();
    for listen in &config.listen {
        listeners.push(bind(listen).await?);
    }
    let tasks = Tasks::new();
    let (fleet, observed) = Fleet::new(config.node_timeout, Arc::new(Transports), tasks.clone());
    let settings = manager::Settings {
        cluster: data.cluster,
        cluster_name: config.cluster_name.clone(),
        prefix_names: config.names == Names::Node,
        given_names: config.given_names(),
        random_ports: config.random_ports,
        placing: config.placing,
    };
    let log = manager::Log {
        store: data.store,
        member: data.member,
        seal: data.seal,
    };
    let manager = Manager::open(settings, log, Arc::clone(&fleet), tasks.clone()).await?;
    let is_new = manager.cluster().nodes().next().is_none();
    manager.pool(members(&config, is_new), observed).await;
    let entry = EntryPoint::new(
        config.entry_point,
        Arc::clone(&manager),
        Arc::clone(&fleet),
        tasks.clone(),
    );
    tasks.spawn(
        tracing::info_span!("entry point"),
        Arc::clone(&entry).run(tasks.stopping()),
    );
    let proxy = Arc::new(Proxy::new(
        Arc::clone(&manager),
        fleet,
        entry,
        proxy::Settings {
            max_body: config.max_body,
            cluster_name: config.cluster_name.clone(),
            advertise: config.api_advertise,
            pull_to: config.pull_to,
            refuses_missing_paths: config.missing_bind == MissingBind::Refuse,
        },
    ));
    for (listener, address) in listeners.into_iter().zip(&config.listen) {
        tracing::info!(%address, "listening");
        tasks.spawn(
            tracing::info_span!("listen", %address),
            proxy::serve(listener, Arc::clone(&proxy), tasks.stopping()),
        );
    }
    let outcome = until_told(&manager).await;
    tracing::info!(
        open = proxy.open().count(),
        "stopping: what is under way may finish"
    );
    let left = tasks.stop_and_wait(proxy.open().none(), config.drain).await;
    if left > 0 {
        tracing::warn!(
            tasks = left,
            connections = proxy.open().count(),
            "stopped with work under way"
        );
    }
    manager.shut_down().await;
    outcome
}

/// Every connection is a descriptor, and the usual limit (1,024) is for programs that may use `select`.
fn allow_descriptors() {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limits) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// Reading a long log takes its time, which the runtime's threads do not have.
async fn open(path: PathBuf) -> Result<Data, Error> {
    let opening = tokio::task::spawn_blocking(move || Data::open(&path));
    let opened = opening
        .await
        .map_err(|panic| Error::Store(panic.to_string()))?;
    Ok(opened?)
}

async fn until_told(manager: &Manager) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        reason = manager.failed() => Err(Error::Store(reason)),
    }
}

/// The engines of the settings.
fn members(config: &Config, is_new: bool) -> Vec<Member> {
    config
        .engines
        .iter()
        .filter(|engine| is_new || !engine.assumed)
        .map(|engine| Member {
            endpoint: engine.endpoint.clone(),
            name: engine.name.clone(),
            address: engine.address.clone(),
        })
        .collect()
}

async fn bind(listen: &Listen) -> Result<Listener, Error> {
    let failed = |source| Error::Listen {
        address: listen.to_string(),
        source,
    };
    match listen {
        Listen::Unix(path) => bind_unix(path).await.map_err(failed),
        Listen::Tcp(address) => bind_tcp(*address).await.map_err(failed),
    }
}

async fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    Ok(Listener::Tcp(TcpListener::bind(address).await?))
}

/// A socket that nobody answers on is left from a manager that was killed: it is replaced.
async fn bind_unix(path: &Path) -> io::Result<Listener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process listens there",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // As dockerd's: whoever may open it is root on every node.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(Listener::Unix(listener, SocketFile(path.to_owned())))
}
