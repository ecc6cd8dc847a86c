//! The world of one seed: hosts, a disk, a manager that lives and dies, and what is looked at after each step.
//!
//! **Invariant**: whatever must always hold is looked at after every change of the state and of an engine.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api_compat::labels;
use raft_store::sim::{Dice, SimulatedFile};
use raft_store::{
    DurableDisk, Ended, Identity as LogIdentity, MemberId, OpenError, Options, Stepper, Store,
};

use super::checker::{self, Contents, Existing, Placed};
use super::disk::OpenFile;
use super::engine::{Identity, Made, Phase};
use super::history::History;
use super::host::{DialHost, Host};
use super::network::{End, connect};
use super::steps::{Crash, Life, Steps};
use super::watching;
use crate::balance::{EntryPoint, Scope};
use crate::clock;
use crate::engine::{Dial, Dials, Endpoint, Fleet};
use crate::manager::{self, Manager, Member};
use crate::model::{ClusterId, ManagerId};
use crate::proxy::{self, Proxy};
use crate::scheduler::PullTo;
use crate::seal::{KEY_BYTES, Seal};
use crate::state::{Cause, Cluster, RandomPorts};
use crate::tasks::{Process, Tasks};

/// As `--node-timeout` is by default.
const NODE_TIMEOUT: Duration = Duration::from_secs(3);
/// The log hears less often that time passes than it would in earnest: there is one member, which waits for nobody.
const TICK: Duration = Duration::from_millis(250);
/// Whole snapshots come often, so that crashes meet them.
const SNAPSHOT_ENTRIES: u64 = 40;

/// Who is in a world.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) seed: u64,
    pub(super) engines: u64,
    /// Each engine has so many.
    pub(super) cpus: u64,
}

/// What clients meet when a manager serves.
struct Door {
    proxy: Arc<Proxy>,
    manager: Arc<Manager>,
    process: Process,
    life: Arc<Life>,
    tasks: Tasks,
}

#[derive(Default)]
struct State {
    /// The log, once it is made.
    file: Option<Arc<SimulatedFile>>,
    /// Whether a bit of it was flipped: it may be refused.
    flipped: bool,
    door: Option<Door>,
    seen: Arc<Cluster>,
    /// How long the manager is away after a crash.
    downtime: Duration,
    refused: Option<String>,
    crashes: u64,
}

/// A world. Cheap to share.
pub(super) struct World {
    pub(super) steps: Arc<Steps>,
    pub(super) hosts: Vec<Arc<Host>>,
    pub(super) history: History,
    process: Process,
    cluster: ClusterId,
    member: ManagerId,
    dice: Mutex<Dice>,
    state: Mutex<State>,
    store: Mutex<Option<Store<Cluster>>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl World {
    /// A world in which nothing happens yet.
    pub(super) fn new(shape: Shape) -> Arc<Self> {
        let steps = Arc::new(Steps::new());
        let process = Process::new();
        let mut dice = Dice::new(shape.seed);
        let host = |number| {
            let identity = Identity {
                number,
                name: format!("n{}", number + 1),
                cpus: shape.cpus,
                memory_bytes: 16 << 30,
                gpus: 4,
            };
            let dice = Dice::new(shape.seed.wrapping_mul(31).wrapping_add(number + 1));
            Arc::new(Host::new(
                identity,
                dice,
                Arc::clone(&steps),
                process.clone(),
            ))
        };
        let hosts = (0..shape.engines).map(host).collect();
        let mut id = || {
            let mut bytes = [0; 16];
            bytes.fill_with(|| dice.roll().to_le_bytes()[0] | 1);
            bytes
        };
        Arc::new(Self {
            cluster: ClusterId::from_bytes(id()),
            member: ManagerId::from_bytes(id()),
            steps,
            hosts,
            history: History::default(),
            process,
            dice: Mutex::new(dice),
            state: Mutex::new(State {
                downtime: Duration::from_secs(1),
                ..State::default()
            }),
            store: Mutex::default(),
        })
    }

    /// Starts something that is not part of a manager.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.process.spawn(task);
    }

