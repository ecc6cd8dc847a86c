//! `POST /images/create` and `/images/load`: a pull and a load bring an image to the nodes that may need it.
//!
//! One task for each node works and reports; what they report is told as one stream. The nodes that are down are left
//! out and named. An import is made on one node only, since two would have two ids.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_compat::error::{ApiError, JSON_CONTENT_TYPE};
use api_compat::json_edit::quote;
use api_compat::progress::{self, Merger};
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::super::exchange::Exchange;
use super::super::fan_out::{Part, Parts};
use super::super::forward::{forward_progress, with_query};
use super::super::reply::strip_hop_by_hop;
use super::super::reply::{self, Outcome};
use super::super::told_after::result_after;
use super::super::{Proxy, nodes};
use super::meant;
use super::pull::{self, Follow};
use crate::clock;
use crate::engine::{Body, BoxError, EngineReply, Error, Host, Images, ListKind, empty};
use crate::manager::{Manager, moved, tag_name};
use crate::model::{Availability, Caller, Platform, RequestId};
use crate::scheduler::{self, Receiver};
use crate::tasks::spawn_stream;

/// Beyond so many nodes not all pull at once: a registry, and the way to it, are the same for all.
const ALL_AT_ONCE: usize = 16;
/// So many do then; the others wait for their turn.
const AT_ONCE: usize = 8;
/// Reports of all nodes that wait to be told.
const REPORTS_WAITING: usize = 64;
/// Parts of an archive that wait for one node; hyper reads a body in parts of up to some hundred kilobytes.
const PARTS_WAITING: usize = 32;
/// A node that takes nothing of an archive for so long is left behind.
const STALL: Duration = Duration::from_secs(30);
/// No line of progress is longer.
const LINE_MAX_BYTES: usize = 1 << 20;
/// No refusal is longer.
const REFUSAL_MAX_BYTES: usize = 1 << 20;

/// A pull, or an import if no image is named.
pub(super) async fn create(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let target = with_query(Operation::ImageCreate.target(&[]), exchange.raw_query());
    if query.text("fromImage").is_empty() {
        let name = meant::joined(query.text("repo"), query.text("tag"));
        let host = nodes::choose(&nodes::up(proxy), &name).ok_or_else(|| nodes::nobody(proxy))?;
        return on_one(proxy, host, &target, &name, exchange).await;
    }
    let name = meant::joined(query.text("fromImage"), query.text("tag"));
    if proxy.fleet.hosts().len() <= 1 {
        return on_one(proxy, only(proxy)?, &target, &name, exchange).await;
    }
    let order = Order {
        target,
        version: exchange.version,
        headers: headers(exchange.headers()),
        follow: None,
    };
    let auth = exchange.headers().get(&pull::REGISTRY_AUTH).cloned();
    let found = pull::in_registry(proxy, &query, exchange.version, auth).await;
    let platforms = found.as_ref().map(|found| found.platforms.as_slice());
    let hosts = receivers(proxy, &name, platforms.unwrap_or_default());
    // The first node pulls what the client named, the others the digest that this means now: so all have the same.
    let follow = found.and_then(|found| found.follow(&query));
    let at_once = at_once(hosts.len());
    let turns = Arc::new(Semaphore::new(at_once));
    let works = (0..hosts.len()).map(|index| {
        let order = match &follow {
            Some((target, follow)) if index > 0 => Order {
                target: target.clone(),
                follow: Some(follow.clone()),
                ..order.clone()
            },
            _ => order.clone(),
        };
        Work::pull(order, &turns)
    });
    let works = works.collect();
    let names = hosts.iter().map(|host| host.tag.name.to_string());
    let merger = Merger::pull(names, at_once);
    let skipped = skipped(proxy, |name, why| {
        format!(
            "{{\"status\":{},\"id\":{}}}",
            quote(&format!("Skipped: {why}")),
            quote(name)
        )
    });
    let learning = Learning::new(proxy, &hosts, &exchange, name.clone());
    drop(exchange);
    let pulled = on_all(proxy, hosts, works, merger, skipped, learning).await;
    pulled.map_err(|failure| meant::pulled_in_vain(proxy, &name, failure))
}

