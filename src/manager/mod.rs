//! The leader's work: observe, decide, commit, act. Only this module proposes commands.
//!
//! A request that needs a promise is decided by the pure core (`scheduler`, `state`), committed to the store, and only
//! then acted on with one engine call. What engines report about containers of ours is committed by
//! the observer.
//!
//! **Invariant**: no engine is asked to make, rename or start a container before the promise is committed.

mod affinities;
mod board;
mod bringing;
mod company;
mod create;
mod decisions;
mod error;
mod generic;
mod images;
mod judge;
mod lifecycle;
mod losing;
mod membership;
mod moved_tags;
mod name_in_use;
mod names;
mod networks;
mod observe;
mod paths;
mod placing;
mod plan;
mod pool;
mod recipe;
mod successor;
mod surviving;
mod under_way;
mod unsettled;
mod volumes;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use raft_store::{Blob, Store};

use crate::clock;
use crate::engine::{Endpoint, Fleet};
use crate::model::{
    Caller, ClusterId, ManagerId, NodeId, NodeName, Protocol, RequestId, Resources,
};
use crate::scheduler::Strategy;
use crate::seal::Seal;
use crate::state::{self, Change, Cluster, Command, Envelope};
use crate::tasks::Tasks;
use under_way::UnderWay;

pub use company::Shared;
pub use create::{CreateOrder, Created};
pub use error::Error;
pub use images::{Image, moved, tag_name};
pub use losing::Losing;
pub use networks::{Joining, Lent, NewNetwork};
pub use pool::{Member, NodeChange};
pub use recipe::{Error as RecipeError, Recipe};
pub use surviving::SurviveNodeLoss;
pub use volumes::{RemovalTurn, VolumeRemoval, VolumeRemovalOrder};

/// A command that has not been committed by then is given up on.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the cluster is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster's id: the same after a restart.
    pub cluster: ClusterId,
    /// The cluster's name.
    pub cluster_name: String,
    /// Whether container names are shown as `/node/name`.
    pub prefix_names: bool,
    /// Node names that were given to engines, joined or not.
    pub given_names: BTreeMap<Endpoint, NodeName>,
    /// Where the numbers of ports that may have any are taken from.
    pub random_ports: state::RandomPorts,
    /// How containers are placed.
    pub placing: PlacingSettings,
}

/// How containers are placed, where they do not say it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlacingSettings {
    /// How a node is chosen among those that fit.
    pub strategy: Strategy,
    /// How many containers a node takes at most, if its labels do not say it.
    pub slots: Option<u32>,
    /// So much of each node is kept for its system.
    pub reserve: Resources,
    /// So much more of the rest may be promised, in thousandths.
    pub overcommit_per_mille: u64,
    /// What a container claims that does not say it.
    pub default_claim: Resources,
    /// What is done about creates after which the pool could not lose each of its nodes.
    pub survive_node_loss: SurviveNodeLoss,
}

impl PlacingSettings {
    /// What may be promised of a node that has so much.
    pub fn allocatable(&self, capacity: Resources) -> Resources {
        let rest = capacity.saturating_sub(self.reserve);
        let more = |amount: u64| {
            let promised = u128::from(amount) * u128::from(1000 + self.overcommit_per_mille) / 1000;
            u64::try_from(promised).unwrap_or(u64::MAX)
        };
        Resources::new(more(rest.cpu_nanos), more(rest.memory_bytes))
    }

    /// What a container claims that states so much: each of both that it does not state is the default.
    pub fn claim(&self, stated: Resources) -> Resources {
        let or = |stated, default| if stated == 0 { default } else { stated };
        Resources {
            cpu_nanos: or(stated.cpu_nanos, self.default_claim.cpu_nanos),
            memory_bytes: or(stated.memory_bytes, self.default_claim.memory_bytes),
        }
    }
}

/// The log that a manager decides on.
#[derive(Debug)]
pub struct Log {
    /// All that was promised.
    pub store: Store<Cluster>,
    /// Who this manager is among those that share it.
    pub member: ManagerId,
    /// Seals what lies beside it.
    pub seal: Seal,
}

/// One manager: the leader, as long as there is only one.
#[derive(Debug)]
pub struct Manager {
    store: Store<Cluster>,
    fleet: Arc<Fleet>,
    me: ManagerId,
    seal: Seal,
    settings: Settings,
    under_way: UnderWay<RequestId>,
    /// Nodes that were listed, and of which what was put off is not done yet.
    settling: UnderWay<NodeId>,
    bringing: bringing::Bringing,
    networks: networks::Networks,
    volume_turns: volumes::Turns,
    newcomers: affinities::Newcomers,
    company: company::Company,
    decisions: decisions::Decisions,
    board: board::Board,
    meanings: images::Meanings,
    moved_tags: moved_tags::MovedTags,
    surviving: surviving::Surviving,
    /// See [`Manager::avoid_ports`].
    avoided: OnceLock<Avoided>,
    /// Held from a decision until it is committed: the next one sees what this one promised.
    placing: tokio::sync::Mutex<()>,
    /// Held while nodes come or go.
    joining: tokio::sync::Mutex<()>,
    tasks: Tasks,
    /// When this manager began.
    began: std::time::Instant,
}