    /// Ends all that is left.
    pub(super) async fn end(&self) {
        self.lock().door = None;
        lock(&self.store).take();
        self.process.kill().await;
        self.note_panics(&self.process);
    }

    /// A manager lives, dies when it is told to, and is started again, until its log is refused.
    pub(super) async fn supervise(self: Arc<Self>) {
        while self.lock().refused.is_none() {
            let (life, process) = (Arc::<Life>::default(), Process::new());
            self.steps.live(&life);
            let world = Arc::clone(&self);
            let (living, inner) = (Arc::clone(&life), process.clone());
            process.spawn(async move {
                if let Err(why) = world.live(&living, inner).await
                    && !living.is_over()
                {
                    world.failed_to_live(why);
                    living.end();
                }
            });
            life.until_over().await;
            self.lock().door = None;
            process.kill().await;
            lock(&self.store).take();
            self.note_panics(&process);
            let Some(crash) = self.steps.crashed() else {
                continue;
            };
            self.lock().crashes += 1;
            self.steps.tell(format!("manager {}", crash.as_str()));
            if crash == Crash::PowerLoss {
                self.lose_power();
            }
            let downtime = self.lock().downtime;
            tokio::time::sleep(downtime).await;
        }
    }

    /// How often a manager died.
    pub(super) fn crashes(&self) -> u64 {
        self.lock().crashes
    }

    /// Why no manager can live any more: its log was damaged, and that was noticed.
    pub(super) fn refused(&self) -> Option<String> {
        self.lock().refused.clone()
    }

    /// Kills the manager now.
    pub(super) fn crash(&self, crash: Crash) {
        self.steps.crash_at(0, crash);
        self.steps.take("the end");
    }

    /// How long the manager is away after its next crashes.
    pub(super) fn set_downtime(&self, downtime: Duration) {
        self.lock().downtime = downtime;
    }

    /// Flips a bit of the log while no manager has it open.
    pub(super) fn flip_a_bit(&self) {
        let mut state = self.lock();
        let Some(file) = &state.file else { return };
        let mut bytes = file.bytes();
        let mut dice = lock(&self.dice);
        let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap_or_default();
        bytes[at] ^= 1 << dice.below(8);
        drop(dice);
        state.file = Some(Arc::new(SimulatedFile::holding(bytes)));
        state.flipped = true;
        drop(state);
        self.steps.note(format!("a bit flips at {at}"));
    }

    fn lose_power(&self) {
        let mut state = self.lock();
        let mut dice = lock(&self.dice);
        state.file = state
            .file
            .as_ref()
            .map(|file| Arc::new(file.after_power_loss(&mut dice)));
    }

    fn failed_to_live(&self, why: Unlivable) {
        match why {
            Unlivable::Refused(message) if self.lock().flipped => {
                self.steps
                    .tell(format!("manager refuses its log: {message}"));
                self.lock().refused = Some(message);
            }
            Unlivable::Refused(message) => {
                self.steps
                    .break_off(format!("a sound log was refused: {message}"));
                self.lock().refused = Some(message);
            }
            Unlivable::Failed(message) => {
                self.steps
                    .break_off(format!("the manager failed: {message}"));
                self.lock().refused = Some(message);
            }
        }
    }

    fn note_panics(&self, process: &Process) {
        for panic in process.panics() {
            self.steps.break_off(format!("something panicked: {panic}"));
        }
    }

