//! Keeps the inventory true to one engine: follows its events, reads again what they touch, and starts
//! over when the stream breaks.
//!
//! One task owns all of it; everything that happens to it is one arm of one `select!`.
//!
//! **Invariant**: a waiter never hangs: a read that cannot succeed, the sync after a stream that broke, and the loss of
//! the node all wake it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api_compat::event::Event;
use api_compat::version::ApiVersion;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use raft_store::watch;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::call::EngineCall;
use super::client::empty;
use super::container::{Container, Details, Since, Unlisted};
use super::error::Error;
use super::facts::read_facts;
use super::health::Verdict;
use super::host::{Command, Health, Host, ListKind};
use super::inventory::Inventory;
use super::reads::{Inspected, in_time, inspect, read_container, read_list};
use super::rereads::{Read, Rereads, Step};
use super::ring::Ring;
use crate::clock;
use crate::model::{ContainerId, NodeId, RequestId};
use crate::tasks::Stopping;

/// A line of an event stream may not be longer.
const EVENT_MAX_BYTES: usize = 4 << 20;
/// So many inspects fill in what list items leave out, at a time.
const INSPECTS_AT_ONCE: usize = 2;
/// Past events are replayed at once when a stream is opened.
const HISTORY_COMES_FIRST: Duration = Duration::from_secs(5);
/// A change that was told early shows in the lists by then.
const TOLD_EARLY: Duration = Duration::from_millis(250);
/// A read that failed is tried again after so long.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Between two attempts to follow an engine that answers probes but not this.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// What the leader wants to hear of containers that hold placements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    rereads: Rereads<Object, oneshot::Sender<()>>,
    flights: FuturesUnordered<Flight>,
    creates: HashMap<RequestId, CreateHold>,
    told: BTreeMap<ContainerId, Told>,
    /// Who waits for a change that was made while no events came: the next sync shows it.
    blind: Vec<oneshot::Sender<()>>,
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
        let opened = open(Arc::clone(&self.host), self.last_event).await?;
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
        for waiter in self.blind.drain(..) {
            let _ = waiter.send(());
        }
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

    async fn take_lines(
        &mut self,
        lines: &mut BytesMut,
        history: (i64, Instant),
    ) -> Result<(), Error> {
        while let Some(end) = memchr::memchr(b'\n', lines) {
            let line = lines.split_to(end);
            lines.advance(1);
            if line.trim_ascii().is_empty() {
                continue;
            }
            match Event::parse(&line) {
                Ok(event) => self.take_event(&event, history).await,
                Err(error) => tracing::warn!(%error, "an event of this engine cannot be read"),
            }
        }
        if lines.len() > EVENT_MAX_BYTES {
            return Err(self.host.client.garbled("an event that does not end"));
        }
        Ok(())
    }

    async fn take_event(&mut self, event: &Event<'_>, history: (i64, Instant)) {
        let at = event.time_nanos;
        if !self.is_new(at, event) {
            return;
        }
        let tag = &self.host.tag;
        let network = (event.kind == "network")
            .then(|| {
                let name = event.attribute("name").unwrap_or_default();
                tag.networks.told(&event.action, &event.actor, name)
            })
            .flatten()
            .map(|ours| ours.to_string());
        match event.render(&tag.origin(), network.as_deref()) {
            Ok(line) => self
                .ring
                .push(at.saturating_sub(self.clock_ahead_nanos), tag, line.into()),
            Err(error) => tracing::warn!(%error, "an event of this engine cannot be shown"),
        }
        if at <= history.0 && clock::instant() < history.1 {
            return;
        }
        let action = event.action.as_ref();
        match event.kind.as_ref() {
            "container" => self.container_event(event).await,
            "network" => match (action, event.attribute("container")) {
                ("connect" | "disconnect", Some(member)) => {
                    if let Ok(id) = member.parse() {
                        self.changed(Object::Container(id), action);
                    }
                }
                _ => self.changed(Object::List(ListKind::Networks), action),
            },
            "volume" if matches!(action, "mount" | "unmount") => {}
            "volume" => self.changed(Object::List(ListKind::Volumes), action),
            "image" if matches!(action, "push" | "save") => {}
            "image" => self.changed(Object::List(ListKind::Images), action),
            _ => {}
        }
    }

    async fn container_event(&mut self, event: &Event<'_>) {
        let Ok(id) = event.actor.parse::<ContainerId>() else {
            return;
        };
        let (action, at) = (event.action.as_ref(), event.time_nanos);
        match action {
            "create" => {
                self.told.entry(id).or_default().created = Some(at);
                let request = event
                    .request()
                    .and_then(|request| request.parse::<RequestId>().ok());
                if let Some(hold) = request.and_then(|request| self.creates.get_mut(&request))
                    && hold.container.is_none()
                {
                    hold.container = Some(id);
                    self.rereads.hold(&Object::Container(id));
                }
            }
            "start" => self.told.entry(id).or_default().since.started = Some(at),
            "die" => self.told.entry(id).or_default().since.finished = Some(at),
            // Engines tell of a pause before their lists show it; an inspect waits until they do.
            "pause" | "unpause" | "update" => self.inspects.push_back(id),
            "destroy" => return self.gone(id).await,
            "commit" => self.changed(Object::List(ListKind::Images), action),
            _ => {}
        }
        if changes_list_item(action) {
            self.changed(Object::Container(id), action);
        }
    }

    fn changed(&mut self, object: Object, action: &str) {
        let step = self.rereads.event(&object, action);
        if step != Step::Wait && is_told_early(action) {
            let later = clock::deadline(TOLD_EARLY);
            self.rereads.again_at(&object, later);
        }
        self.take(object, step);
    }

    fn take(&mut self, object: Object, step: Step) {
        if let Step::Start(read) = step {
            self.launch(object, read);
        }
    }

    /// Resuming a second early repeats events; an event is known by its time and what it says.
    fn is_new(&mut self, at: i64, event: &Event<'_>) -> bool {
        let name = format!("{} {} {}", event.kind, event.action, event.actor);
        let known = self
            .recent
            .iter()
            .rev()
            .any(|(when, what)| *when == at && *what == name);
        if known {
            return false;
        }
        let newest = self.last_event.map_or(at, |last| last.max(at));
        self.last_event = Some(newest);
        self.recent.push_back((at, name));
        while self
            .recent
            .front()
            .is_some_and(|(when, _)| *when < newest - 2_000_000_000)
            || self.recent.len() > 4096
        {
            self.recent.pop_front();
        }
        true
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Hold(id) => self.rereads.hold(&Object::Container(id)),
            Command::Settle {
                container,
                last,
                done,
            } => {
                let object = Object::Container(container);
                let step = self
                    .rereads
                    .settle(&object, last, Some(done), clock::instant());
                self.take(object, step);
            }
            Command::Abandon(id) => {
                let step = self.rereads.abandon(&Object::Container(id));
                self.take(Object::Container(id), step);
            }
            Command::HoldCreate(request) => {
                self.creates.insert(request, CreateHold::default());
            }
            Command::SettleCreate {
                request,
                container,
                details,
                done,
            } => {
                self.told.entry(container).or_default().details = Some(details);
                let object = Object::Container(container);
                let held = self
                    .creates
                    .remove(&request)
                    .is_some_and(|hold| hold.container.is_some());
                if !held {
                    self.rereads.hold(&object);
                }
                let step =
                    self.rereads
                        .settle(&object, Some("create"), Some(done), clock::instant());
                self.take(object, step);
            }
            Command::AbandonCreate(request) => {
                if let Some(id) = self
                    .creates
                    .remove(&request)
                    .and_then(|hold| hold.container)
                {
                    let step = self.rereads.abandon(&Object::Container(id));
                    self.take(Object::Container(id), step);
                }
            }
            Command::Removed { container, done } => {
                self.forget(container);
                let _ = done.send(());
            }
            Command::Reread { kind, done } => {
                let object = Object::List(kind);
                self.rereads.hold(&object);
                let step = self
                    .rereads
                    .settle(&object, None, Some(done), clock::instant());
                self.take(object, step);
            }
        }
    }

    /// Without an event stream nothing can be read; the sync that begins the next one shows it all.
    fn obey_blind(&mut self, command: Command) {
        match command {
            Command::Removed { container, .. } => {
                self.inventory.remove(&container);
            }
            Command::SettleCreate {
                container,
                details,
                done,
                ..
            } => {
                self.told.entry(container).or_default().details = Some(details);
                self.blind.push(done);
            }
            Command::Settle { done, .. } | Command::Reread { done, .. } => self.blind.push(done),
            Command::Hold(_)
            | Command::Abandon(_)
            | Command::HoldCreate(_)
            | Command::AbandonCreate(_) => {}
        }
    }

    fn launch(&mut self, object: Object, read: Read) {
        let host = Arc::clone(&self.host);
        self.flights.push(match object {
            Object::Container(id) => {
                Box::pin(
                    async move { Landed::Container(id, read, read_container(&host, id).await) },
                )
            }
            Object::List(kind) => {
                Box::pin(async move { Landed::List(kind, read, read_list(&host, kind).await) })
            }
        });
    }

    fn launch_inspects(&mut self) {
        while self.inspecting < INSPECTS_AT_ONCE
            && let Some(id) = self.inspects.pop_front()
        {
            self.inspecting += 1;
            let (host, turns) = (Arc::clone(&self.host), Arc::clone(&self.inspect_turns));
            self.flights.push(Box::pin(async move {
                // Turns do not end: nobody closes the semaphore.
                let _turn = turns.acquire().await;
                Landed::Inspected(id, inspect(&host, id).await)
            }));
        }
    }

    async fn land(&mut self, landed: Landed) {
        match landed {
            Landed::Container(id, read, result) => {
                let object = Object::Container(id);
                if !self.rereads.is_current(&object, read) {
                    return;
                }
                match result {
                    Ok(Some(container)) => self.show(*container).await,
                    Ok(None) => return self.gone(id).await,
                    Err(error) if error.is_transient() => return self.read_later(object, &error),
                    Err(error) => self.cannot_read(object, &error),
                }
                self.served(object);
            }
            Landed::List(kind, read, result) => {
                let object = Object::List(kind);
                if !self.rereads.is_current(&object, read) {
                    return;
                }
                let listed = result.is_ok();
                match result {
                    Ok(()) => {}
                    Err(error) if error.is_transient() => return self.read_later(object, &error),
                    Err(error) => self.cannot_read(object, &error),
                }
                self.served(object);
                if kind == ListKind::Networks && !self.host.tag.networks.here().is_empty() {
                    self.observe(Observation::Networks(self.host.tag.id)).await;
                }
                if listed && kind == ListKind::Volumes {
                    self.observe(Observation::VolumesListed(self.host.tag.id))
                        .await;
                }
            }
            Landed::Inspected(id, result) => {
                self.inspecting -= 1;
                match result {
                    Ok(inspected) => self.fill_in(id, &inspected).await,
                    Err(error) => {
                        let object = Object::Container(id);
                        self.cannot_read(object, &error);
                        if error.is_transient() {
                            self.rereads.again_at(&object, clock::deadline(READ_AGAIN));
                        }
                    }
                }
                self.note_counted().await;
            }
        }
    }

    /// What could not be read is tried again: nothing else may ever say that the lists are behind. Whoever waits for it
    /// waits on: until it can be read, or the stream breaks, or the node is lost.
    fn read_later(&mut self, object: Object, error: &Error) {
        self.cannot_read(object, error);
        self.rereads.failed(&object, clock::deadline(READ_AGAIN));
    }

    fn cannot_read(&self, object: Object, error: &Error) {
        tracing::debug!(%error, ?object, "an object could not be read");
    }

    fn served(&mut self, object: Object) {
        let (waiters, step) = self.rereads.finished(&object);
        for waiter in waiters {
            let _ = waiter.send(());
        }
        self.take(object, step);
    }

    async fn show(&mut self, mut container: Container) {
        let ours = container.request.is_some();
        let id = container.id;
        self.remember(&mut container, true);
        let unclear = container.details.is_none()
            || (container.state.is_up() && container.since.started.is_none());
        if unclear && !self.inspects.contains(&id) {
            self.inspects.push_back(id);
        }
        let left = self.leaves_a_network(&container);
        self.inventory.put(container);
        if ours {
            self.observe(Observation::Changed(id)).await;
        } else if left {
            self.observe(Observation::Networks(self.host.tag.id)).await;
        }
    }

    /// Whether it was in a network of the cluster in which it is no more.
    fn leaves_a_network(&self, container: &Container) -> bool {
        let before = self.inventory.get(&container.id);
        before.is_some_and(|before| {
            let mut joined = before.networks.iter();
            joined.any(|network| !container.networks.contains(network))
        })
    }

    /// Adds to a list item what is known beside it: from events, else (`continuous`: nothing was
    /// missed since) from what the inventory held.
    fn remember(&mut self, container: &mut Container, continuous: bool) {
        let told = self.told.remove(&container.id).unwrap_or_default();
        let before = self.inventory.get(&container.id);
        let before = before.as_deref();
        // A list item has the second; the event of the create came a little later, maybe in the next one.
        let second = container.created_nanos - container.created_nanos.rem_euclid(1_000_000_000);
        let within = second..=second + 999_999_999;
        let told_created = told
            .created
            .map(|at| at.clamp(*within.start(), *within.end()));
        let known = before
            .map(|before| before.created_nanos)
            .filter(|at| within.contains(at));
        // The list may overtake the event. What is seen for the first time while nothing is missed was made just now.
        let just_now = || i64::try_from(clock::now().as_nanosecond()).unwrap_or(i64::MAX);
        let first_seen = (continuous && before.is_none())
            .then(|| just_now().saturating_add(self.clock_ahead_nanos))
            .map(|at| at.clamp(*within.start(), *within.end()));
        container.created_nanos = known
            .or(told_created)
            .or(first_seen)
            .unwrap_or(container.created_nanos);
        let was = before
            .filter(|_| continuous)
            .map(|b| b.since)
            .unwrap_or_default();
        container.since = Since {
            started: told.since.started.or(was.started),
            finished: told.since.finished.or(was.finished),
        };
        container.details = told.details.or(before.and_then(|b| b.details.clone()));
    }

    async fn fill_in(&mut self, id: ContainerId, inspected: &Inspected) {
        let Some(before) = self.inventory.get(&id) else {
            return;
        };
        let mut container = Container::clone(&before);
        container.details = Some(Details {
            claim: inspected.claim,
            generic: inspected.generic.clone(),
            exposed: inspected.exposed.clone(),
        });
        container.since = Since {
            // Whichever is newer: an event may have overtaken the inspect.
            started: inspected.started.max(container.since.started),
            finished: inspected.finished.max(container.since.finished),
        };
        container.created_nanos = inspected.created.unwrap_or(container.created_nanos);
        let ours = container.request.is_some();
        let is_behind = container.state.as_str() != inspected.state;
        self.inventory.put(container);
        if is_behind {
            self.changed(Object::Container(id), "inspect");
        }
        if ours {
            self.observe(Observation::Changed(id)).await;
        }
    }

    async fn note_counted(&mut self) {
        let counted = self.inspects.is_empty() && self.inspecting == 0;
        if counted && self.host.show_counted() {
            self.observe(Observation::Counted(self.host.tag.id)).await;
        }
    }

    async fn gone(&mut self, id: ContainerId) {
        let gone = self.forget(id);
        let joined = gone.as_ref().is_some_and(|gone| !gone.networks.is_empty());
        if let Some(request) = gone.and_then(|container| container.request) {
            let gone = Observation::Gone {
                container: id,
                request,
            };
            self.observe(gone).await;
        }
        if joined {
            self.observe(Observation::Networks(self.host.tag.id)).await;
        }
    }

    /// Takes a container out of the lists. A read of it that is still under way is not looked at: ids are
    /// never used again.
    fn forget(&mut self, id: ContainerId) -> Option<Arc<Container>> {
        self.told.remove(&id);
        for waiter in self.rereads.gone(&Object::Container(id)) {
            let _ = waiter.send(());
        }
        self.inventory.remove(&id)
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
        self.inspects.clear();
        self.inspecting = 0;
    }
}

