//! Keeps the inventory true to one engine: follows its events, reads again what they touch, and starts
//! over when the stream breaks.
//!
//! One task owns all of it; everything that happens to it is one arm of one `select!`.
//!
//! **Invariant**: a waiter never hangs: a read that cannot succeed, the sync after a stream that broke, and the loss of
//! the node all wake it.

mod commands;
mod events;
mod links;
mod reads;
mod session;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http_body_util::BodyExt as _;
use raft_store::watch;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::container::{Container, Details, Since, Unlisted};
use super::error::Error;
use super::health::Verdict;
use super::host::{Command, Health, Host, ListKind};
use super::inventory::Inventory;
use super::reads::Inspected;
use super::rereads::{Read, Rereads};
use super::ring::Ring;
use crate::clock;
use crate::model::{ContainerId, NodeId, RequestId};
use crate::tasks::Stopping;

/// Past events are replayed at once when a stream is opened.
const HISTORY_COMES_FIRST: Duration = Duration::from_secs(5);
/// Between two attempts to follow an engine that answers probes but not this.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// What the leader wants to hear of containers that hold placements.
#[derive(Debug)]
pub enum Observation {
    /// All containers of the node have been listed.
    Synced(NodeId),
    /// The claims of all containers of the node are known.
    Counted(NodeId),
    /// The volumes of the node have been listed again.
    VolumesListed(NodeId),
    /// A container of ours changed.
    Changed(ContainerId),
    /// Networks of the cluster on the node may be needed there no more: they were listed anew, or a container that is
    /// not ours has left one.
    Networks(NodeId),
    /// A container of ours is gone from its engine.
    Gone {
        /// The container.
        container: ContainerId,
        /// What it was made for.
        request: RequestId,
    },
    /// Nothing was observed: whoever holds the other end hears that all before it was taken in.
    Mark(oneshot::Sender<()>),
}

/// What is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Container(ContainerId),
    List(ListKind),
}

/// A read that came back.
enum Landed {
    Container(ContainerId, Read, Result<Option<Box<Container>>, Error>),
    List(ListKind, Read, Result<(), Error>),
    Inspected(ContainerId, Result<Inspected, Error>),
}

/// Who waits for reads: woken when the last of them lets go of it.
type Waiter = Arc<oneshot::Sender<()>>;

type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

/// A create of ours that is under way.
#[derive(Debug, Default)]
struct CreateHold {
    container: Option<ContainerId>,
}

/// What events told of a container before its list item was read again.
#[derive(Debug, Default, Clone)]
struct Told {
    created: Option<i64>,
    since: Since,
    details: Option<Details>,
}

/// The task that watches one engine.
pub(super) struct Watcher {
    host: Arc<Host>,
    inventory: Arc<Inventory>,
    ring: Arc<Ring>,
    observations: mpsc::Sender<Observation>,
    commands: mpsc::Receiver<Command>,
    stopping: Stopping,
    rereads: Rereads<Object, Waiter>,
    flights: FuturesUnordered<Flight>,
    creates: HashMap<RequestId, CreateHold>,
    told: BTreeMap<ContainerId, Told>,
    /// Whom a container linked that is gone while we remove it: they are read again when that is done.
    parted: BTreeMap<ContainerId, Vec<ContainerId>>,
    /// Who waits for a change that was made while no events came: the next sync shows it.
    blind: Vec<Waiter>,
    inspects: VecDeque<ContainerId>,
    inspecting: usize,
    /// All watchers take turns.
    inspect_turns: Arc<Semaphore>,
    /// The engine's time of the last event, for resuming.
    last_event: Option<i64>,
    /// What was seen in the last second before [`Self::last_event`], so that resuming repeats nothing.
    recent: VecDeque<(i64, String)>,
    /// The engine's clock less ours.
    clock_ahead_nanos: i64,
}

impl Watcher {
    pub(super) fn new(
        host: Arc<Host>,
        inventory: Arc<Inventory>,
        ring: Arc<Ring>,
        observations: mpsc::Sender<Observation>,
        commands: mpsc::Receiver<Command>,
        inspect_turns: Arc<Semaphore>,
        stopping: Stopping,
    ) -> Self {
        Self {
            host,
            inventory,
            ring,
            observations,
            commands,
            stopping,
            rereads: Rereads::default(),
            flights: FuturesUnordered::new(),
            creates: HashMap::new(),
            told: BTreeMap::new(),
            parted: BTreeMap::new(),
            blind: Vec::new(),
            inspects: VecDeque::new(),
            inspecting: 0,
            inspect_turns,
            last_event: None,
            recent: VecDeque::new(),
            clock_ahead_nanos: 0,
        }
    }

    /// Watches until the manager stops. `promised` is shown until the engine has listed what it has.
    pub(super) async fn run(mut self, promised: Vec<Unlisted>) {
        let mut stopping = self.stopping.clone();
        let mut health = self.host.watch_health();
        let host = Arc::clone(&self.host);
        self.show_promised(&promised).await;
        loop {
            tokio::select! {
                biased;
                () = stopping.wait() => return,
                () = host.until_left() => return self.leave(),
                // A lost engine may never break its stream off.
                () = lost(&mut health) => {}
                ended = self.session() => if let Err(error) = ended {
                    tracing::debug!(%error, "event stream ended");
                }
            }
            self.reset();
            self.host.hint.notify_one();
            tokio::select! {
                biased;
                () = stopping.wait() => return,
                () = host.until_left() => return self.leave(),
                () = self.idle() => {}
            }
        }
    }