/// How many of so many nodes pull at a time.
fn at_once(nodes: usize) -> usize {
    if nodes > ALL_AT_ONCE { AT_ONCE } else { nodes }
}

/// Streams an archive to all nodes at once, as fast as the slowest one takes it.
pub(super) async fn load(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let target = with_query(Operation::ImageLoad.target(&[]), exchange.raw_query());
    if proxy.fleet.hosts().len() <= 1 {
        return on_one(proxy, only(proxy)?, &target, "", exchange).await;
    }
    // What is in the archive is not known yet, and archives must not all go to the same nodes.
    let name = RequestId::from_bytes(clock::random_bytes()).to_string();
    let hosts = receivers(proxy, &name, &[]);
    let merger = Merger::load(hosts.iter().map(|host| host.tag.name.to_string()));
    let order = Order {
        target,
        version: exchange.version,
        headers: headers(exchange.headers()),
        follow: None,
    };
    let skipped = skipped(proxy, |name, why| {
        format!(
            "{{\"stream\":{}}}",
            quote(&format!("Skipped {name}: {why}\n"))
        )
    });
    let mut works = Vec::with_capacity(hosts.len());
    let mut takers = Vec::with_capacity(hosts.len());
    for _ in &hosts {
        let (parts, receiver) = mpsc::channel(PARTS_WAITING);
        let (leave, left) = oneshot::channel();
        works.push(Work {
            order: order.clone(),
            body: streamed(receiver),
            leave: Some(left),
            turn: Turn::None,
        });
        takers.push(Taker { parts, leave });
    }
    let learning = Learning::new(proxy, &hosts, &exchange, String::new());
    let archive = exchange.request.into_body();
    spawn_stream(tracing::debug_span!("load"), share(archive, takers));
    on_all(proxy, hosts, works, merger, skipped, learning).await
}

/// The node of a pool of one.
fn only(proxy: &Proxy) -> Result<Arc<Host>, ApiError> {
    let up = nodes::up(proxy).into_iter().next();
    up.ok_or_else(|| nodes::nobody(proxy))
}

/// The nodes that get an image, by name.
fn receivers(proxy: &Proxy, name: &str, platforms: &[Platform]) -> Vec<Arc<Host>> {
    let cluster = proxy.manager.cluster();
    let mut hosts = nodes::up(proxy);
    let all: Vec<_> = hosts
        .iter()
        .map(|host| {
            let node = cluster.node(host.tag.id);
            let facts = host.facts();
            Receiver {
                node: host.tag.id,
                availability: node.map_or(Availability::Active, |node| node.availability),
                platform: Some(Platform {
                    os: facts.os.clone(),
                    arch: facts.arch.clone(),
                }),
            }
        })
        .collect();
    let chosen = scheduler::receivers(proxy.settings.pull_to, name, platforms, &all);
    hosts.retain(|host| chosen.contains(&host.tag.id));
    hosts
}

/// One node does it, and its stream is the answer.
async fn on_one(
    proxy: &Proxy,
    host: Arc<Host>,
    target: &str,
    name: &str,
    exchange: Exchange,
) -> Outcome {
    let guard = proxy.open.enter();
    let hosts = [Arc::clone(&host)];
    let learning = Learning::new(proxy, &hosts, &exchange, name.to_owned());
    let reply = forward_progress(&host, target, exchange).await?;
    if !reply.status().is_success() {
        return Ok(reply);
    }
    let shown = async move {
        host.reread(ListKind::Images).await;
        learning.learn().await;
    };
    Ok(reply.map(|body| result_after(body, shown, guard).boxed_unsync()))
}

/// What has moved is learnt at the end: from that moment on it holds for the whole pool.
struct Learning {
    manager: Arc<Manager>,
    caller: Caller,
    /// The name that was asked for, if there was one.
    name: String,
    /// The nodes, each with its images as they were before.
    before: Vec<(Arc<Host>, Arc<Images>)>,
}

