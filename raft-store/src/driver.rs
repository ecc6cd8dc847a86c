//! Carries out what the core decides: disk, machine, answers; on a thread, or step by step.
//!
//! **Invariant**: however it ends, everybody who waits is told why.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use crate::watch;
use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::core::{Committed, Core, Input, Now, Output, Proposal, Reply, Ticket};
use crate::disk::Disk;
use crate::log::{BlobChange, Payload, Stored, Write};
use crate::machine::{Blob, BlobId, Machine};
use crate::store::{Applied, BlobError, Ended, Options, ProposeError};

/// What handles ask of the driver. The permit is the place in the queue; it is given back when the
/// work is taken out.
pub(crate) enum Work {
    Propose {
        request_id: [u8; 16],
        command: Bytes,
        blobs: Vec<Blob>,
        deadline: Instant,
        answer: oneshot::Sender<Result<Applied, ProposeError>>,
        permit: OwnedSemaphorePermit,
    },
    Read {
        answer: oneshot::Sender<Result<u64, ProposeError>>,
        permit: OwnedSemaphorePermit,
    },
    Blob {
        id: BlobId,
        answer: oneshot::Sender<Result<Option<Bytes>, BlobError>>,
        permit: OwnedSemaphorePermit,
    },
    Stop,
}

/// What the driver shows to the handles.
pub(crate) struct Published<V> {
    pub(crate) view: ArcSwap<V>,
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) ended: watch::Sender<Option<Ended>>,
    pub(crate) room: Arc<Semaphore>,
    /// Notified of each work that is put into the queue: a thread waits on the queue itself, a stepper here.
    pub(crate) asked: Notify,
}

enum Waiter {
    Propose(oneshot::Sender<Result<Applied, ProposeError>>),
    Read(oneshot::Sender<Result<u64, ProposeError>>),
}

impl Waiter {
    /// Nobody minds if the one who waited has left.
    fn refuse(self, error: ProposeError) {
        match self {
            Self::Propose(answer) => drop(answer.send(Err(error))),
            Self::Read(answer) => drop(answer.send(Err(error))),
        }
    }
}

/// Where snapshots are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Snapshots {
    /// On a thread of their own, while the store goes on.
    OnAThread,
    /// At once, between two steps.
    Inline,
}

pub(crate) struct Driver<M: Machine, D> {
    core: Core,
    machine: M,
    disk: D,
    published: Arc<Published<M::View>>,
    waiters: BTreeMap<Ticket, Waiter>,
    next_ticket: Ticket,
    /// Blob changes that were applied and go with the next write. The log still has them.
    blobs: Vec<BlobChange>,
    /// Whether the last write found no room.
    stalled: bool,
    /// A snapshot being made.
    snapshot: Option<(u64, Receiver<Bytes>)>,
    snapshots: Snapshots,
    start: Instant,
    next_tick: Now,
    options: Options,
}

impl<M: Machine, D: Disk> Driver<M, D> {
    pub(crate) fn new(
        core: Core,
        machine: M,
        disk: D,
        published: Arc<Published<M::View>>,
        options: Options,
        snapshots: Snapshots,
    ) -> Self {
        let start = (options.clock)();
        Self {
            core,
            machine,
            disk,
            published,
            waiters: BTreeMap::new(),
            next_ticket: 0,
            blobs: Vec::new(),
            stalled: false,
            snapshot: None,
            snapshots,
            start,
            next_tick: options.tick,
            options,
        }
    }

    /// Elects the member and applies the log that was on its disk.
    pub(crate) fn recover(&mut self) -> Result<(), Ended> {
        guard(|| {
            self.step(Input::Tick)?;
            // Without room for the election nobody could ever be served.
            if self.stalled {
                return Err(Ended::Failed("there is no room on the disk".to_owned()));
            }
            Ok(())
        })
    }

    /// Serves until it is told to stop, has no handles left, or cannot go on.
    pub(crate) fn run(mut self, queue: &Receiver<Work>) {
        let ended = guard(|| self.serve(queue)).err().unwrap_or(Ended::Shutdown);
        self.end(ended);
    }

    /// Tells everybody that it has ended, and why.
    pub(crate) fn end(self, ended: Ended) {
        if let Ended::Failed(reason) = &ended {
            tracing::error!(reason, "the store ended");
        }
        let Self {
            disk,
            published,
            waiters,
            ..
        } = self;
        // Whoever hears of the end may open the disk again. A panic on closing changes nothing.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(disk)));
        published.ended.send_replace(Some(ended.clone()));
        published.room.close();
        for waiter in waiters.into_values() {
            waiter.refuse(ProposeError::Stopped(ended.clone()));
        }
        // What is still in the queue is dropped with it, and its waiters find `ended`.
    }

