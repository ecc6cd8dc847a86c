//! What an event of the engine says has to be read again, and what it tells by itself.
//!
//! **Invariant**: an event is taken once, also if a resumed stream repeats it.

use std::time::{Duration, Instant};

use api_compat::event::Event;
use bytes::{Buf as _, BytesMut};

use super::{Object, Watcher};
use crate::clock;
use crate::engine::container::Container;
use crate::engine::error::Error;
use crate::engine::host::ListKind;
use crate::engine::rereads::Step;
use crate::model::{ContainerId, RequestId};

/// A line of an event stream may not be longer.
const EVENT_MAX_BYTES: usize = 4 << 20;
/// A change that was told early shows in the lists by then.
const TOLD_EARLY: Duration = Duration::from_millis(250);

impl Watcher {
    pub(super) async fn take_lines(
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
            "pause" | "unpause" => self.inspects.push_back(id),
            "update" => {
                self.outdate(id);
                self.inspects.push_back(id);
            }
            "destroy" => return self.gone(id).await,
            "commit" => self.changed(Object::List(ListKind::Images), action),
            _ => {}
        }
        if changes_list_item(action) {
            self.changed(Object::Container(id), action);
        }
    }

    /// What is known of its claim is no more to be relied on.
    fn outdate(&self, id: ContainerId) {
        let known = self.inventory.get(&id);
        if let Some(known) = known.filter(|known| known.details.is_some()) {
            let mut outdated = Container::clone(&known);
            if let Some(details) = &mut outdated.details {
                details.outdated = true;
            }
            self.inventory.put(outdated);
        }
    }

    pub(super) fn changed(&mut self, object: Object, action: &str) {
        let step = self.rereads.event(&object, action);
        if step != Step::Wait && is_told_early(action) {
            let later = clock::deadline(TOLD_EARLY);
            self.rereads.again_at(&object, later);
        }
        self.take(object, step);
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
            .is_some_and(|(when, _)| *when < newest.saturating_sub(2_000_000_000))
            || self.recent.len() > 4096
        {
            self.recent.pop_front();
        }
        true
    }
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