impl Learning {
    fn new(proxy: &Proxy, hosts: &[Arc<Host>], exchange: &Exchange, name: String) -> Self {
        let before = hosts.iter().map(|host| (Arc::clone(host), host.images()));
        Self {
            manager: Arc::clone(&proxy.manager),
            caller: exchange.peer.caller.clone(),
            name,
            before: before.collect(),
        }
    }

    async fn learn(self) {
        let mut tags = BTreeMap::new();
        for (host, before) in self.before.iter().rev() {
            let now = host.images();
            // Where nodes differ the first one counts.
            tags.extend(moved(before, &now));
        }
        // What was there already has not moved on the node, but the pool may have meant another image.
        let named = self.before.iter().find_map(|(host, _)| {
            let tag = tag_name(&self.name)?;
            let id = host.images().named(&tag)?.id.clone();
            Some((tag, id))
        });
        tags.extend(named);
        for (tag, image) in tags {
            let pointed = self.manager.move_tag(&tag, &image, &self.caller).await;
            if let Err(error) = pointed {
                tracing::warn!(tag, %error, "what a tag means now could not be committed");
            }
        }
    }
}

fn headers(client: &HeaderMap) -> HeaderMap {
    let mut headers = client.clone();
    strip_hop_by_hop(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers
}

/// A line for each node that is down.
fn skipped(proxy: &Proxy, line: impl Fn(&str, &str) -> String) -> Vec<String> {
    let down = proxy.fleet.by_name().into_iter();
    down.filter_map(|host| {
        Some(line(
            host.tag.name.as_str(),
            &host.ready().err()?.to_string(),
        ))
    })
    .collect()
}

/// One node's end of an archive that is being shared.
struct Taker {
    parts: mpsc::Sender<Result<Bytes, BoxError>>,
    /// Tells the node's task why it gets no more.
    leave: oneshot::Sender<String>,
}

/// Reads the archive once and gives each part to all nodes that still take it.
async fn share(mut archive: Body, mut takers: Vec<Taker>) {
    while !takers.is_empty() {
        let part = match archive.frame().await {
            None => return,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(part) => part,
                // Trailers, which no archive has.
                Err(_) => continue,
            },
            Some(Err(error)) => {
                let why = format!("the archive broke off: {error}");
                takers
                    .into_iter()
                    .for_each(|taker| taker.leave_behind(&why));
                return;
            }
        };
        let given = takers.into_iter().map(|taker| taker.give(part.clone()));
        takers = join_all(given).await.into_iter().flatten().collect();
    }
}

impl Taker {
    /// Gives one part; returns the taker if it goes on.
    async fn give(mut self, part: Bytes) -> Option<Self> {
        let why = tokio::select! {
            biased;
            sent = tokio::time::timeout(STALL, self.parts.send(Ok(part))) => match sent {
                Ok(Ok(())) => return Some(self),
                Ok(Err(_)) => return None,
                Err(_) => format!("it took nothing of the archive for {}s", STALL.as_secs()),
            },
            // Its task has ended and has said why.
            () = self.leave.closed() => String::new(),
        };
        self.leave_behind(&why);
        None
    }

    /// Tells its task why it gets no more. The archive must not seem to end where this taker was left, so its end of it
    /// is kept until nobody reads there any more.
    fn leave_behind(self, why: &str) {
        let Self { parts, leave } = self;
        // If the task has ended it has said why itself.
        let _ = leave.send(why.to_owned());
        spawn_stream(tracing::debug_span!("left behind"), async move {
            let _ = tokio::time::timeout(STALL, parts.closed()).await;
        });
    }
}

