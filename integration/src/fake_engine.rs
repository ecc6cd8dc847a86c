//! A fleet of fake engines for sizes that no machine has: as many as wanted, each with as many containers as wanted,
//! all in this process.
//!
//! They are the engines of the simulation (`flotilla::sim::engine`), served on sockets: the slice of the Engine API that
//! a manager uses, in the words of a real 28.5.2 engine (`tests/fake_engine.rs` holds them against one).
//!
//! **Invariant**: a fleet ends with its owner: its runtime, its sockets and its followers are dropped with it.

mod paced;
mod pull;
mod serve;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;

pub use flotilla::sim::engine::Engine;
pub use paced::Pace;

use flotilla::sim::engine::Identity;
use serve::{Behind, Listener, Manners, Served};

/// What fake engines listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Sockets in a folder of the fleet's own.
    Unix,
    /// Ports of the loopback address.
    Tcp,
}

/// A fleet that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// How many engines.
    pub engines: usize,
    /// How many running containers each has at first.
    pub containers: usize,
    /// Whether these carry the labels of compose projects: five containers to each of `p0`, `p1`, …
    pub labelled: bool,
    /// What they listen on.
    pub transport: Transport,
    /// How long a create takes, and a start.
    pub create_and_start: (Duration, Duration),
    /// What logs, attach and archive streams send.
    pub stream: Pace,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            engines: 1,
            containers: 0,
            labelled: false,
            transport: Transport::Unix,
            create_and_start: (Duration::ZERO, Duration::ZERO),
            stream: Pace {
                bytes: 1 << 20,
                bytes_per_second: 200_000_000,
            },
        }
    }
}

impl Spec {
    /// So many engines with so many containers each.
    #[must_use]
    pub fn sized(engines: usize, containers: usize) -> Self {
        Self {
            engines,
            containers,
            ..Self::default()
        }
    }
}

/// Each engine has so much, so that room never runs out.
const CPUS: u64 = 4096;
const MEMORY_BYTES: u64 = 16 << 40;
/// The threads of a fleet: a real fleet has at least as many.
const THREADS: usize = 2;

/// Fake engines that listen.
#[derive(Debug)]
pub struct Fleet {
    engines: Vec<Arc<Engine>>,
    endpoints: Vec<String>,
    served: Arc<Served>,
    runtime: Option<Runtime>,
    _folder: TempDir,
}

impl Fleet {
    /// Starts them.
    pub fn start(spec: &Spec) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("fake-engines")
            .tempdir()
            .context("no folder for sockets")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("fake-engines")
            .enable_all()
            .build()
            .context("no runtime")?;
        let served = Arc::new(Served::default());
        let manners = Manners {
            create: spec.create_and_start.0,
            start: spec.create_and_start.1,
            stream: spec.stream,
        };
        let (mut engines, mut endpoints) = (Vec::new(), Vec::new());
        for number in 0..spec.engines {
            let identity = Identity {
                number: number as u64,
                name: format!("n{number}"),
                cpus: CPUS,
                memory_bytes: MEMORY_BYTES,
                gpus: 0,
            };
            let engine = Arc::new(Engine::new(identity, spec.containers, spec.labelled));
            let (listener, endpoint) = runtime
                .block_on(bind(spec.transport, folder.path(), number))
                .with_context(|| format!("engine {number} cannot listen"))?;
            let behind = Behind {
                engine: Arc::clone(&engine),
                served: Arc::clone(&served),
                manners,
            };
            runtime.spawn(serve::listen(listener, Arc::new(behind)));
            engines.push(engine);
            endpoints.push(endpoint);
        }
        Ok(Self {
            engines,
            endpoints,
            served,
            runtime: Some(runtime),
            _folder: folder,
        })
    }

    /// The engines, in the order of their endpoints.
    #[must_use]
    pub fn engines(&self) -> &[Arc<Engine>] {
        &self.engines
    }

    /// Where they listen.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// How many containers have been inspected.
    #[must_use]
    pub fn inspects(&self) -> u64 {
        self.served.inspects.load(Ordering::Relaxed)
    }

    /// How many images were pulled, and the most at a time.
    #[must_use]
    pub fn pulls(&self) -> (u64, u64) {
        self.served.pulls.counts()
    }

    /// How many other requests were answered, pings and event streams left out.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.served.others.load(Ordering::Relaxed)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn bind(transport: Transport, folder: &Path, number: usize) -> Result<(Listener, String)> {
    Ok(match transport {
        Transport::Unix => {
            let path = folder.join(format!("{number}.sock"));
            let listener = UnixListener::bind(&path)?;
            (
                Listener::Unix(listener),
                format!("unix://{}", path.display()),
            )
        }
        Transport::Tcp => {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
            let address = listener.local_addr()?;
            (Listener::Tcp(listener), format!("tcp://{address}"))
        }
    })
}
