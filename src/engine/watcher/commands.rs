//! What changes of ours ask of the watcher: to hold reads until they are done, then to show what they did.
//!
//! **Invariant**: who asks to be told is told: by a read that began after the change, else by the next sync.

use std::sync::Arc;

use super::{CreateHold, Object, Watcher};
use crate::clock;
use crate::engine::host::Command;

impl Watcher {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Hold(id) => self.rereads.hold(&Object::Container(id)),
            Command::Settle {
                container,
                last,
                done,
            } => {
                let done = Arc::new(done);
                // By its old name, if it was renamed.
                let is_renamed = last == Some("rename") || self.parted.contains_key(&container);
                let linked = is_renamed.then(|| self.linked_by(container));
                self.reread_linked(linked.unwrap_or_default(), Some(&done));
                let object = Object::Container(container);
                let step = self
                    .rereads
                    .settle(&object, last, Some(done), clock::instant());
                self.take(object, step);
            }
            Command::Abandon(id) => {
                let parted = self.parted.remove(&id).unwrap_or_default();
                self.reread_linked(parted, None);
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
                linked,
                done,
            } => {
                self.told.entry(container).or_default().details = Some(details);
                let done = Arc::new(done);
                let linked = self.named_here(&linked);
                self.reread_linked(linked, Some(&done));
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
                let linked = self.linked_by(container);
                self.forget(container);
                self.reread_linked(linked, Some(&Arc::new(done)));
            }
            Command::Reread { kind, done } => {
                let object = Object::List(kind);
                self.rereads.hold(&object);
                let done = Some(Arc::new(done));
                let step = self.rereads.settle(&object, None, done, clock::instant());
                self.take(object, step);
            }
        }
    }

    /// Without an event stream nothing can be read; the sync that begins the next one shows it all.
    pub(super) fn obey_blind(&mut self, command: Command) {
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
                self.blind.push(Arc::new(done));
            }
            Command::Settle { done, .. } | Command::Reread { done, .. } => {
                self.blind.push(Arc::new(done));
            }
            Command::Hold(_)
            | Command::Abandon(_)
            | Command::HoldCreate(_)
            | Command::AbandonCreate(_) => {}
        }
    }
}
