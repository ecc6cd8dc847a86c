//! Reads of the engine: how they are sent off, and what is done with what they bring.
//!
//! **Invariant**: what a read brings is shown only if nothing newer was begun for the same object.

use std::sync::Arc;
use std::time::Duration;

use super::{Landed, Object, Observation, Watcher};
use crate::clock;
use crate::engine::container::{Container, Details, Since};
use crate::engine::error::Error;
use crate::engine::host::ListKind;
use crate::engine::reads::{Inspected, inspect, read_container, read_list};
use crate::engine::rereads::{Read, Step};
use crate::model::ContainerId;

/// So many inspects fill in what list items leave out, at a time.
const INSPECTS_AT_ONCE: usize = 2;
/// A read that failed is tried again after so long.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl Watcher {
    pub(super) fn launch(&mut self, object: Object, read: Read) {
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

    pub(super) fn launch_inspects(&mut self) {
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

    pub(super) async fn land(&mut self, landed: Landed) {
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
        drop(waiters);
        self.take(object, step);
    }

    pub(super) fn take(&mut self, object: Object, step: Step) {
        if let Step::Start(read) = step {
            self.launch(object, read);
        }
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
        if self.is_renamed(&container) {
            let linked = self.linked_by(id);
            self.reread_linked(linked, None);
        }
        self.inventory.put(container);
        if ours {
            self.observe(Observation::Changed(id)).await;
        } else if left {
            self.observe(Observation::Networks(self.host.tag.id)).await;
        }
    }

    fn is_renamed(&self, container: &Container) -> bool {
        let before = self.inventory.get(&container.id);
        before.is_some_and(|before| before.names != container.names)
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
    pub(super) fn remember(&mut self, container: &mut Container, continuous: bool) {
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
            needs: inspected.needs.clone(),
            outdated: false,
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
        let unaware = self.unaware_of(&inspected.links);
        self.reread_linked(unaware, None);
        if ours {
            self.observe(Observation::Changed(id)).await;
        }
    }

    pub(super) async fn note_counted(&mut self) {
        let counted = self.inspects.is_empty() && self.inspecting == 0;
        if counted && self.host.show_counted() {
            self.observe(Observation::Counted(self.host.tag.id)).await;
        }
    }

    pub(super) async fn gone(&mut self, id: ContainerId) {
        let linked = self.linked_by(id);
        if !linked.is_empty() && self.rereads.is_held(&Object::Container(id)) {
            self.parted.insert(id, linked);
        } else {
            self.reread_linked(linked, None);
        }
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
    pub(super) fn forget(&mut self, id: ContainerId) -> Option<Arc<Container>> {
        self.told.remove(&id);
        drop(self.rereads.gone(&Object::Container(id)));
        self.inventory.remove(&id)
    }
}
