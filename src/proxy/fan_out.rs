//! One question to several engines, and one answer of theirs (api-matrix 1.10).

use std::sync::Arc;
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::event::Event;
use futures_util::future::join_all;
use http::{HeaderValue, StatusCode};

use super::reply::{PARTIAL, Reply, from_engine};
use crate::clock;
use crate::engine::{EngineCall, EngineReply, Error, Host, HostTag, Ring};

/// One node's answer.
pub(crate) struct Part {
    /// The node.
    pub(crate) host: Arc<Host>,
    /// What it said.
    pub(crate) answer: Result<EngineReply, Error>,
}

/// The good answers, each with its node.
pub(crate) type Answers = Vec<(Arc<Host>, EngineReply)>;

/// What several engines said.
pub(crate) struct Parts(pub(crate) Vec<Part>);

/// Asks all `hosts` at once. A node that has not answered within `patience` counts as not reachable.
pub(crate) async fn ask(hosts: Vec<Arc<Host>>, call: &EngineCall, patience: Duration) -> Parts {
    let asked = hosts.into_iter().map(|host| {
        let call = call.clone();
        async move {
            let answer = tokio::time::timeout(patience, host.call(call))
                .await
                .unwrap_or_else(|_| {
                    Err(Error::Unreachable {
                        node: host.tag.name.clone(),
                        source: std::io::Error::new(
                            std::io::ErrorKind::TimedOut,
                            format!("no answer within {}s", patience.as_secs()),
                        ),
                    })
                });
            Part { host, answer }
        }
    });
    Parts(join_all(asked).await)
}

impl Parts {
    /// The good answers, if the whole counts as good: nodes that are not reachable are missing from it and named by the
    /// second value; an object that a node does not have counts as done there.
    pub(crate) fn merge(self) -> Result<(Answers, Missing), ApiError> {
        let asked = self.0.len();
        let (mut good, mut missing) = (Vec::new(), Missing::default());
        let (mut absent, mut failed) = (Vec::new(), Vec::new());
        for Part { host, answer } in self.0 {
            match answer {
                Ok(reply) if reply.status.is_success() => good.push((host, reply)),
                Ok(EngineReply { status, .. }) if status == StatusCode::NOT_MODIFIED => {}
                Ok(reply) => {
                    let status = reply.status;
                    let message = reply.message();
                    let error = (host, ApiError { status, message });
                    match status {
                        StatusCode::NOT_FOUND => absent.push(error),
                        _ => failed.push(error),
                    }
                }
                Err(error @ (Error::Unreachable { .. } | Error::Down { .. })) => {
                    missing.note(&host, &error);
                }
                Err(error) => failed.push((host, from_engine(error))),
            }
        }
        if good.is_empty() {
            failed.append(&mut absent);
        }
        match failed.is_empty() {
            true if good.is_empty() && asked == missing.0.len() => missing.nobody_answered(),
            true => Ok((good, missing)),
            false => Err(worst(failed, good.is_empty(), asked)),
        }
    }
}

/// An engine's answer as a value.
pub(crate) fn read<'a, T: serde::Deserialize<'a>>(
    host: &Host,
    body: &'a [u8],
) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::internal(format!(
            "[node {}] its answer cannot be read: {error}",
            host.tag.name
        ))
    })
}

/// One error of several: the common one where all agree, else the worst status and what each node said.
fn worst(failed: Vec<(Arc<Host>, ApiError)>, none_ok: bool, asked: usize) -> ApiError {
    let first = &failed[0].1;
    if none_ok && failed.iter().all(|(_, error)| error == first) {
        return first.clone();
    }
    let status = failed
        .iter()
        .map(|(_, error)| error.status)
        .max()
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let said = failed
        .iter()
        .map(|(host, error)| (host.tag.name.as_str(), &*error.message));
    ApiError {
        status,
        message: format!(
            "{} of {asked} nodes failed: {}",
            failed.len(),
            each_once(said)
        ),
    }
}

/// Who said what; nodes that said the same stand together.
fn each_once<'a>(said: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut words: Vec<(&str, Vec<&str>)> = Vec::new();
    for (node, message) in said {
        match words.iter_mut().find(|(known, _)| *known == message) {
            Some((_, nodes)) => nodes.push(node),
            None => words.push((message, vec![node])),
        }
    }
    let words = words.iter();
    let words = words.map(|(message, nodes)| format!("{}: {message}", nodes.join(", ")));
    words.collect::<Vec<_>>().join("; ")
}

/// The nodes whose part is missing from an answer.
#[derive(Debug, Default)]
pub(crate) struct Missing(Vec<(Arc<HostTag>, String)>);

impl Missing {
    /// Notes that `host` is missing.
    pub(crate) fn note(&mut self, host: &Host, error: &Error) {
        self.0.push((Arc::clone(&host.tag), error.to_string()));
    }

    /// Notes that a node is missing which was not asked, or did not answer.
    pub(crate) fn note_lost(&mut self, host: &Host) {
        let reason = host.ready().err().map(|error| error.to_string());
        let tag = Arc::clone(&host.tag);
        self.0.push((tag, reason.unwrap_or_default()));
    }

    /// Names the missing nodes in a header of `reply`.
    pub(crate) fn mark(&self, reply: &mut Reply) {
        if self.0.is_empty() {
            return;
        }
        let nodes: Vec<_> = self
            .0
            .iter()
            .map(|(node, _)| format!("{}=unreachable", node.name))
            .collect();
        if let Ok(value) = HeaderValue::from_str(&nodes.join(", ")) {
            reply.headers_mut().insert(PARTIAL, value);
        }
    }

    /// Names the nodes that a change passed by: in a header of `reply`, and in an event `partial` of each.
    pub(crate) fn report(&self, ring: &Ring, operation: &str, reply: &mut Reply) {
        self.mark(reply);
        let now = clock::now();
        for (node, reason) in &self.0 {
            tracing::warn!(node = %node.name, operation, reason, "a change has passed a node by");
            let at_nanos = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
            let event = serde_json::json!({
                "Type": "node",
                "Action": "partial",
                "Actor": {"ID": node.id.to_string(), "Attributes": {
                    "name": node.name.to_string(), "operation": operation, "reason": reason,
                }},
                "scope": "swarm",
                "time": now.as_second(),
                "timeNano": at_nanos,
            });
            let line = event.to_string();
            let rendered = Event::parse(line.as_bytes())
                .and_then(|event| event.render(&node.origin(), None))
                .map(|mut line| {
                    if !line.ends_with(b"\n") {
                        line.push(b'\n');
                    }
                    line
                });
            // It was written here, so it is JSON.
            if let Ok(line) = rendered {
                ring.push(at_nanos, node, line.into());
            }
        }
    }

    fn nobody_answered<T>(self) -> Result<T, ApiError> {
        if self.0.is_empty() {
            return Err(ApiError::unavailable(
                "the cluster has no nodes: add one with `flotilla node add ENDPOINT`",
            ));
        }
        let reasons: Vec<_> = self.0.into_iter().map(|(_, reason)| reason).collect();
        Err(ApiError::unavailable(reasons.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::each_once;

    #[test]
    fn nodes_that_say_the_same_stand_together() {
        let said = [("a", "no room"), ("b", "denied"), ("c", "no room")];
        assert_eq!(each_once(said.into_iter()), "a, c: no room; b: denied");
        assert_eq!(each_once(said.into_iter().take(1)), "a: no room");
    }
}
