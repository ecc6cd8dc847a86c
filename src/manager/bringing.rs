//! Brings an image to a node that lacks it: from its registry if the node can pull it by digest without a password, else
//! from another node, as a stream through this manager.
//!
//! Whoever wants the same image on the same node shares one flight; a node receives two images at a time, the others
//! wait their turn. A flight goes on when those who wait for it leave. If a source fails the next one is asked; nothing
//! that came in part has a name.
//!
//! **Invariant**: no image is held here: what one engine sends waits until the other takes it. Every wait has an end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use api_compat::image_ref::ImageRef;
use api_compat::json_view::View;
use api_compat::query::Query;
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use bytes::BytesMut;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::Incoming;
use raft_store::watch;
use tokio::sync::Semaphore;

use super::images::Image;
use super::{Error, Manager};
use crate::clock;
use crate::engine::{Body, EngineReply, Host, ListKind, empty};
use crate::model::{Caller, NodeId};
use crate::state::Command;
use crate::tasks::spawn_stream;

/// So many images come to one node at a time.
const AT_ONCE: usize = 2;
/// A registry that can be reached answers a pull by then.
const PULL_BEGINS: Duration = Duration::from_secs(3);
/// A pull that says nothing for so long has failed.
const PULL_STALLS: Duration = Duration::from_secs(20);
/// A registry that did not answer is not asked again for so long.
const REGISTRY_PAUSE: Duration = Duration::from_secs(60);
/// An engine may unpack a large image before it sends the first of it.
const SAVE_BEGINS: Duration = Duration::from_secs(300);
/// A source that sends nothing for so long has failed.
const SAVE_STALLS: Duration = Duration::from_secs(60);
/// No image takes longer, whatever its size.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// What an engine says of a load or a pull in one line is no longer.
const LINE_MAX_BYTES: usize = 1 << 20;

/// Why an image did not come to a node, in words: one reason for each source that was tried.
type Outcome = Result<String, Arc<str>>;

/// The images that are being brought, and how many may be at a time.
#[derive(Debug, Default)]
pub(super) struct Bringing(Mutex<Flights>);

#[derive(Debug, Default)]
struct Flights {
    under_way: BTreeMap<(NodeId, String), watch::Receiver<Option<Outcome>>>,
    turns: BTreeMap<NodeId, Arc<Semaphore>>,
    /// Registries that did not answer, and until when they are left alone.
    paused: BTreeMap<String, Instant>,
}

impl Bringing {
    fn lock(&self) -> MutexGuard<'_, Flights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self, node: NodeId) -> Arc<Semaphore> {
        let mut flights = self.lock();
        let turns = flights.turns.entry(node);
        Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
    }

    fn is_paused(&self, registry: &str) -> bool {
        let paused = self.lock().paused.get(registry).copied();
        paused.is_some_and(|until| clock::instant() < until)
    }

    fn pause(&self, registry: &str) {
        let now = clock::instant();
        let mut flights = self.lock();
        flights.paused.retain(|_, until| *until > now);
        let until = clock::deadline(REGISTRY_PAUSE);
        flights.paused.insert(registry.to_owned(), until);
    }
}