    /// One life of a manager, from its start on; wired as `app` wires it.
    async fn live(self: &Arc<Self>, life: &Arc<Life>, process: Process) -> Result<(), Unlivable> {
        let disk = self.open_disk(life)?;
        let mut options = Options::new(clock::instant);
        options.tick = TICK;
        options.compaction.entries = SNAPSHOT_ENTRIES;
        let member = MemberId(*self.member.as_bytes());
        let (store, stepper) = Store::open_stepped(member, Cluster::new(), disk, options)
            .map_err(|error| Unlivable::Refused(error.to_string()))?;
        *lock(&self.store) = Some(store.clone());
        self.look(&store.view());
        let (world, living) = (Arc::clone(self), Arc::clone(life));
        process.spawn(async move { world.drive(stepper, living).await });
        let tasks = Tasks::new();
        let dials = Arc::new(Reach {
            hosts: self.hosts.clone(),
            life: Arc::clone(life),
        });
        let (fleet, observed) = Fleet::new(NODE_TIMEOUT, dials, tasks.clone());
        let settings = manager::Settings {
            cluster: self.cluster,
            cluster_name: "simulated".to_owned(),
            prefix_names: false,
            given_names: Default::default(),
            random_ports: RandomPorts::default(),
            placing: Default::default(),
        };
        let log = manager::Log {
            store,
            member: self.member,
            seal: Seal::new(&[7; KEY_BYTES]),
        };
        let failed = |error: manager::Error| Unlivable::Failed(error.to_string());
        let opened = Manager::open(settings, log, Arc::clone(&fleet), tasks.clone());
        let manager = opened.await.map_err(failed)?;
        let members = self.hosts.iter().map(|host| Member {
            endpoint: host.endpoint(),
            name: None,
            address: None,
        });
        manager.pool(members.collect(), observed).await;
        let settings = proxy::Settings {
            max_body: 16 << 20,
            cluster_name: "simulated".to_owned(),
            advertise: None,
            pull_to: PullTo::default(),
            refuses_missing_paths: true,
        };
        // No real sockets here.
        let (cluster, hosts) = (Arc::clone(&manager), Arc::clone(&fleet));
        let entry = EntryPoint::new(Scope::Off, cluster, hosts, tasks.clone());
        let proxy = Arc::new(Proxy::new(Arc::clone(&manager), fleet, entry, settings));
        let life = Arc::clone(life);
        self.lock().door = Some(Door {
            proxy,
            manager: Arc::clone(&manager),
            process,
            life,
            tasks,
        });
        self.steps.tell("manager serves".to_owned());
        Err(Unlivable::Failed(manager.failed().await))
    }

    fn open_disk(&self, life: &Arc<Life>) -> Result<DurableDisk<OpenFile>, Unlivable> {
        let known = self.lock().file.clone();
        let file = known.clone().unwrap_or_default();
        let open = Arc::new(OpenFile {
            file: Arc::clone(&file),
            life: Arc::clone(life),
            steps: Arc::clone(&self.steps),
        });
        let name = "log".to_owned();
        let identity = LogIdentity {
            cluster: raft_store::ClusterId(*self.cluster.as_bytes()),
            member: MemberId(*self.member.as_bytes()),
        };
        let before = file.bytes();
        let opened = match known {
            Some(_) => DurableDisk::open_on(open, name),
            // It gets its name only once all of it is written.
            None => DurableDisk::create_on(open, name, identity),
        };
        let opened = opened.map_err(|error| {
            if matches!(error, OpenError::Damaged { .. }) && file.bytes() != before {
                self.steps
                    .break_off("a log that was refused was changed".to_owned());
            }
            Unlivable::Refused(error.to_string())
        });
        if opened.is_ok() && !life.is_over() {
            self.lock().file = Some(file);
        }
        opened
    }

    async fn drive(
        self: Arc<Self>,
        mut stepper: Stepper<Cluster, DurableDisk<OpenFile>>,
        life: Arc<Life>,
    ) {
        loop {
            stepper.until_due().await;
            if life.is_over() {
                return;
            }
            stepper = match stepper.turn() {
                Ok(stepper) => stepper,
                Err(_) if life.is_over() => return,
                Err(Ended::Shutdown) => return,
                Err(Ended::Failed(reason)) => {
                    return self.steps.break_off(format!("the store ended: {reason}"));
                }
            };
            let store = lock(&self.store).clone();
            if let Some(store) = store {
                self.look(&store.view());
            }
        }
    }

