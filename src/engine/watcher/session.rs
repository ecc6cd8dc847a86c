//! How a session with an engine begins.
//!
//! **Invariant**: the event stream is open before the lists are read, so that nothing happens unseen between the two.

use std::sync::Arc;

use api_compat::version::ApiVersion;
use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;

use crate::clock;
use crate::engine::call::EngineCall;
use crate::engine::client::empty;
use crate::engine::error::Error;
use crate::engine::facts::read_facts;
use crate::engine::host::{Host, ListKind};
use crate::engine::reads::{in_time, read_list};

/// A session's beginning: who the engine is, its events from now on, and all it has.
pub(super) struct Opened {
    /// The engine's clock when it said who it is.
    pub(super) engine_nanos: i64,
    /// The engine's clock less ours.
    pub(super) clock_ahead_nanos: i64,
    pub(super) events: Incoming,
    /// The body of the list of all containers.
    pub(super) containers: Bytes,
}

/// Opens a session. The event stream comes first, so that nothing happens between it and the lists.
pub(super) async fn open(host: Arc<Host>, last_event: Option<i64>) -> Result<Opened, Error> {
    let before = clock::now();
    let facts = in_time(&host, read_facts(&host.client)).await?;
    let middle = before
        .as_nanosecond()
        .midpoint(clock::now().as_nanosecond());
    let engine_nanos = facts.system_time.as_nanosecond();
    host.recognise(facts)?;
    let events = in_time(&host, follow(&host, last_event)).await?;
    // One after the other, over one connection: a fleet that has just been found is read all at once.
    let all = EngineCall::get("/containers/json?all=1");
    let containers = in_time(&host, host.client.ask(all)).await?;
    for kind in [ListKind::Images, ListKind::Networks, ListKind::Volumes] {
        read_list(&host, kind).await?;
    }
    Ok(Opened {
        engine_nanos: i64::try_from(engine_nanos).unwrap_or(i64::MAX),
        clock_ahead_nanos: i64::try_from(engine_nanos - middle).unwrap_or(0),
        events,
        containers: containers.body,
    })
}

/// Opens the event stream where the last one broke; the first one begins with what the engine still
/// remembers (256 events).
async fn follow(host: &Host, last_event: Option<i64>) -> Result<Incoming, Error> {
    let since = last_event.map_or(1, |nanos| nanos.saturating_sub(1_000_000_000));
    let (seconds, nanos) = (since / 1_000_000_000, since % 1_000_000_000);
    let target = format!("/events?since={seconds}.{nanos:09}");
    let request = Request::new(empty());
    let response = host.client.send(ApiVersion::MAX, &target, request).await?;
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    Err(host
        .client
        .garbled(format_args!("/events answered {}", response.status())))
}
