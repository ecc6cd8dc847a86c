//! One fake engine: its containers and their events. No sockets, no waiting.
//!
//! **Invariant**: a change and its events become visible together, and event times never go back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use super::shapes::{self, Counts, Identity};

/// As many events as a real engine remembers.
const REMEMBERED: usize = 256;
/// A follower of events that is so far behind is let go.
const FOLLOWER_BACKLOG: usize = 65_536;

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Created,
    Running,
    Paused,
    Exited,
}

impl Phase {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
        }
    }

    pub(super) const fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// A container.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) memory_bytes: u64,
    pub(super) cpu_nanos: u64,
    pub(super) created_nanos: i64,
    pub(super) phase: Phase,
    pub(super) started: Option<i64>,
    pub(super) finished: Option<i64>,
}

/// Why a request is refused: status and message.
pub(super) type Refused = (u16, String);

#[derive(Debug, Default)]
struct State {
    containers: HashMap<String, Made>,
    /// By the time of their making; times of one engine differ.
    order: BTreeMap<i64, String>,
    names: HashMap<String, String>,
    next: u64,
    last: i64,
    remembered: VecDeque<(i64, Bytes)>,
    followers: Vec<mpsc::Sender<Bytes>>,
}

/// One fake engine.
#[derive(Debug)]
pub struct Engine {
    pub(super) identity: Identity,
    networks: [String; 3],
    state: Mutex<State>,
}

/// Which containers a list shows.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) all: bool,
    pub(super) limit: Option<usize>,
    pub(super) ids: Vec<String>,
    pub(super) labels: Vec<String>,
}

impl Engine {
    /// An engine with that many running containers: five to a compose project if they are labelled.
    pub(super) fn new(identity: Identity, containers: usize, labelled: bool) -> Self {
        let number = identity.number;
        let engine = Self {
            networks: shapes::network_ids(number),
            identity,
            state: Mutex::default(),
        };
        let mut state = engine.lock();
        let begin = now() - 3_600_000_000_000;
        for index in 0..containers as u64 {
            let global = number * containers as u64 + index;
            let labels = if labelled {
                vec![
                    (
                        "com.docker.compose.project".to_owned(),
                        format!("p{}", global / 5),
                    ),
                    ("com.docker.compose.service".to_owned(), "web".to_owned()),
                ]
            } else {
                Vec::new()
            };
            // One a tenth of a second, so that several share a second and none share an instant.
            let at = begin + (global as i64 % 30_000) * 100_000_000 + index as i64;
            state.insert(Made {
                number: global,
                id: shapes::id(number, index),
                name: format!("c{global}"),
                image: "busybox".to_owned(),
                command: vec!["sleep".to_owned(), "1000".to_owned()],
                labels,
                memory_bytes: 0,
                cpu_nanos: 0,
                created_nanos: at,
                phase: Phase::Running,
                started: Some(at + 50_000_000),
                finished: None,
            });
        }
        state.next = containers as u64;
        drop(state);
        engine
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// The full ids of its containers, in no order.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.lock().containers.keys().cloned().collect()
    }

    /// Freezes or thaws a container: a change that lists show, and one event. False if it is not there.
    pub fn set_paused(&self, id: &str, paused: bool) -> bool {
        let mut state = self.lock();
        let Some(made) = state.containers.get_mut(id) else {
            return false;
        };
        made.phase = if paused {
            Phase::Paused
        } else {
            Phase::Running
        };
        let action = if paused { "pause" } else { "unpause" };
        state.container_event(id, action, &[]);
        true
    }

    /// Tells an event of a container that changes nothing, with one attribute to know it by.
    pub fn tell(&self, id: &str, action: &str, attribute: (&str, &str)) {
        self.lock().container_event(id, action, &[attribute]);
    }

    pub(super) fn info(&self) -> String {
        let state = self.lock();
        let count = |phase| {
            state
                .containers
                .values()
                .filter(|made| made.phase == phase)
                .count()
        };
        let counts = Counts {
            all: state.containers.len(),
            running: count(Phase::Running),
            paused: count(Phase::Paused),
        };
        drop(state);
        shapes::info(&self.identity, counts, now())
    }