impl Manager {
    /// Brings an image to a node; returns the id that the node has it under. `reference` is what the client called it.
    pub(super) async fn bring(
        self: &Arc<Self>,
        image: &Image,
        reference: &str,
        host: &Arc<Host>,
    ) -> Result<String, Error> {
        let key = (host.tag.id, image.id.clone());
        let mut flight = {
            let mut flights = self.bringing.lock();
            match flights.under_way.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let told = watch::Sender::new(None);
                    let flight = told.subscribe();
                    flights.under_way.insert(key.clone(), flight.clone());
                    let manager = Arc::clone(self);
                    let (image, host) = (image.clone(), Arc::clone(host));
                    let span =
                        tracing::info_span!("bring", image = image.id, node = %host.tag.name);
                    spawn_stream(span, async move {
                        let landing = Landing { manager, key };
                        let outcome = landing.manager.fly(&image, &host).await;
                        drop(landing);
                        told.send_replace(Some(outcome));
                    });
                    flight
                }
            }
        };
        let landed = flight.wait_for(Option::is_some).await;
        let outcome = landed.ok().and_then(|outcome| outcome.clone());
        let broken = || Err(Arc::from("the manager failed: its log says why"));
        outcome
            .unwrap_or_else(broken)
            .map_err(|why| Error::NotBrought {
                image: reference.to_owned(),
                node: host.tag.name.clone(),
                why: why.to_string(),
            })
    }

    async fn fly(&self, image: &Image, host: &Arc<Host>) -> Outcome {
        let turns = self.bringing.turns(host.tag.id);
        // Turns do not end: nobody closes the semaphore.
        let _turn = turns.acquire().await;
        let began = clock::instant();
        let mut reasons = Vec::new();
        if let Some(id) = image.id_on(host) {
            return Ok(id);
        }
        let pulled = match self.pullable(image) {
            Some(name) => Some(self.pull(&name, host).await.map(|()| name)),
            None => None,
        };
        match pulled {
            Some(Ok(name)) => match self.arrived(image, host, Some(&name)).await {
                Some(id) => {
                    tracing::info!(from = %name, ms = millis(began), "an image was pulled to a node that lacked it");
                    return Ok(id);
                }
                None => reasons.push(format!("from {name}: it brought another image")),
            },
            Some(Err(why)) => reasons.push(format!("from its registry: {why}")),
            None => {}
        }
        for source in &image.holders {
            if source.tag.id == host.tag.id {
                continue;
            }
            let from = &source.tag.name;
            let why = match transfer(image, source, host).await {
                Ok(()) => match self.arrived(image, host, None).await {
                    Some(id) => {
                        tracing::info!(%from, ms = millis(began), "an image was brought to a node that lacked it");
                        return Ok(id);
                    }
                    None => format!(
                        "it has another id there: {from} and {} keep images in different kinds of stores; give it a tag",
                        host.tag.name
                    ),
                },
                Err(Failure::Source(why)) => why,
                // Another source would not help.
                Err(Failure::Target(why)) => {
                    reasons.push(why);
                    break;
                }
            };
            tracing::warn!(%from, why, "an image could not be brought");
            reasons.push(format!("from {from}: {why}"));
        }
        Err(reasons.join("; ").into())
    }

    /// What the image can be pulled by: the digest that a registry gave it, of a registry that answers.
    fn pullable(&self, image: &Image) -> Option<ImageRef> {
        let digests = image.holders.iter().flat_map(|holder| {
            let images = holder.images();
            let found = image.ids.iter().find_map(|id| images.with_id(id));
            found.map(|found| found.digests.clone()).unwrap_or_default()
        });
        let wanted = image.tag.as_ref().and_then(|tag| ImageRef::parse(tag).ok());
        let is_wanted = |name: &ImageRef| {
            let wanted = wanted.as_ref().map(ImageRef::repository);
            wanted.is_none_or(|wanted| wanted == name.repository())
        };
        digests
            .filter_map(|digest| ImageRef::parse(&digest).ok())
            .find(|name| is_wanted(name) && !self.bringing.is_paused(&name.domain))
    }

    /// Has the node pull by digest; gives up soon on a registry that does not answer.
    async fn pull(&self, name: &ImageRef, host: &Arc<Host>) -> Result<(), String> {
        let mut query = Query::default();
        query.set("fromImage", &name.familiar_name());
        query.set("tag", name.digest.as_deref().unwrap_or_default());
        let target = format!("{}?{}", Operation::ImageCreate.target(&[]), query.encode());
        let mut request = Request::new(empty());
        *request.method_mut() = Method::POST;
        let begun = host.send(ApiVersion::MAX, &target, request);
        let reply = match tokio::time::timeout(PULL_BEGINS, begun).await {
            Ok(reply) => reply.map_err(|error| error.to_string())?,
            Err(_) => {
                self.bringing.pause(&name.domain);
                return Err(format!(
                    "{} did not answer within {}s",
                    name.domain,
                    PULL_BEGINS.as_secs()
                ));
            }
        };
        finished(reply, host, PULL_STALLS).await
    }

    /// The id that the node has the image under now. Where its store has it under another id than the others, that is
    /// noted with the tag.
    async fn arrived(
        &self,
        image: &Image,
        host: &Arc<Host>,
        pulled: Option<&ImageRef>,
    ) -> Option<String> {
        host.reread(ListKind::Images).await;
        if let Some(id) = image.id_on(host) {
            return Some(id);
        }
        let tag = image.tag.clone()?;
        let images = host.images();
        let twin = match pulled {
            Some(name) => images.named(&name.familiar()),
            None => images.named(&tag),
        };
        let twin = twin.filter(|_| image.holders.iter().any(|holder| differ(holder, host)))?;
        let noted = Command::NoteTwin {
            tag,
            image: image.id.clone(),
            twin: twin.id.clone(),
        };
        let caller = Caller::manager(self.me);
        self.log_failure(self.commit_tag(noted, &caller).await);
        Some(twin.id.clone())
    }
}

