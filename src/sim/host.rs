//! A simulated machine with an engine on it: its network, its connections, and what goes wrong with them.
//!
//! **Invariant**: an engine that has read a request does what it asks, whether or not anybody still waits for the answer;
//! what is on its way when the engine is killed is lost.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use raft_store::sim::Dice;
use raft_store::watch;
use tokio::sync::oneshot;

use super::engine::{Asked, Engine, Identity, Said, unversioned};
use super::network::{End, Handle, connect};
use super::steps::{Life, Steps};
use crate::engine::{Connection, Dial, Dialling, Endpoint};
use crate::tasks::Process;

/// As long as the transports of a real manager wait for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It takes so long before anything is done, and so long again before the answer is sent.
    Slow(Duration, Duration),
    /// The connection is reset, and nothing is done.
    ResetBefore,
    /// It is done, and then the connection is reset.
    ReplyLost,
    /// The connection is reset, and it is done so much later.
    Late(Duration),
    /// Of a removal: it begins, and is done so much later. Meanwhile another is refused.
    Long(Duration),
}

/// How often things go wrong: so many of a thousand requests that change something, in the order of [`Fault`]; and so
/// many of a thousand reads that are slow or reset.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Slow changes.
    pub slow: u64,
    /// Changes whose connection is reset before anything is done.
    pub reset_before: u64,
    /// Changes whose answer is lost.
    pub reply_lost: u64,
    /// Changes that come late.
    pub late: u64,
    /// Reads that go wrong.
    pub reads: u64,
}

/// A fault that waits for the next request like this.
#[derive(Debug, Clone)]
struct Planned {
    what: String,
    fault: Fault,
}

#[derive(Debug)]
struct State {
    /// Whether the engine runs. Counts its runs: what was asked of an earlier one is lost.
    up: bool,
    run: u64,
    /// Nothing reaches the machine, nothing leaves it.
    cut: bool,
    wires: Vec<Handle>,
    rates: Rates,
    planned: VecDeque<Planned>,
    dice: Dice,
}

/// A machine with an engine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) engine: Engine,
    state: Mutex<State>,
    /// Whether the engine does nothing, though its machine takes connections.
    hung: watch::Sender<bool>,
    reachable: watch::Sender<bool>,
    steps: Arc<Steps>,
    world: Process,
}

