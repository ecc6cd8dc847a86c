//! One engine as a node: how to ask it, what is thought of it, and what it last listed.
//!
//! **Invariant**: no request waits on a node that is down; one that was waiting when the node went down
//! fails at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api_compat::version::ApiVersion;
use arc_swap::{ArcSwap, ArcSwapOption};
use http::{Request, Response};
use hyper::body::Incoming;
use jiff::Timestamp;
use raft_store::watch;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::call::{EngineCall, EngineReply};
use super::changes::Changes;
use super::client::{Body, Client};
use super::container::{Details, HostTag};
use super::dial::Connection;
use super::error::Error;
use super::facts::Facts;
use super::health::Verdict;
use super::images::Images;
use crate::clock;
use crate::model::{ContainerId, RequestId};

/// An image that is not listed is remembered for so long once somebody has asked for it.
const UNLISTED: Duration = Duration::from_secs(60);
/// Images that an engine has and does not list, by id: when each was built, and until when that is remembered.
pub(super) type Unlisted = BTreeMap<String, (i64, Instant)>;

/// What is thought of an engine, and since when.
#[derive(Debug, Clone)]
pub struct Health {
    /// Ready, suspect or down.
    pub verdict: Verdict,
    /// When it last answered.
    pub last_seen: Timestamp,
    /// Why it is not ready, in words; empty when it is.
    pub reason: String,
}

/// The object lists that are read whole: they are short and seldom change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListKind {
    /// `GET /images/json`.
    Images,
    /// `GET /networks`.
    Networks,
    /// `GET /volumes`.
    Volumes,
}

/// What a watcher is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// A change of ours to a container begins.
    Hold(ContainerId),
    /// It is done; `last` is the action of its last event.
    Settle {
        container: ContainerId,
        last: Option<&'static str>,
        done: oneshot::Sender<()>,
    },
    /// It came to nothing.
    Abandon(ContainerId),
    /// A create of ours begins.
    HoldCreate(RequestId),
    /// It is done, and this is the container.
    SettleCreate {
        request: RequestId,
        container: ContainerId,
        details: Details,
        /// The containers that it links, by name or id.
        linked: Vec<String>,
        done: oneshot::Sender<()>,
    },
    /// It came to nothing.
    AbandonCreate(RequestId),
    /// A removal of ours is done.
    Removed {
        container: ContainerId,
        done: oneshot::Sender<()>,
    },
    /// One of the short lists is to be read again.
    Reread {
        kind: ListKind,
        done: oneshot::Sender<()>,
    },
}

/// One engine as a node of the cluster.
#[derive(Debug)]
pub struct Host {
    /// Who it is.
    pub tag: Arc<HostTag>,
    /// Its client.
    pub client: Arc<Client>,
    pub(super) health: watch::Sender<Health>,
    pub(super) facts: ArcSwap<Facts>,
    pub(super) images: ArcSwap<Images>,
    pub(super) unlisted: Mutex<Unlisted>,
    pub(super) networks: ArcSwap<Vec<Box<RawValue>>>,
    pub(super) volumes: ArcSwap<Vec<Box<RawValue>>>,
    pub(super) network_names: ArcSwap<BTreeSet<String>>,
    pub(super) volume_names: ArcSwap<BTreeSet<String>>,
    pub(super) volume_groups: ArcSwap<BTreeSet<String>>,
    pub(super) synced: watch::Sender<bool>,
    pub(super) counted: AtomicBool,
    /// Why what answers there is not this node's engine.
    pub(super) estranged: ArcSwapOption<String>,
    /// Whether it was taken out of the fleet.
    pub(super) left: watch::Sender<bool>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) hint: tokio::sync::Notify,
    pub(super) changes: Arc<Changes>,
}

impl Host {
    /// What the engine last said of itself.
    pub fn facts(&self) -> Arc<Facts> {
        self.facts.load_full()
    }

    /// An image, or a tag, that is to be removed when the node is back, is shown no more.
    pub fn forget_image(&self, name: &str) {
        // What is kept was read before, so it can be read.
        if let Ok(left) = self.images().without(name) {
            self.show_images(left);
        }
    }

    /// Takes note of an image that it has and does not list, for as long as a request for it may take.
    pub fn note_unlisted(&self, id: String, created: i64) {
        let mut unlisted = self.unlisted();
        unlisted.insert(id, (created, clock::deadline(UNLISTED)));
        // What is kept was read before, so it can be read: nothing is removed by this.
        if let Ok(images) = self.images().without("") {
            self.show_with(images, &mut unlisted);
        }
    }

    /// Takes note of the images that it lists.
    pub(super) fn show_images(&self, images: Images) {
        self.show_with(images, &mut self.unlisted());
    }

    fn show_with(&self, images: Images, unlisted: &mut Unlisted) {
        let now = clock::instant();
        unlisted.retain(|_, (_, until)| *until > now);
        let images = unlisted.iter().fold(images, |images, (id, (created, _))| {
            images.beside(id, *created)
        });
        self.images.store(Arc::new(images));
        self.changes.note_images();
    }

