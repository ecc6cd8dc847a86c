//! All engines of the pool, what was observed of them, and the tasks that watch them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::Request;
use jiff::Timestamp;
use raft_store::watch;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::client::{Client, empty};
use super::container::{HostTag, Unlisted};
use super::dial::Dials;
use super::endpoint::Endpoint;
use super::error::Error;
use super::facts::{Facts, read_facts};
use super::health::{Monitor, REFUSALS_APART, Signal, Verdict};
use super::host::{Health, Host};
use super::images::Images;
use super::inventory::Inventory;
use super::ring::Ring;
use super::watcher::{Observation, Watcher};
use crate::clock;
use crate::model::{NodeId, NodeName};
use crate::tasks::Tasks;

/// How often an engine is probed, and how long one probe may take.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// However large the pool, an engine is probed this many times less often at most.
const PROBE_SELDOM: u32 = 5;
/// How soon an engine that did not answer is probed again.
const AFTER_SILENCE: Duration = Duration::from_millis(200);
/// The first contact with an engine may take so long.
const CONTACT_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests to one watcher that wait to be taken, and changes under way on its node.
const COMMANDS_WAITING: usize = 4096;
/// So many inspects of all engines are under way at a time: a fleet that has just been found must not
/// keep the manager from hearing its probes.
const INSPECTS_AT_ONCE: usize = 64;
/// Observations that the leader has not taken yet.
const OBSERVATIONS_WAITING: usize = 4096;

/// An engine that cannot be reached yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Since when nothing was heard of it, as far as is known.
    pub since: Timestamp,
    /// Why it is not there, in words.
    pub reason: String,
    /// What is there, as far as that is known; shown until the engine lists it.
    pub promised: Vec<Unlisted>,
}

/// All engines of the pool.
#[derive(Debug)]
pub struct Fleet {
    hosts: ArcSwap<BTreeMap<NodeId, Arc<Host>>>,
    /// The nodes that are down: nearly always none, so that lists need not ask each.
    lost: Arc<ArcSwap<BTreeMap<NodeId, Arc<Host>>>>,
    /// How many nodes there are.
    size: watch::Sender<usize>,
    /// Endpoints that have not answered yet, and why.
    joining: Mutex<BTreeMap<Endpoint, String>>,
    /// All their containers.
    pub inventory: Arc<Inventory>,
    /// All their events.
    pub ring: Arc<Ring>,
    observations: mpsc::Sender<Observation>,
    /// Who may inspect a container now.
    inspects: Arc<Semaphore>,
    node_timeout: Duration,
    dials: Arc<dyn Dials>,
    tasks: Tasks,
}

impl Fleet {
    /// No engines yet; `dials` says how they will be reached. `node_timeout`: how long an engine may be silent
    /// before it is taken for lost. The receiver gets what is observed of containers that hold placements.
    pub fn new(
        node_timeout: Duration,
        dials: Arc<dyn Dials>,
        tasks: Tasks,
    ) -> (Arc<Self>, mpsc::Receiver<Observation>) {
        let (observations, receiver) = mpsc::channel(OBSERVATIONS_WAITING);
        let fleet = Self {
            hosts: ArcSwap::default(),
            lost: Arc::default(),
            size: watch::Sender::new(0),
            joining: Mutex::default(),
            inventory: Arc::new(Inventory::new()),
            ring: Arc::new(Ring::new()),
            observations,
            inspects: Arc::new(Semaphore::new(INSPECTS_AT_ONCE)),
            node_timeout,
            dials,
            tasks,
        };
        (Arc::new(fleet), receiver)
    }

    /// Returns once the leader has taken in all that was observed by now.
    pub async fn observations_taken_in(&self) {
        let (taken_in, passed) = oneshot::channel();
        // Nobody listens only when the manager stops.
        let _ = self.observations.send(Observation::Mark(taken_in)).await;
        let _ = passed.await;
    }

    /// All nodes, in the order of their ids.
    pub fn hosts(&self) -> Arc<BTreeMap<NodeId, Arc<Host>>> {
        self.hosts.load_full()
    }

    /// All nodes, by name: the order in which people are shown them.
    pub fn by_name(&self) -> Vec<Arc<Host>> {
        let mut hosts: Vec<_> = self.hosts.load().values().cloned().collect();
        hosts.sort_by(|a, b| a.tag.name.cmp(&b.tag.name));
        hosts
    }

    /// The node with this id.
    pub fn host(&self, id: &NodeId) -> Option<Arc<Host>> {
        self.hosts.load().get(id).cloned()
    }

    /// The nodes that are down.
    pub fn lost(&self) -> Arc<BTreeMap<NodeId, Arc<Host>>> {
        self.lost.load_full()
    }

    /// The node of this name or id.
    pub fn named(&self, reference: &str) -> Option<Arc<Host>> {
        self.hosts
            .load()
            .values()
            .find(|host| host.tag.is(reference))
            .cloned()
    }

