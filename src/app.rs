//! Wires the parts together, starts the tasks, and drains them at the end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock;
use crate::config::{Config, Listen, Names};
use crate::engine::{Fleet, Transports};
use crate::manager::{self, Manager, Member};
use crate::model::ClusterId;
use crate::proxy::{self, Listener, Proxy, SocketFile};
use crate::tasks::Tasks;

/// Why a manager could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing can be kept.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another manager keeps its data there.
    #[error("another manager uses the data directory {}: stop it, or give this one another with --data", path.display())]
    DataInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The cluster's id on disk is none.
    #[error("{} holds no cluster id: restore it, or remove it to begin a new cluster", path.display())]
    BadClusterId {
        /// The file.
        path: PathBuf,
    },
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
    let data = Data::open(&config.data)?;
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
    };
    let manager = Manager::found(settings, Arc::clone(&fleet)).await?;
    manager.pool(members(&config), observed, &tasks).await;
    let proxy = Arc::new(Proxy::new(
        Arc::clone(&manager),
        fleet,
        proxy::Settings {
            max_body: config.max_body,
            cluster_name: config.cluster_name.clone(),
            advertise: config.api_advertise,
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

async fn until_told(manager: &Manager) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        reason = manager.failed() => Err(Error::Store(reason)),
    }
}

fn members(config: &Config) -> Vec<Member> {
    config
        .engines
        .iter()
        .map(|engine| Member {
            endpoint: engine.endpoint.clone(),
            name: engine.name.clone(),
            address: engine.address.clone(),
        })
        .collect()
}

/// The data directory: locked while it lives.
struct Data {
    cluster: ClusterId,
    _lock: File,
}

impl Data {
    fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Data {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::DataInUse {
            path: path.to_owned(),
        })?;
        Ok(Self {
            cluster: cluster_id(path)?,
            _lock: lock,
        })
    }
}

/// The cluster's id: made at the first start, the same ever after, because containers carry it.
fn cluster_id(data: &Path) -> Result<ClusterId, Error> {
    let path = data.join("cluster-id");
    let failed = |source| Error::Data {
        path: path.clone(),
        source,
    };
    match File::open(&path) {
        Ok(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(failed)?;
            text.trim()
                .parse()
                .map_err(|_| Error::BadClusterId { path: path.clone() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let cluster = ClusterId::from_bytes(clock::random_bytes());
            // Whole or not at all: a half-written id would orphan every container.
            let draft = data.join("cluster-id.new");
            let mut file = File::create(&draft).map_err(failed)?;
            writeln!(file, "{cluster}")
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
            std::fs::rename(&draft, &path).map_err(failed)?;
            File::open(data)
                .and_then(|directory| directory.sync_all())
                .map_err(failed)?;
            Ok(cluster)
        }
        Err(error) => Err(failed(error)),
    }
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
