//! The handle: propose, read, wait, stop.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::watch;
use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout_at;

use crate::core::{Compaction, Core};
use crate::disk::Disk;
use crate::driver::{Driver, Published, Snapshots, TICK, Work, restore};
use crate::log::MemberId;
use crate::machine::{Blob, BlobId, Machine};
use crate::stepper::Stepper;

/// How a store is driven.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How much may wait for the thread; whoever comes then waits for a place.
    pub queue: NonZeroUsize,
    /// How many proposals may share one write.
    pub batch: usize,
    /// How often the core hears that time passes.
    pub tick: Duration,
    /// How much one command may carry, its blobs included.
    pub command_bytes: usize,
    /// When the log is replaced by a snapshot.
    pub compaction: Compaction,
    /// The clock that deadlines are measured by.
    pub clock: fn() -> Instant,
}

impl Options {
    /// The defaults, with the clock that deadlines are measured by.
    pub fn new(clock: fn() -> Instant) -> Self {
        const QUEUE: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
        Self {
            queue: QUEUE,
            batch: 256,
            tick: TICK,
            command_bytes: 8 << 20,
            compaction: Compaction::default(),
            clock,
        }
    }
}

/// A command that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log.
    pub index: u64,
    /// What the machine said.
    pub outcome: Bytes,
}

/// Why a store no longer works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Shutdown,
    /// It could not go on.
    Failed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("it was shut down"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another member decides; nothing was logged.
    #[error("this manager is not the leader")]
    NotLeader {
        /// The leader, if it is known.
        hint: Option<MemberId>,
    },
    /// The deadline passed before anything was logged: the command takes no effect.
    #[error("the store was too busy to take the command in time")]
    Expired,
    /// The deadline passed before the outcome was known: the command may yet take effect.
    #[error("the outcome of the command is not known yet")]
    Unknown,
    /// The disk of this manager is full.
    #[error("the disk of this manager is full: {}", if *logged { "the command may take effect once there is room" } else { "the command was not logged" })]
    NoRoom {
        /// Whether the command was logged before: then it may yet take effect.
        logged: bool,
    },
    /// The command is larger than one may be; nothing was logged.
    #[error("a command of {bytes} bytes is too large: at most {limit} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest there may be.
        limit: usize,
    },
    /// The store has ended. The outcome of what it had taken is unknown.
    #[error("the store has ended: {0}")]
    Stopped(Ended),
}

/// Why a blob cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The deadline passed.
    #[error("the store was too busy to read in time")]
    Late,
    /// The disk does not give it back.
    #[error("cannot read from the disk of the log: {reason}")]
    Unreadable {
        /// What the disk said.
        reason: String,
    },
    /// The store has ended.
    #[error("the store has ended: {0}")]
    Stopped(Ended),
}

/// Why waiting for an index came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("entry {index} was not applied in time")]
    Late {
        /// What was waited for.
        index: u64,
    },
    /// The store has ended.
    #[error("the store has ended: {0}")]
    Stopped(Ended),
}

/// A handle to the log; clones are handles to the same one. The thread behind it ends with
/// [`Store::shutdown`], or when the last handle is dropped.
pub struct Store<M: Machine> {
    shared: Arc<Shared<M::View>>,
}