    fn serve(&mut self, queue: &Receiver<Work>) -> Result<(), Ended> {
        loop {
            let patience = self.until_next_tick();
            let first = match queue.recv_timeout(patience) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let more = std::iter::from_fn(|| queue.try_recv().ok());
            if self.turn(first.into_iter().chain(more))?.is_break() {
                return Ok(());
            }
        }
    }

    /// How long nothing has to be done if nothing is asked.
    pub(crate) fn until_next_tick(&self) -> Duration {
        self.next_tick.saturating_sub(self.now())
    }

    /// One turn of a [`Stepper`](crate::Stepper): what is in the queue, with panics caught.
    pub(crate) fn guarded_turn(
        &mut self,
        queue: &Receiver<Work>,
    ) -> Result<ControlFlow<()>, Ended> {
        let mut flow = ControlFlow::Continue(());
        guard(|| {
            flow = self.turn(std::iter::from_fn(|| queue.try_recv().ok()))?;
            Ok(())
        })?;
        Ok(flow)
    }

    /// Does what is asked, one batch at most, and what the time demands. Breaks when it was told to stop.
    fn turn(&mut self, asked: impl Iterator<Item = Work>) -> Result<ControlFlow<()>, Ended> {
        self.take_snapshot()?;
        let mut proposals = Vec::new();
        let mut stop = false;
        for work in asked.take(self.options.batch.max(1)) {
            match work {
                Work::Propose {
                    request_id,
                    command,
                    blobs,
                    deadline,
                    answer,
                    permit,
                } => {
                    drop(permit);
                    let ticket = self.wait(Waiter::Propose(answer));
                    let deadline = deadline.saturating_duration_since(self.start);
                    proposals.push(Proposal {
                        ticket,
                        request_id,
                        command,
                        blobs,
                        deadline,
                    });
                }
                Work::Read { answer, permit } => {
                    drop(permit);
                    let ticket = self.wait(Waiter::Read(answer));
                    self.step(Input::Read(ticket))?;
                }
                Work::Blob { id, answer, permit } => {
                    drop(permit);
                    let _ = answer.send(self.blob(id));
                }
                Work::Stop => {
                    stop = true;
                    break;
                }
            }
        }
        if !proposals.is_empty() {
            self.step(Input::Propose(proposals))?;
        }
        if stop {
            return Ok(ControlFlow::Break(()));
        }
        let now = self.now();
        if now >= self.next_tick {
            self.step(Input::Tick)?;
            self.next_tick = now + self.options.tick;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn wait(&mut self, waiter: Waiter) -> Ticket {
        self.next_ticket += 1;
        self.waiters.insert(self.next_ticket, waiter);
        self.next_ticket
    }

    fn now(&self) -> Now {
        (self.options.clock)().saturating_duration_since(self.start)
    }

    /// One input and all that follows from it.
    fn step(&mut self, input: Input) -> Result<(), Ended> {
        let mut outputs: VecDeque<_> = self.core.step(self.now(), input).into();
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Persist(write) => {
                    let input = self.persist(write)?;
                    outputs.extend(self.core.step(self.now(), input));
                }
                Output::Send(message) => {
                    tracing::debug!(to = %message.to, "no way to send a message: dropped");
                }
                Output::Apply(committed) => self.apply(committed)?,
                Output::Snapshot(index) => self.begin_snapshot(index)?,
                Output::Reply(ticket, reply) => self.reply(ticket, reply),
            }
        }
        Ok(())
    }

    /// Writes, and says what came of it.
    fn persist(&mut self, mut write: Write) -> Result<Input, Ended> {
        write.blobs = std::mem::take(&mut self.blobs);
        match self.disk.write(&write) {
            Ok(()) => {
                if std::mem::take(&mut self.stalled) {
                    tracing::info!("the disk of the log has room again");
                }
                Ok(Input::Persisted(write.sequence))
            }
            Err(error) if is_full(&error) => {
                self.blobs = write.blobs;
                if !std::mem::replace(&mut self.stalled, true) {
                    tracing::error!(%error, "the disk of the log is full: nothing can be promised");
                }
                Ok(Input::NoRoom(write.sequence))
            }
            Err(error) => Err(Ended::Failed(format!("cannot write the log: {error}"))),
        }
    }