/// Takes a flight off the list, also if it panicked.
struct Landing {
    manager: Arc<Manager>,
    key: (NodeId, String),
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.manager.bringing.lock().under_way.remove(&self.key);
    }
}

/// Whether two engines keep images in different kinds of stores, which give one image different ids.
pub(super) fn differ(one: &Host, other: &Host) -> bool {
    one.facts().keeps_images_in_containerd() != other.facts().keeps_images_in_containerd()
}

fn millis(since: Instant) -> u64 {
    let passed = clock::instant().duration_since(since).as_millis();
    u64::try_from(passed).unwrap_or(u64::MAX)
}

/// Whose fault it is that an image did not come, and why.
enum Failure {
    Source(String),
    Target(String),
}

/// Streams an image from one engine to another.
async fn transfer(image: &Image, source: &Arc<Host>, host: &Arc<Host>) -> Result<(), Failure> {
    let whole = stream_image(image, source, host);
    let late = || format!("it took longer than {}h", LONGEST.as_secs() / 3600);
    tokio::time::timeout(LONGEST, whole)
        .await
        .unwrap_or_else(|_| Err(Failure::Target(late())))
}

async fn stream_image(image: &Image, source: &Arc<Host>, host: &Arc<Host>) -> Result<(), Failure> {
    let gone = || Failure::Source("it has the image no more".to_owned());
    let name = name_on(image, source, host).ok_or_else(gone)?;
    let target = Operation::ImageSave.target(&[&name]);
    let saved = source.send(ApiVersion::MAX, &target, Request::new(empty()));
    let saved = tokio::time::timeout(SAVE_BEGINS, saved)
        .await
        .unwrap_or_else(|_| Err(source.no_answer(SAVE_BEGINS)))
        .map_err(|error| Failure::Source(error.to_string()))?;
    if !saved.status().is_success() {
        return Err(Failure::Source(refusal(saved).await));
    }
    let broken = Arc::new(OnceLock::new());
    let mut request = Request::new(archive(
        saved.into_body(),
        Arc::clone(source),
        Arc::clone(&broken),
    ));
    *request.method_mut() = Method::POST;
    let tar = HeaderValue::from_static("application/x-tar");
    request.headers_mut().insert(CONTENT_TYPE, tar);
    let target = format!("{}?quiet=1", Operation::ImageLoad.target(&[]));
    let loaded = host.send_long(ApiVersion::MAX, &target, request).await;
    let outcome = match loaded {
        Ok(reply) => finished(reply, host, SAVE_BEGINS).await,
        Err(error) => Err(error.to_string()),
    };
    // Where the source broke off, the other engine only says that something was missing.
    match broken.get() {
        Some(why) => Err(Failure::Source(why.clone())),
        None => outcome.map_err(Failure::Target),
    }
}