impl Host {
    pub(super) fn new(identity: Identity, dice: Dice, steps: Arc<Steps>, world: Process) -> Self {
        Self {
            name: identity.name.clone(),
            engine: Engine::new(identity, 0, false),
            state: Mutex::new(State {
                up: true,
                run: 0,
                cut: false,
                wires: Vec::new(),
                rates: Rates::default(),
                planned: VecDeque::new(),
                dice,
            }),
            hung: watch::Sender::new(false),
            reachable: watch::Sender::new(true),
            steps,
            world,
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        let text = format!("tcp://{}:2375", self.name);
        text.parse().expect("a host's name makes an endpoint")
    }

    /// How often things go wrong from now on.
    pub(super) fn set_rates(&self, rates: Rates) {
        self.lock().rates = rates;
    }

    /// The next request that changes something in this way (`create`, `start` …) meets this fault.
    pub(super) fn plan(&self, what: &str, fault: Fault) {
        let what = what.to_owned();
        self.lock().planned.push_back(Planned { what, fault });
    }

    /// Kills the engine; its machine refuses connections.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.up, false) {
            return;
        }
        state.run += 1;
        state.wires.drain(..).for_each(|wire| wire.reset());
        drop(state);
        self.engine.restart();
        self.steps.tell(format!("{}: engine ends", self.name));
    }

    /// Starts the engine again.
    pub(super) fn start(&self) {
        if !std::mem::replace(&mut self.lock().up, true) {
            self.steps.tell(format!("{}: engine starts", self.name));
        }
    }

    /// Lets nothing to the machine and nothing from it, or lets it again.
    pub(super) fn cut(&self, cut: bool) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.cut, cut) == cut {
            return;
        }
        state.wires.retain(|wire| !wire.is_gone());
        state.wires.iter().for_each(|wire| wire.hold(cut));
        drop(state);
        self.reachable.send_replace(!cut);
        let what = if cut { "is cut off" } else { "is reachable" };
        self.steps.tell(format!("{}: {what}", self.name));
    }

    /// Stops the engine's threads, or lets them go on.
    pub(super) fn hang(&self, hung: bool) {
        if *self.hung.send_replace(hung) != hung {
            let what = if hung { "hangs" } else { "goes on" };
            self.steps.tell(format!("{}: engine {what}", self.name));
        }
    }

    /// Breaks all event streams off.
    pub(super) fn break_events(&self) {
        self.engine.drop_followers();
        self.steps
            .tell(format!("{}: event streams break", self.name));
    }

    /// A connection from the manager of this life, if one comes about.
    async fn dial(self: Arc<Self>, life: Arc<Life>) -> io::Result<End> {
        let mut reachable = self.reachable.subscribe();
        let reached = reachable.wait_for(|reachable| *reachable);
        tokio::time::timeout(CONNECT_PATIENCE, reached)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(io::Error::other)?;
        let (here, there, handle) = connect();
        let mut state = self.lock();
        if !state.up {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        state.wires.retain(|wire| !wire.is_gone());
        state.wires.push(handle.clone());
        let run = state.run;
        drop(state);
        let host = Arc::clone(&self);
        self.world.spawn(host.serve(there, handle, run));
        Ok(here.of(&life))
    }

    async fn serve(self: Arc<Self>, end: End, handle: Handle, run: u64) {
        let service = service_fn(move |request| {
            let (host, handle) = (Arc::clone(&self), handle.clone());
            async move { Ok::<_, Infallible>(host.take(request, handle, run).await) }
        });
        // What breaks off here is noticed at the other end.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(end), service)
            .await;
    }

    /// Reads a request and has it done, come what may of the connection.
    async fn take(
        self: Arc<Self>,
        request: Request<Incoming>,
        wire: Handle,
        run: u64,
    ) -> Response<Told> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return std::future::pending().await;
        };
        let asked = Asked {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: body.to_bytes(),
        };
        let (answer, answered) = oneshot::channel();
        let host = Arc::clone(&self);
        self.world.spawn(async move {
            if let Some(reply) = host.perform(asked, &wire, run).await {
                let _ = answer.send(reply);
            }
        });
        match answered.await {
            Ok(reply) => {
                let told = |said| Told {
                    said,
                    host: Arc::clone(&self),
                };
                reply.map(told)
            }
            // Nothing comes: the connection was reset, or the engine has ended.
            Err(_) => std::future::pending().await,
        }
    }

    async fn perform(
        self: &Arc<Self>,
        asked: Asked,
        wire: &Handle,
        run: u64,
    ) -> Option<Response<Said>> {
        let what = Work::of(&asked);
        let _ = self.hung.subscribe().wait_for(|hung| !*hung).await;
        if let Work::Ping = what {
            return self.runs_still(run).then(|| self.engine.answer(&asked));
        }
        self.steps.take(format!("{} is asked to {what}", self.name));
        let (fault, pause) = self.draw(&what);
        let (mut before, mut after) = (pause, Duration::ZERO);
        match fault {
            None => {}
            Some(Fault::ResetBefore) => {
                self.steps
                    .note(format!("{}: reset before {what}", self.name));
                wire.reset();
                return None;
            }
            Some(Fault::Slow(until_done, until_sent)) => {
                before += until_done;
                after = until_sent;
            }
            Some(Fault::Late(by)) => {
                self.steps
                    .note(format!("{}: {what} will be late", self.name));
                wire.reset();
                before += by;
            }
            Some(Fault::Long(until_done)) => self.drag_removal_out(&asked, until_done).await,
            Some(Fault::ReplyLost) => {}
        }
        tokio::time::sleep(before).await;
        let _ = self.hung.subscribe().wait_for(|hung| !*hung).await;
        if !self.runs_still(run) {
            return None;
        }
        let reply = self.engine.answer(&asked);
        self.done(&what, &asked, &reply);
        if fault == Some(Fault::ReplyLost) {
            self.steps
                .note(format!("{}: the answer is lost", self.name));
            wire.reset();
            return None;
        }
        tokio::time::sleep(after).await;
        self.runs_still(run).then_some(reply)
    }

    /// Returns when a removal may be done that takes so long; at once if another is under way.
    async fn drag_removal_out(&self, asked: &Asked, until_done: Duration) {
        let path = unversioned(&asked.path);
        let reference = path.strip_prefix("/containers/").unwrap_or_default();
        if self.engine.begin_removal(reference) {
            tokio::time::sleep(until_done).await;
            self.engine.end_removal(reference);
        }
    }

    /// Tells of what was done, and has started containers end by themselves when their time has come.
    fn done(self: &Arc<Self>, what: &Work, asked: &Asked, reply: &Response<Said>) {
        let status = reply.status();
        let text = format!("{}: {what} {}", self.name, status.as_u16());
        match what {
            Work::Change { .. } if status.is_success() => self.steps.tell(text.clone()),
            Work::Change { .. } | Work::Read { .. } | Work::Ping => {}
        }
        self.steps.take(format!("{text} is done"));
        let path = unversioned(&asked.path);
        let Some(reference) = path
            .strip_prefix("/containers/")
            .and_then(|rest| rest.strip_suffix("/start"))
            .filter(|_| status.is_success())
        else {
            return;
        };
        let Some((id, started, seconds)) = self.engine.running_for(reference) else {
            return;
        };
        let host = Arc::clone(self);
        self.world.spawn(async move {
            tokio::time::sleep(seconds).await;
            if let Some(name) = host.engine.exit(&id, started, 0) {
                host.steps.tell(format!("{}: {name} exits", host.name));
            }
        });
    }

    fn runs_still(&self, run: u64) -> bool {
        let state = self.lock();
        state.up && state.run == run
    }

    /// What goes wrong with this one, and how long an engine thinks about it.
    fn draw(&self, what: &Work) -> (Option<Fault>, Duration) {
        let mut state = self.lock();
        let pause = Duration::from_millis(state.dice.below(4));
        let (verb, changes) = match what {
            Work::Change { verb, .. } => (verb.as_str(), true),
            Work::Read { verb, .. } => (*verb, false),
            Work::Ping => ("ping", false),
        };
        let place = state
            .planned
            .iter()
            .position(|planned| planned.what == verb);
        if let Some(place) = place
            && let Some(planned) = state.planned.remove(place)
        {
            return (Some(planned.fault), pause);
        }
        let rates = state.rates;
        let roll = state.dice.below(1000);
        let long = Duration::from_millis(state.dice.below(6000));
        let fault = if !changes {
            match roll {
                roll if roll < rates.reads / 2 => Some(Fault::Slow(long, Duration::ZERO)),
                roll if roll < rates.reads => Some(Fault::ResetBefore),
                _ => None,
            }
        } else {
            let faults = [
                (rates.slow, Fault::Slow(long / 2, long / 2)),
                (rates.reset_before, Fault::ResetBefore),
                (rates.reply_lost, Fault::ReplyLost),
                (rates.late, Fault::Late(long)),
            ];
            let mut left = roll;
            faults.into_iter().find_map(|(rate, fault)| {
                let hit = left < rate;
                left = left.saturating_sub(rate);
                hit.then_some(fault)
            })
        };
        (fault, pause)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    Ping,
    Read { verb: &'static str, text: String },
    Change { verb: String, object: String },
}

impl Work {
    fn of(asked: &Asked) -> Self {
        let path = unversioned(&asked.path);
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let short = |id: &str| id.chars().take(12).collect::<String>();
        let (verb, object) = match parts.as_slice() {
            ["_ping"] => return Self::Ping,
            ["containers", "create"] => {
                let name = asked
                    .query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("name="));
                ("create", name.unwrap_or_default().to_owned())
            }
            ["containers", id] if asked.method == Method::DELETE => ("remove", short(id)),
            ["containers", id, verb] if asked.method == Method::POST && *verb != "wait" => {
                (*verb, short(id))
            }
            ["containers", _, "json"] => return Self::read("inspect", asked, path),
            ["containers", "json"] => return Self::read("list", asked, path),
            _ => return Self::read("read", asked, path),
        };
        Self::Change {
            verb: verb.to_owned(),
            object,
        }
    }

    fn read(verb: &'static str, asked: &Asked, path: &str) -> Self {
        let text = format!("{} {path}", asked.method);
        Self::Read { verb, text }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping => f.write_str("ping"),
            Self::Read { text, .. } => f.write_str(text),
            Self::Change { verb, object } => write!(f, "{verb} {object}"),
        }
    }
}

/// What an engine says; each line of a stream is a step.
struct Told {
    said: Said,
    host: Arc<Host>,
}

impl Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let follows = matches!(self.said, Said::Following(_));
        let frame = ready!(Pin::new(&mut self.said).poll_frame(cx));
        if follows && frame.is_some() {
            self.host
                .steps
                .take(format!("{} tells of an event", self.host.name));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.said.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.said.size_hint()
    }
}

/// How one life of a manager reaches one host.
#[derive(Debug)]
pub(super) struct DialHost {
    pub(super) host: Arc<Host>,
    pub(super) life: Arc<Life>,
}

impl Dial for DialHost {
    fn dial(&self) -> Dialling {
        let (host, life) = (Arc::clone(&self.host), Arc::clone(&self.life));
        Box::pin(async move { Ok(Box::new(host.dial(life).await?) as Connection) })
    }
}
