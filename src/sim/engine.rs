//! One engine that only pretends: its containers and their events, in the words of a real 28.5.2 engine. No sockets, no
//! waiting, nothing runs in its containers. The integration tests hold it against a real one.
//!
//! **Invariant**: a change and its events become visible together, and event times never go back.

mod answer;
mod shapes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

pub use answer::{Asked, Said, error, unversioned};
pub use shapes::Identity;

use crate::clock;
use shapes::Counts;

/// As many events as a real engine remembers.
const REMEMBERED: usize = 256;
/// A follower of events that is so far behind is let go.
const FOLLOWER_BACKLOG: usize = 65_536;

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Made, never started.
    Created,
    /// It runs.
    Running,
    /// It runs, frozen.
    Paused,
    /// It ran and ended.
    Exited,
}

impl Phase {
    /// As an engine spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
        }
    }

    /// Whether it runs, frozen or not.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// A container.
#[derive(Debug, Clone)]
pub struct Made {
    number: u64,
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    image: String,
    command: Vec<String>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    memory_bytes: u64,
    /// What it may use of the CPUs.
    pub cpu_nanos: u64,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    created_nanos: i64,
    /// What it is doing.
    pub phase: Phase,
    started: Option<i64>,
    finished: Option<i64>,
    exit_code: i64,
}

/// Until when somebody waits for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// It does not run.
    NotRunning,
    /// It ends once more.
    NextExit,
    /// It is gone.
    Removed,
}

#[derive(Debug)]
struct Waiter {
    container: String,
    awaited: Awaited,
    told: mpsc::Sender<Bytes>,
}

/// Why a request is refused: status and message.
pub type Refused = (u16, String);

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<String, Made>,
    /// By the time of their making; times of one engine differ.
    order: BTreeMap<i64, String>,
    names: BTreeMap<String, String>,
    /// Those whose removal has begun and takes its time.
    removing: BTreeSet<String>,
    next: u64,
    last: i64,
    remembered: VecDeque<(i64, Bytes)>,
    followers: Vec<mpsc::Sender<Bytes>>,
    waiters: Vec<Waiter>,
}

/// An engine that only pretends.
#[derive(Debug)]
pub struct Engine {
    identity: Identity,
    networks: [String; 3],
    state: Mutex<State>,
}

/// Which containers a list shows.
#[derive(Debug, Default)]
struct Filter {
    all: bool,
    limit: Option<usize>,
    ids: Vec<String>,
    labels: Vec<String>,
}