struct Shared<V> {
    queue: SyncSender<Work>,
    published: Arc<Published<V>>,
    stopping: AtomicBool,
    command_bytes: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Reads the log and applies it; what is left to do is to drive it.
    fn prepare<M: Machine<View = V>, D: Disk>(
        member: MemberId,
        mut machine: M,
        mut disk: D,
        options: Options,
        snapshots: Snapshots,
    ) -> io::Result<(Self, Driver<M, D>, Receiver<Work>)> {
        let stored = disk.load()?;
        if let Some(identity) = stored.identity
            && identity.member != member
        {
            let owner = identity.member;
            return Err(io::Error::other(format!(
                "this is the log of member {owner}, not of {member}"
            )));
        }
        let make = |stored: &_| Core::new(member, stored, options.compaction);
        let (core, restored) = restore(&mut machine, stored, make)
            .map_err(|ended| io::Error::other(ended.to_string()))?;
        let published = Arc::new(Published {
            view: ArcSwap::from_pointee(machine.view()),
            applied: watch::Sender::new(restored),
            ended: watch::Sender::new(None),
            room: Arc::new(Semaphore::new(options.queue.get())),
            asked: Notify::new(),
        });
        let mut driver = Driver::new(
            core,
            machine,
            disk,
            Arc::clone(&published),
            options,
            snapshots,
        );
        driver
            .recover()
            .map_err(|ended| io::Error::other(ended.to_string()))?;
        // One place more than there are permits: the request to stop needs none.
        let (queue, work) = sync_channel(options.queue.get() + 1);
        let shared = Self {
            queue,
            published,
            stopping: AtomicBool::new(false),
            command_bytes: options.command_bytes,
            thread: Mutex::default(),
        };
        Ok((shared, driver, work))
    }

    fn ask(&self, work: Work) -> Result<(), TrySendError<Work>> {
        self.queue.try_send(work)?;
        self.published.asked.notify_one();
        Ok(())
    }
}

/// The last handle is gone: a stepper has to hear of it, as a thread does.
impl<V> Drop for Shared<V> {
    fn drop(&mut self) {
        let _ = self.queue.try_send(Work::Stop);
        self.published.asked.notify_one();
    }
}

impl<M: Machine> Clone for Store<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M: Machine> fmt::Debug for Store<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("applied", &self.applied())
            .finish_non_exhaustive()
    }
}

impl<M: Machine> Store<M> {
    /// Opens the log on `disk` and brings `machine`, a new one, to what it holds. Blocks while it
    /// reads.
    pub fn open(
        member: MemberId,
        machine: M,
        disk: impl Disk,
        options: Options,
    ) -> io::Result<Self> {
        let (shared, driver, work) =
            Shared::prepare(member, machine, disk, options, Snapshots::OnAThread)?;
        let thread = std::thread::Builder::new()
            .name("raft-store".to_owned())
            .spawn(move || driver.run(&work))?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        let shared = Arc::new(shared);
        Ok(Self { shared })
    }

    /// [`Self::open`] without a thread: whoever holds the [`Stepper`] drives the store, so that a
    /// simulation knows each of its steps.
    pub fn open_stepped<D: Disk>(
        member: MemberId,
        machine: M,
        disk: D,
        options: Options,
    ) -> io::Result<(Self, Stepper<M, D>)> {
        let (shared, driver, queue) =
            Shared::prepare(member, machine, disk, options, Snapshots::Inline)?;
        let published = Arc::clone(&shared.published);
        let shared = Arc::new(shared);
        Ok((Self { shared }, Stepper::new(driver, queue, published)))
    }

    /// Commits `command` and gives its outcome, which this store's own [`view`](Self::view) then
    /// shows. Give a repeated command the same `request_id`.
    pub async fn propose(
        &self,
        request_id: [u8; 16],
        command: Bytes,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        self.propose_with(request_id, command, Vec::new(), deadline)
            .await
    }

    /// Commits `command`, and keeps `blobs` on disk with it until the machine
    /// [releases](Machine::released) them.
    pub async fn propose_with(
        &self,
        request_id: [u8; 16],
        command: Bytes,
        blobs: Vec<Blob>,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        let bytes = command.len() + blobs.iter().map(|blob| blob.bytes.len()).sum::<usize>();
        let limit = self.shared.command_bytes;
        if bytes > limit {
            return Err(ProposeError::TooLarge { bytes, limit });
        }
        let (answer, outcome) = oneshot::channel();
        let permit = self.place(deadline).await?;
        self.send(Work::Propose {
            request_id,
            command,
            blobs,
            deadline,
            answer,
            permit,
        })?;
        self.answer(outcome, deadline).await
    }

