//! The entry point: published ports of the pool's containers, at the manager.
//!
//! `docker run -p 8080:80` answers on port 8080 of this machine as well as of its node. The decisions are in `book` (who
//! answers on which port) and in [`Cluster::ports`](crate::state::Cluster::ports) (who else holds it); here are the
//! listeners.
//!
//! | module | what |
//! | --- | --- |
//! | `book` | who shares a port, who owns it; pure |
//! | `backends` | whose turn it is, who is left out for a while |
//! | `tcp`, `udp` | passing on |
//!
//! **Invariant**: nobody else listens on published ports; and never on one that a container of this machine's own engine
//! publishes, running or not: the engine listens there.

mod backends;
mod book;
mod bulk;
mod tcp;
mod udp;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft_store::watch;
use rustix::process::Resource;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::Semaphore;

use self::backends::{Backends, Target};
use self::book::{Backend, Book, Group, PoolPort, Serving};
use crate::engine::{Container, Endpoint, Fleet, HostTag, RunState};
use crate::manager::{Created, Manager};
use crate::model::{ContainerId, NodeId, PortClaim, PortOrigin, Protocol};
use crate::tasks::{Stopping, Tasks};

/// So many connections may be open through the entry point, two sockets each, if this process may have so many.
const CONNECTIONS: u64 = 32_768;
/// So many descriptors are left to everything else: clients of the API, engines, the log.
const OTHERS: u64 = 2048;
/// How long a start waits for nodes to be listed: so often, with so much between.
const LISTED_TRIES: usize = 60;
/// See [`LISTED_TRIES`].
const LISTED_PERIOD: Duration = Duration::from_millis(50);
/// How often a port that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A change of a container waits so long for its ports: names of nodes may have to be resolved first.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(1);
/// So many connections may wait to be accepted on one port.
const BACKLOG: u32 = 1024;

/// What the managers listen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Nothing: containers are reached at their nodes.
    Off,
    /// Ports of services.
    Services,
    /// Ports of services and of plain containers.
    #[default]
    All,
}

/// The published ports at this manager.
#[derive(Debug)]
pub struct EntryPoint {
    scope: Scope,
    manager: Arc<Manager>,
    fleet: Arc<Fleet>,
    tasks: Tasks,
    book: Mutex<Book>,
    doors: tokio::sync::Mutex<BTreeMap<PoolPort, Door>>,
    /// Ports that somebody else has, and whether that was told.
    blocked: Mutex<BTreeMap<PoolPort, String>>,
    /// Which nodes are this machine, as far as that was found out.
    here: Mutex<BTreeMap<NodeId, bool>>,
    room: Arc<Semaphore>,
    /// How much of [`Inventory::published_news`](crate::engine::Inventory::published_news) is arranged.
    arranged: watch::Sender<u64>,
}

/// A port that is listened on.
#[derive(Debug)]
struct Door {
    backends: Arc<Backends>,
    closing: watch::Sender<bool>,
    closed: watch::Receiver<bool>,
}

impl Door {
    /// Stops listening; connections that are open go on. When this returns, another may listen there.
    async fn close(mut self) {
        self.closing.send_replace(true);
        let _ = self.closed.wait_for(|closed| *closed).await;
    }
}

impl EntryPoint {
    /// Listens on nothing before [`run`](Self::run).
    pub fn new(scope: Scope, manager: Arc<Manager>, fleet: Arc<Fleet>, tasks: Tasks) -> Arc<Self> {
        if scope == Scope::All {
            manager.avoid_ports(is_taken);
        }
        Arc::new(Self {
            scope,
            manager,
            fleet,
            tasks,
            book: Mutex::default(),
            doors: tokio::sync::Mutex::default(),
            blocked: Mutex::default(),
            here: Mutex::default(),
            room: Arc::new(Semaphore::new(connections())),
            arranged: watch::Sender::new(0),
        })
    }