    /// The only node, in a pool of one.
    pub fn only(&self) -> Option<Arc<Host>> {
        let hosts = self.hosts.load();
        let mut all = hosts.values();
        match (all.next(), all.next()) {
            (Some(one), None) if self.joining().is_empty() => Some(Arc::clone(one)),
            _ => None,
        }
    }

    /// Endpoints that have not answered yet, with the reason in words.
    pub fn joining(&self) -> BTreeMap<Endpoint, String> {
        self.lock_joining().clone()
    }

    /// Notes why `endpoint` is not a node yet; nothing once it is.
    pub fn note_joining(&self, endpoint: &Endpoint, reason: Option<String>) {
        let mut joining = self.lock_joining();
        match reason {
            Some(reason) => joining.insert(endpoint.clone(), reason),
            None => joining.remove(endpoint),
        };
    }

    /// First contact: asks whoever listens at `endpoint` who it is. `name` is what errors call it until
    /// it has one.
    pub async fn contact(&self, endpoint: &Endpoint, name: &NodeName) -> Result<Facts, Error> {
        let client = Arc::new(Client::new(name.clone(), self.dials.dialler(endpoint)));
        tokio::time::timeout(CONTACT_TIMEOUT, read_facts(&client))
            .await
            .unwrap_or_else(|_| {
                Err(Error::Unreachable {
                    node: name.clone(),
                    source: std::io::Error::new(
                        std::io::ErrorKind::TimedOut,
                        format!(
                            "connected, but no answer within {}s",
                            CONTACT_TIMEOUT.as_secs()
                        ),
                    ),
                })
            })
    }

    /// Takes an engine in and begins to watch it. `absence` is for one that cannot be reached yet.
    pub fn add(&self, tag: HostTag, facts: Facts, absence: Option<Absence>) -> Arc<Host> {
        let dial = self.dials.dialler(&tag.endpoint);
        let client = Arc::new(Client::new(tag.name.clone(), Arc::clone(&dial)));
        client.set_window(facts.window);
        let probe = Arc::new(Client::new(tag.name.clone(), dial));
        let (commands, receiver) = mpsc::channel(COMMANDS_WAITING);
        let (health, promised) = match absence {
            None => {
                let last_seen = clock::now();
                let (verdict, reason) = (Verdict::Ready, String::new());
                (
                    Health {
                        verdict,
                        last_seen,
                        reason,
                    },
                    Vec::new(),
                )
            }
            Some(absence) => {
                let (verdict, last_seen) = (Verdict::Down, absence.since);
                let reason = absence.reason;
                (
                    Health {
                        verdict,
                        last_seen,
                        reason,
                    },
                    absence.promised,
                )
            }
        };
        let is_absent = health.verdict == Verdict::Down;
        let host = Arc::new(Host {
            tag: Arc::new(tag),
            client,
            health: watch::Sender::new(health),
            facts: ArcSwap::from_pointee(facts),
            images: ArcSwap::from_pointee(Images::default()),
            unlisted: Mutex::default(),
            networks: ArcSwap::default(),
            volumes: ArcSwap::default(),
            network_names: ArcSwap::default(),
            volume_names: ArcSwap::default(),
            volume_groups: ArcSwap::default(),
            synced: watch::Sender::new(false),
            counted: AtomicBool::new(false),
            estranged: ArcSwapOption::empty(),
            left: watch::Sender::new(false),
            commands,
            hint: Notify::new(),
            changes: Arc::clone(self.inventory.changes()),
        });
        let watcher = Watcher::new(
            Arc::clone(&host),
            Arc::clone(&self.inventory),
            Arc::clone(&self.ring),
            self.observations.clone(),
            receiver,
            Arc::clone(&self.inspects),
            self.tasks.stopping(),
        );
        let node = host.tag.name.clone();
        if is_absent {
            self.lost.rcu(|lost| {
                let mut lost = BTreeMap::clone(lost);
                lost.insert(host.tag.id, Arc::clone(&host));
                lost
            });
        }
        self.tasks
            .spawn(tracing::info_span!("watch", %node), watcher.run(promised));
        self.tasks.spawn(
            tracing::info_span!("probe", %node),
            probe_until_stopped(
                Arc::clone(&host),
                probe,
                Arc::clone(&self.lost),
                self.size.subscribe(),
                self.node_timeout,
                self.tasks.stopping(),
            ),
        );
        self.hosts.rcu(|hosts| {
            let mut hosts = BTreeMap::clone(hosts);
            hosts.insert(host.tag.id, Arc::clone(&host));
            hosts
        });
        self.size.send_replace(self.hosts.load().len());
        self.inventory.changes().note_images();
        host
    }