impl Engine {
    /// An engine with that many running containers: five to a compose project if they are labelled.
    pub fn new(identity: Identity, containers: usize, labelled: bool) -> Self {
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
                auto_remove: false,
                created_nanos: at,
                phase: Phase::Running,
                started: Some(at + 50_000_000),
                finished: None,
                exit_code: 0,
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

    /// Its containers, by id.
    #[must_use]
    pub fn containers(&self) -> Vec<Made> {
        self.lock().containers.values().cloned().collect()
    }

    /// The full ids of its containers, in order.
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

    fn info(&self) -> String {
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

    fn networks(&self) -> String {
        shapes::networks(&self.networks)
    }

    fn list(&self, filter: &Filter) -> String {
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

    fn inspect(&self, reference: &str) -> Result<String, Refused> {
        let state = self.lock();
        let made = state.known(reference)?;
        Ok(shapes::inspect(made, &self.networks[2]))
    }

    /// Refuses as an engine does if there is no such container.
    pub fn exists(&self, reference: &str) -> Result<(), Refused> {
        self.lock().known(reference).map(drop)
    }

    fn create(&self, name: Option<&str>, body: &Value) -> Result<String, Refused> {
        let mut state = self.lock();
        let (number, next) = (self.identity.number, state.next);
        let id = shapes::id(number, next);
        let name = name.map_or_else(|| format!("made{next}"), str::to_owned);
        state.name_is_free(&name)?;
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
        let limits = &body["HostConfig"];
        let made = Made {
            number: next << 16 | number,
            id: id.clone(),
            name,
            image: text(&body["Image"]),
            command: words(&body["Cmd"]),
            labels,
            memory_bytes: limits["Memory"].as_u64().unwrap_or_default(),
            cpu_nanos: limits["NanoCpus"].as_u64().unwrap_or_default(),
            auto_remove: limits["AutoRemove"].as_bool().unwrap_or_default(),
            created_nanos: state.tick(),
            phase: Phase::Created,
            started: None,
            finished: None,
            exit_code: 0,
        };
        state.insert(made);
        state.container_event(&id, "create", &[]);
        Ok(id)
    }

    /// False if it runs already.
    fn start(&self, reference: &str) -> Result<bool, Refused> {
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
    fn stop(&self, reference: &str) -> Result<bool, Refused> {
        let mut state = self.lock();
        let (id, phase) = state.phase(reference)?;
        if !phase.is_up() {
            return Ok(false);
        }
        state.container_event(&id, "kill", &[("signal", "15")]);
        self.end(&mut state, &id, 137);
        state.container_event(&id, "stop", &[]);
        self.remove_if_wished(&mut state, &id);
        Ok(true)
    }

    /// The container that runs `sleep`, since when, and how long it will: then its process ends by itself.
    pub(super) fn running_for(&self, reference: &str) -> Option<(String, i64, Duration)> {
        let state = self.lock();
        let made = state.find(reference)?;
        let [program, seconds] = made.command.as_slice() else {
            return None;
        };
        let seconds = seconds.parse().ok().filter(|_| program == "sleep")?;
        let seconds = Duration::try_from_secs_f64(seconds).ok()?;
        Some((made.id.clone(), made.started?, seconds))
    }

    /// The process of the container that was started then ends by itself. Returns the container's name, if that runs still.
    pub(super) fn exit(&self, id: &str, started: i64, code: i64) -> Option<String> {
        let mut state = self.lock();
        let made = state.containers.get(id)?;
        if !made.phase.is_up() || made.started != Some(started) {
            return None;
        }
        let name = made.name.clone();
        self.end(&mut state, id, code);
        self.remove_if_wished(&mut state, id);
        Some(name)
    }

    /// The engine was killed and is back: what ran has ended, and nobody was told.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.remembered.clear();
        state.followers.clear();
        state.waiters.clear();
        state.removing.clear();
        let at = state.tick();
        for made in state
            .containers
            .values_mut()
            .filter(|made| made.phase.is_up())
        {
            made.phase = Phase::Exited;
            made.finished = Some(at);
            made.exit_code = 137;
        }
        let over = |made: &&Made| made.auto_remove && made.phase == Phase::Exited;
        let over = state.containers.values().filter(over);
        let over: Vec<_> = over.map(|made| made.id.clone()).collect();
        over.iter().for_each(|id| state.remove(id));
    }

    /// All who follow its events lose their stream.
    pub fn drop_followers(&self) {
        self.lock().followers.clear();
    }

    fn rename(&self, reference: &str, new_name: &str) -> Result<(), Refused> {
        let mut state = self.lock();
        let (id, _) = state.phase(reference)?;
        let new_name = new_name.strip_prefix('/').unwrap_or(new_name);
        let old_name = state.known(&id)?.name.clone();
        if old_name == new_name {
            return Err((
                400,
                "Renaming a container with the same name as its current name".to_owned(),
            ));
        }
        let taken = |(status, why)| (status, format!("Error when allocating new name: {why}"));
        state.name_is_free(new_name).map_err(taken)?;
        state.names.remove(&old_name);
        state.names.insert(new_name.to_owned(), id.clone());
        if let Some(made) = state.containers.get_mut(&id) {
            made.name = new_name.to_owned();
        }
        let old_name = format!("/{old_name}");
        state.container_event(&id, "rename", &[("oldName", &old_name)]);
        Ok(())
    }

    fn update(&self, reference: &str, body: &Value) -> Result<(), Refused> {
        let mut state = self.lock();
        let (id, _) = state.phase(reference)?;
        if let Some(made) = state.containers.get_mut(&id)
            && let Some(cpu_nanos) = body["NanoCpus"].as_u64()
        {
            made.cpu_nanos = cpu_nanos;
        }
        state.container_event(&id, "update", &[]);
        Ok(())
    }

    /// What ends the wait, when it comes.
    fn wait(&self, reference: &str, condition: &str) -> Result<mpsc::Receiver<Bytes>, Refused> {
        let mut state = self.lock();
        let awaited = match condition {
            "" | "not-running" => Awaited::NotRunning,
            "next-exit" => Awaited::NextExit,
            "removed" => Awaited::Removed,
            other => return Err((400, format!("invalid condition: {other:?}"))),
        };
        let made = state.known(reference)?;
        let (container, up, code) = (made.id.clone(), made.phase.is_up(), made.exit_code);
        let (told, receiver) = mpsc::channel(1);
        if awaited == Awaited::NotRunning && !up {
            // The channel has room for one.
            drop(told.try_send(exited(code)));
        } else {
            state.waiters.push(Waiter {
                container,
                awaited,
                told,
            });
        }
        Ok(receiver)
    }

    fn remove(&self, reference: &str, force: bool) -> Result<(), Refused> {
        let mut state = self.lock();
        let (id, phase) = state.phase(reference)?;
        if state.removing.contains(&id) {
            return Err((
                409,
                format!("removal of container {reference} is already in progress"),
            ));
        }
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
            self.end(&mut state, &id, 137);
        }
        state.container_event(&id, "destroy", &[]);
        state.remove(&id);
        Ok(())
    }

    /// A removal begins: until it [ends](Self::end_removal) the container is there, and another removal is refused. False
    /// if it is another.
    pub(super) fn begin_removal(&self, reference: &str) -> bool {
        let mut state = self.lock();
        let id = state.find(reference).map(|made| made.id.clone());
        id.is_some_and(|id| state.removing.insert(id))
    }

    /// A removal that has begun is done with; the container goes by what comes next.
    pub(super) fn end_removal(&self, reference: &str) {
        let mut state = self.lock();
        let id = state.find(reference).map(|made| made.id.clone());
        if let Some(id) = id {
            state.removing.remove(&id);
        }
    }

    /// The events remembered since `since`.
    fn remembered(&self, since: Option<i64>) -> Vec<u8> {
        let state = self.lock();
        let since = since.unwrap_or_default();
        let lines = state.remembered.iter().filter(|(at, _)| *at >= since);
        lines.flat_map(|(_, line)| line.to_vec()).collect()
    }

    /// The events remembered since `since` (nanoseconds since 1970), then those to come.
    fn follow(&self, since: Option<i64>) -> mpsc::Receiver<Bytes> {
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

    fn end(&self, state: &mut State, id: &str, code: i64) {
        let at = state.tick();
        if let Some(made) = state.containers.get_mut(id) {
            made.phase = Phase::Exited;
            made.finished = Some(at);
            made.exit_code = code;
        }
        self.bridge_event(state, id, "disconnect");
        let exit_code = code.to_string();
        let attributes = [("execDuration", "1"), ("exitCode", exit_code.as_str())];
        state.container_event(id, "die", &attributes);
        state.tell_waiters(id, code, |awaited| awaited != Awaited::Removed);
    }

    fn remove_if_wished(&self, state: &mut State, id: &str) {
        if state
            .containers
            .get(id)
            .is_some_and(|made| made.auto_remove)
        {
            state.container_event(id, "destroy", &[]);
            state.remove(id);
        }
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
            self.tell_waiters(id, made.exit_code, |_| true);
        }
    }

    fn tell_waiters(&mut self, id: &str, code: i64, whom: impl Fn(Awaited) -> bool) {
        self.waiters.retain(|waiter| {
            let told = waiter.container == id && whom(waiter.awaited);
            if told {
                // One who has left needs no answer.
                drop(waiter.told.try_send(exited(code)));
            }
            !told
        });
    }

    fn name_is_free(&self, name: &str) -> Result<(), Refused> {
        self.names.get(name).map_or(Ok(()), |holder| Err((
            409,
            format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
            ),
        )))
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
    i64::try_from(clock::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// How a wait ends.
fn exited(code: i64) -> Bytes {
    Bytes::from(format!("{{\"StatusCode\":{code}}}\n"))
}