fn streamed(parts: mpsc::Receiver<Result<Bytes, BoxError>>) -> Body {
    let frames = stream::unfold(parts, |mut parts| async move {
        let part = parts.recv().await?;
        Some((part.map(Frame::data), parts))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The request that a node gets.
#[derive(Clone)]
struct Order {
    target: String,
    version: ApiVersion,
    headers: HeaderMap,
    follow: Option<Follow>,
}

/// What one node's task reports. The number is the node's.
enum Report {
    /// The engine has begun to answer well.
    Began(usize),
    /// A line of its progress.
    Line(usize, Bytes),
    /// It is done and our lists show it, or it failed after it had begun.
    Ended(usize, Result<(), String>),
    /// It did not even begin.
    Refused(usize, Result<EngineReply, Error>),
}

/// What a node is to do.
struct Work {
    order: Order,
    body: Body,
    leave: Option<oneshot::Receiver<String>>,
    turn: Turn,
}

/// When a node may begin.
enum Turn {
    /// It need not ask.
    None,
    /// It has its turn.
    Now(OwnedSemaphorePermit),
    /// It waits for it.
    Later(Arc<Semaphore>),
}

impl Work {
    /// The first ones to be made get their turns at once.
    fn pull(order: Order, turns: &Arc<Semaphore>) -> Self {
        let now = Arc::clone(turns).try_acquire_owned();
        Self {
            order,
            body: empty(),
            leave: None,
            turn: now.map_or_else(|_| Turn::Later(Arc::clone(turns)), Turn::Now),
        }
    }
}

impl Turn {
    /// Waits for it; held until what is returned is dropped.
    async fn come(self) -> Option<OwnedSemaphorePermit> {
        match self {
            Self::None => None,
            Self::Now(turn) => Some(turn),
            // Nobody closes it.
            Self::Later(turns) => turns.acquire_owned().await.ok(),
        }
    }
}

/// Has all nodes do it. If none begins, that is the answer; else what they report follows.
async fn on_all(
    proxy: &Proxy,
    hosts: Vec<Arc<Host>>,
    works: Vec<Work>,
    mut merger: Merger,
    skipped: Vec<String>,
    learning: Learning,
) -> Outcome {
    if hosts.is_empty() {
        return Err(nodes::nobody(proxy));
    }
    let (reports, mut reported) = mpsc::channel(REPORTS_WAITING);
    for (node, (host, work)) in hosts.iter().zip(works).enumerate() {
        let worker = Worker {
            node,
            host: Arc::clone(host),
            reports: reports.clone(),
        };
        let span = tracing::debug_span!("bring", node = %host.tag.name);
        spawn_stream(span, worker.run(work));
    }
    drop(reports);
    let mut refused = Vec::new();
    let begun = loop {
        match reported.recv().await {
            Some(Report::Refused(node, answer)) => refused.push((node, answer)),
            Some(report) => break report,
            None => {
                let part = |(node, answer): (usize, _)| Part {
                    host: Arc::clone(&hosts[node]),
                    answer,
                };
                let answered = Parts(refused.into_iter().map(part).collect()).merge();
                return Err(answered
                    .err()
                    .unwrap_or_else(|| ApiError::internal("no node answered")));
            }
        }
    };
    let mut first = skipped;
    first.extend(merger.begin());
    first.extend(tell(&mut merger, begun));
    for (node, answer) in refused {
        first.extend(merger.ended(node, Err(words(answer))));
    }
    let guard = proxy.open.enter();
    let all = Some((reported, merger, first, learning, guard));
    let told = stream::unfold(all, |state| async move {
        let (mut reported, mut merger, first, learning, guard) = state?;
        if !first.is_empty() {
            let rest = (reported, merger, Vec::new(), learning, guard);
            return Some((data(&first), Some(rest)));
        }
        while let Some(report) = reported.recv().await {
            let lines = tell(&mut merger, report);
            if !lines.is_empty() {
                let rest = (reported, merger, Vec::new(), learning, guard);
                return Some((data(&lines), Some(rest)));
            }
        }
        learning.learn().await;
        let (last, error) = merger.finish();
        let mut bytes = joined(&last);
        if let Some(error) = error {
            bytes.extend_from_slice(&ApiError::internal(error).stream_error_line());
        }
        (!bytes.is_empty()).then(|| (Ok(Frame::data(bytes.freeze())), None))
    });
    let mut reply = reply::status(StatusCode::OK);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON_CONTENT_TYPE));
    *reply.body_mut() = StreamBody::new(told).boxed_unsync();
    Ok(reply)
}

/// What a client is told of a report.
fn tell(merger: &mut Merger, report: Report) -> Vec<String> {
    match report {
        Report::Began(node) => merger.began(node).into_iter().collect(),
        Report::Line(node, line) => merger.line(node, &line),
        Report::Ended(node, outcome) => merger.ended(node, outcome),
        Report::Refused(node, answer) => merger.ended(node, Err(words(answer))),
    }
}

fn data(lines: &[String]) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(joined(lines).freeze()))
}

