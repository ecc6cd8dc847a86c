//! `GET /events`: what happened on all nodes, from the ring; then what happens, until the client leaves.
//!
//! The head goes out before there is anything to tell. A follower has a place in the ring and nothing else, so one that
//! reads slowly costs nobody anything; one that falls 20,000 events behind has missed some.
//!
//! **Invariant**: nothing here polls; a stream waits for the ring, its end, or the manager's stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api_compat::error::{ApiError, JSON_CONTENT_TYPE};
use api_compat::event::Event;
use api_compat::filters::Filters;
use api_compat::timestamp;
use api_compat::version::ApiVersion;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use jiff::Timestamp;
use raft_store::watch;
use tokio::time::Instant;

use super::Proxy;
use super::exchange::Exchange;
use super::reply::{self, Outcome};
use crate::clock;
use crate::engine::{BoxError, Happened, Ring};
use crate::tasks::Stopping;

/// So many events are looked at between two chances for others to run.
const BATCH: usize = 128;
/// A stream that is to end later than this has no end.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a client wants to be told.
struct Wanted {
    filters: Filters,
    version: ApiVersion,
}

/// One client's stream.
struct Follower {
    wanted: Wanted,
    ring: Arc<Ring>,
    past: VecDeque<Arc<Happened>>,
    /// The next event to tell, and what wakes us when there is one; none if only the past is wanted.
    live: Option<(u64, watch::Receiver<u64>)>,
    until: Option<Instant>,
    stopping: Stopping,
}

/// Streams events.
pub(super) async fn handle(proxy: &Proxy, exchange: Exchange) -> Outcome {
    let query = exchange.query()?;
    let now = clock::now();
    let since = timestamp::parse(query.text("since"), now)?;
    let until = timestamp::parse(query.text("until"), now)?;
    if let (Some(first), Some(last)) = (since, until)
        && last < first
    {
        return Err(ApiError::bad_parameter(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            query.text("since"),
            query.text("until")
        )));
    }
    let wanted = Wanted {
        filters: Filters::parse(query.text("filters"))?,
        version: exchange.version,
    };
    let ring = Arc::clone(&proxy.fleet.ring);
    let (next, news) = ring.follow();
    let asks_past = since.is_some() || until.is_some();
    let past = if asks_past {
        between(ring.history(next), since, until)
    } else {
        VecDeque::new()
    };
    let is_over = until.is_some_and(|until| until < now);
    let left = until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
    let follower = Follower {
        wanted,
        ring,
        past,
        live: (!is_over).then_some((next, news)),
        until: left
            .filter(|left| *left < LONGEST)
            .map(|left| Instant::now() + left),
        stopping: proxy.fleet.stopping(),
    };
    let lines = stream::unfold(follower, |mut follower| async move {
        let lines = follower.next().await?;
        Some((Ok::<_, BoxError>(Frame::data(lines)), follower))
    });
    let mut reply = reply::status(StatusCode::OK);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON_CONTENT_TYPE));
    *reply.body_mut() = StreamBody::new(lines).boxed_unsync();
    Ok(reply)
}

/// Those that happened from `since` to `until`, by the clock of their engine: clients resume by the times they were told.
fn between(
    all: Vec<Arc<Happened>>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> VecDeque<Arc<Happened>> {
    let nanos = |time: Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
    let (first, last) = (since.map_or(i64::MIN, nanos), until.map_or(i64::MAX, nanos));
    let in_time = |happened: &Arc<Happened>| {
        Event::parse(&happened.line).is_ok_and(|event| (first..=last).contains(&event.time_nanos))
    };
    all.into_iter().filter(in_time).collect()
}

impl Follower {
    /// The next lines; nothing when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.past.is_empty() && self.until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            let batch: Vec<_> = if self.past.is_empty() {
                let (next, _) = self.live.as_ref()?;
                self.ring.since(*next, BATCH)
            } else {
                self.past.drain(..BATCH.min(self.past.len())).collect()
            };
            let lines = self.wanted.lines(&batch);
            if let (true, Some(last), Some((next, _))) =
                (self.past.is_empty(), batch.last(), &mut self.live)
            {
                *next = (*next).max(last.number + 1);
            }
            if !lines.is_empty() {
                return Some(lines);
            }
            if !batch.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            let (_, news) = self.live.as_mut()?;
            tokio::select! {
                biased;
                () = self.stopping.wait() => return None,
                () = ends(self.until) => return None,
                changed = news.changed() => changed.ok()?,
            }
        }
    }
}

async fn ends(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl Wanted {
    fn lines(&self, batch: &[Arc<Happened>]) -> Bytes {
        let mut lines = BytesMut::new();
        for happened in batch {
            if self.wants(happened) {
                lines.extend_from_slice(&happened.line);
            }
        }
        lines.freeze()
    }

    fn wants(&self, happened: &Happened) -> bool {
        if self.filters.is_empty() && self.version >= ApiVersion::new(1, 46) {
            return true;
        }
        Event::parse(&happened.line).is_ok_and(|event| {
            event.is_known_to(self.version) && event.is_wanted(&self.filters, &happened.origin())
        })
    }
}