/// What the source is asked for. By id, nothing but the image comes, and no tag moves before it is whole. A store of
/// another kind gives it another id, which only its tag leads to.
fn name_on(image: &Image, source: &Host, host: &Host) -> Option<String> {
    let id = image.id_on(source)?;
    let tag = image.tag.as_ref().filter(|tag| {
        let images = source.images();
        differ(source, host) && images.named(tag).is_some_and(|named| named.id == id)
    });
    Some(tag.cloned().unwrap_or(id))
}

/// The source's archive as the other engine's body. Fails when the source stops sending, and keeps the reason.
fn archive(body: Incoming, source: Arc<Host>, broken: Arc<OnceLock<String>>) -> Body {
    let parts = stream::try_unfold((body, source, broken), |(mut body, source, broken)| async {
        let part = loop {
            let frame = tokio::select! {
                biased;
                frame = tokio::time::timeout(SAVE_STALLS, body.frame()) => match frame {
                    Ok(None) => break None,
                    Ok(Some(Ok(frame))) => Ok(frame),
                    Ok(Some(Err(error))) => Err(format!("it broke off: {error}")),
                    Err(_) => Err(format!("it sent nothing for {}s", SAVE_STALLS.as_secs())),
                },
                lost = source.lost() => Err(lost.to_string()),
            };
            match frame.map(Frame::into_data) {
                Ok(Ok(part)) => break Some(part),
                // Trailers, which no archive has.
                Ok(Err(_)) => {}
                Err(why) => {
                    let error = std::io::Error::other(why.clone());
                    // It breaks once.
                    let _ = broken.set(why);
                    return Err(error.into());
                }
            }
        };
        Ok(part.map(|part| (Frame::data(part), (body, source, broken))))
    });
    StreamBody::new(parts).boxed_unsync()
}

/// Reads what an engine says of a pull or a load to its end; fails with the error that it says.
async fn finished(
    reply: http::Response<Incoming>,
    host: &Host,
    patience: Duration,
) -> Result<(), String> {
    if reply.status() != StatusCode::OK {
        return Err(refusal(reply).await);
    }
    let mut body = reply.into_body();
    let mut kept = BytesMut::new();
    loop {
        let frame = tokio::select! {
            biased;
            frame = tokio::time::timeout(patience, body.frame()) => {
                frame.map_err(|_| host.no_answer(patience).to_string())?
            }
            lost = host.lost() => return Err(lost.to_string()),
        };
        let Some(frame) = frame else {
            return failure(&kept).map_or(Ok(()), Err);
        };
        let frame = frame.map_err(|error| format!("the engine's answer broke off: {error}"))?;
        let Ok(part) = frame.into_data() else {
            continue;
        };
        kept.extend_from_slice(&part);
        while let Some(end) = memchr::memchr(b'\n', &kept) {
            if let Some(why) = failure(&kept.split_to(end + 1)) {
                return Err(why);
            }
        }
        if kept.len() > LINE_MAX_BYTES {
            return Err("the engine's answer has a line that does not end".to_owned());
        }
    }
}

/// What a line of progress says went wrong.
fn failure(line: &[u8]) -> Option<String> {
    let view = View::parse(line.trim_ascii()).ok()?;
    let error = view.get("error")?;
    error.str().map(std::borrow::Cow::into_owned)
}

async fn refusal(reply: http::Response<Incoming>) -> String {
    let (parts, body) = reply.into_parts();
    let body = Limited::new(body, LINE_MAX_BYTES).collect().await;
    let reply = EngineReply {
        status: parts.status,
        headers: parts.headers,
        body: body.map(|whole| whole.to_bytes()).unwrap_or_default(),
    };
    reply.message()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_may_say_what_went_wrong() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(failure(line.as_bytes()).as_deref(), expected, "{line}");
        };
        check(r#"{"stream":"Loaded image: it:1\n"}"#, None);
        check(
            "{\"errorDetail\":{\"message\":\"no space left on device\"},\"error\":\"no space left on device\"}\r\n",
            Some("no space left on device"),
        );
        check("", None);
    }
}