    pub(super) fn networks(&self) -> String {
        shapes::networks(&self.networks)
    }

    pub(super) fn list(&self, filter: &Filter) -> String {
        let state = self.lock();
        let (bridge, now) = (self.networks[2].as_str(), now());
        let mut out = String::with_capacity(if filter.ids.is_empty() {
            state.containers.len() * 1100
        } else {
            2048
        });
        out.push('[');
        let mut left = filter.limit.unwrap_or(usize::MAX);
        let mut show = |made: &Made| {
            if left > 0 && filter.accepts(made) {
                left -= 1;
                if out.len() > 1 {
                    out.push(',');
                }
                shapes::list_item(&mut out, made, bridge, now);
            }
        };
        if filter.ids.is_empty() {
            let newest_first = state.order.values().rev();
            newest_first
                .filter_map(|id| state.containers.get(id))
                .for_each(&mut show);
        } else {
            filter
                .ids
                .iter()
                .filter_map(|id| state.find(id))
                .for_each(&mut show);
        }
        out.push_str("]\n");
        out
    }

    pub(super) fn inspect(&self, reference: &str) -> Result<String, Refused> {
        let state = self.lock();
        let made = state.known(reference)?;
        Ok(shapes::inspect(made, &self.networks[2]))
    }

    pub(super) fn exists(&self, reference: &str) -> Result<(), Refused> {
        self.lock().known(reference).map(drop)
    }