/// Says which ports something else of this machine has.
struct Avoided(Box<dyn Fn(Protocol, u16) -> bool + Send + Sync>);

impl std::fmt::Debug for Avoided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Avoided")
    }
}

impl Manager {
    /// A manager of the cluster that `log` has, or of a new one if the log is empty.
    pub async fn open(
        settings: Settings,
        log: Log,
        fleet: Arc<Fleet>,
        tasks: Tasks,
    ) -> Result<Arc<Self>, Error> {
        let manager = Self {
            store: log.store,
            fleet,
            me: log.member,
            seal: log.seal,
            settings: settings.clone(),
            under_way: UnderWay::default(),
            settling: UnderWay::default(),
            bringing: bringing::Bringing::default(),
            networks: networks::Networks::default(),
            volume_turns: volumes::Turns::default(),
            newcomers: affinities::Newcomers::default(),
            company: company::Company::default(),
            decisions: decisions::Decisions::default(),
            board: board::Board::default(),
            meanings: images::Meanings::default(),
            moved_tags: moved_tags::MovedTags::default(),
            surviving: surviving::Surviving::default(),
            avoided: OnceLock::new(),
            placing: tokio::sync::Mutex::default(),
            joining: tokio::sync::Mutex::default(),
            tasks,
            began: clock::instant(),
        };
        let found = Command::Found {
            cluster: settings.cluster,
            settings: state::Settings {
                name: settings.cluster_name,
                random_ports: settings.random_ports,
            },
        };
        if manager.cluster().id() != Some(settings.cluster) {
            manager.commit(found).await?;
        }
        let manager = Arc::new(manager);
        let of = Arc::downgrade(&manager);
        let removed = move |node| of.upgrade().map(|manager| manager.removed_on(node));
        let inventory = &manager.fleet.inventory;
        inventory.hide(move |node| removed(node).unwrap_or_default());
        Ok(manager)
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        self.settings.cluster
    }

    /// The cluster as last committed.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.store.view()
    }

    /// Of numbers that may be any, none is chosen that `is_taken` says something else of this machine has: clients that go
    /// to the manager would reach that instead. To be said once.
    pub fn avoid_ports(&self, is_taken: impl Fn(Protocol, u16) -> bool + Send + Sync + 'static) {
        let said_before = self.avoided.set(Avoided(Box::new(is_taken)));
        debug_assert!(said_before.is_ok(), "said twice");
    }

    /// This manager as one who asks.
    pub fn as_caller(&self) -> Caller {
        Caller::manager(self.me)
    }

    /// Resolves when the store can no longer be trusted, with the reason.
    pub async fn failed(&self) -> String {
        self.store.ended().await.to_string()
    }

    /// Ends the store.
    pub async fn shut_down(&self) {
        self.store.shutdown().await;
    }

    /// Whether a node is not down.
    fn is_up(&self, node: NodeId) -> bool {
        self.fleet.host(&node).is_some_and(|host| host.is_up())
    }

    /// Commits a command of the manager's own.
    async fn commit(&self, command: Command) -> Result<Change, Error> {
        let request = RequestId::from_bytes(clock::random_bytes());
        self.commit_for(request, Caller::manager(self.me), command)
            .await
    }

    /// Commits a command that belongs to a client's request.
    async fn commit_for(
        &self,
        request: RequestId,
        caller: Caller,
        command: Command,
    ) -> Result<Change, Error> {
        self.commit_with(request, caller, command, Vec::new()).await
    }

    /// Commits a command together with what is kept beside the log for it.
    async fn commit_with(
        &self,
        request: RequestId,
        caller: Caller,
        command: Command,
        blobs: Vec<Blob>,
    ) -> Result<Change, Error> {
        let left = self.networks_are_left_on(&command);
        let envelope = Envelope::new(request, caller, clock::now(), command);
        let applied = self
            .store
            .propose_with(
                *request.as_bytes(),
                envelope.encode(),
                blobs,
                clock::deadline(COMMIT_TIMEOUT),
            )
            .await
            .map_err(Error::Commit)?;
        let outcome = state::read_outcome(&applied.outcome).map_err(Error::Outcome)?;
        if let Some(node) = left {
            self.networks.untidy(node);
        }
        outcome.map_err(Error::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_keeps_its_share_and_the_rest_may_be_promised_more_than_once() {
        let settings = PlacingSettings {
            reserve: Resources::new(1_000_000_000, 1 << 30),
            overcommit_per_mille: 500,
            default_claim: Resources::new(0, 64 << 20),
            ..PlacingSettings::default()
        };
        let has = Resources::new(4_000_000_000, 9 << 30);
        let may = Resources::new(4_500_000_000, 12 << 30);
        assert_eq!(settings.allocatable(has), may);
        assert_eq!(settings.allocatable(Resources::ZERO), Resources::ZERO);
        assert_eq!(PlacingSettings::default().allocatable(has), has);
        let claim = |cpu, memory| settings.claim(Resources::new(cpu, memory));
        assert_eq!(claim(0, 0), Resources::new(0, 64 << 20));
        assert_eq!(claim(5, 7), Resources::new(5, 7));
    }
}