/// A session's beginning: who the engine is, its events from now on, and all it has.
struct Opened {
    /// The engine's clock when it said who it is.
    engine_nanos: i64,
    clock_ahead_nanos: i64,
    events: Incoming,
    containers: Bytes,
}

/// Opens a session. The event stream comes first, so that nothing happens between it and the lists.
async fn open(host: Arc<Host>, last_event: Option<i64>) -> Result<Opened, Error> {
    let before = clock::now();
    let facts = in_time(&host, read_facts(&host.client)).await?;
    let middle = before
        .as_nanosecond()
        .midpoint(clock::now().as_nanosecond());
    let engine_nanos = facts.system_time.as_nanosecond();
    host.recognise(facts)?;
    let events = in_time(&host, follow(&host, last_event)).await?;
    // One after the other, over one connection: a fleet that has just been found is read all at once.
    let all = EngineCall::get("/containers/json?all=1");
    let containers = in_time(&host, host.client.ask(all)).await?;
    for kind in [ListKind::Images, ListKind::Networks, ListKind::Volumes] {
        read_list(&host, kind).await?;
    }
    Ok(Opened {
        engine_nanos: i64::try_from(engine_nanos).unwrap_or(i64::MAX),
        clock_ahead_nanos: i64::try_from(engine_nanos - middle).unwrap_or(0),
        events,
        containers: containers.body,
    })
}

/// Opens the event stream where the last one broke; the first one begins with what the engine still
/// remembers (256 events).
async fn follow(host: &Host, last_event: Option<i64>) -> Result<Incoming, Error> {
    let since = last_event.map_or(1, |nanos| nanos - 1_000_000_000);
    let (seconds, nanos) = (since / 1_000_000_000, since % 1_000_000_000);
    let target = format!("/events?since={seconds}.{nanos:09}");
    let request = Request::new(empty());
    let response = host.client.send(ApiVersion::MAX, &target, request).await?;
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    Err(host
        .client
        .garbled(format_args!("/events answered {}", response.status())))
}

/// Whether an engine tells of the change before its own lists show it: it saves these after the event
/// (moby `daemon/pause.go`, `unpause.go`, `container_operations.go`).
fn is_told_early(action: &str) -> bool {
    matches!(action, "pause" | "unpause" | "connect" | "disconnect")
}

/// Whether an action shows in a container's list item. `kill` and `stop` do not: the `die` beside them does.
fn changes_list_item(action: &str) -> bool {
    matches!(
        action,
        "create" | "start" | "die" | "restart" | "pause" | "unpause" | "rename" | "update"
    ) || action.starts_with("health_status")
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