    pub(super) fn create(&self, name: Option<&str>, body: &Value) -> Result<String, Refused> {
        let mut state = self.lock();
        let (number, next) = (self.identity.number, state.next);
        let id = shapes::id(number, next);
        let name = name.map_or_else(|| format!("made{next}"), str::to_owned);
        if let Some(holder) = state.names.get(&name) {
            return Err((
                409,
                format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
                ),
            ));
        }
        state.next += 1;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let words = |value: &Value| {
            value
                .as_array()
                .map_or_else(Vec::new, |words| words.iter().map(text).collect())
        };
        let labels = body["Labels"].as_object().map_or_else(Vec::new, |labels| {
            labels
                .iter()
                .map(|(key, value)| (key.clone(), text(value)))
                .collect()
        });
        let made = Made {
            number: next << 16 | number,
            id: id.clone(),
            name,
            image: text(&body["Image"]),
            command: words(&body["Cmd"]),
            labels,
            memory_bytes: body["HostConfig"]["Memory"].as_u64().unwrap_or_default(),
            cpu_nanos: body["HostConfig"]["NanoCpus"].as_u64().unwrap_or_default(),
            created_nanos: state.tick(),
            phase: Phase::Created,
            started: None,
            finished: None,
        };
        state.insert(made);
        state.container_event(&id, "create", &[]);
        Ok(id)
    }

    /// False if it runs already.
    pub(super) fn start(&self, reference: &str) -> Result<bool, Refused> {
        let mut state = self.lock();
        let (id, phase) = state.phase(reference)?;
        if phase.is_up() {
            return Ok(false);
        }
        let at = state.tick();
        if let Some(made) = state.containers.get_mut(&id) {
            made.phase = Phase::Running;
            made.started = Some(at);
        }
        self.bridge_event(&mut state, &id, "connect");
        state.container_event(&id, "start", &[]);
        Ok(true)
    }

    /// False if it does not run.
    pub(super) fn stop(&self, reference: &str) -> Result<bool, Refused> {
        let mut state = self.lock();
        let (id, phase) = state.phase(reference)?;
        if !phase.is_up() {
            return Ok(false);
        }
        state.container_event(&id, "kill", &[("signal", "15")]);
        self.end(&mut state, &id);
        state.container_event(&id, "stop", &[]);
        Ok(true)
    }

    pub(super) fn remove(&self, reference: &str, force: bool) -> Result<(), Refused> {
        let mut state = self.lock();
        let (id, phase) = state.phase(reference)?;
        if phase.is_up() {
            if !force {
                return Err((
                    409,
                    format!(
                        "cannot remove container \"{reference}\": container is running: stop the container before removing or force remove"
                    ),
                ));
            }
            state.container_event(&id, "kill", &[("signal", "9")]);
            self.end(&mut state, &id);
        }
        state.container_event(&id, "destroy", &[]);
        state.remove(&id);
        Ok(())
    }

    /// The events remembered since `since`.
    pub(super) fn remembered(&self, since: Option<i64>) -> Vec<u8> {
        let state = self.lock();
        let since = since.unwrap_or_default();
        let lines = state.remembered.iter().filter(|(at, _)| *at >= since);
        lines.flat_map(|(_, line)| line.to_vec()).collect()
    }

    /// The events remembered since `since` (nanoseconds since 1970), then those to come.
    pub(super) fn follow(&self, since: Option<i64>) -> mpsc::Receiver<Bytes> {
        let mut state = self.lock();
        let (sender, receiver) = mpsc::channel(FOLLOWER_BACKLOG);
        if let Some(since) = since {
            for (_, line) in state.remembered.iter().filter(|(at, _)| *at >= since) {
                // The channel holds more than are remembered.
                drop(sender.try_send(line.clone()));
            }
        }
        state.followers.push(sender);
        receiver
    }

    fn end(&self, state: &mut State, id: &str) {
        let at = state.tick();
        if let Some(made) = state.containers.get_mut(id) {
            made.phase = Phase::Exited;
            made.finished = Some(at);
        }
        self.bridge_event(state, id, "disconnect");
        state.container_event(id, "die", &[("execDuration", "1"), ("exitCode", "137")]);
    }

    fn bridge_event(&self, state: &mut State, id: &str, action: &str) {
        let attributes = [("container", id), ("name", "bridge"), ("type", "bridge")];
        state.event("network", action, &self.networks[2], &attributes);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filter {
    fn accepts(&self, made: &Made) -> bool {
        let labelled = |wanted: &String| {
            made.labels
                .iter()
                .any(|(key, value)| match wanted.split_once('=') {
                    Some((wanted, content)) => key == wanted && value == content,
                    None => key == wanted,
                })
        };
        (self.all || self.limit.is_some() || made.phase.is_up()) && self.labels.iter().all(labelled)
    }
}

impl State {
    fn insert(&mut self, made: Made) {
        self.order.insert(made.created_nanos, made.id.clone());
        self.names.insert(made.name.clone(), made.id.clone());
        self.containers.insert(made.id.clone(), made);
    }

    fn remove(&mut self, id: &str) {
        if let Some(made) = self.containers.remove(id) {
            self.order.remove(&made.created_nanos);
            self.names.remove(&made.name);
        }
    }

    fn find(&self, reference: &str) -> Option<&Made> {
        let by_id = self.containers.get(reference);
        let by_name = || {
            let name = reference.strip_prefix('/').unwrap_or(reference);
            self.names.get(name).and_then(|id| self.containers.get(id))
        };
        let by_prefix = || {
            self.containers
                .values()
                .find(|made| !reference.is_empty() && made.id.starts_with(reference))
        };
        by_id.or_else(by_name).or_else(by_prefix)
    }

    fn known(&self, reference: &str) -> Result<&Made, Refused> {
        self.find(reference)
            .ok_or_else(|| (404, format!("No such container: {reference}")))
    }

    fn phase(&self, reference: &str) -> Result<(String, Phase), Refused> {
        self.known(reference)
            .map(|made| (made.id.clone(), made.phase))
    }

    fn container_event(&mut self, id: &str, action: &str, more: &[(&str, &str)]) {
        let Some(made) = self.containers.get(id) else {
            return;
        };
        let (name, image, labels) = (made.name.clone(), made.image.clone(), made.labels.clone());
        let mut attributes = vec![("image", image.as_str()), ("name", name.as_str())];
        attributes.extend(
            labels
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
        attributes.extend_from_slice(more);
        self.event("container", action, id, &attributes);
    }

    fn event(&mut self, kind: &str, action: &str, actor: &str, attributes: &[(&str, &str)]) {
        let at = self.tick();
        let line = Bytes::from(shapes::event(kind, action, actor, attributes, at));
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((at, line.clone()));
        self.followers
            .retain(|follower| follower.try_send(line.clone()).is_ok());
    }

    fn tick(&mut self) -> i64 {
        self.last = now().max(self.last + 1);
        self.last
    }
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
