//! Volumes: where a container's volumes tie it to, making them before the container, and removing them.
//!
//! | step | if we crash right after |
//! | --- | --- |
//! | `volume create` commits the record | it is unbound, and nothing is on any engine |
//! | the reservation of a container commits where its volumes go | the reservation is given up: they are unbound again, or forgotten if nobody asked for them |
//! | the engine makes a volume | the same; the node is seen to have it, so whatever mounts it next goes there |
//! | the engine makes the container | it is found, and with it its volumes are known to be made |
//! | `volume rm`: the engine removes it | its node's list lacks it: it is forgotten |
//! | a removal on a node that is down is committed | it is done when the node is back |
//!
//! What is removed on an engine itself is forgotten, once the engine says that it lacks it and nothing of ours mounts it.
//!
//! **Invariant**: an engine that has made a volume for a container is not asked to remove it before it has answered
//! for the container.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api_compat::create::{Create, Volume as Mounted};
use api_compat::json_view::View;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::{Error, Manager};
use crate::engine::{EngineCall, EngineReply, Host, ListKind};
use crate::model::{
    Caller, LOCAL_DRIVER, NodeId, Placement, Realm, RequestId, Residence, Volume, VolumeKind,
    VolumeOrigin, VolumeSpec,
};
use crate::scheduler::Pin;
use crate::state::{Cluster, Command, NewVolume, Refusal};
use crate::tasks::spawn_stream;

/// An engine may take so long to make a volume: drivers of third parties are asked over their sockets.
const MAKE_PATIENCE: Duration = Duration::from_secs(60);
/// How long an engine may take to remove a volume.
const REMOVE_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to say which it has.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// Who may change the volumes of a node: creates of containers together, removals one at a time.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<NodeId, Arc<RwLock<()>>>>);

/// Keeps containers from being given volumes of a node.
#[derive(Debug)]
pub struct RemovalTurn {
    _turn: OwnedRwLockWriteGuard<()>,
}

impl Turns {
    fn of(&self, node: NodeId) -> Arc<RwLock<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(node).or_default())
    }

    async fn to_make(&self, node: NodeId) -> OwnedRwLockReadGuard<()> {
        self.of(node).read_owned().await
    }

    async fn to_remove(&self, node: NodeId) -> RemovalTurn {
        RemovalTurn {
            _turn: self.of(node).write_owned().await,
        }
    }
}

/// A volume as engines read it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    name: &'a str,
    driver: &'a str,
    driver_opts: &'a Option<BTreeMap<String, String>>,
    labels: &'a Option<BTreeMap<String, String>>,
}

/// A volume as engines list it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    name: String,
    driver: String,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

/// What came of asking for a volume's removal.
#[derive(Debug)]
pub enum VolumeRemoval {
    /// It is gone, or will be once its node is back.
    Done,
    /// No engine that was asked had it.
    Missing,
    /// An engine refused.
    Refused(EngineReply),
}

/// What is to be removed of a volume.
#[derive(Debug)]
pub struct VolumeRemovalOrder<'a> {
    /// Its name.
    pub name: &'a str,
    /// The nodes that have it.
    pub hosts: Vec<Arc<Host>>,
    /// Only what these nodes have; else the whole of it.
    pub in_part: bool,
    /// The call for each engine.
    pub call: EngineCall,
    /// Whether what cannot be reached now may wait.
    pub force: bool,
}