    /// Shows what is there as far as that is known. A few at a time: a manager that starts has other things to do.
    async fn show_promised(&mut self, promised: &[Unlisted]) {
        const AT_ONCE: usize = 64;
        for some in promised.chunks(AT_ONCE) {
            for unlisted in some {
                match Container::unlisted(unlisted, &self.host.tag) {
                    Ok(container) => self.inventory.put(container),
                    Err(error) => {
                        tracing::warn!(%error, container = %unlisted.id, "a promise cannot be shown");
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Nothing of a node that was taken out is listed any more.
    fn leave(self) {
        let node = self.host.tag.id;
        self.inventory.replace_node(node, Vec::new());
    }

    /// Between two sessions: a lost node is not asked, and nobody waits for it.
    async fn idle(&mut self) {
        let mut health = self.host.watch_health();
        let up = async {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            let _ = health
                .wait_for(|health| health.verdict != Verdict::Down)
                .await;
        };
        tokio::pin!(up);
        loop {
            if !self.host.is_up() {
                self.blind.clear();
            }
            tokio::select! {
                biased;
                () = &mut up => return,
                Some(command) = self.commands.recv() => self.obey_blind(command),
                () = tokio::time::sleep(RECONNECT_PAUSE), if !self.blind.is_empty() => {}
            }
        }
    }

    /// One life of the event stream, from connect to break.
    async fn session(&mut self) -> Result<(), Error> {
        // Commands wait until the lists are here: those of a change that is done meanwhile may not show it yet.
        let opened = session::open(Arc::clone(&self.host), self.last_event).await?;
        self.clock_ahead_nanos = opened.clock_ahead_nanos;
        // What happened before this moment is history: the lists that were just read show it. Only events that come
        // now can be: later ones may bear older times, if the engine's clock is set back.
        let history = (opened.engine_nanos, clock::deadline(HISTORY_COMES_FIRST));
        let mut stream = opened.events;
        let mut lines = BytesMut::new();
        self.sync(opened.containers).await?;
        loop {
            self.launch_inspects();
            let overdue = self
                .rereads
                .next_deadline()
                .map(tokio::time::Instant::from_std);
            // What has the fewest pieces comes first: deadlines, then commands, of which each waits for an engine's answer,
            // then what was read; events come in floods.
            tokio::select! {
                biased;
                () = sleep_until(overdue) => {
                    for (object, read) in self.rereads.overdue(clock::instant()) {
                        self.launch(object, read);
                    }
                }
                Some(command) = self.commands.recv() => self.obey(command),
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => self.land(landed).await,
                frame = stream.frame() => {
                    let frame = match frame {
                        None => return Ok(()),
                        Some(Err(error)) => return Err(self.host.client.garbled(error)),
                        Some(Ok(frame)) => frame,
                    };
                    if let Ok(data) = frame.into_data() {
                        lines.extend_from_slice(&data);
                        self.take_lines(&mut lines, history).await?;
                    }
                }
            }
        }
    }

    /// Takes in all containers that the engine has. The list is not kept: it is as large as what is made of it.
    async fn sync(&mut self, body: Bytes) -> Result<(), Error> {
        let items: Vec<&RawValue> =
            serde_json::from_slice(&body).map_err(|error| self.host.client.garbled(error))?;
        let mut listed = Vec::with_capacity(items.len());
        let (mut second, mut rank) = (0, 0);
        for item in items {
            match Container::read(item.get().as_bytes(), &self.host.tag) {
                Ok(mut container) => {
                    // Newest first: those of one second keep the engine's order.
                    rank = if container.created_nanos == second {
                        rank + 1
                    } else {
                        0
                    };
                    second = container.created_nanos;
                    container.created_nanos += 999_999_999 - rank;
                    self.remember(&mut container, false);
                    self.inspects.push_back(container.id);
                    listed.push(container);
                }
                Err(error) => tracing::warn!(%error, "a container of this engine cannot be read"),
            }
        }
        let gone = self.ours_missing_from(&listed);
        self.inventory.replace_node(self.host.tag.id, listed);
        self.host.synced.send_replace(true);
        self.blind.clear();
        for observation in gone {
            self.observe(observation).await;
        }
        self.observe(Observation::Synced(self.host.tag.id)).await;
        self.note_counted().await;
        Ok(())
    }

    fn ours_missing_from(&self, listed: &[Container]) -> Vec<Observation> {
        let present: BTreeSet<_> = listed.iter().map(|c| c.id).collect();
        self.inventory
            .totals(&self.host.tag.id)
            .containers
            .difference(&present)
            .filter_map(|id| self.inventory.get(id))
            .filter_map(|c| {
                c.request.map(|request| Observation::Gone {
                    container: c.id,
                    request,
                })
            })
            .collect()
    }

    async fn observe(&mut self, observation: Observation) {
        // Nobody listens only when the manager stops.
        let _ = self.observations.send(observation).await;
    }

    /// Forgets what the broken stream left half done; who waits for it is served by the next sync.
    fn reset(&mut self) {
        self.blind.extend(self.rereads.clear());
        self.flights = FuturesUnordered::new();
        self.creates.clear();
        self.told.clear();
        self.parted.clear();
        self.inspects.clear();
        self.inspecting = 0;
    }
}

async fn lost(health: &mut watch::Receiver<Health>) {
    // An error means that the host has left the cluster: that is a loss too.
    let _ = health
        .wait_for(|health| health.verdict == Verdict::Down)
        .await;
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