    /// The blob of this name as this store keeps it; `None` if it keeps none.
    pub async fn blob(&self, id: BlobId, deadline: Instant) -> Result<Option<Bytes>, BlobError> {
        let (answer, outcome) = oneshot::channel();
        let stopped = |_| BlobError::Stopped(self.reason());
        let room = Arc::clone(&self.shared.published.room);
        let permit = timeout_at(deadline.into(), room.acquire_owned()).await;
        let permit = permit.map_err(|_| BlobError::Late)?.map_err(stopped)?;
        let work = Work::Blob { id, answer, permit };
        let sent = self.shared.ask(work);
        sent.map_err(|_| BlobError::Stopped(self.reason()))?;
        match timeout_at(deadline.into(), outcome).await {
            Ok(Ok(blob)) => blob,
            Ok(Err(_)) => Err(BlobError::Stopped(self.reason())),
            Err(_) => Err(BlobError::Late),
        }
    }

    /// The index from which on a view shows all that was committed, anywhere, before this call.
    pub async fn read_index(&self, deadline: Instant) -> Result<u64, ProposeError> {
        let (answer, outcome) = oneshot::channel();
        let permit = self.place(deadline).await?;
        self.send(Work::Read { answer, permit })?;
        self.answer(outcome, deadline).await
    }

    /// The machine as of the last batch that was applied. Never blocks.
    pub fn view(&self) -> Arc<M::View> {
        self.shared.published.view.load_full()
    }

    /// The index of the last entry that [`view`](Self::view) shows.
    pub fn applied(&self) -> u64 {
        *self.shared.published.applied.borrow()
    }

    /// Follows the index of the last entry that [`view`](Self::view) shows.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.published.applied.subscribe()
    }

    /// Waits for a view that shows the entry at `index`.
    pub async fn at_least(&self, index: u64, deadline: Instant) -> Result<Arc<M::View>, WaitError> {
        let mut applied = self.watch();
        let ended = self.ended();
        tokio::select! {
            biased;
            reached = timeout_at(deadline.into(), applied.wait_for(|applied| *applied >= index)) => {
                match reached {
                    Ok(Ok(_)) => Ok(self.view()),
                    Ok(Err(_)) => Err(WaitError::Stopped(self.reason())),
                    Err(_) => Err(WaitError::Late { index }),
                }
            }
            reason = ended => Err(WaitError::Stopped(reason)),
        }
    }

    /// Resolves once the store no longer works, with the reason: what must not be survived can be
    /// awaited here.
    pub fn ended(&self) -> impl Future<Output = Ended> + Send + 'static {
        let mut ended = self.shared.published.ended.subscribe();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or(Ended::Shutdown),
                Err(_) => Ended::Shutdown,
            }
        }
    }

    /// Finishes what was proposed before, then ends the thread and waits for it. Whatever comes
    /// later is refused.
    pub async fn shutdown(&self) -> Ended {
        if !self.shared.stopping.swap(true, Ordering::AcqRel) {
            // Fails only if the thread has ended by itself.
            let _ = self.shared.ask(Work::Stop);
        }
        let reason = self.ended().await;
        let thread = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // The thread has only its machine left to drop. A panic there is in `reason` already
            // or harms nobody.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        reason
    }

    async fn place(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, ProposeError> {
        let room = Arc::clone(&self.shared.published.room);
        match timeout_at(deadline.into(), room.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(ProposeError::Stopped(self.reason())),
            Err(_) => Err(ProposeError::Expired),
        }
    }

    fn send(&self, work: Work) -> Result<(), ProposeError> {
        self.shared
            .ask(work)
            .map_err(|_| ProposeError::Stopped(self.reason()))
    }

    async fn answer<T>(
        &self,
        outcome: oneshot::Receiver<Result<T, ProposeError>>,
        deadline: Instant,
    ) -> Result<T, ProposeError> {
        match timeout_at(deadline.into(), outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(ProposeError::Stopped(self.reason())),
            Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// Why the store ended; asked only when it did.
    fn reason(&self) -> Ended {
        self.shared
            .published
            .ended
            .borrow()
            .clone()
            .unwrap_or(Ended::Shutdown)
    }
}