    /// Held while a picture of its images takes the place of another one.
    fn unlisted(&self) -> MutexGuard<'_, Unlisted> {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that the claims of all its containers are known; whether that is news.
    pub(super) fn show_counted(&self) -> bool {
        let is_news = !self.counted.swap(true, Ordering::AcqRel);
        if is_news {
            self.changes.note(self.tag.id);
        }
        is_news
    }

    /// Changes what is thought of it, and says whether that is to be told.
    pub(super) fn show_health(&self, change: impl FnOnce(&mut Health) -> bool) {
        let before = self.health.borrow().reason.clone();
        let is_told = self.health.send_if_modified(change);
        if is_told {
            self.changes.note_images();
        }
        if is_told || self.health.borrow().reason != before {
            self.changes.note(self.tag.id);
        }
    }

    /// The images it last listed.
    pub fn images(&self) -> Arc<Images> {
        self.images.load_full()
    }

    /// The networks it last listed.
    pub fn networks(&self) -> Arc<Vec<Box<RawValue>>> {
        self.networks.load_full()
    }

    /// The volumes it last listed.
    pub fn volumes(&self) -> Arc<Vec<Box<RawValue>>> {
        self.volumes.load_full()
    }

    /// Whether it last listed a volume of this name.
    pub fn has_volume(&self, name: &str) -> bool {
        self.volume_names.load().contains(name)
    }

    /// Whether it last listed a volume of this group.
    pub fn has_volume_of(&self, group: &str) -> bool {
        self.volume_groups.load().contains(group)
    }

    /// Whether it last listed a network of this name or id that is not the cluster's.
    pub fn has_network(&self, reference: &str) -> bool {
        self.network_names.load().contains(reference)
    }

    /// What is thought of it now.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Changes of [`Self::health`].
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Whether it answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.health.borrow().verdict != Verdict::Down
    }

    /// Whether all its containers have been listed at least once.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Resolves once all its containers have been listed.
    pub async fn until_synced(&self) {
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Whether the claims of all its containers are known, so that its free resources are.
    pub fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Acquire)
    }

    /// Whether it was taken out of the fleet.
    pub fn has_left(&self) -> bool {
        *self.left.borrow()
    }

    /// Whether what answers there is another engine.
    pub(super) fn is_estranged(&self) -> bool {
        self.estranged.load().is_some()
    }

    /// Resolves once it was taken out of the fleet.
    pub async fn until_left(&self) {
        let _ = self.left.subscribe().wait_for(|left| *left).await;
    }

    /// Takes note of what the engine said of itself, if it is still the same engine: another one in its place
    /// knows nothing of our containers, and its word on them must not count.
    pub(super) fn recognise(&self, facts: Facts) -> Result<(), Error> {
        let known = self.facts.load();
        if !known.engine_id.is_empty() && known.engine_id != facts.engine_id {
            let why = another_engine(&self.tag, &known.engine_id, &facts.engine_id);
            if self.estranged.swap(Some(Arc::new(why.clone()))).is_none() {
                self.hint.notify_one();
            }
            return Err(self.unfit(&why));
        }
        self.estranged.store(None);
        self.facts.store(Arc::new(facts));
        self.changes.note(self.tag.id);
        Ok(())
    }

    /// Fails if the node is known to be down.
    pub fn ready(&self) -> Result<(), Error> {
        let health = self.health.borrow();
        if health.verdict == Verdict::Down {
            return Err(self.down(&health));
        }
        match &*self.estranged.load() {
            Some(why) => Err(self.unfit(why)),
            None => Ok(()),
        }
    }

    /// Resolves once the node is down, with the error to give to whoever waited for it.
    pub async fn lost(&self) -> Error {
        let mut health = self.health.subscribe();
        match health
            .wait_for(|health| health.verdict == Verdict::Down)
            .await
        {
            Ok(health) => self.down(&health),
            // The host itself is gone: it left the cluster.
            Err(_) => self.down(&self.health.borrow()),
        }
    }

    /// The error for an engine that did not answer within `patience`.
    pub fn no_answer(&self, patience: Duration) -> Error {
        let why = format!("no answer within {}s", patience.as_secs());
        Error::Unreachable {
            node: self.tag.name.clone(),
            source: std::io::Error::new(std::io::ErrorKind::TimedOut, why),
        }
    }

    fn unfit(&self, why: &str) -> Error {
        Error::Unfit {
            node: self.tag.name.clone(),
            why: why.to_owned(),
        }
    }

    fn down(&self, health: &Health) -> Error {
        let seconds = clock::now()
            .duration_since(health.last_seen)
            .as_secs()
            .max(0);
        Error::Down {
            node: self.tag.name.clone(),
            last_seen: format!("last seen {seconds}s ago"),
        }
    }

    /// Performs a call; see `Client::call`.
    pub async fn call(&self, call: EngineCall) -> Result<EngineReply, Error> {
        self.ready()?;
        tokio::select! {
            biased;
            reply = self.client.call(call) => self.noted(reply),
            lost = self.lost() => Err(lost),
        }
    }

    /// [`Self::call`], where anything but a 2xx is an error in the engine's words.
    pub async fn ask(&self, call: EngineCall) -> Result<EngineReply, Error> {
        let reply = self.call(call).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(Error::Refused {
            node: self.tag.name.clone(),
            status: reply.status,
            message: reply.message(),
        })
    }

    /// Sends a request as it stands; see `Client::send`.
    pub async fn send(
        &self,
        version: ApiVersion,
        target: &str,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        self.ready()?;
        tokio::select! {
            biased;
            reply = self.client.send(version, target, request) => self.noted(reply),
            lost = self.lost() => Err(lost),
        }
    }

    /// [`Self::send`] for a body that is long; see `Client::send_long`.
    pub async fn send_long(
        &self,
        version: ApiVersion,
        target: &str,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        self.ready()?;
        tokio::select! {
            biased;
            reply = self.client.send_long(version, target, request) => self.noted(reply),
            lost = self.lost() => Err(lost),
        }
    }

    /// Sends a request that may be upgraded; see `Client::send_upgradable`.
    pub async fn send_upgradable(
        &self,
        version: ApiVersion,
        target: &str,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        self.ready()?;
        tokio::select! {
            biased;
            reply = self.client.send_upgradable(version, target, request) => self.noted(reply),
            lost = self.lost() => Err(lost),
        }
    }

    /// One more raw connection.
    pub async fn dial(&self) -> Result<Connection, Error> {
        self.ready()?;
        tokio::select! {
            biased;
            connection = self.client.dial() => self.noted(connection),
            lost = self.lost() => Err(lost),
        }
    }

    /// A connection that failed is a hint to probe at once.
    fn noted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if matches!(result, Err(Error::Unreachable { .. })) {
            self.hint.notify_one();
        }
        result
    }

    /// Announces a change of ours to a container, so that the events it causes lead to one re-read.
    pub async fn change(&self, container: ContainerId) -> Change {
        let place = self.announce(Command::Hold(container)).await;
        Change { place, container }
    }

    /// Announces a create of ours.
    pub async fn creation(&self, request: RequestId) -> Creation {
        let place = self.announce(Command::HoldCreate(request)).await;
        Creation { place, request }
    }

    /// Reads one of the short lists again; returns when it shows the present.
    pub async fn reread(&self, kind: ListKind) {
        let (done, shown) = oneshot::channel();
        // The watcher is gone only when the manager stops; nobody waits for a list then.
        if self
            .commands
            .send(Command::Reread { kind, done })
            .await
            .is_ok()
        {
            let _ = shown.await;
        }
    }

    /// Sends what begins a change, and keeps a place in the queue for what ends it: that must never be
    /// lost, or the container would be held for ever.
    async fn announce(&self, beginning: Command) -> Option<Place> {
        // In this order: places that are kept must not keep beginnings out.
        self.commands.send(beginning).await.ok()?;
        self.commands.clone().reserve_owned().await.ok()
    }
}