    /// Follows what containers publish, until the manager stops.
    pub async fn run(self: Arc<Self>, mut stopping: Stopping) {
        if self.scope != Scope::All {
            return stopping.wait().await;
        }
        self.until_all_are_listed().await;
        let mut news = self.fleet.inventory.follow_published();
        loop {
            let told = *news.borrow_and_update();
            for port in self.changed_ports() {
                self.arrange(port).await;
            }
            self.arranged.send_replace(told);
            let is_blocked = !lock(&self.blocked).is_empty();
            let again = async {
                match is_blocked {
                    true => tokio::time::sleep(RETRY).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopping.wait() => break,
                changed = news.changed() => if changed.is_err() { break },
                () = again => self.try_blocked().await,
            }
        }
        let doors = std::mem::take(&mut *self.doors.lock().await);
        for door in doors.into_values() {
            door.close().await;
        }
        self.arranged.send_replace(u64::MAX);
    }

    /// Returns once this manager listens on what the container publishes now, and on nothing else of it: whoever is told
    /// that it has started can connect, as on an engine.
    pub async fn follows(&self, container: &Container) {
        let now = self.fleet.inventory.get(&container.id);
        let now_publishes = now.is_some_and(|now| !now.published.is_empty());
        if now_publishes || !container.published.is_empty() {
            let news = self.fleet.inventory.published_news();
            let mut arranged = self.arranged.subscribe();
            let follows = arranged.wait_for(|arranged| *arranged >= news);
            let _ = tokio::time::timeout(FOLLOW_PATIENCE, follows).await;
        }
        // It may have been what this container was promised, running or not, that kept a port from us.
        let _ = tokio::time::timeout(FOLLOW_PATIENCE, self.try_blocked()).await;
    }

    /// Tries to listen where somebody else did.
    async fn try_blocked(&self) {
        let blocked: Vec<_> = lock(&self.blocked).keys().copied().collect();
        for port in blocked {
            self.arrange(port).await;
        }
    }

    /// Lets go of the ports that a container of this machine's engine is about to listen on.
    pub async fn make_way(&self, host: &HostTag, container: &Container) {
        if self.scope == Scope::Off || !self.is_here(host).await {
            return;
        }
        let cluster = self.manager.cluster();
        let placement = container
            .request
            .and_then(|request| cluster.placement(request));
        let Some(placement) = placement else { return };
        for claim in &placement.ports {
            let door = self.doors.lock().await.remove(&pool_port(claim));
            if let Some(door) = door {
                door.close().await;
            }
        }
    }

    /// What a container that publishes these ports should know of them: who answers at the managers in its place.
    pub fn warnings(&self, created: &Created) -> Vec<String> {
        let node = &created.node;
        let book = lock(&self.book);
        let on_all = |claim: &&PortClaim| {
            claim.port.address.is_none() && claim.origin != PortOrigin::Exposed
        };
        let told = created.ports.iter().filter(on_all).filter_map(|claim| {
            let others = book.others(pool_port(claim), claim.group.as_deref());
            let other = self.fleet.inventory.get(&others.first()?.container)?;
            (other.host.name != *node).then_some(())?;
            Some(format!(
                "port {} of the pool leads to container {} on {}; this container is reached at {node}:{} only: give both the \
                 label com.flotilla.entry to share the port, or publish another",
                claim.port.number,
                other.name(),
                other.host.name,
                claim.port.number
            ))
        });
        told.collect()
    }

    /// Takes in what containers publish now. Returns the ports that this is about.
    fn changed_ports(&self) -> BTreeSet<PoolPort> {
        let ids = self.fleet.inventory.take_published();
        let now = |id| self.fleet.inventory.get(&id).and_then(|c| serving(&c));
        let mut changes: Vec<_> = ids.into_iter().map(|id| (id, now(id))).collect();
        // Of several that appear at once, as after a start of the manager, who came first has the port.
        changes.sort_by_key(|(_, serving)| serving.as_ref().map(|serving| serving.since));
        let mut touched = BTreeSet::new();
        for (id, serving) in changes {
            touched.append(&mut lock(&self.book).set(id, serving));
        }
        touched
    }

    /// After a start of the manager: who has a port shows when all nodes that are up were listed.
    async fn until_all_are_listed(&self) {
        for _ in 0..LISTED_TRIES {
            let hosts = self.fleet.hosts();
            if hosts.values().all(|host| host.is_synced() || !host.is_up()) {
                return;
            }
            tokio::time::sleep(LISTED_PERIOD).await;
        }
    }

    /// Makes what is listened on agree with the book. Whoever comes later knows no less.
    async fn arrange(&self, port: PoolPort) {
        let mut doors = self.doors.lock().await;
        let targets = self.targets(&lock(&self.book).backends(port));
        let may = match targets.is_empty() {
            true => Ok(false),
            false => self.may_listen(port).await.map(|()| true),
        };
        match may {
            Ok(true) => {
                if let Some(door) = doors.get(&port) {
                    return door.backends.set(targets);
                }
                match self.open(port, targets).await {
                    Ok(door) => {
                        doors.insert(port, door);
                        lock(&self.blocked).remove(&port);
                    }
                    Err(error) => self.note_blocked(port, &error.to_string()),
                }
            }
            refused => {
                if let Some(door) = doors.remove(&port) {
                    door.close().await;
                }
                match refused {
                    Err(holder) => self.note_blocked(port, &holder),
                    Ok(_) => drop(lock(&self.blocked).remove(&port)),
                }
            }
        }
    }

    fn note_blocked(&self, port: PoolPort, why: &str) {
        let told = lock(&self.blocked).insert(port, why.to_owned());
        if told.as_deref() != Some(why) {
            tracing::warn!(
                port = port.number,
                protocol = %port.protocol,
                why,
                "not listening on a published port: its containers are reached at their nodes only"
            );
        }
    }

    /// Fails with who has it, if a container of this machine's own engine publishes the port.
    async fn may_listen(&self, port: PoolPort) -> Result<(), String> {
        let cluster = self.manager.cluster();
        let publishers: Vec<_> = cluster
            .ports()
            .published_on(port.protocol, port.number)
            .collect();
        for node in publishers {
            let host = self.fleet.host(&node);
            if let Some(host) = host
                && self.is_here(&host.tag).await
            {
                return Err(format!(
                    "a container of node {}, which is this machine, publishes it",
                    host.tag.name
                ));
            }
        }
        Ok(())
    }

    fn targets(&self, backends: &[Backend]) -> Vec<Target> {
        let found = backends.iter().filter_map(|backend| {
            let host = self.fleet.host(&backend.node)?;
            let address = reached_at(&host.tag).into();
            Some(Target {
                backend: *backend,
                host,
                address,
            })
        });
        found.collect()
    }

    async fn open(&self, port: PoolPort, targets: Vec<Target>) -> io::Result<Door> {
        let backends = Arc::new(Backends::default());
        backends.set(targets);
        let (closing, closed) = (watch::Sender::new(false), watch::Sender::new(false));
        let door = Door {
            backends: Arc::clone(&backends),
            closed: closed.subscribe(),
            closing,
        };
        let told = door.closing.subscribe();
        let span = tracing::info_span!("entry", port = port.number, protocol = %port.protocol);
        match port.protocol {
            Protocol::Udp => {
                let socket = bind_udp(port.number)?;
                self.tasks.spawn(span, async move {
                    udp::serve(port, socket, backends, told).await;
                    closed.send_replace(true);
                });
            }
            _ => {
                let listener = bind_tcp(port.number)?;
                let room = Arc::clone(&self.room);
                self.tasks.spawn(span, async move {
                    tcp::serve(port, listener, backends, room, told).await;
                    closed.send_replace(true);
                });
            }
        }
        tracing::debug!(port = port.number, protocol = %port.protocol, "listening on a published port");
        Ok(door)
    }

    /// Whether a node is this machine: its engine is reached by a socket file, or has an address of ours.
    async fn is_here(&self, host: &HostTag) -> bool {
        if let Some(known) = lock(&self.here).get(&host.id) {
            return *known;
        }
        let is_here = match host.endpoint {
            Endpoint::Unix(_) => Some(true),
            _ => is_own(reached_at(host)).await,
        };
        if let Some(is_here) = is_here {
            lock(&self.here).insert(host.id, is_here);
        }
        // A name that nobody can resolve now is asked for again.
        is_here.unwrap_or(false)
    }
}

/// How many connections there is room for.
fn connections() -> usize {
    let most = rustix::process::getrlimit(Resource::Nofile).current;
    let room = most.map_or(CONNECTIONS, |most| most.saturating_sub(OTHERS) / 2);
    usize::try_from(room.clamp(64, CONNECTIONS)).unwrap_or(64)
}

/// What a container serves at the managers; nothing if it does not run, is not well, is not ours, or has its ports on an
/// address of its node only.
fn serving(container: &Container) -> Option<Serving> {
    container.request?;
    if container.state != RunState::Running || !container.is_well() {
        return None;
    }
    let published = container.published.iter();
    let mut ports: Vec<_> = published
        .filter(|port| port.address.is_none() && port.protocol != Protocol::Sctp)
        .map(|port| PoolPort {
            protocol: port.protocol,
            number: port.number,
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    (!ports.is_empty()).then(|| Serving {
        node: container.host.id,
        group: group_of(container.id, container.entry.as_deref()),
        since: container.since.started.unwrap_or(container.created_nanos),
        ports,
    })
}

fn group_of(id: ContainerId, name: Option<&str>) -> Group {
    name.map_or(Group::Alone(id), |name| Group::Named(name.into()))
}

fn pool_port(claim: &PortClaim) -> PoolPort {
    PoolPort {
        protocol: claim.port.protocol,
        number: claim.port.number,
    }
}

/// Where published ports of a node are reached from here.
fn reached_at(host: &HostTag) -> &str {
    let given = host.address.as_deref();
    given
        .or_else(|| host.endpoint.published_address())
        .unwrap_or("127.0.0.1")
}

/// Whether a name or an address is one of this machine's: only those can be bound.
/// Nothing if the name cannot be resolved.
async fn is_own(name: &str) -> Option<bool> {
    for address in tokio::net::lookup_host((name, 0)).await.ok()? {
        if address.ip().is_loopback() || UdpSocket::bind(address).await.is_ok() {
            return Some(true);
        }
    }
    Some(false)
}

/// All addresses of this machine, of both families if it has both.
fn every_address(number: u16) -> [SocketAddr; 2] {
    let v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    [(v6, number).into(), (v4, number).into()]
}

/// Whether something of this machine listens on the port.
fn is_taken(protocol: Protocol, number: u16) -> bool {
    let in_use =
        |bound: io::Result<()>| bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    match protocol {
        Protocol::Tcp => in_use(bind_tcp(number).map(drop)),
        Protocol::Udp => in_use(bind_udp(number).map(drop)),
        _ => false,
    }
}

fn bind_tcp(number: u16) -> io::Result<TcpListener> {
    let [both, v4] = every_address(number);
    let bind = |address: SocketAddr| {
        let socket = match address {
            SocketAddr::V6(_) => TcpSocket::new_v6(),
            SocketAddr::V4(_) => TcpSocket::new_v4(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind(both).or_else(|error| {
        if has_no_v6(&error) {
            bind(v4)
        } else {
            Err(error)
        }
    })
}

fn bind_udp(number: u16) -> io::Result<UdpSocket> {
    let [both, v4] = every_address(number);
    let bind = |address| {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    match bind(both) {
        Err(error) if has_no_v6(&error) => bind(v4),
        bound => bound,
    }
}

fn has_no_v6(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97)
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