    fn apply(&mut self, committed: Vec<Committed>) -> Result<(), Ended> {
        let mut answers = Vec::with_capacity(committed.len());
        let mut last = 0;
        for Committed { entry, ticket } in committed {
            last = entry.index;
            let (command, blobs) = match entry.payload {
                Payload::Empty => continue,
                Payload::Command { command, blobs, .. } => (command, blobs),
            };
            let machine = &mut self.machine;
            let apply = || (machine.apply(last, &command), machine.released());
            let (outcome, released) = catch_unwind(AssertUnwindSafe(apply)).map_err(|panic| {
                let reason = panic_text(panic.as_ref());
                Ended::Failed(format!("the machine panicked on entry {last}: {reason}"))
            })?;
            self.blobs.extend(blobs.into_iter().map(BlobChange::Put));
            self.blobs
                .extend(released.into_iter().map(BlobChange::Delete));
            let applied = Applied {
                index: last,
                outcome,
            };
            answers.extend(ticket.map(|ticket| (ticket, applied)));
        }
        // Whoever gets an answer must find it in the view.
        self.published.view.store(Arc::new(self.machine.view()));
        self.published.applied.send_replace(last);
        for (ticket, applied) in answers {
            if let Some(Waiter::Propose(answer)) = self.waiters.remove(&ticket) {
                let _ = answer.send(Ok(applied));
            }
        }
        Ok(())
    }

    fn blob(&mut self, id: BlobId) -> Result<Option<Bytes>, BlobError> {
        let newest = self.blobs.iter().rev().find_map(|change| match change {
            BlobChange::Put(blob) => (blob.id == id).then(|| Some(blob.bytes.clone())),
            BlobChange::Delete(deleted) => (*deleted == id).then_some(None),
        });
        match newest {
            Some(blob) => Ok(blob),
            None => self.disk.blob(id).map_err(|error| BlobError::Unreadable {
                reason: error.to_string(),
            }),
        }
    }

    /// Starts the making of a snapshot from the view, which does not change any more.
    fn begin_snapshot(&mut self, index: u64) -> Result<(), Ended> {
        let view = self.published.view.load_full();
        let (done, snapshot) = sync_channel(1);
        let make = move || {
            // If the store has ended meanwhile, nobody needs it.
            let _ = done.send(M::snapshot(&view));
        };
        match self.snapshots {
            Snapshots::Inline => make(),
            Snapshots::OnAThread => {
                std::thread::Builder::new()
                    .name("raft-store-snapshot".to_owned())
                    .spawn(make)
                    .map_err(|error| Ended::Failed(format!("cannot start a thread: {error}")))?;
            }
        }
        self.snapshot = Some((index, snapshot));
        Ok(())
    }

    fn take_snapshot(&mut self) -> Result<(), Ended> {
        let Some((index, snapshot)) = &self.snapshot else {
            return Ok(());
        };
        let index = *index;
        match snapshot.try_recv() {
            Ok(data) => {
                self.snapshot = None;
                self.step(Input::Snapshot { index, data })
            }
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => Err(Ended::Failed(format!(
                "the machine panicked when its snapshot at entry {index} was made"
            ))),
        }
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        let Some(waiter) = self.waiters.remove(&ticket) else {
            return;
        };
        let error = match reply {
            Reply::NotLeader { hint } => ProposeError::NotLeader { hint },
            Reply::Expired => ProposeError::Expired,
            Reply::Unknown => ProposeError::Unknown,
            Reply::NoRoom { logged } => ProposeError::NoRoom { logged },
            Reply::ReadAt(index) => {
                if let Waiter::Read(answer) = waiter {
                    let _ = answer.send(Ok(index));
                }
                return;
            }
        };
        waiter.refuse(error);
    }
}

/// Loads the disk and builds the core and the machine from what is there.
pub(crate) fn restore<M: Machine>(
    machine: &mut M,
    stored: Stored,
    make: impl FnOnce(&Stored) -> Core,
) -> Result<(Core, u64), Ended> {
    let mut restored = None;
    guard(|| {
        let mut index = 0;
        if let Some(snapshot) = &stored.snapshot {
            index = snapshot.index;
            machine.restore(&snapshot.data).map_err(|error| {
                Ended::Failed(format!(
                    "the snapshot at entry {index} cannot be understood: {error}"
                ))
            })?;
        }
        restored = Some((make(&stored), index));
        Ok(())
    })?;
    restored.ok_or(Ended::Shutdown)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Runs what must not panic, and says so if it did.
fn guard(run: impl FnOnce() -> Result<(), Ended>) -> Result<(), Ended> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        Err(Ended::Failed(format!(
            "the store panicked: {}",
            panic_text(panic.as_ref())
        )))
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// How often the core hears that time passes.
pub(crate) const TICK: Duration = Duration::from_millis(30);