    /// Looks at the state as it is now, and tells what became of it.
    fn look(&self, now: &Arc<Cluster>) {
        let before = std::mem::replace(&mut self.lock().seen, Arc::clone(now));
        if Arc::ptr_eq(&before, now) {
            return;
        }
        for line in watching::changes(&before, now) {
            self.steps.tell(format!("state: {line}"));
        }
        for broken in watching::broken(&before, now) {
            self.steps.break_off(broken);
        }
        for wrong in checker::contents(&self.contents()) {
            self.steps.break_off(wrong);
        }
        let manager = {
            let state = self.lock();
            let door = state.door.as_ref();
            door.map(|door| Arc::clone(&door.manager))
        };
        for wrong in manager.into_iter().flat_map(|manager| manager.misjudged()) {
            self.steps.break_off(wrong);
        }
    }

    /// A connection to the manager, if one serves.
    pub(super) fn enter(&self, client: &str) -> Option<End> {
        let state = self.lock();
        let door = state.door.as_ref().filter(|door| !door.life.is_over())?;
        let (here, there, _) = connect();
        let there = Box::new(there.of(&door.life));
        let serving = proxy::serve_one(
            there,
            client.to_owned(),
            Arc::clone(&door.proxy),
            door.tasks.stopping(),
        );
        door.process.spawn(serving);
        Some(here)
    }

    /// Whether a manager serves.
    pub(super) fn serves(&self) -> bool {
        let state = self.lock();
        state.door.as_ref().is_some_and(|door| !door.life.is_over())
    }

    /// Whether the state has this node for ready.
    pub(super) fn is_ready(&self, node: &str) -> bool {
        let seen = Arc::clone(&self.lock().seen);
        let name = node.parse().ok();
        name.and_then(|name| seen.node_named(&name).map(|node| node.is_ready()))
            .unwrap_or(false)
    }

    pub(super) fn host(&self, name: &str) -> Option<&Arc<Host>> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// What the engines have, as it really is.
    pub(super) fn contents(&self) -> Vec<Contents> {
        let cluster = self.cluster.to_string();
        let seen = Arc::clone(&self.lock().seen);
        // One that came too late and that somebody started or renamed before it was removed is a stranger's.
        let taken = |request: &str, made: &Made| {
            let stone = request
                .parse()
                .ok()
                .and_then(|request| seen.tombstone(request));
            stone.is_some_and(|stone| {
                let is_used = made.phase != Phase::Created || *made.name != *stone.name;
                is_used && stone.cause == Cause::Released
            })
        };
        let hosts = self.hosts.iter();
        hosts
            .map(|host| {
                let made = host.engine.containers().into_iter();
                let containers = made.map(|made| {
                    let label = |key| made.labels.iter().find(|(label, _)| label == key);
                    let ours = label(labels::CLUSTER).is_some_and(|(_, value)| *value == cluster);
                    let request = label(labels::ID).filter(|_| ours);
                    let request = request.filter(|(_, request)| !taken(request, &made));
                    Existing {
                        request: request.map(|(_, value)| value.clone()),
                        id: made.id.clone(),
                        name: made.name,
                    }
                });
                Contents {
                    node: host.name.clone(),
                    containers: containers.collect(),
                }
            })
            .collect()
    }

    /// What is promised.
    pub(super) fn placements(&self) -> Vec<Placed> {
        let seen = Arc::clone(&self.lock().seen);
        seen.placements()
            .map(|placement| Placed {
                request: placement.request.to_string(),
                name: placement.name.clone(),
                node: watching::node_name(&seen, placement.node),
                container: placement.container.map(|id| id.to_string()),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a manager cannot live.
enum Unlivable {
    /// Its log is not what was written.
    Refused(String),
    /// Something that should not fail did.
    Failed(String),
}

/// How one life of a manager reaches the hosts.
#[derive(Debug)]
struct Reach {
    hosts: Vec<Arc<Host>>,
    life: Arc<Life>,
}

impl Dials for Reach {
    fn dialler(&self, endpoint: &Endpoint) -> Arc<dyn Dial> {
        let host = self.hosts.iter().find(|host| host.endpoint() == *endpoint);
        Arc::new(DialHost {
            host: Arc::clone(host.expect("managers are given the endpoints of hosts")),
            life: Arc::clone(&self.life),
        })
    }
}
