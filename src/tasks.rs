//! The only spawner: every background task is named, carries a span, and is joined at shutdown.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// The tasks that live as long as the manager. Cheap to clone; all clones are one set.
#[derive(Debug, Clone)]
pub struct Tasks {
    running: Arc<Mutex<JoinSet<()>>>,
    stop: Arc<watch::Sender<bool>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self {
            running: Arc::default(),
            stop: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Starts `task` under `span`; the span's name is the task's name in logs.
    pub fn spawn(&self, span: tracing::Span, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended need not be kept until the shutdown.
        while running.try_join_next().is_some() {}
        running.spawn(task.instrument(span));
    }

    /// What tells a task that the manager is stopping.
    pub fn stopping(&self) -> Stopping {
        Stopping(self.stop.subscribe())
    }

    /// Tells all tasks to stop and waits for them and for `others` (streams, which end by themselves), at most
    /// `patience`; what is left is aborted. Returns how many tasks had to be aborted.
    pub async fn stop_and_wait(
        &self,
        others: impl Future<Output = ()>,
        patience: Duration,
    ) -> usize {
        self.stop.send_replace(true);
        let mut running =
            std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        let tasks = async { while running.join_next().await.is_some() {} };
        let all = async { tokio::join!(others, tasks) };
        if tokio::time::timeout(patience, all).await.is_ok() {
            return 0;
        }
        let left = running.len();
        running.shutdown().await;
        left
    }
}

/// Resolves once the manager is stopping.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Waits until the manager is stopping.
    pub async fn wait(&mut self) {
        // An error means that `Tasks` is gone: that is a stop too.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

/// Runs `work` to its end, whether or not the caller goes on waiting for it: what was begun for a client
/// is finished when the client has left. Nothing if it panicked.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one home of spawning"
)]
pub async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let task = tokio::spawn(work.in_current_span());
    task.await.ok()
}

/// Starts a task that lives as long as one client connection or stream: it ends by itself when either
/// side leaves, so nobody joins it.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one home of spawning"
)]
pub fn spawn_stream(span: tracing::Span, task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task.instrument(span));
}
