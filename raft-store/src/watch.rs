//! The latest value of something, and a way to hear that there is a newer one: as tokio's `watch`, which wakes those who
//! wait in a random order. Here they wake in the order in which they came, so that a simulation can repeat it.
//!
//! **Invariant**: whoever waits misses no change, though they may see only the last of several.

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Debug)]
struct Shared<T> {
    latest: Mutex<Latest<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct Latest<T> {
    value: Arc<T>,
    version: u64,
    closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Latest<T>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody sends any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody sends any more")]
pub struct Closed;

/// A value as it was when it was looked at.
#[derive(Debug)]
pub struct Ref<T>(Arc<T>);

impl<T> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Sends values. When it is dropped, whoever waits is told.
pub struct Sender<T>(Arc<Shared<T>>);

/// Follows values.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.0.lock().value).finish()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T> Sender<T> {
    /// Sends nothing yet; this is the value until then.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            latest: Mutex::new(Latest {
                value: Arc::new(value),
                version: 0,
                closed: false,
            }),
            changed: Notify::new(),
        }))
    }

    /// The value as it is now.
    pub fn borrow(&self) -> Ref<T> {
        Ref(Arc::clone(&self.0.lock().value))
    }

    /// One more who follows; what is there now is seen.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver {
            seen: self.0.lock().version,
            shared: Arc::clone(&self.0),
        }
    }

    /// Another value; returns the one before.
    pub fn send_replace(&self, value: T) -> Ref<T> {
        let mut latest = self.0.lock();
        let before = std::mem::replace(&mut latest.value, Arc::new(value));
        latest.version += 1;
        drop(latest);
        self.0.changed.notify_waiters();
        Ref(before)
    }
}

impl<T: Clone> Sender<T> {
    /// Changes the value.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Changes the value, and tells of it if `change` says so.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut latest = self.0.lock();
        let modified = change(Arc::make_mut(&mut latest.value));
        if modified {
            latest.version += 1;
            drop(latest);
            self.0.changed.notify_waiters();
        }
        modified
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_waiters();
    }
}

impl<T> Receiver<T> {
    /// The value as it is now.
    pub fn borrow(&self) -> Ref<T> {
        Ref(Arc::clone(&self.shared.lock().value))
    }

    /// The value as it is now, which counts as seen.
    pub fn borrow_and_update(&mut self) -> Ref<T> {
        let latest = self.shared.lock();
        self.seen = latest.version;
        Ref(Arc::clone(&latest.value))
    }

    /// Waits for a value that was not seen yet, which then is.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // It counts as waiting from here on, before anybody looks: no change can come in between.
            let mut news = pin!(self.shared.changed.notified());
            news.as_mut().enable();
            {
                let latest = self.shared.lock();
                if latest.version != self.seen {
                    self.seen = latest.version;
                    return Ok(());
                }
                if latest.closed {
                    return Err(Closed);
                }
            }
            news.await;
        }
    }

    /// Waits for a value like this; the one that is there now will do.
    pub async fn wait_for(&mut self, mut like: impl FnMut(&T) -> bool) -> Result<Ref<T>, Closed> {
        loop {
            let value = self.borrow_and_update();
            if like(&value) {
                return Ok(value);
            }
            self.changed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_sees_the_last_value_and_the_end() {
        let sender = Sender::new(1);
        let mut receiver = sender.subscribe();
        let (waited, ()) = tokio::join!(receiver.wait_for(|value| *value == 3), async {
            sender.send_replace(2);
            tokio::task::yield_now().await;
            assert!(!sender.send_if_modified(|_| false));
            sender.send_modify(|value| *value += 1);
        });
        assert_eq!(*waited.expect("sent"), 3);
        sender.send_replace(4);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(*receiver.borrow(), 4);
        let (ended, ()) = tokio::join!(receiver.changed(), async { drop(sender) });
        assert_eq!(ended, Err(Closed));
    }

    #[tokio::test]
    async fn they_wake_in_the_order_in_which_they_came() {
        let (sender, order) = (Sender::new(false), Arc::new(Mutex::new(Vec::new())));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..32 {
            let (mut receiver, order) = (sender.subscribe(), Arc::clone(&order));
            waiting.spawn(async move {
                receiver.wait_for(|go| *go).await.expect("sent");
                order.lock().expect("not poisoned").push(number);
            });
        }
        tokio::task::yield_now().await;
        sender.send_replace(true);
        while waiting.join_next().await.is_some() {}
        assert!(order.lock().expect("not poisoned").is_sorted());
    }
}