/// What is to be done when an endpoint leads to another engine than before.
pub fn another_engine(tag: &HostTag, known: &str, found: &str) -> String {
    format!(
        "the engine at {} is not the one that node {} was: its id is {found}, not {known}. If the machine was replaced, or \
         its engine got a new id, `flotilla node rm --force {}` and add it again: what it has of the cluster's containers \
         is found by their labels",
        tag.endpoint, tag.name, tag.name
    )
}

/// A place in a watcher's queue; none if the watcher is gone, which it is when the manager stops.
type Place = mpsc::OwnedPermit<Command>;

/// Sends what ends a change, and waits until the lists show it.
async fn end(place: Option<Place>, ending: impl FnOnce(oneshot::Sender<()>) -> Command) {
    if let Some(place) = place {
        let (done, shown) = oneshot::channel();
        place.send(ending(done));
        let _ = shown.await;
    }
}

/// A change of ours that is under way. Dropped without [`Change::settle`], it is taken for failed.
#[derive(Debug)]
pub struct Change {
    place: Option<Place>,
    container: ContainerId,
}

impl Change {
    /// The engine has answered: returns when our lists show the change. `last` is the action of the last
    /// event that the change causes, if it causes any.
    pub async fn settle(mut self, last: Option<&'static str>) {
        let container = self.container;
        end(self.place.take(), |done| Command::Settle {
            container,
            last,
            done,
        })
        .await;
    }

    /// The engine has removed the container.
    pub async fn removed(mut self) {
        let container = self.container;
        end(self.place.take(), |done| Command::Removed {
            container,
            done,
        })
        .await;
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.send(Command::Abandon(self.container));
        }
    }
}

/// A create of ours that is under way. Dropped without [`Creation::settle`], it is taken for failed.
#[derive(Debug)]
pub struct Creation {
    place: Option<Place>,
    request: RequestId,
}

impl Creation {
    /// The engine has made the container: returns when our lists show it, and the names that it gives to those that it links.
    pub async fn settle(mut self, container: ContainerId, details: Details, linked: Vec<String>) {
        let request = self.request;
        end(self.place.take(), |done| Command::SettleCreate {
            request,
            container,
            details,
            linked,
            done,
        })
        .await;
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.send(Command::AbandonCreate(self.request));
        }
    }
}