fn joined(lines: &[String]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn words(answer: Result<EngineReply, Error>) -> String {
    answer.map_or_else(|error| error.to_string(), |reply| reply.message())
}

/// What works for one node.
struct Worker {
    node: usize,
    host: Arc<Host>,
    reports: mpsc::Sender<Report>,
}

impl Worker {
    /// Ends at once when the client leaves: nobody takes reports any more, and the engine stops what it does.
    async fn run(self, work: Work) {
        let Work {
            order,
            body,
            leave,
            turn,
        } = work;
        let left_behind = async {
            match leave {
                Some(leave) => match leave.await {
                    Ok(why) => why,
                    // The archive is read to its end.
                    Err(_) => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        let report = tokio::select! {
            biased;
            () = self.reports.closed() => return,
            why = left_behind => Report::Ended(self.node, Err(why)),
            report = async {
                let _turn = turn.come().await;
                self.work(order, body).await
            } => report,
        };
        // Nobody listens if the client has left.
        let _ = self.reports.send(report).await;
    }

    async fn work(&self, order: Order, body: Body) -> Report {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.headers_mut() = order.headers;
        let response = match self.host.send(order.version, &order.target, request).await {
            Ok(response) => response,
            Err(error) => return Report::Refused(self.node, Err(error)),
        };
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            let body = Limited::new(body, REFUSAL_MAX_BYTES).collect().await;
            let body = body.map(|whole| whole.to_bytes()).unwrap_or_default();
            return Report::Refused(
                self.node,
                Ok(EngineReply {
                    status: parts.status,
                    headers: parts.headers,
                    body,
                }),
            );
        }
        let _ = self.reports.send(Report::Began(self.node)).await;
        let follow = order.follow;
        let mut outcome = tokio::select! {
            biased;
            outcome = self.pass_lines(body, follow.is_some()) => outcome,
            lost = self.host.lost() => Err(lost.to_string()),
        };
        if let Some(follow) = follow.filter(|_| outcome.is_ok()) {
            outcome = follow.tag_on(&self.host).await;
        }
        if outcome.is_ok() {
            self.host.reread(ListKind::Images).await;
        }
        Report::Ended(self.node, outcome)
    }

    /// Of a node that follows another, only what is said of layers and errors is told: the first one names the image.
    async fn pass_lines(
        &self,
        mut body: hyper::body::Incoming,
        follows: bool,
    ) -> Result<(), String> {
        let mut kept = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the engine's answer broke off: {error}"))?;
            let Ok(part) = frame.into_data() else {
                continue;
            };
            kept.extend_from_slice(&part);
            while let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
                let line = kept.split_to(end + 1).freeze();
                if follows && !progress::is_of_a_layer_or_an_error(&line) {
                    continue;
                }
                // The client has left: the whole task ends.
                let _ = self.reports.send(Report::Line(self.node, line)).await;
            }
            if kept.len() > LINE_MAX_BYTES {
                return Err("the engine's answer has a line that does not end".to_owned());
            }
        }
        if !kept.is_empty() {
            let _ = self
                .reports
                .send(Report::Line(self.node, kept.freeze()))
                .await;
        }
        Ok(())
    }
}