    /// Takes a node out: whoever waits for it is told, and nothing of it is listed any more when this returns.
    pub async fn remove(&self, id: &NodeId) {
        let Some(host) = self.host(id) else { return };
        let without = |hosts: &Arc<BTreeMap<NodeId, Arc<Host>>>| {
            let mut hosts = BTreeMap::clone(hosts);
            hosts.remove(id);
            hosts
        };
        self.hosts.rcu(without);
        self.lost.rcu(without);
        self.inventory.changes().note_images();
        self.size.send_replace(self.hosts.load().len());
        host.left.send_replace(true);
        host.show_health(|health| {
            health.verdict = Verdict::Down;
            health.reason = "it was removed from the cluster".to_owned();
            true
        });
        // The watcher owns what is listed, and its end of the queue.
        host.commands.closed().await;
    }

    /// What tells streams that the manager is stopping.
    pub fn stopping(&self) -> crate::tasks::Stopping {
        self.tasks.stopping()
    }

    fn lock_joining(&self) -> MutexGuard<'_, BTreeMap<Endpoint, String>> {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between two probes of an engine that answers. Large pools probe less often: an engine that is killed or
/// stopped breaks its event stream off, which is a hint to probe at once.
fn probe_pause(nodes: usize) -> Duration {
    let times = u32::try_from(nodes / 200).unwrap_or(u32::MAX);
    PROBE_EVERY * times.clamp(1, PROBE_SELDOM)
}

/// Probes one engine on a connection of its own, and says what is thought of it.
async fn probe_until_stopped(
    host: Arc<Host>,
    probe: Arc<Client>,
    lost: Arc<ArcSwap<BTreeMap<NodeId, Arc<Host>>>>,
    nodes: watch::Receiver<usize>,
    timeout: Duration,
    mut stopping: crate::tasks::Stopping,
) {
    let begin = if host.is_up() {
        Monitor::new
    } else {
        Monitor::lost
    };
    let mut monitor = begin(clock::instant(), timeout);
    let mut pause = PROBE_EVERY;
    loop {
        tokio::select! {
            biased;
            () = stopping.wait() => return,
            () = host.until_left() => return,
            () = tokio::time::sleep(pause) => {}
            () = host.hint.notified() => {}
        }
        // Who was away may have come back as somebody else.
        let (signal, reason) = if monitor.verdict() == Verdict::Down || host.is_estranged() {
            recognise(&host, &probe).await
        } else {
            ping(&probe).await
        };
        pause = match signal {
            Signal::Answered => probe_pause(*nodes.borrow()),
            Signal::Refused => REFUSALS_APART,
            // It has waited already.
            Signal::Missed => AFTER_SILENCE,
        };
        let changed = monitor.observe(signal, clock::instant());
        host.show_health(|health| {
            if signal == Signal::Answered {
                health.last_seen = clock::now();
                health.reason.clear();
            } else {
                health.reason = reason;
            }
            health.verdict = monitor.verdict();
            changed.is_some()
        });
        if let Some(verdict) = changed.filter(|_| !host.has_left()) {
            lost.rcu(|lost| {
                let mut lost = BTreeMap::clone(lost);
                if verdict == Verdict::Down {
                    lost.insert(host.tag.id, Arc::clone(&host));
                } else {
                    lost.remove(&host.tag.id);
                }
                lost
            });
            if verdict == Verdict::Down {
                host.client.give_up_connections();
            }
            report(&host, verdict);
        }
    }
}

fn report(host: &Host, verdict: Verdict) {
    let health = host.health();
    match verdict {
        Verdict::Ready => tracing::info!("node is ready"),
        Verdict::Suspect => tracing::info!(reason = health.reason, "node is suspect"),
        Verdict::Down => tracing::warn!(reason = health.reason, "node is down"),
    }
}

/// Asks who answers there; only this node's own engine will do.
async fn recognise(host: &Host, probe: &Arc<Client>) -> (Signal, String) {
    match ping(probe).await {
        (Signal::Answered, _) => {}
        other => return other,
    }
    match tokio::time::timeout(CONTACT_TIMEOUT, read_facts(probe)).await {
        Ok(Ok(facts)) => match host.recognise(facts) {
            Ok(()) => (Signal::Answered, String::new()),
            Err(error) => (Signal::Missed, error.to_string()),
        },
        Ok(Err(error)) => (Signal::Missed, cause(&error)),
        Err(_) => (
            Signal::Missed,
            format!(
                "it does not say who it is within {}s",
                CONTACT_TIMEOUT.as_secs()
            ),
        ),
    }
}

async fn ping(probe: &Client) -> (Signal, String) {
    let mut request = Request::new(empty());
    *request.method_mut() = http::Method::HEAD;
    match tokio::time::timeout(PROBE_EVERY, probe.send_bare("/_ping", request)).await {
        Ok(Ok(reply)) if reply.status().is_success() => (Signal::Answered, String::new()),
        Ok(Ok(reply)) => (
            Signal::Missed,
            format!("its ping answers {}", reply.status()),
        ),
        Ok(Err(error)) if error.is_refusal() => (Signal::Refused, cause(&error)),
        Ok(Err(error)) => (Signal::Missed, cause(&error)),
        Err(_) => (
            Signal::Missed,
            format!("no answer within {}s", PROBE_EVERY.as_secs()),
        ),
    }
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