/// What engines call a volume that nobody gave a name.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Manager {
    /// The nodes that list a volume of this name, by name; those that are to remove it do not count.
    pub fn volume_holders(&self, name: &str) -> Vec<Arc<Host>> {
        let cluster = self.cluster();
        let hosts = self.fleet.by_name().into_iter();
        hosts
            .filter(|host| host.has_volume(name) && !is_due(&cluster, host.tag.id, name))
            .collect()
    }

    /// The nodes whose engines have a driver; its plugin may be named with or without its tag.
    pub fn volume_driver_hosts(&self, driver: &str) -> Vec<Arc<Host>> {
        let hosts = self.fleet.by_name().into_iter();
        hosts.filter(|host| has_driver(host, driver)).collect()
    }

    /// What a node lists of a volume, as a spec.
    pub fn listed_volume(&self, host: &Host, name: &str) -> Option<VolumeSpec> {
        let volumes = host.volumes();
        let mut items = volumes.iter().map(|item| item.get());
        let is_it = |item: &&str| {
            View::parse(item.as_bytes()).is_ok_and(|view| view.text_of("Name") == name)
        };
        let item = items.find(is_it)?;
        let listed: Listed = serde_json::from_str(item).ok()?;
        Some(VolumeSpec {
            name: listed.name,
            driver: listed.driver,
            options: listed.options,
            labels: listed.labels,
        })
    }

    /// Makes a record of a volume that nothing on any node comes of, or takes in what a node has already.
    pub async fn add_volume(
        &self,
        spec: VolumeSpec,
        has_it: Option<NodeId>,
        caller: &Caller,
    ) -> Result<(), Error> {
        let made = has_it.is_some();
        self.record_volume(spec, has_it, made, caller).await
    }

    /// Makes a volume on this node, and its record.
    pub async fn add_volume_on(
        &self,
        spec: VolumeSpec,
        host: &Arc<Host>,
        caller: &Caller,
    ) -> Result<Option<EngineReply>, Error> {
        let _turn = self.volume_turns.to_make(host.tag.id).await;
        host.ready()?;
        let was_known = self.cluster().volume(Realm::DEFAULT, &spec.name).is_some();
        let node = host.tag.id;
        self.record_volume(spec.clone(), Some(node), false, caller)
            .await?;
        let refused = match self.make_volume(&spec, host).await {
            Ok(None) => {
                self.record_volume(spec, Some(node), true, caller).await?;
                host.reread(ListKind::Volumes).await;
                return Ok(None);
            }
            refused => refused,
        };
        if !was_known {
            let due = Vec::new();
            let name = spec.name;
            let forget = Command::RemoveVolume {
                name,
                on: None,
                due,
            };
            self.log_failure(self.commit(forget).await);
        }
        refused
    }

    async fn record_volume(
        &self,
        spec: VolumeSpec,
        on: Option<NodeId>,
        made: bool,
        caller: &Caller,
    ) -> Result<(), Error> {
        let request = RequestId::from_bytes(crate::clock::random_bytes());
        let add = Command::AddVolume { spec, on, made };
        self.commit_for(request, caller.clone(), add)
            .await
            .map(drop)
    }

    /// What a container mounts that is on its node only, in words.
    pub(super) fn only_there(&self, placement: &Placement, cluster: &Cluster) -> Option<String> {
        let seen = placement.container;
        let seen = seen.and_then(|id| self.fleet.inventory.get(&id));
        // Those of another container, or of its image, no create named.
        let besides = seen.iter().flat_map(|seen| seen.volumes.iter());
        let named = placement.volumes.iter().map(String::as_str);
        let mut all = named.chain(besides.map(AsRef::as_ref));
        all.find_map(|name| {
            if let Some(record) = cluster.volume(placement.realm, name) {
                return record.residence.bound().map(|_| format!("volume {name}"));
            }
            if is_anonymous(name) {
                return Some("an anonymous volume".to_owned());
            }
            let host = self.fleet.host(&placement.node)?;
            let spec = self.listed_volume(&host, name)?;
            (spec.kind() == VolumeKind::OneNode).then(|| format!("volume {name}"))
        })
    }

    /// The nodes that a container's volumes tie it to.
    pub(super) fn volume_pins(
        &self,
        wanted: &Create<'_>,
        cluster: &Cluster,
    ) -> Result<Vec<Pin>, Error> {
        let mut pins = Vec::new();
        for volume in &wanted.volumes {
            let record = cluster.volume(Realm::DEFAULT, &volume.name);
            pins.extend(self.volume_pin(volume, record.map(AsRef::as_ref), cluster)?);
        }
        Ok(pins)
    }

    fn volume_pin(
        &self,
        mounted: &Mounted<'_>,
        record: Option<&Volume>,
        cluster: &Cluster,
    ) -> Result<Option<Pin>, Error> {
        let name = &mounted.name;
        if let Some(bound) = record.and_then(|record| record.residence.bound()) {
            let node = cluster.node(bound);
            let node = node.map_or_else(|| bound.to_string(), |node| node.name.to_string());
            return Ok(Some(Pin {
                nodes: BTreeSet::from([bound]),
                why: format!("volume {name}, which is on {node}"),
            }));
        }
        let spec = record.map_or_else(|| spec_of(mounted), |record| record.spec.clone());
        if spec.kind() == VolumeKind::OneNode {
            let holders = self.volume_holders(name);
            if let Some(pin) = held_by(name, &holders, |host| self.is_everywhere(host, name))? {
                return Ok(Some(pin));
            }
        }
        Ok(self.driver_pin(&spec))
    }

    /// A plugin that some nodes lack. Where none has it, an engine says so best.
    fn driver_pin(&self, spec: &VolumeSpec) -> Option<Pin> {
        if spec.driver == LOCAL_DRIVER {
            return None;
        }
        let hosts = self.volume_driver_hosts(&spec.driver);
        let names: Vec<_> = hosts.iter().map(|host| host.tag.name.as_str()).collect();
        (!hosts.is_empty()).then(|| Pin {
            nodes: hosts.iter().map(|host| host.tag.id).collect(),
            why: format!(
                "volume {}, whose driver {} is on {}",
                spec.name,
                spec.driver,
                names.join(", ")
            ),
        })
    }

    /// Whether what the node lists under this name is the same on every node that has it.
    fn is_everywhere(&self, host: &Host, name: &str) -> bool {
        self.listed_volume(host, name)
            .is_some_and(|spec| spec.kind() != VolumeKind::OneNode)
    }

    /// What the chosen node has, or the container asks for, of the volumes that are mounted for the first time.
    pub(super) fn new_volumes(
        &self,
        wanted: &Create<'_>,
        cluster: &Cluster,
        host: &Host,
    ) -> Vec<NewVolume> {
        let is_new = |volume: &&Mounted<'_>| {
            let record = cluster.volume(Realm::DEFAULT, &volume.name);
            record.is_none_or(|record| record.residence == Residence::Unbound)
        };
        let known = |volume: &Mounted<'_>| {
            let listed = (!is_due(cluster, host.tag.id, &volume.name))
                .then(|| self.listed_volume(host, &volume.name))
                .flatten();
            NewVolume {
                made: listed.is_some(),
                spec: listed.unwrap_or_else(|| spec_of(volume)),
            }
        };
        wanted.volumes.iter().filter(is_new).map(known).collect()
    }

    /// Makes what the container mounts and the node lacks, and keeps it from being removed until the turn is dropped.
    /// The second value is an engine's refusal.
    pub(super) async fn make_volumes(
        &self,
        wanted: &Create<'_>,
        host: &Arc<Host>,
    ) -> Result<(Option<OwnedRwLockReadGuard<()>>, Option<EngineReply>), Error> {
        if wanted.volumes.is_empty() {
            return Ok((None, None));
        }
        let turn = self.volume_turns.to_make(host.tag.id).await;
        let cluster = self.cluster();
        for mounted in &wanted.volumes {
            let record = cluster.volume(Realm::DEFAULT, &mounted.name);
            let lacking =
                record.filter(|record| is_ours_to_make(record) && !host.has_volume(&mounted.name));
            let Some(record) = lacking else { continue };
            if let Some(refused) = self.make_volume(&record.spec, host).await? {
                return Ok((Some(turn), Some(refused)));
            }
        }
        Ok((Some(turn), None))
    }

    /// Asks an engine for the volume; one that it has is left as it is. Returns a refusal.
    async fn make_volume(
        &self,
        spec: &VolumeSpec,
        host: &Host,
    ) -> Result<Option<EngineReply>, Error> {
        let body = Body {
            name: &spec.name,
            driver: &spec.driver,
            driver_opts: &spec.options,
            labels: &spec.labels,
        };
        let body =
            serde_json::to_vec(&body).map_err(|error| Error::Impossible(error.to_string()))?;
        let call = EngineCall::post("/volumes/create", Some(Bytes::from(body)));
        let made = tokio::time::timeout(MAKE_PATIENCE, host.call(call)).await;
        let reply = made.unwrap_or_else(|_| Err(host.no_answer(MAKE_PATIENCE)))?;
        Ok((!reply.status.is_success()).then_some(reply))
    }

    /// Keeps containers from being given volumes of this node, until dropped.
    pub async fn volume_removal_turn(&self, node: NodeId) -> RemovalTurn {
        self.volume_turns.to_remove(node).await
    }

    /// Removes a volume from the engines that have it, then from the state. On nodes that are down it is removed when
    /// they are back, if that is wanted.
    pub async fn remove_volume(
        &self,
        order: VolumeRemovalOrder<'_>,
        caller: &Caller,
    ) -> Result<VolumeRemoval, Error> {
        let name = order.name;
        let mut hosts = order.hosts;
        hosts.sort_by_key(|host| host.tag.id);
        let mut turns = Vec::new();
        for host in &hosts {
            turns.push(self.volume_turns.to_remove(host.tag.id).await);
        }
        let on: BTreeSet<NodeId> = hosts.iter().map(|host| host.tag.id).collect();
        self.nobody_mounts(name, on, order.in_part).await?;
        let (up, down): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| host.is_up());
        if let Some(host) = down.first().filter(|_| !order.force) {
            host.ready()?;
        }
        let (mut gone, mut had_it) = (Vec::new(), !down.is_empty() || up.is_empty());
        let mut due: Vec<_> = down.iter().map(|host| host.tag.id).collect();
        let mut outcome = Ok(VolumeRemoval::Done);
        for host in &up {
            let removed =
                tokio::time::timeout(REMOVE_PATIENCE, host.call(order.call.clone())).await;
            match removed.unwrap_or_else(|_| Err(host.no_answer(REMOVE_PATIENCE))) {
                Ok(reply) if reply.status.is_success() => {
                    had_it = true;
                    gone.push(host.tag.id);
                }
                Ok(reply) if reply.status == StatusCode::NOT_FOUND => gone.push(host.tag.id),
                Ok(reply) => outcome = Ok(VolumeRemoval::Refused(reply)),
                Err(error) => {
                    if order.force {
                        // Then it is known whether the node is lost.
                        host.reread(ListKind::Volumes).await;
                    }
                    if order.force && !host.is_up() {
                        had_it = true;
                        due.push(host.tag.id);
                    } else {
                        outcome = Err(error.into());
                    }
                }
            }
        }
        if matches!(outcome, Ok(VolumeRemoval::Done)) && !order.in_part {
            self.forget_volume(name, None, due, caller).await?;
        } else {
            for node in gone {
                self.forget_volume(name, Some(node), Vec::new(), caller)
                    .await?;
            }
            for node in due.into_iter().filter(|_| outcome.is_ok()) {
                self.forget_volume(name, Some(node), vec![node], caller)
                    .await?;
            }
        }
        drop(turns);
        for host in &up {
            host.reread(ListKind::Volumes).await;
        }
        match outcome {
            Ok(VolumeRemoval::Done) if !had_it => Ok(VolumeRemoval::Missing),
            outcome => outcome,
        }
    }

    /// What a node's engine has pruned is forgotten. Whoever calls has the node's turn. Returns those that are gone
    /// from the pool.
    pub async fn volumes_pruned(
        &self,
        host: &Host,
        names: &[String],
        caller: &Caller,
    ) -> Vec<String> {
        let mut gone = Vec::new();
        for name in names {
            let forgotten = self
                .forget_volume(name, Some(host.tag.id), Vec::new(), caller)
                .await;
            self.log_failure(forgotten);
            // What other nodes still have, or containers there still mount, is no loss to anybody.
            let is_shared = |volume: &Arc<Volume>| volume.spec.kind() == VolumeKind::Shared;
            if !self
                .cluster()
                .volume(Realm::DEFAULT, name)
                .is_some_and(is_shared)
            {
                gone.push(name.clone());
            }
        }
        gone
    }

    /// Forgets records that nothing on any node belongs to. Returns the names of those that were not in use after all.
    pub async fn prune_records(&self, names: Vec<String>, caller: &Caller) -> Vec<String> {
        let mut gone = Vec::new();
        for name in names {
            match self.forget_volume(&name, None, Vec::new(), caller).await {
                Ok(true) => gone.push(name),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, volume = name, "a volume could not be forgotten")
                }
            }
        }
        gone
    }

    /// Commits that a volume is gone. False if a container is about to mount it, and has it made anew.
    async fn forget_volume(
        &self,
        name: &str,
        on: Option<NodeId>,
        due: Vec<NodeId>,
        caller: &Caller,
    ) -> Result<bool, Error> {
        let request = RequestId::from_bytes(crate::clock::random_bytes());
        let name = name.to_owned();
        let forget = Command::RemoveVolume { name, on, due };
        match self.commit_for(request, caller.clone(), forget).await {
            Ok(_) => Ok(true),
            Err(Error::Refused(Refusal::VolumeInUse { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Fails as an engine would if a container mounts the volume: on the nodes that have it or, unless it is only about
    /// part of it, are to have it. A container may have gone a moment ago, so its engine is asked.
    async fn nobody_mounts(
        &self,
        name: &str,
        mut nodes: BTreeSet<NodeId>,
        in_part: bool,
    ) -> Result<(), Error> {
        let cluster = self.cluster();
        if let Some(volume) = cluster.volume(Realm::DEFAULT, name).filter(|_| !in_part) {
            nodes.extend(volume.residence.nodes());
        }
        let mut in_use = Vec::new();
        for node in nodes {
            let mounts = |volumes: &[String]| volumes.iter().any(|volume| volume == name);
            for user in cluster.placements_on(node).filter(|p| mounts(&p.volumes)) {
                match user.container {
                    None => in_use.push(user.name.clone()),
                    Some(id) if self.still_exists(node, id).await => in_use.push(id.to_string()),
                    Some(_) => {
                        let request = user.request;
                        self.commit(Command::Remove { request }).await?;
                    }
                }
            }
            // Those that have it from another container (`--volumes-from`), and strangers.
            for user in self.fleet.inventory.mounting(&node, name) {
                let id = user.id.to_string();
                if !in_use.contains(&id) && self.still_exists(node, user.id).await {
                    in_use.push(id);
                }
            }
        }
        if in_use.is_empty() {
            return Ok(());
        }
        Err(Error::Impossible(format!(
            "remove {name}: volume is in use - [{}]",
            in_use.join(", ")
        )))
    }

    /// A node's volumes were listed: what was removed on the engine itself is forgotten.
    pub(super) fn volumes_listed(self: &Arc<Self>, node: NodeId) {
        let Some(host) = self.fleet.host(&node).filter(|host| host.is_up()) else {
            return;
        };
        if missing(&self.cluster(), node, |name| host.has_volume(name)).is_empty() {
            return;
        }
        let manager = Arc::clone(self);
        let span = tracing::info_span!("volumes", node = %host.tag.name);
        spawn_stream(
            span,
            async move { manager.forget_missing_volumes(&host).await },
        );
    }

    /// A list may be older than what was committed since: so the engine is asked while nobody makes anything there.
    async fn forget_missing_volumes(&self, host: &Host) {
        let _turn = self.volume_turns.to_remove(host.tag.id).await;
        let answer =
            tokio::time::timeout(LIST_PATIENCE, host.ask(EngineCall::get("/volumes"))).await;
        let names = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|reply| names_in(&reply.body));
        let Some(names) = names else { return };
        for name in missing(&self.cluster(), host.tag.id, |name| names.contains(name)) {
            tracing::info!(volume = name, "a volume was removed on its engine");
            let due = Vec::new();
            let on = Some(host.tag.id);
            self.log_failure(self.commit(Command::RemoveVolume { name, on, due }).await);
        }
    }

    /// What was removed while its node was down is removed there now.
    pub(super) async fn remove_volumes_due(&self, node: NodeId) {
        let Some(host) = self.fleet.host(&node) else {
            return;
        };
        let due: Vec<_> = self
            .cluster()
            .volumes_due_on(node)
            .map(str::to_owned)
            .collect();
        if due.is_empty() {
            return;
        }
        for name in due {
            let _turn = self.volume_turns.to_remove(node).await;
            let cluster = self.cluster();
            let again = cluster.volume(Realm::DEFAULT, &name);
            // A new one took its place meanwhile, and its data with it.
            let is_again =
                again.is_some_and(|volume| volume.residence.nodes().any(|at| at == node));
            if is_again || is_removed_for_good(&host, &name).await {
                self.log_failure(self.commit(Command::SettleVolume { name, node }).await);
            }
        }
        host.reread(ListKind::Volumes).await;
    }
}

/// Whether the engine will not have it, or not give it up: either way there is nothing more to wait for.
async fn is_removed_for_good(host: &Host, name: &str) -> bool {
    let call = EngineCall::delete(format!("/volumes/{name}"));
    let removed = tokio::time::timeout(REMOVE_PATIENCE, host.call(call)).await;
    match removed.unwrap_or_else(|_| Err(host.no_answer(REMOVE_PATIENCE))) {
        Ok(reply) if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND => true,
        Ok(reply) => {
            let message = reply.message();
            tracing::warn!(volume = name, node = %host.tag.name, message, "a volume that was removed stays");
            reply.status.is_client_error()
        }
        Err(error) => {
            tracing::warn!(volume = name, %error, "a volume could not be removed yet");
            false
        }
    }
}

/// The volumes that were made on the node, are mounted by nobody, and are not among what it has.
fn missing(cluster: &Cluster, node: NodeId, has: impl Fn(&str) -> bool) -> Vec<String> {
    let is_gone = |volume: &&Arc<Volume>| {
        let name = &volume.spec.name;
        let was_made = !matches!(volume.residence, Residence::On { made: false, .. });
        was_made && cluster.volume_users(volume.realm, name) == 0 && !has(name)
    };
    let gone = cluster.volumes_on(node).filter(is_gone);
    gone.map(|volume| volume.spec.name.clone()).collect()
}

/// Whether the engine is asked for the volume before it is asked for the container. What a container only mounts is
/// made with it, as its own body says, but what is to be equal on every node.
fn is_ours_to_make(volume: &Volume) -> bool {
    volume.origin == VolumeOrigin::Asked || volume.spec.kind() != VolumeKind::OneNode
}

fn is_due(cluster: &Cluster, node: NodeId, name: &str) -> bool {
    cluster.volumes_due_on(node).any(|due| due == name)
}

/// A volume that a node has is on that node; on several, nobody can tell which is meant.
fn held_by(
    name: &str,
    holders: &[Arc<Host>],
    is_everywhere: impl Fn(&Host) -> bool,
) -> Result<Option<Pin>, Error> {
    match holders {
        [] => Ok(None),
        several if several.iter().all(|host| is_everywhere(host)) => Ok(None),
        [one] => Ok(Some(Pin {
            nodes: BTreeSet::from([one.tag.id]),
            why: format!("volume {name}, which is on {}", one.tag.name),
        })),
        several => {
            let names: Vec<_> = several.iter().map(|host| host.tag.name.as_str()).collect();
            Err(Error::Impossible(format!(
                "volume {name} exists on {}, and each has different data: remove or rename all but one on those nodes",
                names.join(", ")
            )))
        }
    }
}

fn spec_of(mounted: &Mounted<'_>) -> VolumeSpec {
    let map = |pairs: &[(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)]| {
        let owned = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        (!pairs.is_empty()).then(|| owned.collect())
    };
    let driver = match &*mounted.driver {
        "" => LOCAL_DRIVER,
        driver => driver,
    };
    VolumeSpec {
        name: mounted.name.to_string(),
        driver: driver.to_owned(),
        options: map(&mounted.options),
        labels: map(&mounted.labels),
    }
}

fn has_driver(host: &Host, driver: &str) -> bool {
    let facts = host.facts();
    let Ok(info) = View::parse(&facts.info) else {
        return false;
    };
    let drivers = info.at(&["Plugins", "Volume"]);
    let is_it = |name: &str| name == driver || name.strip_suffix(":latest") == Some(driver);
    drivers.is_some_and(|list| {
        let mut names = list.elements().filter_map(|name| name.str());
        names.any(|name| is_it(&name))
    })
}

fn names_in(body: &[u8]) -> Option<BTreeSet<String>> {
    let view = View::parse(body).ok()?;
    let volumes = view.get("Volumes")?;
    Some(
        volumes
            .elements()
            .map(|volume| volume.text_of("Name").into_owned())
            .collect(),
    )
}
