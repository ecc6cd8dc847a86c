//! The thread that carries out what the core decides: disk, machine, answers.
//!
//! **Invariant**: however it ends, everybody who waits is told why.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::core::{Core, Input, Now, Output, Proposal, Reply, Ticket};
use crate::disk::Disk;
use crate::machine::Machine;
use crate::store::{Applied, Ended, Options, ProposeError};

/// What handles ask of the thread. The permit is the place in the queue; it is given back when the
/// work is taken out.
pub(crate) enum Work {
    Propose {
        request_id: [u8; 16],
        command: Bytes,
        deadline: Instant,
        answer: oneshot::Sender<Result<Applied, ProposeError>>,
        permit: OwnedSemaphorePermit,
    },
    Read {
        answer: oneshot::Sender<Result<u64, ProposeError>>,
        permit: OwnedSemaphorePermit,
    },
    Stop,
}

/// What the thread shows to the handles.
pub(crate) struct Published<V> {
    pub(crate) view: ArcSwap<V>,
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) ended: watch::Sender<Option<Ended>>,
    pub(crate) room: Arc<Semaphore>,
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

pub(crate) struct Driver<M: Machine, D> {
    core: Core,
    machine: M,
    disk: D,
    published: Arc<Published<M::View>>,
    waiters: BTreeMap<Ticket, Waiter>,
    next_ticket: Ticket,
    start: Instant,
    options: Options,
}

impl<M: Machine, D: Disk> Driver<M, D> {
    pub(crate) fn new(
        core: Core,
        machine: M,
        disk: D,
        published: Arc<Published<M::View>>,
        options: Options,
    ) -> Self {
        let start = (options.clock)();
        Self {
            core,
            machine,
            disk,
            published,
            waiters: BTreeMap::new(),
            next_ticket: 0,
            start,
            options,
        }
    }

    /// Elects the member and applies what was on its disk.
    pub(crate) fn recover(&mut self) -> Result<(), Ended> {
        guard(|| self.step(Input::Tick))
    }

    /// Serves until it is told to stop, has no handles left, or cannot go on.
    pub(crate) fn run(mut self, queue: &Receiver<Work>) {
        let ended = guard(|| self.serve(queue)).err().unwrap_or(Ended::Shutdown);
        if let Ended::Failed(reason) = &ended {
            tracing::error!(reason, "the store ended");
        }
        self.published.ended.send_replace(Some(ended.clone()));
        self.published.room.close();
        for waiter in std::mem::take(&mut self.waiters).into_values() {
            waiter.refuse(ProposeError::Stopped(ended.clone()));
        }
        // What is still in the queue is dropped with it, and its waiters find `ended`.
    }

    fn serve(&mut self, queue: &Receiver<Work>) -> Result<(), Ended> {
        let mut next_tick = self.now() + self.options.tick;
        loop {
            let patience = next_tick.saturating_sub(self.now());
            let first = match queue.recv_timeout(patience) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let mut proposals = Vec::new();
            let mut stop = false;
            let more = std::iter::from_fn(|| queue.try_recv().ok());
            for work in first
                .into_iter()
                .chain(more)
                .take(self.options.batch.max(1))
            {
                match work {
                    Work::Propose {
                        request_id,
                        command,
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
                            deadline,
                        });
                    }
                    Work::Read { answer, permit } => {
                        drop(permit);
                        let ticket = self.wait(Waiter::Read(answer));
                        self.step(Input::Read(ticket))?;
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
                return Ok(());
            }
            let now = self.now();
            if now >= next_tick {
                self.step(Input::Tick)?;
                next_tick = now + self.options.tick;
            }
        }
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
                    self.disk
                        .write(&write)
                        .map_err(|error| Ended::Failed(format!("cannot write the log: {error}")))?;
                    outputs.extend(self.core.step(self.now(), Input::Persisted(write.sequence)));
                }
                Output::Send(message) => {
                    tracing::debug!(to = %message.to, "no way to send a message: dropped");
                }
                Output::Apply(committed) => {
                    let mut answers = Vec::with_capacity(committed.len());
                    let mut last = 0;
                    for committed in committed {
                        last = committed.entry.index;
                        let outcome = self.apply(last, &committed.entry.command)?;
                        let applied = Applied {
                            index: last,
                            outcome,
                        };
                        answers.extend(committed.ticket.map(|ticket| (ticket, applied)));
                    }
                    // Whoever gets an answer must find it in the view.
                    self.published.view.store(Arc::new(self.machine.view()));
                    self.published.applied.send_replace(last);
                    for (ticket, applied) in answers {
                        if let Some(Waiter::Propose(answer)) = self.waiters.remove(&ticket) {
                            let _ = answer.send(Ok(applied));
                        }
                    }
                }
                Output::Reply(ticket, reply) => self.reply(ticket, reply),
            }
        }
        Ok(())
    }

    fn apply(&mut self, index: u64, command: &[u8]) -> Result<Bytes, Ended> {
        catch_unwind(AssertUnwindSafe(|| self.machine.apply(index, command))).map_err(|panic| {
            let reason = panic_text(panic.as_ref());
            Ended::Failed(format!("the machine panicked on entry {index}: {reason}"))
        })
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        let Some(waiter) = self.waiters.remove(&ticket) else {
            return;
        };
        let error = match reply {
            Reply::NotLeader { hint } => ProposeError::NotLeader { hint },
            Reply::Expired => ProposeError::Expired,
            Reply::Unknown => ProposeError::Unknown,
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
