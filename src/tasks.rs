//! The only spawner: every background task is named, carries a span, and is joined at shutdown.
//!
//! **Invariant**: what runs in a [`Process`] spawns into it; when it is killed nothing of it is left.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use raft_store::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
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
        let task = task.instrument(span);
        match Process::current() {
            None => drop(running.spawn(task)),
            Some(process) => process.note(running.spawn(process.clone().hold(task))),
        }
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
pub async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    spawn(work.in_current_span()).await.ok()
}

/// Starts a task that lives as long as one client connection or stream: it ends by itself when either
/// side leaves, so nobody joins it.
pub fn spawn_stream(span: tracing::Span, task: impl Future<Output = ()> + Send + 'static) {
    drop(spawn(task.instrument(span)));
}

/// Drives the connections of a pool: each ends when its other side leaves or the pool lets go of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connections;

impl<F: Future<Output: Send + 'static> + Send + 'static> hyper::rt::Executor<F> for Connections {
    fn execute(&self, connection: F) {
        drop(spawn(connection));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one home of spawning"
)]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let Some(process) = Process::current() else {
        return tokio::spawn(task);
    };
    let handle = tokio::spawn(process.clone().hold(task));
    process.note(handle.abort_handle());
    handle
}

tokio::task_local! {
    static PROCESS: Process;
}

/// The tasks of one manager among several things that a test runs in one runtime. It can be killed, as an operating
/// system kills a process: nothing of it is finished, and no destructor that waits is waited for.
#[derive(Debug, Clone, Default)]
pub struct Process(Arc<Mutex<Members>>);

#[derive(Debug, Default)]
struct Members {
    tasks: Vec<AbortHandle>,
    panics: Vec<String>,
    killed: bool,
}

impl Process {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` within the caller's task; what it spawns belongs to the process.
    pub async fn enter<T>(&self, work: impl Future<Output = T>) -> T {
        PROCESS.scope(self.clone(), work).await
    }

    /// Starts a task of the process.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one home of spawning"
    )]
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.note(tokio::spawn(self.clone().hold(task)).abort_handle());
    }

    /// Ends all of it, and returns once nothing is left.
    pub async fn kill(&self) {
        let tasks = {
            let mut members = self.lock();
            members.killed = true;
            std::mem::take(&mut members.tasks)
        };
        tasks.iter().for_each(AbortHandle::abort);
        while !tasks.iter().all(AbortHandle::is_finished) {
            tokio::task::yield_now().await;
        }
    }

    /// What its tasks panicked with.
    pub fn panics(&self) -> Vec<String> {
        self.lock().panics.clone()
    }

    fn current() -> Option<Self> {
        PROCESS.try_with(Self::clone).ok()
    }

    fn note(&self, task: AbortHandle) {
        let mut members = self.lock();
        // A destructor that runs during the end may still start something.
        if members.killed {
            return task.abort();
        }
        // Those that have ended need not be kept.
        if members.tasks.len() == members.tasks.capacity() {
            members.tasks.retain(|task| !task.is_finished());
        }
        members.tasks.push(task);
    }

    async fn hold<T>(self, task: impl Future<Output = T>) -> T {
        let members = self.clone();
        let ended = AssertUnwindSafe(PROCESS.scope(self, task))
            .catch_unwind()
            .await;
        ended.unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("no message").to_owned();
            members.lock().panics.push(text);
            std::panic::resume_unwind(panic)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_ends_with_all_that_it_has_spawned() {
        let (alive, mut left) = tokio::sync::mpsc::channel::<()>(1);
        let process = Process::new();
        let (inner, tasks) = (alive.clone(), Tasks::new());
        process.spawn(async move {
            let (deeper, deepest) = (inner.clone(), inner.clone());
            tasks.spawn(tracing::Span::none(), async move {
                spawn_stream(tracing::Span::none(), async move {
                    let _kept = deepest;
                    std::future::pending::<()>().await;
                });
                let _kept = deeper;
                std::future::pending::<()>().await;
            });
            to_its_end(async move {
                let _kept = inner;
                std::future::pending::<()>().await;
            })
            .await;
        });
        drop(alive);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(
            left.try_recv()
                .is_err_and(|e| e == tokio::sync::mpsc::error::TryRecvError::Empty)
        );
        process.kill().await;
        assert!(
            left.try_recv()
                .is_err_and(|e| e == tokio::sync::mpsc::error::TryRecvError::Disconnected)
        );
    }

    #[tokio::test]
    async fn a_panic_in_a_process_is_told() {
        let process = Process::new();
        let ended = process
            .enter(to_its_end(async { panic!("of {}", "mine") }))
            .await;
        assert!(ended.is_none());
        assert_eq!(process.panics(), ["of mine"]);
    }
}
